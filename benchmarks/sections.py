"""Several sections, apart, together and mapped: `python -m benchmarks.sections` writes tables of docs/sections.md."""

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
from benchmarks._table import DATA, ROOT, no_options, write_tables
from benchmarks.gallery import smaller

SEEDS = range(3)
NEIGHBOURS = 90
"""Neighbours per spot; LISI reads those within its perplexity of 30."""
HEART = "st_human_heart_9sections"
SYNOVIUM = "st_synovium_RA2"
UM_PER_UNIT = 8.4
"""µm per unit of the registered coordinates of the heart, z included: spots are 200 µm apart on the array."""
CHAMBERS = ("MYH6", "MYH7")
"""The myosin of the atria and that of the ventricles."""
PAIRS = {
    "DLPFC": (("visium_dlpfc_151673", "visium_dlpfc_151674"), 7, "sum_umi_full"),
    "STARmap": (("starmap_mpfc_BZ5", "starmap_mpfc_BZ9"), 4, None),
}


def main() -> None:
    no_options(__doc__)
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rows = [["sections", "apart", "together", "with Harmony", "mapped"]]
    mixed = [["sections", "embedding", "iLISI", "cLISI", "kBET"]]
    for name, (files, k, size_key) in PAIRS.items():
        sections = [stmmr.read(DATA / f"{file}.h5ad") for file in files]
        genes = sections[0].var_names.intersection(sections[1].var_names)
        sections = [section[:, genes].copy() for section in sections]
        scores, mixing = _pair(name, dict(zip(files, sections, strict=True)), k, size_key)
        rows, mixed = rows + scores, mixed + mixing
    rows.append(_synovium())
    stacks, myosins, rigid = _heart()
    note = f"The best rigid transformation of each heart section leaves {rigid:.1f} spots to the authors' registration."
    write_tables("sections", rows, mixed, stacks, myosins, notes=(note,))


def _pair(
    name: str, sections: dict[str, AnnData], k: int, size_key: str | None
) -> tuple[list[list[str]], list[list[str]]]:
    """Measure a pair: one row for each section and their mean, and one row for each embedding of both."""
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
    scores = [[file, *(_spread(column[file]) for column in columns)] for file in sections]
    mean = [f"{name}, mean", *(_spread(np.mean(list(column.values()), axis=0)) for column in columns)]
    uncorrected = both.copy()
    far = 1e3 * np.ptp(both.obsm["spatial"])
    uncorrected.obsm["spatial"] = both.obsm["spatial"] + far * both.obs["section"].cat.codes.to_numpy()[:, None]
    stmmr.pp.expression(uncorrected, size_key=size_key)
    stmmr.pp.spatial_graph(uncorrected)
    stmmr.StMMR(uncorrected, use_histology=False).fit(progress=False)
    embeddings = {
        "uncorrected": uncorrected.obsm["X_stmmr"],
        "model": both.obsm["X_stmmr"],
        "Harmony": both.obsm["X_stmmr_harmony"],
    }
    return [*scores, mean], [[name, title, *_mixing(z, both)] for title, z in embeddings.items()]


def _synovium() -> list[str]:
    """Measure the seven sections of the synovium, with two labels, apart and together: the means over the sections."""
    synovium = stmmr.read(DATA / f"{SYNOVIUM}.h5ad")
    names = synovium.obs["image"].astype("category").cat.categories
    apart, together = [], []
    for seed in SEEDS:
        options = {"n_domains": 2, "histology": False, "progress": False, "random_state": seed}
        parts = [synovium[synovium.obs["image"] == name].copy() for name in names]
        for part in parts:
            stmmr.run(part, **options)
        every = synovium.copy()
        stmmr.run(every, section_key="image", **options)
        apart.append(np.mean([_ari(part) for part in parts]))
        together.append(np.mean([_ari(every[every.obs["image"] == name]) for name in names]))
    return [f"{SYNOVIUM}, mean of seven", _spread(apart), _spread(together), "–", "–"]


def _mixing(z: np.ndarray, both: AnnData) -> list[str]:
    """Measure iLISI, cLISI and kBET of an embedding, shape (n_obs, d), among labelled spots."""
    from scib_metrics import clisi_knn, ilisi_knn, kbet
    from scib_metrics.nearest_neighbors import NeighborsResults

    known = both.obs["ground_truth"].notna().to_numpy()
    distances, near = cKDTree(z[known]).query(z[known], k=NEIGHBOURS)
    neighbours = NeighborsResults(indices=near, distances=distances)
    batches = both.obs["section"].cat.codes.to_numpy()[known]
    labels = both.obs["ground_truth"].astype(str).to_numpy()[known]
    ilisi, clisi = ilisi_knn(neighbours, batches), clisi_knn(neighbours, labels)
    return [f"{value:.3f}" for value in (ilisi, clisi, kbet(neighbours, batches)[0])]


def _heart() -> tuple[list[list[str]], list[list[str]], float]:
    """Run the nine sections in each layout."""
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
    rows = [["nine sections", "ARI", "mean of sections", "bandwidth, spots", "across", "distance, spots", "seconds"]]
    rows.append(_layout("image pixels", heart, None, None))
    rows.append(_layout("apart", array, None, None))
    rows.append(_layout("stacked, not aligned", array, flat, registered))
    rows.append(_layout(f"stacked, aligned in {seconds:.0f} s", array, aligned, registered))
    rows.append(_layout("stacked, registered", array, registered, registered))
    codes = heart.obs["section"].cat.codes.to_numpy()
    rigid = [_distance(flat[codes == code], registered[codes == code]) for code in range(len(names))]
    stmmr.tl.match_domains(array, "ground_truth", key_added="region")
    ax = stmmr.pl.domains(array, domain_key="region")
    target = ROOT / "docs" / "images" / "sections.png"
    ax.figure.savefig(target, dpi=250, bbox_inches="tight")
    smaller(target)
    return rows, _myosins(array), float(np.median(np.concatenate(rigid)))


def _layout(title: str, heart: AnnData, xyz: np.ndarray | None, registered: np.ndarray | None) -> list[str]:
    """Run in one layout; get the row of the table."""
    if xyz is not None:
        heart.obsm["spatial_3d"] = xyz
    known, aris, by_section = heart.obs["ground_truth"].notna().to_numpy(), [], []
    start = time.perf_counter()
    options = {"n_domains": 8, "section_key": "section", "in_3d": xyz is not None, "histology": False}
    for seed in SEEDS:
        stmmr.run(heart, progress=False, random_state=seed, **options)
        aris.append(adjusted_rand_score(heart.obs["ground_truth"].astype(str)[known], heart.obs["stmmr_domain"][known]))
        parts = [heart[heart.obs["section"] == name] for name in heart.obs["section"].cat.categories]
        by_section.append(np.mean([_ari(part) for part in parts]))
    graph = heart.uns["stmmr"]["spatial_graph"]
    return [
        title,
        _spread(aris),
        _spread(by_section),
        f"{graph['bandwidth'] / graph['nearest_neighbour_distance']:.2f}",
        "–" if xyz is None else f"{graph['across_sections']:.2f}",
        "–" if xyz is None else f"{np.median(_distance(xyz, registered)):.1f}",
        f"{(time.perf_counter() - start) / len(SEEDS):.0f}",
    ]


def _distance(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Measure the distance of each spot to where another registration puts it, after the best similarity; in spots."""
    source, target = (xyz[:, :2] - xyz[:, :2].mean(axis=0) for xyz in (ours, theirs))
    u, strength, vt = np.linalg.svd(source.T @ target)
    scale = strength.sum() / np.square(source).sum()
    return np.linalg.norm(scale * source @ u @ vt - target, axis=1) / (200 * scale)


def _myosins(heart: AnnData) -> list[list[str]]:
    """Rank the regions by the myosin of the atria and by that of the ventricles."""
    stmmr.tl.domain_genes(heart, domain_key="region")
    table = stmmr.tl.domain_genes_table(heart, against="rest")
    rows = [["gene", "domain", "labels of its spots", "log2 fold change against the rest", "next domain"]]
    labels = pd.crosstab(heart.obs["region"], heart.obs["ground_truth"], normalize="index")
    for gene in CHAMBERS:
        ranked = table[table["gene"] == gene].sort_values("log2_fold_change", ascending=False)
        first, second = ranked.iloc[0], ranked.iloc[1]
        next_domain = f"{second['domain']} {second['log2_fold_change']:.2f}"
        shares = labels.loc[str(first["domain"])].nlargest(3)
        labels_there = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.05)
        rows.append([gene, str(first["domain"]), labels_there, f"{first['log2_fold_change']:.2f}", next_domain])
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


def _spread(values: list[float] | np.ndarray) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


if __name__ == "__main__":
    main()
