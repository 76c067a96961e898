// What the scripts of the page share: the data, the state, and how packed values are read.
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const unknown = 254, empty = 255;
const figures = {};
const bytes = new Map();
// shared by the figures: codes of the spots, colours of the codes, highlighted spots
const look = { codes: null, pixels: null, colors: null, chosen: null };
const state = { shown: data.first, names: null, domains: null, positions: null };

async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
async function layerBytes(key, part) {
  const id = `${part} ${key}`;
  if (!bytes.has(id)) bytes.set(id, data.layers[key].level ? await levelBytes(key, part) : await unpacked(data.layers[key][part]));
  return bytes.get(id);
}
function redraw() {
  for (const figure of Object.values(figures)) figure.update();
}
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
function swatch(color) {
  const mark = element("i");
  mark.style.background = color;
  return mark;
}
// "1 spot", "1,234 spots"
function amount(n) {
  return `${n.toLocaleString("en")} ${n === 1 ? data.spots.slice(0, -1) : data.spots}`;
}
function percent(share) {
  return `${share < 0.0995 && share > 0 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;
}
// a stored choice, and none where the browser does not keep any
function stored(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}
function store(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch { /* the choice is not kept */ }
}
