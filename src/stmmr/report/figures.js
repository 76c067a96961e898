// the spot that each pixel shows: the nearest one within reach, those that are not behind before others
function ownersOf(x, y, { x0, y0, step, width, height }, reach, isBehind) {
  const owner = new Int32Array(width * height).fill(-1), distance = new Float32Array(width * height).fill(Infinity);
  for (let spot = 0; spot < x.length; spot++) {
    const column = (x[spot] - x0) / step - 0.5, row = (y[spot] - y0) / step - 0.5;
    if (!(column > -reach && column < width + reach && row > -reach && row < height + reach)) continue;
    const last = { column: Math.min(width - 1, Math.floor(column + reach)), row: Math.min(height - 1, Math.floor(row + reach)) };
    const behind = isBehind(spot) ? 1e6 : 0;
    for (let j = Math.max(0, Math.ceil(row - reach)); j <= last.row; j++) {
      for (let i = Math.max(0, Math.ceil(column - reach)); i <= last.column; i++) {
        const far = (i - column) ** 2 + (j - row) ** 2, pixel = j * width + i;
        if (far > reach * reach || far + behind >= distance[pixel]) continue;
        distance[pixel] = far + behind;
        owner[pixel] = spot;
      }
    }
  }
  return owner;
}
// What a figure shows of the spots: circles if few are in view, otherwise pixels with the spot of each; bokeh draws both.
const figureOf = (plot, { x, y, radius, size, few, fixed, look }) => {
  const circles = plot.select_one("circles"), image = plot.select_one("pixels");
  const source = circles.data_source;
  const { x_range, y_range } = plot;
  const dimmed = 0.08, quiet = 0.15, pause = 80, widest = 2200, margin = 0.25;
  let owner = null, frame = null, timer = 0, strength = 0.9;

  function view(more) {
    const ends = [x_range, y_range].flatMap(({ start, end }) => {
      const extra = more * Math.abs(end - start);
      return [Math.min(start, end) - extra, Math.max(start, end) + extra];
    });
    return { x0: ends[0], x1: ends[1], y0: ends[2], y1: ends[3] };
  }
  // spots in a window, highlighted ones last, on top; null if there are more than a figure draws quickly
  function within({ x0, x1, y0, y1 }, wanted = () => true) {
    const below = [], above = [];
    for (let i = 0; i < x.length; i++) {
      if (!(x[i] >= x0 && x[i] <= x1 && y[i] >= y0 && y[i] <= y1) || !wanted(i)) continue;
      (look.chosen && look.chosen[i] ? above : below).push(i);
      if (below.length + above.length > few) return null;
    }
    return below.concat(above);
  }
  function opacity(i) {
    return look.chosen && !look.chosen[i] ? dimmed : strength;
  }
  function drawCircles(index) {
    source.data = {
      x: Float32Array.from(index, (i) => x[i]), y: Float32Array.from(index, (i) => y[i]),
      value: Uint8Array.from(index, (i) => look.codes[i]), alpha: Float32Array.from(index, opacity), index,
    };
  }

  function rasterise() {
    const seen = view(0), wide = view(margin);
    const step = Math.max((seen.x1 - seen.x0) / ((plot.inner_width || 800) * (window.devicePixelRatio || 1)),
      Math.max(wide.x1 - wide.x0, wide.y1 - wide.y0) / widest);
    const width = Math.ceil((wide.x1 - wide.x0) / step), height = Math.ceil((wide.y1 - wide.y0) / step);
    const reach = 0.5 + (radius ? radius / step : (size / 2) * (window.devicePixelRatio || 1));
    owner = ownersOf(x, y, { x0: wide.x0, y0: wide.y0, step, width, height }, reach, (spot) => look.chosen && !look.chosen[spot]);
    frame = { x: wide.x0, y: wide.y0, w: width * step, h: height * step, width, height, step };
  }
  function drawPixels() {
    const rgba = new Uint32Array(frame.width * frame.height);
    if (fixed) look.pixels.forEach((code, pixel) => { rgba[pixel] = look.colors[code]; });
    else owner.forEach((spot, pixel) => { if (spot >= 0) rgba[pixel] = faded(look.colors[look.codes[spot]], spot); });
    const Array_ = image.data_source.data.image[0].constructor;
    const { x: left, y: low, w, h, width, height } = frame;
    image.data_source.data = { image: [new Array_(rgba, [height, width])], x: [left], y: [low], dw: [w], dh: [h] };
  }
  function faded(color, spot) {
    if (!look.chosen || look.chosen[spot]) return color;
    return ((color & 0xffffff) | (Math.round((color >>> 24) * dimmed) << 24)) >>> 0;
  }

  function update() {
    timer = 0;
    if (fixed) {
      frame = fixed;
      drawPixels();
      return highlight();
    }
    const everywhere = { x0: -Infinity, x1: Infinity, y0: -Infinity, y1: Infinity };
    const index = within(x.length <= few ? everywhere : view(margin));
    owner = null;
    if (index === null) {
      rasterise();
      drawPixels();
    }
    image.glyph.global_alpha = strength;
    image.visible = index === null;
    drawCircles(index || []);
  }
  // over fixed pixels, circles are the highlighted spots, as many as can be drawn quickly
  function highlight() {
    timer = 0;
    let index = [];
    if (look.chosen) index = within(view(margin), (i) => look.chosen[i]) ?? thinned();
    image.visible = true;
    image.glyph.global_alpha = look.chosen ? quiet : strength;
    drawCircles(index);
  }
  function thinned() {
    const every = [];
    look.chosen.forEach((isChosen, i) => { if (isChosen) every.push(i); });
    const step = Math.ceil(every.length / few);
    return every.filter((_, nth) => nth % step === 0);
  }
  function later() {
    if (x.length <= few || !look.codes) return;
    if (!timer) timer = setTimeout(fixed ? highlight : update, pause);
  }

  // the spot below a point of the figure, -1 for none
  function spotAt(left, down) {
    if (!owner) return -1;
    const column = Math.floor((left - frame.x) / frame.step), row = Math.floor((down - frame.y) / frame.step);
    return column >= 0 && column < frame.width && row >= 0 && row < frame.height ? owner[row * frame.width + column] : -1;
  }
  function pixelAt(left, down) {
    if (!fixed) return -1;
    const column = Math.floor(((left - fixed.x) / fixed.w) * fixed.width);
    const row = Math.floor(((down - fixed.y) / fixed.h) * fixed.height);
    return column >= 0 && column < fixed.width && row >= 0 && row < fixed.height ? row * fixed.width + column : -1;
  }
  function nth(circle) {
    return source.data.index[circle];
  }
  // spots inside of a polygon, by the even-odd rule
  function inside({ x: xs, y: ys }) {
    const chosen = new Uint8Array(x.length);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    for (let spot = 0; spot < x.length; spot++) {
      if (!(x[spot] >= x0 && x[spot] <= x1 && y[spot] >= y0 && y[spot] <= y1)) continue;
      for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
        if (ys[i] > y[spot] === ys[j] > y[spot]) continue;
        if (x[spot] < ((xs[j] - xs[i]) * (y[spot] - ys[i])) / (ys[j] - ys[i]) + xs[i]) chosen[spot] ^= 1;
      }
    }
    return chosen;
  }
  function fade(opacity) {
    strength = opacity;
    update();
  }
  for (const range of [x_range, y_range]) range.change.connect(later);
  return { plot, x, y, update, fade, spotAt, pixelAt, nth, inside };
};
