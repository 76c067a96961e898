"use strict";
// What a figure shows of the places: circles where few are in view, else the place of each pixel; bokeh draws both.
const figureOf = (plot, { x, y, radius, size, few, fixed, look }) => {
  const circles = plot.select_one("circles"), image = plot.select_one("pixels");
  const source = circles.data_source;
  const of = { x_range: plot.x_range, y_range: plot.y_range };
  const dimmed = 0.08, quiet = 0.15, pause = 80, widest = 2200, margin = 0.25;
  let owner = null, frame = null, timer = 0;

  function view(more) {
    const ends = [of.x_range, of.y_range].flatMap(({ start, end }) => {
      const room = more * Math.abs(end - start);
      return [Math.min(start, end) - room, Math.max(start, end) + room];
    });
    return { x0: ends[0], x1: ends[1], y0: ends[2], y1: ends[3] };
  }
  // places in a window, those that are brought out last, on top; null where there are more than a figure draws at ease
  function within({ x0, x1, y0, y1 }, wanted = () => true) {
    const below = [], above = [];
    for (let at = 0; at < x.length; at++) {
      if (!(x[at] >= x0 && x[at] <= x1 && y[at] >= y0 && y[at] <= y1) || !wanted(at)) continue;
      (look.chosen && look.chosen[at] ? above : below).push(at);
      if (below.length + above.length > few) return null;
    }
    return below.concat(above);
  }
  function opacity(at) {
    return look.chosen && !look.chosen[at] ? dimmed : look.opacity;
  }
  function drawCircles(at) {
    source.data = {
      x: Float32Array.from(at, (one) => x[one]), y: Float32Array.from(at, (one) => y[one]),
      value: Uint8Array.from(at, (one) => look.codes[one]), alpha: Float32Array.from(at, opacity), at,
    };
  }

  // which place each pixel shows: the nearest one, of those that are brought out before the others
  function rasterised() {
    const seen = view(0), wide = view(margin);
    const step = Math.max((seen.x1 - seen.x0) / ((plot.inner_width || 800) * (window.devicePixelRatio || 1)),
      Math.max(wide.x1 - wide.x0, wide.y1 - wide.y0) / widest);
    const width = Math.ceil((wide.x1 - wide.x0) / step), height = Math.ceil((wide.y1 - wide.y0) / step);
    owner = new Int32Array(width * height).fill(-1);
    const distance = new Float32Array(width * height).fill(Infinity);
    const reach = 0.5 + (radius ? radius / step : (size / 2) * (window.devicePixelRatio || 1));
    for (let at = 0; at < x.length; at++) {
      const column = (x[at] - wide.x0) / step - 0.5, row = (y[at] - wide.y0) / step - 0.5;
      if (!(column > -reach && column < width + reach && row > -reach && row < height + reach)) continue;
      const last = { column: Math.min(width - 1, Math.floor(column + reach)), row: Math.min(height - 1, Math.floor(row + reach)) };
      const behind = look.chosen && !look.chosen[at] ? 1e6 : 0;
      for (let j = Math.max(0, Math.ceil(row - reach)); j <= last.row; j++) {
        for (let i = Math.max(0, Math.ceil(column - reach)); i <= last.column; i++) {
          const far = (i - column) ** 2 + (j - row) ** 2, pixel = j * width + i;
          if (far > reach * reach || far + behind >= distance[pixel]) continue;
          distance[pixel] = far + behind;
          owner[pixel] = at;
        }
      }
    }
    frame = { x: wide.x0, y: wide.y0, w: width * step, h: height * step, width, height, step };
  }
  function drawPixels() {
    const rgba = new Uint32Array(frame.width * frame.height);
    if (fixed) look.pixels.forEach((code, pixel) => { rgba[pixel] = look.colors[code]; });
    else owner.forEach((at, pixel) => { if (at >= 0) rgba[pixel] = faded(look.colors[look.codes[at]], at); });
    const Array_ = image.data_source.data.image[0].constructor;
    const { x: left, y: low, w, h, width, height } = frame;
    image.data_source.data = { image: [new Array_(rgba, [height, width])], x: [left], y: [low], dw: [w], dh: [h] };
  }
  function faded(color, at) {
    if (!look.chosen || look.chosen[at]) return color;
    return ((color & 0xffffff) | (Math.round((color >>> 24) * dimmed) << 24)) >>> 0;
  }

  function update() {
    timer = 0;
    if (fixed) {
      frame = fixed;
      drawPixels();
      return moved();
    }
    const at = x.length <= few ? within({ x0: -Infinity, x1: Infinity, y0: -Infinity, y1: Infinity }) : within(view(margin));
    owner = null;
    if (at === null) {
      rasterised();
      drawPixels();
    }
    image.glyph.global_alpha = look.opacity;
    image.visible = at === null;
    drawCircles(at || []);
  }
  // over pixels made beforehand, circles are of the places that are brought out, as many as can be drawn at ease
  function moved() {
    timer = 0;
    let at = [];
    if (look.chosen) {
      at = within(view(margin), (one) => look.chosen[one]);
      if (at === null) at = thinned();
    }
    image.visible = true;
    image.glyph.global_alpha = look.chosen ? quiet : look.opacity;
    drawCircles(at);
  }
  function thinned() {
    const every = [];
    look.chosen.forEach((is, at) => { if (is) every.push(at); });
    const step = Math.ceil(every.length / few);
    return every.filter((_, nth) => nth % step === 0);
  }
  function later() {
    if (x.length <= few) return;
    if (!timer) timer = setTimeout(fixed ? moved : update, pause);
  }

  // the place below a point of the figure, -1 for none
  function placeAt(left, down) {
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
  function nth(index) {
    return source.data.at[index];
  }
  // even-odd rule
  function inside({ x: xs, y: ys }) {
    const found = new Uint8Array(x.length);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    for (let at = 0; at < x.length; at++) {
      if (!(x[at] >= x0 && x[at] <= x1 && y[at] >= y0 && y[at] <= y1)) continue;
      for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
        if (ys[i] > y[at] === ys[j] > y[at]) continue;
        if (x[at] < ((xs[j] - xs[i]) * (y[at] - ys[i])) / (ys[j] - ys[i]) + xs[i]) found[at] ^= 1;
      }
    }
    return found;
  }
  for (const range of [of.x_range, of.y_range]) range.change.connect(later);
  return { plot, x, y, update, placeAt, pixelAt, nth, inside };
};
