// Selected spots: of domains, or inside of a line drawn around them.
const selection = { domains: new Set(), adding: false };

// each click adds a domain or takes it away
function highlight(code) {
  if (!selection.domains.delete(code)) selection.domains.add(code);
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
  byId("clear").hidden = !n;
  byId("status").textContent = n ? counted(chosen, n) : "";
  redraw();
}
function clearSelection() {
  selection.domains.clear();
  choose(null);
}
function counted(chosen, n) {
  const layer = data.layers[data.first], counts = new Map();
  chosen.forEach((isChosen, spot) => {
    if (isChosen) counts.set(state.domains[spot], (counts.get(state.domains[spot]) || 0) + 1);
  });
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([code, count]) =>
    `${code === unknown ? "none" : layer.names[code]} (${Math.round((100 * count) / n)} %)`);
  return `${n.toLocaleString("en")} ${data.spots} selected; domains: ${most.join(", ")}${counts.size > 4 ? ", …" : ""}.`;
}
