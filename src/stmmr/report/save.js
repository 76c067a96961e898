// Saving figures and tables as files.
function save(name, type, content) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
// as Python writes it: a quote goes before what a spreadsheet would take for a formula
function csvOf(rows) {
  const harmless = (value) => (/^[=+\-@\t\r]/.test(value) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?( %)?$/i.test(value) ? `'${value}` : String(value));
  const cell = (value) => (/[",\n\r]/.test(value) ? `"${harmless(value).replaceAll('"', '""')}"` : harmless(value));
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
function saveTable(table) {
  const rows = [...table.rows].map((row) => [...row.cells].filter((cell) => !("unsaved" in cell.dataset))
    .map((cell) => cell.textContent.trim().replace(/\s+/g, " ")));
  save(`${table.dataset.save}.csv`, "text/csv", csvOf(rows));
}
// the drawing as in light mode, on white
function drawnOf(figure) {
  const drawn = figure.querySelector("svg"), copy = drawn.cloneNode(true);
  const [, , width, height] = drawn.getAttribute("viewBox").split(" ").map(Number);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("xmlns:xlink", "http://www.w3.org/1999/xlink");
  copy.setAttribute("width", `${width}pt`);
  copy.setAttribute("height", `${height}pt`);
  copy.setAttribute("style", "stroke-linejoin: round; font-family: Arial, Helvetica, sans-serif; background: #fff");
  const text = new XMLSerializer().serializeToString(copy);
  const light = { currentColor: "#000000", "var(--band)": "#d9d9d9", "var(--accent)": "#0072b2" };
  return { text: Object.entries(light).reduce((all, [from, to]) => all.replaceAll(from, to), text), width, height };
}
async function saveDrawn(figure, kind) {
  const { text, width, height } = drawnOf(figure), name = figure.dataset.save;
  if (kind === "svg") return save(`${name}.svg`, "image/svg+xml", text);
  const scale = 300 / 72;
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toBlob((blob) => save(`${name}.png`, "image/png", blob));
}
// bokeh draws its figure again, as pixels or as SVG
function drawnAgain(name, kind) {
  const plot = state.plots[name], view = Bokeh.index.find_one_by_id(plot.id);
  const own = name === "map" && plot.select_one("image"), visible = own?.visible;
  if (own) own.visible = byId("image").checked; // tiles are behind the figure, not in it
  const layer = view.export(kind);
  if (own) own.visible = visible;
  return layer;
}
async function savePlot(name, kind) {
  const layer = drawnAgain(name, kind);
  const shown = name === "panels" ? "" : `-${state.shown.replace(/[^\w-]+/g, "-")}`;
  save(`${name}${shown}.${kind}`, "", await layer.to_blob());
}
function addSaving() {
  const button = (label, kind, action) => {
    const made = element("button", { type: "button", className: "save", textContent: kind, title: `Save ${label} as ${kind}` });
    made.setAttribute("aria-label", `Save ${label} as ${kind}`);
    made.addEventListener("click", action);
    return made;
  };
  for (const figure of document.querySelectorAll(".drawn[data-save]")) {
    const label = figure.querySelector("figcaption").textContent;
    figure.querySelector("figcaption").append(element("span", { className: "saves" },
      ...["SVG", "PNG"].map((kind) => button(label, kind, () => saveDrawn(figure, kind.toLowerCase())))));
  }
  for (const table of document.querySelectorAll("table[data-save]")) {
    const after = table.closest(".scroll") || table;
    after.after(element("p", { className: "saves" }, button(table.dataset.save.replaceAll("-", " "), "CSV", () => saveTable(table))));
  }
  for (const figure of document.querySelectorAll(".plot")) {
    const name = figure.dataset.plot;
    figure.querySelector(".tools").append(...["PNG", "SVG"].map((kind) =>
      button(name, kind, () => savePlot(name, kind.toLowerCase()))));
  }
}
