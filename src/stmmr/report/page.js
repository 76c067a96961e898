// Fills the figures of bokeh, and links them with the controls.

// the curves follow the page by themselves, the figures of bokeh do not
function recolour(printed = false) {
  const ink = printed === true ? "rgb(27, 29, 32)" : getComputedStyle(document.body).color;
  for (const plot of Bokeh.documents[0].roots()) {
    for (const part of [...plot.center, ...plot.below]) {
      if (part.type === "ScaleBar") part.label_text_color = ink;
    }
    for (const name of ["titles", "sections"]) {
      const texts = plot.select_one(name);
      if (texts) texts.glyph.text_color = { value: ink };
    }
  }
}
// light or dark; by default as the system
function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  byId("theme").value = theme;
}

// paper is light, and shows what is open or in view on the screen only
function readyToPrint() {
  recolour(true);
  if (state.plots.panels && !state.panelsDrawn) drawPanels();
  state.opened = [...(state.opened || []), ...document.querySelectorAll(".each details:not([open])")];
  for (const details of state.opened) details.open = true;
  // a figure would be drawn in the size of the paper after it is printed
  for (const figure of document.querySelectorAll(".plot:not(:has(.canvas > canvas))"))
    figure.querySelector(".canvas").append(drawnAgain(figure.dataset.plot, "png").canvas);
}
function printed() {
  recolour();
  for (const details of state.opened.splice(0)) details.open = false;
  for (const drawn of document.querySelectorAll(".plot .canvas > canvas")) drawn.remove();
}

async function copy(button) {
  const text = button.dataset.copy.split(",").map((id) => plainText(byId(id))).join("\n\n");
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  byId("copied").textContent = done ? "Copied." : "This browser does not allow pages to copy. Select the text instead.";
}
function plainText(part) {
  if (part.tagName !== "OL") return part.textContent;
  return [...part.children].map((item, i) => `${i + 1}. ${item.textContent.trim()}`).join("\n");
}

function clicked({ target }) {
  const changed = target.closest("[data-edit]"), exporting = target.closest("[data-export]");
  const domain = target.closest("[data-domain]"), gene = target.closest("[data-gene]"), text = target.closest("[data-copy]");
  if (domain) highlight(Number(domain.dataset.domain));
  if (gene) showGene(gene.dataset.gene);
  if (domain || gene) bringMap();
  if (text) copy(text);
  const layer = target.closest("[data-layer]");
  if (layer) {
    show(layer.dataset.layer);
    bringMap();
  }
  if (changed) edit(changed);
  if (exporting) exportNames(exporting.dataset.export);
}
function listen() {
  byId("layer").addEventListener("change", (event) => show(event.target.value || data.first));
  listenToGenes();
  byId("image")?.addEventListener("change", (event) => {
    showImage(event.target.checked);
  });
  byId("opacity").addEventListener("input", (event) => {
    figures.map.fade(Number(event.target.value));
  });
  document.addEventListener("click", clicked);
  byId("clear").addEventListener("click", clearSelection);
  byId("find-markers")?.addEventListener("click", showMarkers);
  byId("merge").addEventListener("submit", (event) => {
    event.preventDefault();
    mergeSelected();
  });
  byId("names-undo").addEventListener("click", () => {
    named.edits = {};
    keepNames();
  });
  byId("theme").addEventListener("change", (event) => {
    setTheme(event.target.value);
    store("stmmr-theme", event.target.value || null);
    recolour();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  addEventListener("beforeprint", readyToPrint);
  addEventListener("afterprint", printed);
}

// positions are integers from 0 to 65534 between the corners; 65535 is missing
async function axis(packed, low, high) {
  const raw = new Uint16Array((await unpacked(packed)).buffer);
  return Float32Array.from(raw, (step) => (step === 65535 ? NaN : low + (step / 65534) * (high - low)));
}
async function createFigures(plots) {
  const { few, radius, size, map, umap } = data;
  const positions = { x: await axis(map.x, map.low[0], map.high[0]), y: await axis(map.y, map.low[1], map.high[1]) };
  state.positions = positions;
  figures.map = figureOf(plots.map, { x: positions.x, y: positions.y, radius, few, fixed: map.fixed, look });
  connect(byId("map"), plots.map, map, true);
  nameMap();
  const limit = () => limitZoom(plots.map, data.tiles ? (data.tiles.step / 2) * plots.map.inner_width : 2 * data.spacing);
  limit();
  for (const side of ["inner_width", "inner_height"]) plots.map.properties[side].change.connect(limit);
  for (const range of [plots.map.x_range, plots.map.y_range]) range.change.connect(nameMapLater);
  if (!umap) return;
  positions.u = await axis(umap.x, umap.low[0], umap.high[0]);
  positions.v = await axis(umap.y, umap.low[1], umap.high[1]);
  figures.umap = figureOf(plots.umap, { x: positions.u, y: positions.v, size, few, look });
  connect(byId("umap"), plots.umap, umap, false);
}

async function start() {
  while (!window.Bokeh?.documents.length || !Bokeh.documents[0].is_idle)
    await new Promise((done) => requestAnimationFrame(done));
  const plots = Object.fromEntries(Bokeh.documents[0].roots().map((plot) => [plot.name, plot]));
  state.plots = plots;
  ring = plots.map.select_one("pointer");
  mapper = plots.map.select_one("colors");
  recolour();
  unlisted();
  state.domains = await layerBytes(data.first, "points");
  await createFigures(plots);
  listen();
  addSaving();
  startLevels();
  startPanels();
  startTiles();
  await show(data.first);
  startNames();
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  root.dataset.ready = "true";
  await readGenes();
  state.names = new TextDecoder().decode(await unpacked(data.names)).split("\n");
  if (data.layers.stmmr_confidence) await layerBytes("stmmr_confidence", "points");
  root.dataset.ready = "all";
}
setTheme(["light", "dark"].find((theme) => theme === stored("stmmr-theme")) || "");
document.addEventListener("DOMContentLoaded", start);
