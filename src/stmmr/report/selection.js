// Selected spots: of domains, or inside of a line drawn around them.
const selection = { domains: new Set(), adding: false };

// each click adds a domain, with those merged with it, or takes it away
function highlight(code) {
  const chosen = selection.domains.has(code);
  for (const name of merged(originals()[code])) {
    const own = originals().indexOf(name);
    if (chosen) selection.domains.delete(own);
    else selection.domains.add(own);
  }
  choose(selection.domains.size ? Uint8Array.from(state.domains, (domain) => selection.domains.has(domain)) : null);
}
function lasso(name, event) {
  if (!event.final || !["poly", "rect"].includes(event.geometry.type)) return;
  const { x0, x1, y0, y1 } = event.geometry;
  const line = event.geometry.type === "poly" ? event.geometry : { x: [x0, x1, x1, x0], y: [y0, y0, y1, y1] };
  const inside = figures[name].inside(line);
  if (selection.adding && look.chosen) look.chosen.forEach((isChosen, spot) => { inside[spot] |= isChosen; });
  selection.domains.clear();
  choose(inside);
}
function choose(chosen) {
  const n = chosen ? chosen.reduce((sum, isChosen) => sum + isChosen, 0) : 0;
  look.chosen = n ? chosen : null;
  for (const button of document.querySelectorAll("[data-domain]"))
    button.setAttribute("aria-pressed", String(selection.domains.has(Number(button.dataset.domain))));
  byId("status").textContent = n ? counted(chosen, n) : "";
  byId("actions").hidden = byId("chosen").hidden = !n;
  byId("markers").hidden = true;
  byId("markers-told").textContent = "";
  byId("merge").hidden = selection.domains.size < 2;
  if (n) listParts(chosen, n);
  redraw();
}
function clearSelection() {
  selection.domains.clear();
  choose(null);
}
// number of selected spots, and of all, by the names of a layer, most frequent first
function partsOf(key, codes, chosen) {
  const parts = new Map();
  codes.forEach((code, spot) => {
    const name = nameIn(key, code), part = parts.get(name) || { name, code, n: 0, all: 0 };
    part.all += 1;
    part.n += chosen[spot];
    parts.set(name, part);
  });
  return [...parts.values()].filter(({ n }) => n).sort((a, b) => b.n - a.n);
}
function counted(chosen, n) {
  const parts = partsOf(data.first, state.domains, chosen);
  const most = parts.slice(0, 4).map(({ name, n: own }) => `${name} (${Math.round((100 * own) / n)} %)`);
  return `${amount(n)} selected; domains: ${most.join(", ")}${parts.length > 4 ? ", …" : ""}.`;
}
const partsListed = 12;
async function listParts(chosen, n) {
  const rows = [];
  for (const key of [data.first, ...data.annotations]) {
    const codes = await layerBytes(key, "points");
    for (const { name, code, n: own, all } of partsOf(key, codes, chosen).slice(0, partsListed)) {
      const heading = element("th", { scope: "row" }, swatch(colorIn(key, code)), name);
      rows.push(element("tr", {}, element("td", { textContent: data.layers[key].title }), heading,
        ...[own.toLocaleString("en"), percent(own / n), percent(own / all)]
          .map((text) => element("td", { className: "n", textContent: text }))));
    }
  }
  if (look.chosen === chosen) byId("parts").querySelector("tbody").replaceChildren(...rows);
}
