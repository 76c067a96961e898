"""Several sections, apart, together and mapped: `python -m benchmarks.sections` writes docs/sections.md."""

import logging
from itertools import permutations

import anndata as ad
import numpy as np
from anndata import AnnData
from scipy.spatial import cKDTree

import stmmr
from benchmarks._table import DATA, write

SEEDS = range(3)
NEIGHBOURS = 30
PAIRS = {
    "DLPFC": (("visium_dlpfc_151673", "visium_dlpfc_151674"), 7, "sum_umi_full"),
    "STARmap": (("starmap_mpfc_BZ5", "starmap_mpfc_BZ9"), 4, None),
}
TEXT = """Two sections of one tissue: each by itself (*apart*), both in one run with `section_key` (*together*), and
each by the model and the domains of the other, without training (*mapped*: `model.transform`, `tl.transfer_domains`).
ARI with the experts' labels, which nothing else reads; mean of three seeds ± standard deviation. Genes that both
sections have, no picture. *Mixing* is the share of the 30 nearest neighbours in the embedding that are of the other
section, over what it would be if they lay at random: 1 is fully mixed, 0 apart; *within layers* among places of one
label only.

How it works: with `section_key`, no edge crosses from one section to another, and the mean of each section is taken
off every gene and picture feature before the components are found ([architecture.md](architecture.md)); sections are
taken to hold much the same tissue. `model.transform(other)` scales counts to the library size of the training,
projects them on the same components, takes the section's own mean off, smooths at the same bandwidth in µm, and
encodes; a section maps onto itself up to round-off. `tl.transfer_domains` names its domains by linear discriminant
analysis of the embedding, `tl.match_domains` takes over the names of another partition (Hungarian method),
`tl.composition` counts domains by section and `tl.compare_composition` tests groups of sections, which are the
replicates.

Mapping loses .02 on the mean of the cortex, on STARmap .08: there, sections differ in what they cut, and with it their
means. Mixing stays well below 1 everywhere, also within a layer: a smoothed place is most like the places around it,
which are of its own section."""


def main() -> None:
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    rows = [["sections", "apart", "together", "mapped", "mixing", "mixing within layers"]]
    for name, (files, k, size_key) in PAIRS.items():
        sections = [stmmr.read(DATA / f"{file}.h5ad") for file in files]
        genes = sections[0].var_names.intersection(sections[1].var_names)
        sections = [section[:, genes].copy() for section in sections]
        rows += _rows(name, dict(zip(files, sections, strict=True)), k, size_key)
    write("sections.md", "Several sections", TEXT, rows)


def _rows(name: str, sections: dict[str, AnnData], k: int, size_key: str | None) -> list[list[str]]:
    """Measure a pair; a row for each section and one of their means."""
    apart = {file: [] for file in sections}
    mapped, together, mixing, within = ({file: [] for file in sections} for _ in range(4))
    for seed in SEEDS:
        models = {file: _fitted(section, k, size_key, seed) for file, section in sections.items()}
        for file, model in models.items():
            apart[file].append(_ari(model.adata))
        for source, target in permutations(sections):
            other = sections[target].copy()
            models[source].transform(other, size_key=size_key, progress=False)
            stmmr.tl.transfer_domains(other, models[source].adata)
            mapped[target].append(_ari(other))
        both = ad.concat(sections, label="section", index_unique="-")
        options = {"n_domains": k, "section_key": "section", "size_key": size_key, "random_state": seed}
        stmmr.run(both, histology=False, progress=False, **options)
        for file in sections:
            together[file].append(_ari(both[both.obs["section"] == file]))
            mixing[file].append(_mixing(both, file, within=False))
            within[file].append(_mixing(both, file, within=True))
    columns = (apart, together, mapped, mixing, within)
    of = [[file, *(_said(column[file]) for column in columns)] for file in sections]
    mean = [f"{name}, mean", *(_said(np.mean(list(column.values()), axis=0)) for column in columns)]
    return [*of, mean]


def _fitted(section: AnnData, k: int, size_key: str | None, seed: int) -> stmmr.StMMR:
    """Train on one section, as `stmmr.run` does."""
    adata = section.copy()
    stmmr.pp.expression(adata, size_key=size_key)
    stmmr.pp.spatial_graph(adata)
    model = stmmr.StMMR(adata, use_histology=False, random_state=seed).fit(progress=False)
    stmmr.tl.consensus(adata, k, random_state=seed, progress=False)
    return model


def _ari(adata: AnnData) -> float:
    return float(stmmr.tl.evaluate(adata.copy(), label_key="ground_truth")["ari"])


def _mixing(both: AnnData, file: str, *, within: bool) -> float:
    """Measure how many of the nearest places in the embedding are of the other section, over the number expected."""
    labels = both.obs["ground_truth"].astype(str).to_numpy() if within else np.full(both.n_obs, "")
    shares = []
    for label in np.unique(labels[both.obs["ground_truth"].notna()]):
        here = np.flatnonzero((labels == label) & both.obs["ground_truth"].notna().to_numpy())
        z, other = both.obsm["X_stmmr"][here], (both.obs["section"] != file).to_numpy()[here]
        if other.all() or not other.any() or len(here) <= NEIGHBOURS:
            continue
        near = cKDTree(z).query(z[~other], k=NEIGHBOURS + 1)[1][:, 1:]
        shares += list(other[near].mean(axis=1) / other.mean())
    return float(np.mean(shares))


def _said(values: list[float] | np.ndarray) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


if __name__ == "__main__":
    main()
