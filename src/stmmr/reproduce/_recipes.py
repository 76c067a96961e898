"""The analyses of the stMMR paper: sections, files, and the settings of the authors for each data set.

Sources: Zhang, Yu et al., GigaScience 2024, doi:10.1093/gigascience/giae089; the scripts and notebooks of
https://github.com/nayu0419/stMMR; the folders of doi:10.5281/zenodo.13866898 as these scripts read them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from stmmr._core.checks import InputError, did_you_mean, listed

Layout = Literal["visium", "table", "cosmx", "h5ad"]
Values = Literal["lognorm", "log", "total"]
AUTHORS_SEED: Final = 110
"""Seed of the authors' code; further seeds follow it."""
SIZE_KEY: Final = "sum_umi_full"
"""Column of ``obs`` of an .h5ad with the library size, if the file has only some of the genes."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Settings of the authors for one data set."""

    values: Values = "lognorm"
    """Expression that the model reads and decodes: "lognorm" (scaled to the median total, log1p), "log" (log1p of the
    counts), "total" (scaled to 10,000, no logarithm)."""
    all_genes: bool = False
    """Use all genes that are seen in three spots, instead of the 3,000 most variable ones."""
    pixels_as_array: bool = False
    """Use pixels of the image as positions on the array."""
    bandwidth: float = 2.0
    width: int = 3000
    learning_rate: float = 1e-4
    epochs: int = 200
    likelihood_loss: float = 10.0
    vote: int = 0
    """Number of nearest spots that vote on the domain of a spot; 0 for no vote."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Files and columns of expert labels."""

    files: tuple[str, ...]
    """Names in the folder of the section, the best first."""
    columns: tuple[str, ...]
    """Names of the column, the best first."""
    merged: Mapping[str, str] = field(default_factory=dict)
    """Class of each label; other labels are dropped. Empty: labels stay as they are."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One analysis."""

    title: str
    sections: tuple[str, ...]
    """All sections of the data set."""
    default_sections: tuple[str, ...]
    """Sections that are run if the options name none."""
    n_domains: Mapping[str, int]
    """Number of domains of each section; "" for all other sections."""
    folder: str
    """Folder of a section, below ``Data``."""
    layout: Layout
    counts: tuple[str, ...]
    """Possible names of the file with the counts."""
    features: tuple[str, ...]
    """Possible names of the file with image features, one row per spot."""
    h5ad: tuple[str, ...]
    """Possible names of an .h5ad with the section, without the suffix."""
    labels: Labels | None = None
    paper: Published = Published()
    together: Published | None = None
    """Settings of the authors for several sections in one model; None if they had no such analysis."""
    joint_sections: tuple[str, ...] = ()
    """Sections in this one model if the options name none."""
    pseudotime: bool = False

    def number(self, section: str) -> int:
        """Get the number of domains of a section."""
        return self.n_domains.get(section, self.n_domains.get("", 0))


VIT: Final = (
    "image_representation/ViT_pca_representation.csv",
    "image_representation/VIT_pca_representation.csv",
    "ViT_pca_representation.csv",
)
MATRIX: Final = ("{section}_filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix.h5")
DLPFC: Final = tuple(str(i) for i in (*range(151507, 151511), *range(151669, 151677)))
BREAST, MOUSE = "V1_Breast_Cancer_Block_A_Section_1", "V1_Mouse_Brain_Sagittal_Anterior_Section_1"
HEART: Final = ("D4", "D7", "D10", "D14")
LYMPHOCYTES: Final = ("B-cell", "NK", "T CD4 memory", "T CD4 naive", "T CD8 memory", "T CD8 naive", "Treg")
MYELOID: Final = ("mDC", "macrophage", "monocyte", "pDC", "plasmablast")
TUMOURS: Final = ("tumor 5", "tumor 6", "tumor 9", "tumor 12", "tumor 13")
CELL_CLASSES: Final = {
    **dict.fromkeys(LYMPHOCYTES, "Lymphocytes"),
    **dict.fromkeys(MYELOID, "Myeloid"),
    **dict.fromkeys(TUMOURS, "Tumor"),
    "neutrophil": "Neutrophil",
    "mast": "Mast",
    "endothelial": "Endothelial",
    "fibroblast": "Fibroblast",
    "epithelial": "Epithelial",
}

RECIPES: Final[dict[str, Recipe]] = {
    "dlpfc": Recipe(
        title="human dorsolateral prefrontal cortex, Visium (Maynard 2021)",
        sections=DLPFC,
        default_sections=("151673",),
        n_domains={"": 7} | dict.fromkeys(("151669", "151670", "151671", "151672"), 5),
        folder="DLPFC/{section}",
        layout="visium",
        counts=MATRIX,
        features=VIT,
        h5ad=("{section}", "visium_dlpfc_{section}", "DLPFC_{section}"),
        labels=Labels(
            files=("cluster_labels_{section}.csv", "metadata.tsv", "truth.txt", "{section}_truth.txt"),
            columns=("ground_truth", "layer_guess_reordered", "layer_guess"),
        ),
        together=Published(epochs=300, likelihood_loss=100.0),
        joint_sections=("151673", "151674", "151675", "151676"),
    ),
    "breast-cancer": Recipe(
        title="human breast cancer block A section 1, Visium (10x Genomics)",
        sections=(BREAST,),
        default_sections=(BREAST,),
        n_domains={"": 20},
        folder=BREAST,
        layout="visium",
        counts=MATRIX,
        features=VIT,
        h5ad=("{section}", "breast-cancer"),
        labels=Labels(files=("metadata.tsv",), columns=("fine_annot_type", "ground_truth")),
        paper=Published(bandwidth=0.63, learning_rate=1e-7, vote=50),
    ),
    "chicken-heart": Recipe(
        title="developing chicken heart, Visium (Mantri 2021)",
        sections=HEART,
        default_sections=HEART,
        n_domains={"D4": 5, "D7": 7, "D10": 7, "D14": 6},
        folder="chicken_heart/{section}",
        layout="visium",
        counts=("chicken_heart_spatial_RNAseq_{section}_filtered_feature_bc_matrix.h5",),
        features=VIT,
        h5ad=("{section}", "chicken_heart_{section}"),
        labels=Labels(files=("{section}.csv",), columns=("region", "ground_truth")),
        paper=Published(learning_rate=5e-5, pixels_as_array=True),
        pseudotime=True,
    ),
    "mouse-brain": Recipe(
        title="mouse brain, sagittal anterior section 1, Visium (10x Genomics)",
        sections=(MOUSE,),
        default_sections=(MOUSE,),
        n_domains={"": 52},
        folder=MOUSE,
        layout="visium",
        counts=MATRIX,
        features=VIT,
        h5ad=("{section}", "mouse-brain"),
        labels=Labels(files=("metadata.tsv",), columns=("ground_truth",)),
        paper=Published(bandwidth=1.0, epochs=50),
    ),
    "pdac": Recipe(
        title="human pancreatic ductal adenocarcinoma A, ST v1 (Moncada 2020)",
        sections=("PDAC",),
        default_sections=("PDAC",),
        n_domains={"": 4},
        folder="PDAC",
        layout="table",
        counts=("GSM3036911_PDAC-A-ST1-filtered.txt",),
        features=VIT,
        h5ad=("{section}", "pdac", "st_pdac_A"),
        labels=Labels(files=("layer_manual_PDAC.csv",), columns=("Region", "ground_truth")),
        paper=Published(values="total", all_genes=True, bandwidth=0.8, epochs=50, vote=50),
    ),
    "cosmx-lung": Recipe(
        title="human lung cancer 9 replicate 1, CosMx (He 2022), each field of view by itself",
        sections=tuple(str(i) for i in range(1, 21)),
        default_sections=tuple(str(i) for i in range(1, 21)),
        n_domains={"": 8},
        folder="Lung9_Rep1-Flat_files_and_images",
        layout="cosmx",
        counts=("Lung9_Rep1_exprMat_file.csv",),
        features=("image_representation/fov{section}.csv",),
        h5ad=("cosmx_lung9", "Lung9_Rep1"),
        labels=Labels(files=("meta.csv",), columns=("cell_type", "ground_truth"), merged=CELL_CLASSES),
        paper=Published(values="log"),
    ),
    "visium-hd": Recipe(
        title="Visium HD, the bins that the authors kept",
        sections=("HD",),
        default_sections=("HD",),
        n_domains={"": 10},
        folder="HD",
        layout="h5ad",
        counts=("filtered_HD.h5ad",),
        features=VIT,
        h5ad=("filtered_HD", "{section}", "visium-hd"),
        paper=Published(bandwidth=1.0, width=1000, learning_rate=1e-5, epochs=50),
    ),
}


def recipe_of(dataset: str) -> Recipe:
    """Get a recipe by its name.

    Raises InputError if there is no such recipe; the message suggests similar names.
    """
    if dataset in RECIPES:
        return RECIPES[dataset]
    close = difflib.get_close_matches(dataset.lower().replace("_", "-"), RECIPES, n=3, cutoff=0.4)
    raise InputError(f"Expected a data set among {listed(RECIPES)}, found {dataset!r}.{did_you_mean(close)}")
