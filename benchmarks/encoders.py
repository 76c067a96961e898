"""How well encoders recognise a tumour: `python -m benchmarks.encoders [NAME …]` writes a table of docs/encoders.md."""

import argparse
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
from benchmarks._lite import EfficientNetLite, installed
from benchmarks._table import DATA, write_tables
from stmmr.pp import encoder_of

CANCER = ("invasive cancer", "cancer in situ")
REPEATS, FOLDS, BLOCKS = 10, 5, 15


class MeanColour:
    """Encode a patch by its mean red, green and blue."""

    name, diameters_um, patch_px = "mean colour", (120.0,), 32
    feature_names = ("red", "green", "blue")

    def fit(self, sample: np.ndarray, *, um_per_px: float) -> "MeanColour":
        """Learn nothing."""
        return self

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """Average the channels."""
        return patches.mean(axis=(1, 2, 3)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="more encoders, by their names in stmmr.encoders")
    names = parser.parse_args().names
    adata = stmmr.read(DATA / "st_her2_A1.h5ad")
    with tempfile.TemporaryDirectory() as folder:
        compared = {
            "mean colour": (MeanColour(), None),
            "he": (encoder_of("he"), None),
            "he, Macenko": (encoder_of("he"), "macenko"),
            "random ViT-S": (encoder_of(_random_vit(Path(folder))), None),
        }
        if installed():
            compared["efficientnet-lite0"] = (EfficientNetLite(), None)
        compared |= {name: (encoder_of(name), None) for name in names}
        rows = [["encoder", "features", "folds", "blocks", "seconds per 1,000 patches"]]
        for name, (encoder, stain) in compared.items():
            rows.append([name, *_measured(adata.copy(), encoder, stain)])
    write_tables("encoders", rows)


def _measured(adata: AnnData, encoder: object, stain: str | None) -> list[str]:
    """Encode the image and probe the features."""
    start = time.perf_counter()
    stmmr.pp.histology(adata, encoder=encoder, stain=stain, progress=False)
    seconds = time.perf_counter() - start
    patches = adata.n_obs * len(encoder.diameters_um)
    width = adata.obsm["X_histology"].shape[1]
    folds, blocks = (_probed(adata, by_block=by_block) for by_block in (False, True))
    return [str(width), folds, blocks, f"{1000 * seconds / patches:.1f}"]


def _probed(adata: AnnData, *, by_block: bool) -> str:
    """Fit linear probes, over several draws of the folds."""
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
        # over all folds together: a block may be all cancer
        scores.append(balanced_accuracy_score(cancer, cross_val_predict(probe, x, cancer, groups=groups, cv=cv)))
    return f"{np.mean(scores):.3f} ± {np.std(scores):.3f}"


def _random_vit(folder: Path) -> Path:
    """Write a vision transformer with random weights to a folder, as trained ones are saved."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
