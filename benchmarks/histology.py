"""What the H&E image adds to domains: `python -m benchmarks.histology` writes a table of docs/accuracy.md."""

import numpy as np
from anndata import AnnData

import stmmr
from benchmarks._table import no_options, write_tables
from benchmarks.accuracy import LABEL, embed, prepared, quiet, score

DATA_SETS = (
    "st_her2_A1",
    "st_mob1_img",
    "st_mob4_img",
    "visium_mouse_skin_wound_pcs_img",
    "visium_dlpfc_151508_pcs15_img",
    "visium_dlpfc_151671_pcs15_img",
    "visium_dlpfc_151673",
    "visium_dlpfc_151674",
)
WEIGHTS = (0.0, None, 0.25, 0.5, 1.0)
"""Weights of the image; None: the default, the share of the expression that it predicts in tissue left out."""
SEEDS = 3


def main() -> None:
    no_options(__doc__)
    quiet()
    fixed = [f"weight {weight}" for weight in WEIGHTS[2:]]
    header = ["data", "chosen weight", "no image", "default", *fixed, "image only"]
    write_tables("histology", [header, *map(_row, DATA_SETS)])


def _row(name: str) -> list[str]:
    """Measure one data set."""
    adata = prepared(name)
    k, cells = adata.obs[LABEL].nunique(), []
    chosen = 0.0
    for weight in WEIGHTS:
        scores = []
        for seed in range(SEEDS):
            fitted = adata.copy()
            options = {"use_histology": False} if weight == 0 else {"histology_weight": weight}
            embed(fitted, seed, **options)
            if weight is None:
                chosen = float(fitted.uns["stmmr"]["model"]["histology_weight_used"])
            stmmr.tl.consensus(fitted, k, random_state=seed)
            scores.append(score(fitted, "stmmr_domain"))
        cells.append(_cell(scores))
    return [name, f"{chosen:.2f}", *cells, _cell([_image_only(adata.copy(), k, seed) for seed in range(SEEDS)])]


def _image_only(adata: AnnData, k: int, seed: int) -> float:
    """Cluster the image features as a given representation."""
    stmmr.pp.spatial_graph(adata, use_rep="X_histology")
    stmmr.StMMR(adata, use_rep="X_histology", use_histology=False, random_state=seed).fit(progress=False)
    stmmr.tl.consensus(adata, k, random_state=seed)
    return score(adata, "stmmr_domain")


def _cell(scores: list[float]) -> str:
    return f"{np.median(scores):.3f} ± {np.std(scores):.3f}"


if __name__ == "__main__":
    main()
