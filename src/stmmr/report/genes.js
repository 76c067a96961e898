// Values of all genes, unpacked from the page when a gene is shown.
const genes = { names: [], number: new Map(), blocks: new Map(), scale: null, pixels: null };
const blocksKept = 6, highest = 0.995;

async function readGenes() {
  if (!data.genes) return;
  genes.names = new TextDecoder().decode(await unpacked(data.genes.names)).split("\n");
  // as written; of names that differ in case only, the first is found by other writings
  genes.names.forEach((name, number) => { if (!genes.number.has(name)) genes.number.set(name, number); });
  genes.names.forEach((name, number) => {
    if (!genes.number.has(name.toLowerCase())) genes.number.set(name.toLowerCase(), number);
  });
  if (data.genes.scale) genes.scale = new Float32Array((await unpacked(data.genes.scale)).buffer);
}
async function readBlock(number) {
  if (genes.blocks.has(number)) return genes.blocks.get(number);
  const raw = await unpacked(byId(`genes-${number}`).textContent);
  const { starts } = data.genes, n = (starts[number + 1] ?? genes.names.length) - starts[number];
  const head = new Uint32Array(raw.buffer, 0, 2 * n);
  let step = 8 * n, code = step, value = 0;
  for (let i = 0; i < n; i++) code += head[2 * i + 1];
  const block = [];
  for (let i = 0; i < n; i++) {
    block.push({ n: head[2 * i], steps: raw.subarray(step, step + head[2 * i + 1]), codes: raw.subarray(code + value, code + value + head[2 * i]) });
    step += head[2 * i + 1];
    value += head[2 * i];
  }
  genes.blocks.set(number, block);
  if (genes.blocks.size > blocksKept) genes.blocks.delete(genes.blocks.keys().next().value);
  return block;
}
// spots with a gene, and their log-normalised values
function unpackGene({ n, steps, codes }) {
  const spots = new Uint32Array(n), values = new Float32Array(n);
  const { levels } = data.genes, { scale } = genes;
  let spot = -1, at = 0;
  for (let i = 0; i < n; i++) {
    spot += 1;
    while (steps[at] === 255) { spot += 255; at += 1; }
    spot += steps[at];
    at += 1;
    spots[i] = spot;
    values[i] = scale ? Math.log1p(levels[codes[i]] * scale[spot]) : levels[codes[i]];
  }
  return { spots, values };
}
async function valuesOf(number) {
  const { starts } = data.genes;
  let block = starts.length - 1;
  while (starts[block] > number) block -= 1;
  return unpackGene((await readBlock(block))[number - starts[block]]);
}
// a layer of the map, made like those that the page holds
async function makeGene(number) {
  const name = genes.names[number], key = `gene:${name}`;
  if (data.layers[key]) return key;
  const { spots, values } = await valuesOf(number);
  const sorted = values.slice().sort(), rank = (sorted.length - 1) * highest, below_ = Math.floor(rank);
  const high = sorted.length ? sorted[below_] + (rank - below_) * ((sorted[below_ + 1] ?? sorted[below_]) - sorted[below_]) : 1;
  const every = new Float32Array(data.genes.n);
  spots.forEach((spot, i) => { every[spot] = values[i]; });
  const toCode = (value) => Math.round(253 * Math.min(value / high, 1));
  if (data.map.fixed) {
    const { points, counts, nearest } = await pixelOrder();
    bytes.set(`points ${key}`, Uint8Array.from(points, (spot) => toCode(every[spot])));
    let spot = 0;
    const codes = Uint8Array.from(counts, (n) => {
      let sum = 0;
      for (const end = spot + n; spot < end; spot++) sum += every[spot];
      return toCode(sum / n);
    });
    bytes.set(`pixels ${key}`, Uint8Array.from(nearest, (pixel) => (pixel < 0 ? empty : codes[pixel])));
  } else bytes.set(`points ${key}`, Uint8Array.from(every, toCode));
  data.layers[key] = { title: name, gene: true, low: 0, high };
  return key;
}
// of a map of pixels: spots are ordered by their pixel
async function pixelOrder() {
  if (genes.pixels) return genes.pixels;
  const { order } = data.genes;
  const [points, counts, nearest] = await Promise.all([order.points, order.counts, order.nearest].map(unpacked));
  genes.pixels = { points: new Uint32Array(points.buffer), counts: new Uint32Array(counts.buffer), nearest: new Int32Array(nearest.buffer) };
  for (let i = 1; i < genes.pixels.nearest.length; i++) genes.pixels.nearest[i] += genes.pixels.nearest[i - 1];
  return genes.pixels;
}

// searching: names that start with the text come first
function matching(text, most = 12) {
  const start = [], inside = [], wanted = text.trim().toLowerCase();
  if (!wanted) return start;
  for (const name of genes.names) {
    const at = name.toLowerCase().indexOf(wanted);
    if (at === 0) start.push(name);
    else if (at > 0 && inside.length < most) inside.push(name);
  }
  start.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  return start.concat(inside).slice(0, most);
}
async function showGene(name) {
  const number = genes.number.get(name.trim()) ?? genes.number.get(name.trim().toLowerCase());
  if (number === undefined) return false;
  await show(await makeGene(number));
  return true;
}
function listenToGenes() {
  const input = byId("gene");
  if (!input) return;
  const offer = () => {
    const names = matching(input.value);
    byId("gene-names").replaceChildren(...names.map((name) => element("option", { value: name })));
    input.setCustomValidity("");
    return names;
  };
  input.addEventListener("input", (event) => {
    const names = offer();
    // a name that was chosen from the list, not one that is being typed
    if (event.inputType === "insertReplacementText" || !event.inputType) showGene(input.value);
    else if (names.length === 1) showGene(names[0] === input.value ? input.value : "");
  });
  input.addEventListener("change", async () => {
    const text = input.value.trim();
    if (!text) return void (data.layers[state.shown].gene && show(data.first));
    if (await showGene(text) || await showGene(matching(text, 1)[0] ?? "")) return;
    input.setCustomValidity(`No gene is called ${text}.`);
    input.reportValidity();
  });
}
