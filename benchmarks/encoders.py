"""What encoders tell of a tumour: `python -m benchmarks.encoders [NAME …]` writes a section of docs/encoders.md."""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from anndata import AnnData
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stmmr
from benchmarks._table import DATA, ROOT, stamp, write_section
from stmmr.pp import encoder_of

CANCER = ("invasive cancer", "cancer in situ")
REPEATS, FOLDS, BLOCKS = 10, 5, 15
TITLE = "What they tell of a tumour"
TEXT = """Balanced accuracy of a linear probe (standardised features, logistic regression, C = 0.1) that tells cancer
from the rest on st_her2_A1, 341 labelled spots, hires picture of 3.2 µm per pixel; five folds. Chance is 0.5.

- **Folds**: spots drawn at random, mean ± standard deviation over ten draws; neighbours tell each other.
- **Blocks**: fifteen compact blocks of tissue, left out whole, by ten draws of the blocks.

`random ViT-S` is a vision transformer of the size of DINOv2-small (22 million weights) that was never trained: what the
architecture alone gives, mostly colour, and what a network of that size costs on this machine. Weights of trained ones
cannot be downloaded where this was measured; `python -m benchmarks.encoders phikon FOLDER` adds rows for them."""


class MeanColour:
    """Red, green and blue, averaged over the patch."""

    name, diameters_um, patch_px = "mean colour", (120.0,), 32
    feature_names = ("red", "green", "blue")

    def fit(self, sample: np.ndarray, *, um_per_px: float) -> "MeanColour":
        """Learn nothing."""
        return self

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """Average the channels."""
        return patches.mean(axis=(1, 2, 3)).astype(np.float32)


def main() -> None:
    adata = stmmr.read(DATA / "st_her2_A1.h5ad")
    with tempfile.TemporaryDirectory() as folder:
        tried = {
            "mean colour": (MeanColour(), None),
            "he": (encoder_of("he"), None),
            "he, Macenko": (encoder_of("he"), "macenko"),
            "random ViT-S": (encoder_of(_random_vit(Path(folder))), None),
        }
        tried |= {name: (encoder_of(name), None) for name in sys.argv[1:]}
        rows = [["encoder", "features", "folds", "blocks", "seconds per 1,000 patches"]]
        for name, (encoder, stain) in tried.items():
            rows.append([name, *_measured(adata.copy(), encoder, stain)])
    write_section(TITLE, TEXT, rows, stamp(), page=ROOT / "docs" / "encoders.md")


def _measured(adata: AnnData, encoder: object, stain: str | None) -> list[str]:
    """Read the picture and probe what was found."""
    start = time.perf_counter()
    stmmr.pp.histology(adata, encoder=encoder, stain=stain, progress=False)
    seconds = time.perf_counter() - start
    patches = adata.n_obs * len(encoder.diameters_um)
    width = adata.obsm["X_histology"].shape[1]
    folds, blocks = (_probed(adata, by_block=by_block) for by_block in (False, True))
    return [str(width), folds, blocks, f"{1000 * seconds / patches:.1f}"]


def _probed(adata: AnnData, *, by_block: bool) -> str:
    """Probe linearly, with several draws of the folds."""
    known = adata.obs["ground_truth"].notna().to_numpy()
    x, xy = adata.obsm["X_histology"][known], adata.obsm["spatial"][known]
    cancer = adata.obs["ground_truth"].isin(CANCER).to_numpy()[known]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    scores = []
    for seed in range(REPEATS):
        if by_block:
            groups = KMeans(BLOCKS, n_init=1, random_state=seed).fit_predict(xy)
            cv = GroupKFold(FOLDS, shuffle=True, random_state=seed)
        else:
            groups, cv = None, StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        # of all folds together: a block may be of cancer throughout
        scores.append(balanced_accuracy_score(cancer, cross_val_predict(probe, x, cancer, groups=groups, cv=cv)))
    return f"{np.mean(scores):.3f} ± {np.std(scores):.3f}"


def _random_vit(folder: Path) -> Path:
    """Write a vision transformer of random weights, as trained ones lie in folders."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
