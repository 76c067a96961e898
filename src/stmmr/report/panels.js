// Maps side by side: other numbers of domains, cell types, labels of experts.
const panelWidth = 240;

// the layers of other numbers of domains join the leaves of the tree
function startLevels() {
  if (!data.alternatives) return;
  const { leaves, merged: joined } = data.alternatives, layer = data.layers[leaves];
  for (const [k, codes] of Object.entries(joined)) data.layers[`level:${k}`] = { ...layer, title: `${k} domains`, level: codes };
  byId("layer").append(...Object.keys(joined).slice(0, -1).map((k) => element("option", { value: `level:${k}`, textContent: `${k} domains` })));
}
async function levelBytes(key, part) {
  const { level } = data.layers[key];
  return (await layerBytes(data.alternatives.leaves, part)).map((code) => (code < level.length ? level[code] : code));
}
// the spot or pixel of each point of a small map, -1 for none
function smallMap() {
  const { low, high, fixed } = data.map, { x, y } = state.positions;
  const step = Math.max(high[0] - low[0], high[1] - low[1]) / panelWidth;
  const width = Math.ceil((high[0] - low[0]) / step), height = Math.ceil((high[1] - low[1]) / step);
  if (!fixed) {
    const box = { x0: low[0], y0: low[1], step, width, height };
    return { width, height, step, owner: ownersOf(x, y, box, 0.6 * data.spacing / step + 0.5, () => 0) };
  }
  const owner = Int32Array.from({ length: width * height }, (_, i) =>
    figures.map.pixelAt(low[0] + ((i % width) + 0.5) * step, low[1] + (Math.floor(i / width) + 0.5) * step));
  return { width, height, step, owner };
}
async function drawPanels() {
  const plot = state.plots.panels, source = plot.select_one("small maps").data_source;
  const { width, height, step, owner } = smallMap(), part = data.map.fixed ? "pixels" : "points";
  const Array_ = source.data.image[0].constructor, images = [];
  for (const [key] of data.panels.shown) {
    const codes = await layerBytes(key, part), { length } = data.layers[key].names;
    const colors = Uint32Array.from([...colorsOf(key), ...Array(255 - length).fill("#d9d9d9"), "#00000000"], abgr);
    images.push(new Array_(Uint32Array.from(owner, (spot) => (spot < 0 ? 0 : colors[codes[spot]])), [height, width]));
  }
  const { left, top } = data.panels;
  source.data = { image: images, x: left, y: top, dw: left.map(() => width * step), dh: left.map(() => height * step) };
}
function startPanels() {
  const figure = byId("panels");
  if (!figure) return;
  const refit = () => fit(state.plots.panels, data.panels.frame, true);
  refit();
  for (const side of ["inner_width", "inner_height"]) state.plots.panels.properties[side].change.connect(refit);
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
    seen.disconnect();
    state.panelsDrawn = true;
    drawPanels();
  }, { rootMargin: "300px" });
  seen.observe(figure);
}
