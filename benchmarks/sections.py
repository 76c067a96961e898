"""Several sections, apart, together and mapped: `python -m benchmarks.sections` writes docs/sections.md."""

import logging
import time
import warnings
from itertools import permutations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score

import stmmr
from benchmarks._table import DATA, ROOT, write

SEEDS = range(3)
NEIGHBOURS = 90
"""Of which LISI reads those within its perplexity of 30."""
HEART = "st_human_heart_9sections"
UM_PER_UNIT = 8.4
"""Of the registered coordinates of the heart, z included: spots are 200 µm apart on the array."""
CHAMBERS = ("MYH6", "MYH7")
"""The myosin of the atria and that of the ventricles."""
PAIRS = {
    "DLPFC": (("visium_dlpfc_151673", "visium_dlpfc_151674"), 7, "sum_umi_full"),
    "STARmap": (("starmap_mpfc_BZ5", "starmap_mpfc_BZ9"), 4, None),
}
TEXT = """Give all of them to one command; each is a section, named after its file or folder (of Space Ranger's
`outs/`, the folder above):

```bash
stmmr run 151673/outs/ 151674/outs/ -o result
stmmr run 151673/outs/ 151674/outs/ -o result --align 10    # serial sections 10 µm apart, in three dimensions
stmmr run all.h5ad --section-key section -o result          # sections that are in one table already
```

`domains.csv` has a column `section`, `composition.csv` counts domains by section. In Python:

```python
adata = stmmr.pp.concat_sections({"151673": one, "151674": other})
stmmr.run(adata, section_key="section")
```

**Pictures.** Each section is described by its own H&E picture, with its own scale, tissue, white of the glass and
checks, just as it would be by itself; messages name the section. That is so wherever libraries in `uns["spatial"]`
have the names of sections (`library_key` in squidpy), or by `image={"151673": "one.tif", "151674": "other.tif"}`
in Python. If a section has no picture while others have one, a warning says so and no picture is read at all. On
visium_dlpfc_151673 and 151674 (lowres pictures of 600 pixels, one command, `--n-domains 7`, three seeds) ARI is
0.589 ± 0.008 and 0.643 ± 0.014 with the pictures and 0.584 ± 0.005 and 0.631 ± 0.003 without (`--no-histology`):
within seeds of each other, as such pictures have a weight of .03.

**Alignment.** `--align UM` aligns each section to the one before it (`pp.align_sections`), stacks them in the
order given, UM µm apart, and gives places neighbours above and below (`in_3d=True`). Where an AnnData has
`obsm["spatial_3d"]` already, `--in-3d` takes it as it is. When edges across
sections help is measured below.

**What sections share.** With `section_key`, no edge crosses from one section to another, the mean of each section
is taken off every gene and picture feature before the components are found, and the noise of each section,
measured among its neighbouring places, is brought to one covariance ([architecture.md](architecture.md)); sections
are taken to hold much the same tissue. `stmmr.pp.concat_sections({"a": one, "b": other})` makes the table: names
that clash get that of their section, coordinates are brought to one unit where it is known, pictures stay under
the name of their section. `model.transform(other)` does the same to a section that is mapped, at the same
bandwidth in µm; a section maps onto itself up to round-off. `tl.transfer_domains` names its domains by linear
discriminant analysis of the embedding, `tl.match_domains` takes over the names of another partition (Hungarian
method), `tl.composition` counts domains by section and `tl.compare_composition` tests groups of sections, which
are the replicates.

## Two sections of one tissue

Each by itself (*apart*), both in one run (*together*), together with the embedding corrected by Harmony
(`tl.integrate`), and each by the model and the domains of the other, without training (*mapped*). ARI with the
experts' labels, which nothing else reads; mean of three seeds ± standard deviation. Genes that both sections have,
no picture."""
MIXED = """*Mixed*: the same embeddings by scib-metrics among labelled places, {n} neighbours. iLISI is 1 where the
neighbours of a place are of both sections alike, 0 where they are of its own; cLISI is 1 where they are of
its layer. kBET is the share of places whose neighbours pass for a draw from both sections. *As they come*:
neither mean nor noise of the sections touched, only the graph keeps them apart.

Harmony mixes sections far more, and no cLISI falls; but while the domains gain .02 on the cortex, they lose .07 on
STARmap, whose sections hold different shares of the layers. So it is not the default, and `tl.integrate` writes a
key of its own. The model together is .03 above apart on the cortex, and within .001 on STARmap. Tried and left out
(mean ARI DLPFC / STARmap, .620 / .808 before the noise of sections was made alike, .624 / .814 with it): each
component of each section at one variance .618 / .810, each gene .629 / .812, but .316 on the nine heart sections
(.359 before, .364 with alike noise), whose composition differs; a shift by mutual nearest neighbours .608 / .813;
section offsets inside the mixture .621 / .809; Harmony on the components before the graph .618 / .800; the standard
error of one section in the choice of the bandwidth, .802 on STARmap. A smoothed place is most like the places around
it, which are of its own section, so that no LISI nears 1."""
STACK = """## Nine sections of a heart, in three dimensions

{heart}: 1,467 spots 200 µm apart in nine sections 30 to 320 µm apart, 8 regions. ARI over all sections and
mean of the ARI of each section, three seeds, as above. *On the slides*: coordinates as they come, which are
pixels of pictures of different sizes (a warning says so). *Apart*: array positions in µm, no edge across.
*Stacked*: `run(…, in_3d=True)`, with edges across sections, over array positions that are not aligned,
aligned by `pp.align_sections`, and as registered by the authors (`obsm["spatial_3d"]`). *Across* is the
share of the weight of neighbours that is of other sections; *off* the median distance from the authors'
registration in spots, after the best similarity of the whole stack.

Edges across help where places that lie upon each other are the same tissue. A rigid map, as `pp.align_sections`
finds, leaves sections of different size and shape, a few spots off the authors' registration, which bends them (the
best rigid map of each section by itself is {rigid:.1f} spots off); nothing is gained by edges then. The registration
and the labels may both come from one model of the organ; then part of its gain is by construction.
Pixels of different pictures make the bandwidth in sections 3 and 4 twice as wide as elsewhere,
and wider ones do better here: .35 apart at .85
spots and .45 at 1.0, against .29 at the .7 that are chosen. The bandwidth is chosen within sections: chosen in
the stack, two sections 32 µm apart made it .4 spots, and the others had no neighbours left.

![Domains of the nine sections with registered coordinates](images/sections.png)"""
MYOSIN = """### Known genes

Domains of the stacked, registered run, named after the regions by overlap (`tl.match_domains`; * where none was
left), by the log fold change of the gene against the rest (`tl.domain_genes`): MYH6 tops the domain of the atria,
MYH7 those of the ventricles."""


def main() -> None:
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rows = [["sections", "apart", "together", "with Harmony", "mapped"]]
    mixed = [["sections", "embedding", "iLISI", "cLISI", "kBET"]]
    for name, (files, k, size_key) in PAIRS.items():
        sections = [stmmr.read(DATA / f"{file}.h5ad") for file in files]
        genes = sections[0].var_names.intersection(sections[1].var_names)
        sections = [section[:, genes].copy() for section in sections]
        more, mixing = _pair(name, dict(zip(files, sections, strict=True)), k, size_key)
        rows, mixed = rows + more, mixed + mixing
    stacks, myosins, rigid = _heart()
    stacked = STACK.format(heart=HEART, rigid=rigid)
    mixing_text = MIXED.format(n=NEIGHBOURS)
    write("sections.md", "Several sections", TEXT, rows, mixing_text, mixed, stacked, stacks, MYOSIN, myosins)


def _pair(
    name: str, sections: dict[str, AnnData], k: int, size_key: str | None
) -> tuple[list[list[str]], list[list[str]]]:
    """Measure a pair: a row for each section and their mean, and a row for each embedding of both."""
    apart, together, harmony, mapped = ({file: [] for file in sections} for _ in range(4))
    for seed in SEEDS:
        models = {file: _fitted(section, k, size_key, seed) for file, section in sections.items()}
        for file, model in models.items():
            apart[file].append(_ari(model.adata))
        for source, target in permutations(sections):
            other = sections[target].copy()
            models[source].transform(other, size_key=size_key, progress=False)
            stmmr.tl.transfer_domains(other, models[source].adata)
            mapped[target].append(_ari(other))
        both = stmmr.pp.concat_sections(sections)
        options = {"n_domains": k, "section_key": "section", "size_key": size_key, "random_state": seed}
        stmmr.run(both, histology=False, progress=False, **options)
        stmmr.tl.integrate(both, random_state=seed)
        stmmr.tl.consensus(both, k, use_rep="X_stmmr_harmony", random_state=seed, key_added="harmony")
        for file in sections:
            own = both[both.obs["section"] == file]
            together[file].append(_ari(own))
            harmony[file].append(_ari(own, "harmony"))
    columns = (apart, together, harmony, mapped)
    of = [[file, *(_said(column[file]) for column in columns)] for file in sections]
    mean = [f"{name}, mean", *(_said(np.mean(list(column.values()), axis=0)) for column in columns)]
    as_they_come = both.copy()
    far = 1e3 * np.ptp(both.obsm["spatial"])
    as_they_come.obsm["spatial"] = both.obsm["spatial"] + far * both.obs["section"].cat.codes.to_numpy()[:, None]
    stmmr.pp.expression(as_they_come, size_key=size_key)
    stmmr.pp.spatial_graph(as_they_come)
    stmmr.StMMR(as_they_come, use_histology=False).fit(progress=False)
    embeddings = {
        "as they come": as_they_come.obsm["X_stmmr"],
        "model": both.obsm["X_stmmr"],
        "Harmony": both.obsm["X_stmmr_harmony"],
    }
    return [*of, mean], [[name, said, *_mixing(z, both)] for said, z in embeddings.items()]


def _mixing(z: np.ndarray, both: AnnData) -> list[str]:
    """Measure iLISI, cLISI and kBET of an embedding, shape (N, d), among labelled places."""
    from scib_metrics import clisi_knn, ilisi_knn, kbet
    from scib_metrics.nearest_neighbors import NeighborsResults

    known = both.obs["ground_truth"].notna().to_numpy()
    distances, near = cKDTree(z[known]).query(z[known], k=NEIGHBOURS)
    found = NeighborsResults(indices=near, distances=distances)
    batches = both.obs["section"].cat.codes.to_numpy()[known]
    labels = both.obs["ground_truth"].astype(str).to_numpy()[known]
    mixed, kept = ilisi_knn(found, batches), clisi_knn(found, labels)
    return [f"{value:.3f}" for value in (mixed, kept, kbet(found, batches)[0])]


def _heart() -> tuple[list[list[str]], list[list[str]], float]:
    """Run the nine sections in each way of laying them out."""
    heart = stmmr.read(DATA / f"{HEART}.h5ad")
    heart.obs["section"] = heart.obs["image"].astype(str).str.split("_").str[0].astype("category")
    stmmr.pp.expression(heart, section_key="section")
    registered = UM_PER_UNIT * heart.obsm.pop("spatial_3d")
    array = heart.copy()
    array.obsm["spatial"] = 200.0 * heart.obs[["array_col", "array_row"]].to_numpy(float)
    array.uns["spatial"] = {"heart": {"scalefactors": {"microns_per_pixel": 1.0}}}
    names = heart.obs["section"].cat.categories
    z = {name: float(registered[(heart.obs["section"] == name).to_numpy(), 2][0]) for name in names}
    start = time.perf_counter()
    stmmr.pp.align_sections(array, "section", z=z)
    seconds = time.perf_counter() - start
    aligned = array.obsm["spatial_3d"]
    flat = np.column_stack([array.obsm["spatial"], aligned[:, 2]])
    rows = [["nine sections", "ARI", "mean of sections", "bandwidth, spots", "across", "off, spots", "seconds"]]
    rows.append(_layout("on the slides", heart, None, None))
    rows.append(_layout("apart", array, None, None))
    rows.append(_layout("stacked, not aligned", array, flat, registered))
    rows.append(_layout(f"stacked, aligned in {seconds:.0f} s", array, aligned, registered))
    rows.append(_layout("stacked, registered", array, registered, registered))
    codes = heart.obs["section"].cat.codes.to_numpy()
    rigid = [_off(flat[codes == code], registered[codes == code]) for code in range(len(names))]
    stmmr.tl.match_domains(array, "ground_truth", key_added="region")
    ax = stmmr.pl.domains(array, domain_key="region")
    ax.figure.savefig(ROOT / "docs" / "images" / "sections.png", dpi=70, bbox_inches="tight")
    return rows, _myosins(array), float(np.median(np.concatenate(rigid)))


def _layout(said: str, heart: AnnData, xyz: np.ndarray | None, registered: np.ndarray | None) -> list[str]:
    """Run in one layout; a row of the table."""
    if xyz is not None:
        heart.obsm["spatial_3d"] = xyz
    known, aris, by_section = heart.obs["ground_truth"].notna().to_numpy(), [], []
    start = time.perf_counter()
    options = {"n_domains": 8, "section_key": "section", "in_3d": xyz is not None, "histology": False}
    for seed in SEEDS:
        stmmr.run(heart, progress=False, random_state=seed, **options)
        aris.append(adjusted_rand_score(heart.obs["ground_truth"].astype(str)[known], heart.obs["stmmr_domain"][known]))
        of = [heart[heart.obs["section"] == name] for name in heart.obs["section"].cat.categories]
        by_section.append(np.mean([_ari(section) for section in of]))
    graph = heart.uns["stmmr"]["spatial_graph"]
    return [
        said,
        _said(aris),
        _said(by_section),
        f"{graph['bandwidth'] / graph['nearest_neighbour_distance']:.2f}",
        "–" if xyz is None else f"{graph['across_sections']:.2f}",
        "–" if xyz is None else f"{np.median(_off(xyz, registered)):.1f}",
        f"{(time.perf_counter() - start) / len(SEEDS):.0f}",
    ]


def _off(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Measure how far places are from where another registration has them, in spots, after the best similarity."""
    source, target = (xyz[:, :2] - xyz[:, :2].mean(axis=0) for xyz in (ours, theirs))
    u, strength, vt = np.linalg.svd(source.T @ target)
    scale = strength.sum() / np.square(source).sum()
    return np.linalg.norm(scale * source @ u @ vt - target, axis=1) / (200 * scale)


def _myosins(heart: AnnData) -> list[list[str]]:
    """Rank the regions by the myosin of the atria and that of the ventricles."""
    stmmr.tl.domain_genes(heart, domain_key="region")
    table = stmmr.tl.domain_genes_table(heart, against="rest")
    rows = [["gene", "domain", "its labelled places", "log2 fold change against the rest", "next domain"]]
    labels = pd.crosstab(heart.obs["region"], heart.obs["ground_truth"], normalize="index")
    for gene in CHAMBERS:
        of = table[table["gene"] == gene].sort_values("log2_fold_change", ascending=False)
        first, second = of.iloc[0], of.iloc[1]
        next_said = f"{second['domain']} {second['log2_fold_change']:.2f}"
        shares = labels.loc[str(first["domain"])].nlargest(3)
        of_labels = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.05)
        rows.append([gene, str(first["domain"]), of_labels, f"{first['log2_fold_change']:.2f}", next_said])
    return rows


def _fitted(section: AnnData, k: int, size_key: str | None, seed: int) -> stmmr.StMMR:
    """Train on one section, as `stmmr.run` does."""
    adata = section.copy()
    stmmr.pp.expression(adata, size_key=size_key)
    stmmr.pp.spatial_graph(adata)
    model = stmmr.StMMR(adata, use_histology=False, random_state=seed).fit(progress=False)
    stmmr.tl.consensus(adata, k, random_state=seed, progress=False)
    return model


def _ari(adata: AnnData, key: str = "stmmr_domain") -> float:
    return float(stmmr.tl.evaluate(adata.copy(), label_key="ground_truth", domain_key=key)["ari"])


def _said(values: list[float] | np.ndarray) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


if __name__ == "__main__":
    main()
