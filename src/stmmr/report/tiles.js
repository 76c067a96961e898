// The image at full resolution, behind the map: files beside the page, of which those in view are loaded.
let tiled = null;

function startTiles() {
  const { tiles } = data;
  if (!tiles) return;
  const box = element("div", { className: "tiles" }), whole = element("div");
  box.append(whole);
  const first = tileOf(0, 0, 0);
  // without its folder, the page shows the image that it holds
  first.addEventListener("load", () => {
    byId("map").querySelector(".canvas").prepend(box);
    tiled = { box, whole, loaded: new Map([["0/0_0", first]]), timer: 0 };
    whole.append(first);
    const { x_range, y_range, properties } = state.plots.map;
    for (const range of [x_range, y_range]) range.change.connect(placeTiles);
    for (const side of ["inner_width", "inner_height"]) properties[side].change.connect(placeTiles);
    showImage(byId("image").checked);
    placeTiles();
  });
}
function tileOf(level, column, row) {
  const { tile, sizes, folder } = data.tiles, [width, height] = sizes[level];
  const factor = 2 ** (sizes.length - 1 - level), x = column * tile, y = row * tile;
  const image = element("img", { alt: "", src: `${folder}/${level}/${column}_${row}.jpg` });
  Object.assign(image.style, {
    left: `${x * factor}px`, top: `${y * factor}px`, zIndex: level,
    width: `${Math.min(tile, width - x) * factor}px`, height: `${Math.min(tile, height - y) * factor}px`,
  });
  return image;
}
// the image moves with the map at once, and tiles are loaded when it rests
function placeTiles() {
  const { plots: { map: plot } } = state, { x, y, step } = data.tiles;
  const [a, b, c, d] = window_(plot), scale = (step * plot.inner_width) / (b - a);
  const left = ((x - a) / (b - a)) * plot.inner_width, top = ((y - d) / (c - d)) * plot.inner_height;
  tiled.box.style.height = `${plot.inner_height}px`;
  tiled.whole.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
  clearTimeout(tiled.timer);
  tiled.timer = setTimeout(() => loadTiles(scale, -left / scale, -top / scale), 60);
}
function loadTiles(scale, left, top) {
  const { tile, sizes } = data.tiles, { inner_width, inner_height } = state.plots.map, { loaded, whole } = tiled;
  const finest = sizes.length - 1, level = Math.max(0, Math.min(finest, Math.ceil(finest + Math.log2(scale * (window.devicePixelRatio || 1)))));
  const side = tile * 2 ** (finest - level), [width, height] = sizes[level];
  const within = (from, extent, size) => [Math.max(0, Math.floor(from / side)), Math.min(Math.ceil(size / tile), Math.ceil((from + extent) / side))];
  const [c0, c1] = within(left, inner_width / scale, width), [r0, r1] = within(top, inner_height / scale, height);
  const wanted = new Set(["0/0_0"]);
  for (let row = r0; row < r1; row++) for (let column = c0; column < c1; column++) {
    const name = `${level}/${column}_${row}`;
    wanted.add(name);
    if (loaded.has(name)) continue;
    const image = tileOf(level, column, row);
    loaded.set(name, image);
    whole.append(image);
  }
  // others stay until the view is sharp
  Promise.allSettled([...wanted].map((name) => loaded.get(name).decode())).then(() => {
    if (tiled.wanted !== wanted) return;
    for (const [name, image] of loaded) if (!wanted.has(name)) { image.remove(); loaded.delete(name); }
    root.dataset.tiles = `${level}`;
  });
  tiled.wanted = wanted;
}
function showImage(isShown) {
  const own = state.plots.map.select_one("image");
  if (own) own.visible = isShown && !tiled;
  if (tiled) tiled.box.hidden = !isShown;
}
// no closer than the image has pixels, or without tiles than a few spots
function limitZoom(plot, closest) {
  const ratio = plot.inner_height / plot.inner_width;
  plot.x_range.min_interval = closest;
  plot.y_range.min_interval = closest * ratio;
}
