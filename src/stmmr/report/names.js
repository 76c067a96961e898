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
// long names are broken into lines, and near an edge written towards the middle, so that a phone cuts none
function nameMap() {
  const source = figures.map.plot.select_one("numbers").data_source, { low, high } = data.map;
  const text = Array.from(source.data.code, (code) => shownName(originals()[code]).replace(/(.{8,14}) +/g, "$1\n"));
  const share = Array.from(source.data.x, (x) => (x - low[0]) / (high[0] - low[0]));
  const align = text.map((name, i) => (name.length < 4 || (share[i] > 0.3 && share[i] < 0.7) ? "center" : share[i] < 0.5 ? "left" : "right"));
  source.data = { ...source.data, text, align };
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
