// Names and notes that the reader gives to domains. Domains of one name are merged. They are kept by the browser for
// this result only, and exported for `stmmr annotate`.
const named = { edits: {}, key: `stmmr-names-${data.id}` };

function originals() {
  return data.layers[data.first].names;
}
function shownName(original) {
  return named.edits[original]?.name || original;
}
// a note of the reader, or else the one that the result has
function noteOf(original) {
  return named.edits[original]?.note ?? data.notes[original] ?? "";
}
function merged(original) {
  return originals().filter((other) => shownName(other) === shownName(original));
}
function nameIn(key, code) {
  const layer = data.layers[key];
  if (code === unknown) return "none";
  return layer.domains ? shownName(layer.names[code]) : layer.names[code];
}
// merged domains have the colour of the first of them
function colorIn(key, code) {
  const layer = data.layers[key];
  if (code === unknown) return "#d9d9d9";
  if (!layer.domains) return layer.colors[code];
  const first = layer.names.findIndex((name) => shownName(name) === shownName(layer.names[code]));
  return layer.colors[first];
}
function colorsOf(key) {
  return data.layers[key].names.map((_, code) => colorIn(key, code));
}

function rename(original, name, note) {
  const edit = { name: name.trim() === original ? "" : name.trim(), note: note.trim() };
  if (edit.name || edit.note !== (data.notes[original] ?? "")) named.edits[original] = edit;
  else delete named.edits[original];
  keepNames();
}
function mergeSelected() {
  const names = [...selection.domains].map((code) => originals()[code]);
  const name = byId("merge-name").value.trim() || shownName(names[0]);
  for (const original of names) named.edits[original] = { note: noteOf(original), name: name === original ? "" : name };
  keepNames();
}
function keepNames() {
  store(named.key, Object.keys(named.edits).length ? JSON.stringify(named.edits) : null);
  applyNames();
}
function applyNames() {
  for (const part of document.querySelectorAll("[data-domain-name]")) part.textContent = shownName(part.dataset.domainName);
  for (const mark of document.querySelectorAll("[data-domain-color]"))
    mark.style.background = colorIn(data.first, Number(mark.dataset.domainColor));
  for (const row of document.querySelectorAll("[data-note-of]")) {
    const original = row.dataset.noteOf, others = merged(original).filter((other) => other !== original);
    const parts = [others.length ? `merged with ${others.join(", ")}` : "", named.edits[original]?.name ? `was ${original}` : "", noteOf(original)];
    row.textContent = parts.filter(Boolean).join(" · ");
  }
  nameMap();
  const n = Object.keys(named.edits).length, groups = new Set(originals().map(shownName)).size;
  byId("names-told").textContent = n
    ? `${n} domain${n > 1 ? "s" : ""} named or noted; ${groups} of ${originals().length} left after merging.` : "";
  byId("names-saved").hidden = !n;
  show(state.shown);
  if (state.panelsDrawn) drawPanels();
  if (look.chosen) choose(look.chosen);
}
// a name on the map: at most two short lines; the legend has it whole
function shortName(name, widest) {
  const lines = [];
  for (const word of name.split(/\s+/)) {
    if (lines.length && lines.at(-1).length + word.length < widest) lines.push(`${lines.pop()} ${word}`);
    else lines.push(word);
  }
  const kept = lines.slice(0, 2).map((line) => (line.length > widest ? `${line.slice(0, widest - 1)}…` : line));
  if (lines.length > 2 && !kept[1].endsWith("…")) kept[1] += "…";
  return kept.join("\n");
}
// names of large domains first, and others where they cover none of these; zooming in makes room for more
function nameMap() {
  const edge = 3, { plot } = figures.map, { inner_width, inner_height } = plot;
  if (!(inner_width > 0 && inner_height > 0)) return;
  const glyph = plot.select_one("numbers"), source = glyph.data_source, [a, b, c, d] = window_(plot);
  named.places ??= Array.from(source.data.code, (code, i) => ({ code, x: source.data.x[i], y: source.data.y[i] }))
    .sort((one, other) => data.sizes[originals()[other.code]] - data.sizes[originals()[one.code]]);
  const size = inner_width < 420 ? 11 : 12, context = named.context ??= element("canvas").getContext("2d"), boxes = [];
  context.font = `bold ${size}px helvetica`;
  const placed = named.places.flatMap(({ code, x, y }) => {
    const across = ((x - a) / (b - a)) * inner_width, down = ((y - d) / (c - d)) * inner_height;
    if (across < 0 || across > inner_width || down < 0 || down > inner_height) return [];
    for (const widest of [16, 7]) {
      const text = shortName(shownName(originals()[code]), widest), lines = text.split("\n");
      const width = Math.max(...lines.map((line) => context.measureText(line).width)) + 6, height = 1.25 * size * lines.length + 6;
      // near an edge, a name is moved towards the middle, so that it is not cut
      const within = (from, extent, all) => Math.max(edge, Math.min(all - extent - edge, from - extent / 2));
      const left = within(across, width, inner_width), top = within(down, height, inner_height);
      const box = [left, top, left + width, top + height];
      if (boxes.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      boxes.push(box);
      return [{ x, y, code, text, dx: left + width / 2 - across, dy: top + height / 2 - down }];
    }
    return [];
  });
  const columns = Object.fromEntries(["x", "y", "code", "text", "dx", "dy"].map((name) => [name, placed.map((each) => each[name])]));
  const before = JSON.stringify([size, columns]);
  if (before === named.drawn) return;
  named.drawn = before;
  source.data = columns;
  glyph.glyph.text_font_size = { value: `${size}px` };
}
function nameMapLater() {
  clearTimeout(named.timer);
  named.timer = setTimeout(nameMap, 80);
}
function exported() {
  return originals().filter((name) => data.sizes[name]).map((domain) => ({
    domain, name: shownName(domain), note: noteOf(domain), n_obs: data.sizes[domain],
  }));
}
function exportNames(kind) {
  const domains = exported();
  if (kind === "json") {
    const file = { format: "stmmr-domains", version: 1, domain_key: data.domain_key, domains };
    return save("stmmr-domains.json", "application/json", `${JSON.stringify(file, null, 2)}\n`);
  }
  const rows = [["domain", "name", "note", "n_obs"], ...domains.map((row) => [row.domain, row.name, row.note, row.n_obs])];
  return save("stmmr-domains.csv", "text/csv", csvOf(rows));
}
// a form below the line of the domain
function edit(button) {
  const original = button.dataset.edit, row = button.closest("li");
  const open = row.querySelector("form");
  if (open) return open.remove();
  const form = byId("edit-form").content.firstElementChild.cloneNode(true);
  const { name, note } = form.elements;
  name.value = shownName(original);
  note.value = noteOf(original);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    rename(original, name.value, note.value);
    form.remove();
    button.focus();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    form.remove();
    button.focus();
  });
  row.append(form);
  name.select();
  return form;
}
function startNames() {
  try { named.edits = JSON.parse(stored(named.key)) || {}; } catch { /* as if none were kept */ }
  for (const name of Object.keys(named.edits)) if (!originals().includes(name)) delete named.edits[name];
  if (Object.keys(named.edits).length) applyNames();
  else nameMap();
}
