// Moving and zooming a figure, by mouse, keyboard and buttons; it keeps its shape whatever the size of its element.
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
function zoom(plot, wanted) {
  const [a, b, c, d] = window_(plot);
  const factor = Math.max(wanted, Math.min(1, (plot.x_range.min_interval ?? 0) / Math.abs(b - a)));
  const x = (a + b) / 2, y = (c + d) / 2;
  plot.x_range.setv({ start: x + (a - x) * factor, end: x + (b - x) * factor });
  plot.y_range.setv({ start: y + (c - y) * factor, end: y + (d - y) * factor });
}
function reset(plot) {
  const [a, b, c, d] = plot.first_window;
  plot.x_range.setv({ start: a, end: b });
  plot.y_range.setv({ start: c, end: d });
}
// the frame with as much around it as its element is wider or higher
function whole(plot, { low, high }, down) {
  const shape = plot.inner_width / plot.inner_height;
  const width = Math.max(high[0] - low[0], (high[1] - low[1]) * shape), height = width / shape;
  const x = (low[0] + high[0]) / 2, y = (low[1] + high[1]) / 2, up = down ? -1 : 1;
  return [x - width / 2, x + width / 2, y - (up * height) / 2, y + (up * height) / 2];
}
function fit(plot, frame, down) {
  if (!(plot.inner_width > 0 && plot.inner_height > 0)) return;
  const [a, b, c, d] = window_(plot), first = plot.first_window;
  const moved = first && [a, b, c, d].some((end, i) => end !== first[i]);
  plot.first_window = whole(plot, frame, down);
  if (!moved) return reset(plot);
  const half = (Math.sign(d - c) * Math.abs(b - a) * plot.inner_height) / plot.inner_width / 2;
  plot.y_range.setv({ start: (c + d) / 2 - half, end: (c + d) / 2 + half });
}
function tool(plot, kind) {
  return plot.toolbar.tools.find(({ type }) => type === kind);
}
function drag(figure, plot, mode) {
  tool(plot, "PanTool").active = mode === "move";
  tool(plot, "LassoSelectTool").active = mode === "lasso";
  tool(plot, "BoxSelectTool").active = mode === "box";
  for (const button of figure.querySelectorAll("[data-do][aria-pressed]"))
    button.setAttribute("aria-pressed", String(button.dataset.do === mode));
  figure.querySelector(".canvas").style.touchAction = mode ? "none" : "auto";
}
const keys = {
  ArrowLeft: (plot) => move(plot, -0.1, 0), ArrowRight: (plot) => move(plot, 0.1, 0),
  ArrowUp: (plot) => move(plot, 0, 0.1), ArrowDown: (plot) => move(plot, 0, -0.1),
  "+": (plot) => zoom(plot, 0.8), "=": (plot) => zoom(plot, 0.8), "-": (plot) => zoom(plot, 1.25), 0: reset,
};
function connect(figure, plot, frame, down) {
  const refit = () => fit(plot, frame, down);
  refit();
  for (const side of ["inner_width", "inner_height"]) plot.properties[side].change.connect(refit);
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
  canvas.addEventListener("pointerdown", (event) => {
    wheel.active = true;
    selection.adding = event.shiftKey;
  }, true);
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
