// Genes of the selected spots against all others, from the packed counts: the statistics of stmmr.tl.domain_genes.
const markersShown = 15, smallestGroup = 3;

// Wilcoxon rank sums of two samples of positive values, of which the others are 0; both ascending
function rankSum(a, b, nA, nB) {
  const zerosA = nA - a.length, zerosB = nB - b.length, zeros = zerosA + zerosB;
  let wins = a.length * zerosB + (zerosA * zerosB) / 2, ties = zeros ** 3 - zeros;
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    const value = !(j < b.length) || a[i] <= b[j] ? a[i] : b[j];
    let inA = 0, inB = 0;
    while (a[i + inA] === value) inA++;
    while (b[j + inB] === value) inB++;
    wins += inA * (j + inB / 2);
    const tied = inA + inB;
    ties += tied ** 3 - tied;
    i += inA;
    j += inB;
  }
  const total = nA + nB;
  const variance = ((nA * nB) / 12) * (total + 1 - ties / (total * (total - 1)));
  return { auc: wins / (nA * nB), z: ties >= total ** 3 - total ? 0 : (wins - (nA * nB) / 2) / Math.sqrt(variance) };
}
function compared({ spots, values }, group, nA, nB) {
  const a = [], b = [];
  let sumA = 0, sumB = 0;
  for (let i = 0; i < spots.length; i++) {
    const side = group[spots[i]];
    if (!side || !values[i]) continue;
    (side === 1 ? a : b).push(values[i]);
    if (side === 1) sumA += Math.expm1(values[i]);
    else sumB += Math.expm1(values[i]);
  }
  const pseudo = 1 / (nA + nB);
  return {
    share: a.length / nA, other: b.length / nB, fold: Math.log2((sumA / nA + pseudo) / (sumB / nB + pseudo)),
    ...rankSum(Float32Array.from(a).sort(), Float32Array.from(b).sort(), nA, nB),
  };
}
// of the spots that are drawn one by one: 1 for selected ones, 2 for others, 0 for those without a domain
async function grouped(chosen) {
  const points = data.map.fixed ? (await pixelOrder()).points : null;
  const group = new Uint8Array(data.genes.n);
  chosen.forEach((isChosen, i) => { group[points ? points[i] : i] = isChosen ? 1 : state.domains[i] === unknown ? 0 : 2; });
  return group;
}
async function markersOf(chosen, progress) {
  const group = await grouped(chosen);
  const nA = group.reduce((n, side) => n + (side === 1), 0), nB = group.reduce((n, side) => n + (side === 2), 0);
  if (nA < smallestGroup || nB < smallestGroup) return { nA, nB, rows: [] };
  const rows = [], { starts } = data.genes;
  for (let number = 0; number < starts.length; number++) {
    (await readBlock(number)).forEach((gene, i) => {
      const row = compared(unpackGene(gene), group, nA, nB);
      if (row.z > 0 && row.fold > 0) rows.push({ gene: genes.names[starts[number] + i], ...row });
    });
    progress((number + 1) / starts.length);
    await new Promise((done) => setTimeout(done));
    if (look.chosen !== chosen) return null;
  }
  return { nA, nB, rows: rows.sort((a, b) => b.z - a.z) };
}
async function showMarkers() {
  const { chosen } = look, button = byId("find-markers"), told = byId("markers-told");
  if (!chosen) return;
  button.disabled = true;
  const found = await markersOf(chosen, (share) => { told.textContent = `${Math.round(100 * share)} %`; });
  button.disabled = false;
  if (!found) return;
  const { nA, nB, rows } = found, n = Math.min(markersShown, rows.length);
  told.textContent = rows.length
    ? `${amount(nA)} against ${amount(nB)}: the ${n > 1 ? `${n} genes` : "gene"} with the highest rank sum${n > 1 ? "s" : ""}.`
    : Math.min(nA, nB) < smallestGroup ? `Select at least ${amount(smallestGroup)}, and leave as many.` : "No gene is higher.";
  byId("markers").hidden = !rows.length;
  byId("markers").querySelector("tbody").replaceChildren(...rows.slice(0, markersShown).map((row) => {
    const gene = element("button", { type: "button", className: "gene", textContent: row.gene });
    gene.dataset.gene = row.gene;
    const name = element("th", { scope: "row" }, gene);
    return element("tr", {}, name, ...[row.fold.toFixed(2), percent(row.share), percent(row.other), row.auc.toFixed(3)]
      .map((text) => element("td", { className: "n", textContent: text })));
  }));
  byId("markers").scrollIntoView({ block: "nearest" });
}
