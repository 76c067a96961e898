// What the map shows: layers, their legend, and the tooltip of a spot.
let mapper = null, ring = null, marked = -1;

function number(layer, code) {
  return (layer.low + (code / 253) * (layer.high - layer.low)).toFixed(2);
}
function valueText(key, code) {
  const layer = data.layers[key];
  if (code === empty) return "";
  if (code === unknown) return `${layer.title}: missing`;
  return `${layer.title}: ${layer.names ? nameIn(key, code) : number(layer, code)}`;
}
function spotOf(name, vars) {
  return vars.image_index ? figures[name].spotAt(vars.x, vars.y) : figures[name].nth(vars.index);
}
function describe(name, vars) {
  const spot = spotOf(name, vars);
  if (spot < 0) return valueText(state.shown, look.pixels[figures[name].pixelAt(vars.x, vars.y)]);
  const lines = state.names ? [state.names[spot]] : [];
  for (const key of new Set([data.first, "stmmr_confidence", state.shown])) {
    const codes = bytes.get(`points ${key}`);
    if (codes) lines.push(valueText(key, codes[spot]));
  }
  return lines.join("\n");
}
// whether there is a tooltip
function isDescribed(name, vars) {
  if (!figures[name]) return false;
  if (spotOf(name, vars) >= 0) return true;
  const pixel = figures[name].pixelAt(vars.x, vars.y);
  return pixel >= 0 && look.pixels[pixel] !== empty;
}
// bokeh reports circles and pixels one after the other
const below = {};
function mark(name, { index, geometry, renderer }) {
  const figure = figures[name];
  if (!figure) return;
  const hit = { circles: index.indices?.length, pixels: index.image_indices?.length }[renderer.name];
  const spot = !hit ? -1 : renderer.name === "circles" ? figure.nth(index.indices[0]) : figure.spotAt(geometry.x, geometry.y);
  below[name] = { ...below[name], [renderer.name]: spot };
  ringAt(Math.max(...Object.values(below[name])));
}
function ringAt(spot) {
  if (spot === marked) return;
  marked = spot;
  const { x, y, u, v } = state.positions;
  ring.data = spot < 0 ? { x: [], y: [], u: [], v: [] }
    : { x: [x[spot]], y: [y[spot]], u: [u ? u[spot] : NaN], v: [v ? v[spot] : NaN] };
}

async function show(key) {
  const layer = data.layers[key];
  const points = await layerBytes(key, "points");
  const pixels = data.map.fixed ? await layerBytes(key, "pixels") : null;
  state.shown = key;
  const grey = data.scale.length ? data.scale[unknown] : "#d9d9d9";
  const palette = layer.names
    ? [...colorsOf(key), ...Array(255 - layer.colors.length).fill(grey), "#00000000"] : data.scale;
  mapper.palette = palette;
  look.colors = Uint32Array.from(palette, abgr);
  look.codes = points;
  look.pixels = pixels;
  figures.map.plot.select_one("numbers").visible = key === data.first;
  redraw();
  legend(key);
  byId("layer").value = layer.gene ? "" : key;
  if (byId("gene")) byId("gene").value = layer.gene ? layer.title : "";
}
// a gene or domain that was clicked in the text is shown where the map is seen
function bringMap() {
  const { top, bottom } = byId("map").getBoundingClientRect();
  const seen = Math.min(bottom, innerHeight) - Math.max(top, 0);
  if (seen < 0.6 * Math.min(bottom - top, innerHeight)) byId("view").scrollIntoView({ block: "start" });
}
function abgr(color) {
  const parts = color.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
  return ((((parts[3] ?? 255) << 24) | (parts[2] << 16) | (parts[1] << 8) | parts[0]) >>> 0);
}
function legend(key) {
  const box = byId("legend"), layer = data.layers[key];
  box.replaceChildren();
  if (!layer.names) {
    const ramp = element("span", { className: "ramp" });
    const steps = [0, 50, 101, 152, 202, 253].map((step) => data.scale[step]);
    ramp.style.background = `linear-gradient(to right, ${steps.join(",")})`;
    box.append(element(layer.gene ? "em" : "strong", { textContent: layer.title }),
      element("span", { textContent: number(layer, 0) }), ramp, element("span", { textContent: number(layer, 253) }));
    return;
  }
  const listed = new Set();
  layer.names.forEach((_, code) => {
    const name = nameIn(key, code);
    if (listed.has(name) || (layer.level && !layer.level.includes(code))) return;
    listed.add(name);
    if (key !== data.first) {
      box.append(element("span", { className: "entry" }, swatch(colorIn(key, code)), name));
      return;
    }
    const button = element("button", { type: "button" }, swatch(colorIn(key, code)), name);
    button.dataset.domain = code;
    button.setAttribute("aria-pressed", String(selection.domains.has(code)));
    box.append(button);
  });
}
