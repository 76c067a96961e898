"use strict";
// Fills the figures of bokeh, and links them with the controls.
window.stmmr = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const unknown = 254, empty = 255;
  const figures = {};
  const bytes = new Map();
  // shared by both figures: codes of the spots, colours of the codes, highlighted spots
  const look = { codes: null, pixels: null, colors: null, chosen: null, opacity: 0.9 };
  let names = null, shown = data.first, domains = null, ring = null, mapper = null, highlighted = null, positions = null;

  async function unpacked(text) {
    const raw = await (await fetch_(text)).arrayBuffer();
    return new Uint8Array(raw);
  }
  function fetch_(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")));
  }
  async function layerBytes(key, part) {
    const id = `${part} ${key}`;
    if (!bytes.has(id)) bytes.set(id, await unpacked(data.layers[key][part]));
    return bytes.get(id);
  }

  // tooltips
  function number(layer, code) {
    return (layer.low + (code / 253) * (layer.high - layer.low)).toFixed(2);
  }
  function valueText(key, code) {
    const layer = data.layers[key];
    if (code === empty) return "";
    if (code === unknown) return `${layer.title}: missing`;
    return layer.names ? `${layer.title}: ${layer.names[code]}` : `${layer.title}: ${number(layer, code)}`;
  }
  function spotOf(name, vars) {
    return vars.image_index ? figures[name].spotAt(vars.x, vars.y) : figures[name].nth(vars.index);
  }
  function describe(name, vars) {
    const spot = spotOf(name, vars);
    if (spot < 0) return valueText(shown, look.pixels[figures[name].pixelAt(vars.x, vars.y)]);
    const lines = names ? [names[spot]] : [];
    for (const key of new Set([data.first, "stmmr_confidence", shown])) {
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
  let marked = -1;
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
    const { x, y, u, v } = positions;
    ring.data = spot < 0 ? { x: [], y: [], u: [], v: [] }
      : { x: [x[spot]], y: [y[spot]], u: [u ? u[spot] : NaN], v: [v ? v[spot] : NaN] };
  }

  // layers
  async function show(key) {
    const layer = data.layers[key];
    const points = await layerBytes(key, "points");
    const pixels = data.map.fixed ? await layerBytes(key, "pixels") : null;
    shown = key;
    const grey = data.scale.length ? data.scale[unknown] : "#d9d9d9";
    const palette = layer.names
      ? [...layer.colors, ...Array(255 - layer.colors.length).fill(grey), "#00000000"] : data.scale;
    mapper.palette = palette;
    look.colors = Uint32Array.from(palette, abgr);
    look.codes = points;
    look.pixels = pixels;
    redraw();
    legend(layer);
    for (const input of document.querySelectorAll("input[name=layer]")) input.checked = input.value === key;
    if (byId("gene")) byId("gene").value = layer.gene ? key : "";
  }
  function abgr(color) {
    const parts = color.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
    return ((((parts[3] ?? 255) << 24) | (parts[2] << 16) | (parts[1] << 8) | parts[0]) >>> 0);
  }
  function redraw() {
    for (const figure of Object.values(figures)) figure.update();
  }
  function swatch(color) {
    const mark = document.createElement("i");
    mark.style.background = color;
    return mark;
  }
  function legend(layer) {
    const box = byId("legend");
    box.replaceChildren();
    if (!layer.names) {
      const ramp = document.createElement("span");
      ramp.className = "ramp";
      const steps = [0, 50, 101, 152, 202, 253].map((step) => data.scale[step]);
      ramp.style.background = `linear-gradient(to right, ${steps.join(",")})`;
      box.append(label(layer.title, layer.gene ? "em" : "strong"), label(number(layer, 0)), ramp, label(number(layer, 253)));
      return;
    }
    layer.names.forEach((name, code) => {
      if (layer.title === data.layers[data.first].title) {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.domain = code;
        button.setAttribute("aria-pressed", String(highlighted === code));
        button.append(swatch(layer.colors[code]), name);
        box.append(button);
      } else {
        const entry = document.createElement("span");
        entry.className = "entry";
        entry.append(swatch(layer.colors[code]), name);
        box.append(entry);
      }
    });
  }
  function label(text, tag = "span") {
    const element = document.createElement(tag);
    element.textContent = text;
    element.style.fontSize = "0.875rem";
    return element;
  }

  // selections
  function highlight(code) {
    highlighted = highlighted === code ? null : code;
    choose(highlighted === null ? null : Uint8Array.from(domains, (domain) => domain === code));
  }
  function lasso(name, event) {
    if (!event.final || event.geometry.type !== "poly") return;
    highlighted = null;
    choose(figures[name].inside(event.geometry));
  }
  function choose(chosen) {
    const n = chosen ? chosen.reduce((sum, isChosen) => sum + isChosen, 0) : 0;
    look.chosen = n ? chosen : null;
    for (const button of document.querySelectorAll("[data-domain]"))
      button.setAttribute("aria-pressed", String(highlighted === Number(button.dataset.domain)));
    byId("clear").hidden = !n;
    byId("status").textContent = n ? counted(chosen, n) : "";
    redraw();
  }
  function counted(chosen, n) {
    const layer = data.layers[data.first], counts = new Map();
    chosen.forEach((isChosen, spot) => { if (isChosen) counts.set(domains[spot], (counts.get(domains[spot]) || 0) + 1); });
    const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([code, count]) =>
      `${code === unknown ? "none" : layer.names[code]} (${Math.round((100 * count) / n)} %)`);
    return `${n.toLocaleString("en")} ${data.spots} selected; domains: ${most.join(", ")}${counts.size > 4 ? ", …" : ""}.`;
  }

  // moving and zooming
  function window_(plot) {
    const { x_range, y_range } = plot;
    return [x_range.start, x_range.end, y_range.start, y_range.end];
  }
  function move(plot, across, down) {
    const [a, b, c, d] = window_(plot);
    const dx = across * (b - a), dy = down * (d - c);
    plot.x_range.setv({ start: a + dx, end: b + dx });
    plot.y_range.setv({ start: c + dy, end: d + dy });
  }
  function zoom(plot, factor) {
    const [a, b, c, d] = window_(plot);
    const x = (a + b) / 2, y = (c + d) / 2;
    plot.x_range.setv({ start: x + (a - x) * factor, end: x + (b - x) * factor });
    plot.y_range.setv({ start: y + (c - y) * factor, end: y + (d - y) * factor });
  }
  function reset(plot) {
    const [a, b, c, d] = plot.first_window;
    plot.x_range.setv({ start: a, end: b });
    plot.y_range.setv({ start: c, end: d });
  }
  function tool(plot, kind) {
    return plot.toolbar.tools.find(({ type }) => type === kind);
  }
  function drag(figure, plot, mode) {
    tool(plot, "PanTool").active = mode === "move";
    tool(plot, "LassoSelectTool").active = mode === "select";
    for (const button of figure.querySelectorAll("[data-do][aria-pressed]"))
      button.setAttribute("aria-pressed", String(button.dataset.do === mode));
    figure.querySelector(".canvas").style.touchAction = mode ? "none" : "auto";
  }
  const keys = {
    ArrowLeft: (plot) => move(plot, -0.1, 0), ArrowRight: (plot) => move(plot, 0.1, 0),
    ArrowUp: (plot) => move(plot, 0, 0.1), ArrowDown: (plot) => move(plot, 0, -0.1),
    "+": (plot) => zoom(plot, 0.8), "=": (plot) => zoom(plot, 0.8), "-": (plot) => zoom(plot, 1.25), 0: reset,
  };
  function connect(figure, plot) {
    plot.first_window = window_(plot);
    const canvas = figure.querySelector(".canvas");
    const wheel = tool(plot, "WheelZoomTool");
    const mode = (button) => (button.getAttribute("aria-pressed") === "true" ? null : button.dataset.do);
    figure.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (!button) return;
      const action = button.dataset.do;
      if (action === "in") zoom(plot, 0.8);
      else if (action === "out") zoom(plot, 1.25);
      else if (action === "reset") reset(plot);
      else drag(figure, plot, mode(button));
    });
    canvas.addEventListener("keydown", (event) => {
      const act = keys[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      act(plot);
      event.preventDefault();
    });
    // the wheel scrolls the page until the figure is clicked
    canvas.addEventListener("pointerdown", () => { wheel.active = true; });
    figure.addEventListener("pointerleave", () => { wheel.active = false; ringAt(-1); });
    drag(figure, plot, matchMedia("(pointer: coarse)").matches ? null : "move");
  }

  // the canvas is one stop of the Tab key, not two; that of bokeh has no name
  function unlisted() {
    for (const figure of document.querySelectorAll(".bk-Figure")) {
      const events = figure.shadowRoot?.querySelector(".bk-Canvas")?.shadowRoot?.querySelector(".bk-events");
      if (events) events.tabIndex = -1;
    }
  }

  // light and dark
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  // the curves follow the page by themselves, the figures of bokeh do not
  function recolour() {
    const ink = getComputedStyle(document.body).color;
    const card = getComputedStyle(document.querySelector(".card")).backgroundColor;
    byId("theme").setAttribute("aria-pressed", String(isDark()));
    for (const plot of Bokeh.documents[0].roots()) {
      for (const part of plot.center) {
        if (part.type === "ScaleBar") part.setv({ label_text_color: ink, bar_line_color: ink, background_fill_color: card });
        if (part.type === "LabelSet") part.text_color = ink;
      }
    }
  }
  function turn() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("stmmr-theme", root.dataset.theme); } catch { /* the choice is not kept */ }
    recolour();
  }

  async function copy(button) {
    const text = button.dataset.copy.split(",").map((id) => plainText(byId(id))).join("\n\n");
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    byId("copied").textContent = done ? "Copied." : "This browser does not allow pages to copy. Select the text instead.";
  }
  function plainText(element) {
    if (element.tagName !== "OL") return element.textContent;
    return [...element.children].map((item, i) => `${i + 1}. ${item.textContent.trim()}`).join("\n");
  }

  function listen() {
    for (const input of document.querySelectorAll("input[name=layer]"))
      input.addEventListener("change", () => show(input.value));
    byId("gene")?.addEventListener("change", (event) => show(event.target.value || data.first));
    byId("image")?.addEventListener("change", (event) => {
      figures.map.plot.select_one("image").visible = event.target.checked;
    });
    byId("opacity").addEventListener("input", (event) => {
      look.opacity = Number(event.target.value);
      redraw();
    });
    document.addEventListener("click", (event) => {
      const domain = event.target.closest("[data-domain]"), gene = event.target.closest("[data-gene]");
      const text = event.target.closest("[data-copy]");
      if (domain) highlight(Number(domain.dataset.domain));
      if (gene) show(`gene:${gene.dataset.gene}`);
      if (text) copy(text);
    });
    byId("clear").addEventListener("click", () => {
      highlighted = null;
      choose(null);
    });
    byId("theme").addEventListener("click", turn);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  }

  // positions are integers from 0 to 65534 between the corners; 65535 is missing
  async function axis(packed, low, high) {
    const raw = new Uint16Array((await unpacked(packed)).buffer);
    return Float32Array.from(raw, (step) => (step === 65535 ? NaN : low + (step / 65534) * (high - low)));
  }
  async function createFigures(plots) {
    const { few, radius, size, map, umap } = data;
    positions = { x: await axis(map.x, map.low[0], map.high[0]), y: await axis(map.y, map.low[1], map.high[1]) };
    figures.map = figureOf(plots.map, { x: positions.x, y: positions.y, radius, few, fixed: map.fixed, look });
    if (!umap) return;
    positions.u = await axis(umap.x, umap.low[0], umap.high[0]);
    positions.v = await axis(umap.y, umap.low[1], umap.high[1]);
    figures.umap = figureOf(plots.umap, { x: positions.u, y: positions.v, size, few, look });
  }

  async function start() {
    while (!window.Bokeh?.documents.length || !Bokeh.documents[0].is_idle)
      await new Promise((done) => requestAnimationFrame(done));
    const plots = Object.fromEntries(Bokeh.documents[0].roots().map((plot) => [plot.name, plot]));
    ring = plots.map.select_one("pointer");
    mapper = plots.map.select_one("colors");
    recolour();
    unlisted();
    await createFigures(plots);
    domains = await layerBytes(data.first, "points");
    for (const [name, figure] of Object.entries(figures)) connect(byId(name), figure.plot);
    listen();
    await show(data.first);
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    root.dataset.ready = "true";
    names = new TextDecoder().decode(await unpacked(data.names)).split("\n");
    if (data.layers.stmmr_confidence) await layerBytes("stmmr_confidence", "points");
    root.dataset.ready = "all";
  }
  try {
    root.dataset.theme = localStorage.getItem("stmmr-theme") || "";
    if (!root.dataset.theme) delete root.dataset.theme;
  } catch { /* the choice of the system holds */ }
  document.addEventListener("DOMContentLoaded", start);
  return { describe, isDescribed, lasso, mark, show };
})();
