"""Small sections, written as Space Ranger writes them."""

import gzip
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite

SCALEFACTORS = {"tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.05, "spot_diameter_fullres": 90.0}
PITCH = 137.5


@dataclass
class Section:
    """What a run measured; counts and positions come in different orders, as in real files."""

    counts: np.ndarray  # (n_spots, n_features)
    barcodes: list[str]
    positions: pd.DataFrame
    genes: list[str]
    types: list[str]
    images: dict[str, np.ndarray] = field(default_factory=dict)


def hexagonal(n_rows: int = 8, n_cols: int = 10) -> np.ndarray:
    """Rows and columns of Visium's array: odd rows have odd columns."""
    return np.array([(row, col) for row in range(n_rows) for col in range(2 * n_cols) if row % 2 == col % 2])


def on_hexagons(array: np.ndarray, *, pitch: float, angle: float = 0.0) -> np.ndarray:
    """x and y in pixels of spots on Visium's array, turned by an angle."""
    x, y = array[:, 1] * pitch / 2, array[:, 0] * pitch * np.sqrt(3) / 2
    return np.stack(
        [np.cos(angle) * x - np.sin(angle) * y + 2500, np.sin(angle) * x + np.cos(angle) * y + 1700], axis=1
    )


def make_section(array: np.ndarray, xy: np.ndarray, *, genes: list[str], types: list[str]) -> Section:
    rng = np.random.default_rng(0)
    n = len(array)
    letters = rng.choice(list("ACGT"), size=(n, 16))
    barcodes = ["".join(row) + "-1" for row in letters]
    positions = pd.DataFrame(
        {
            "barcode": barcodes,
            "in_tissue": (array[:, 0] >= 2).astype(int),
            "array_row": array[:, 0],
            "array_col": array[:, 1],
            "pxl_row_in_fullres": xy[:, 1],
            "pxl_col_in_fullres": xy[:, 0],
        }
    )
    return Section(
        counts=rng.poisson(2.0, size=(n, len(genes))),
        barcodes=[barcodes[i] for i in rng.permutation(n)],
        positions=positions,
        genes=genes,
        types=types,
        images={
            "hires": rng.integers(0, 256, size=(40, 30, 3), dtype=np.uint8),
            "lowres": rng.integers(0, 256, size=(20, 15, 3), dtype=np.uint8),
        },
    )


@pytest.fixture
def section() -> Section:
    array = hexagonal()
    return make_section(
        array,
        on_hexagons(array, pitch=PITCH, angle=0.3),
        genes=["Gad1", "Slc17a7", "Mbp", "Snap25", "CD3"],
        types=["Gene Expression"] * 4 + ["Antibody Capture"],
    )


@pytest.fixture
def bins() -> Section:
    array = np.array([(row, col) for row in range(6) for col in range(5)])
    return make_section(array, array[:, ::-1] * 30.0, genes=["Gad1", "Mbp"], types=["Gene Expression"] * 2)


def write_h5(path: Path, section: Section) -> None:
    matrix = sparse.csr_matrix(section.counts)
    n_spots, n_features = matrix.shape
    with h5py.File(path, "w") as file:
        file.attrs["chemistry_description"] = np.array([b"Visium V1"])
        file.attrs["software_version"] = "spaceranger-2.0.0"
        group = file.create_group("matrix")
        group["barcodes"] = np.array(section.barcodes, dtype="S")
        group["data"] = matrix.data.astype(np.int32)
        group["indices"] = matrix.indices.astype(np.int64)
        group["indptr"] = matrix.indptr.astype(np.int64)
        group["shape"] = np.array([n_features, n_spots], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(n_features)], dtype="S")
        features["name"] = np.array(section.genes, dtype="S")
        features["feature_type"] = np.array(section.types, dtype="S")
        features["genome"] = np.array(["GRCh38"] * n_features, dtype="S")


def write_mtx(folder: Path, section: Section) -> None:
    folder.mkdir(parents=True)
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        mmwrite(file, sparse.coo_matrix(section.counts.T))
    with gzip.open(folder / "barcodes.tsv.gz", "wt") as text:
        text.write("".join(f"{barcode}\n" for barcode in section.barcodes))
    rows = zip(range(len(section.genes)), section.genes, section.types, strict=True)
    with gzip.open(folder / "features.tsv.gz", "wt") as text:
        text.write("".join(f"ENSG{i:011d}\t{gene}\t{kind}\n" for i, gene, kind in rows))


def write_spatial(folder: Path, section: Section, *, positions: str, prefix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (prefix + positions)
    if positions.endswith("parquet"):
        section.positions.to_parquet(path)
    else:
        section.positions.to_csv(path, index=False, header="_list" not in positions)
    (folder / f"{prefix}scalefactors_json.json").write_text(json.dumps(SCALEFACTORS))
    for size, image in section.images.items():
        Image.fromarray(image).save(folder / f"{prefix}tissue_{size}_image.png")


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder called ``sample`` and return it."""

    def write(
        section: Section,
        *,
        inside: str = "",
        matrix: str = "filtered_feature_bc_matrix.h5",
        positions: str = "tissue_positions.csv",
        prefix: str = "",
    ) -> Path:
        folder = tmp_path / "sample" / inside
        write_spatial(folder / "spatial", section, positions=positions, prefix=prefix)
        write_matrix = write_h5 if matrix.endswith(".h5") else write_mtx
        write_matrix(folder / (prefix + matrix), section)
        return tmp_path / "sample"

    return write


@pytest.fixture
def adata() -> ad.AnnData:
    """Six spots and three genes."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (6, 3)).astype(np.float32)
    return ad.AnnData(counts, obsm={"spatial": rng.normal(size=(6, 2))})


@pytest.fixture(params=[2, 3])
def zarr_format(request: pytest.FixtureRequest) -> int:
    """Both formats of zarr are found on disks."""
    return request.param


@pytest.fixture
def write_zarr(zarr_format: int) -> Callable[[ad.AnnData, Path], None]:
    """Write an AnnData store."""

    def write(adata: ad.AnnData, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the writers and their settings announce changes of their defaults
            with ad.settings.override(zarr_write_format=zarr_format):
                adata.write_zarr(path)

    return write


@pytest.fixture
def new_section() -> type[Section]:
    """What a run measured, for platforms of 10x other than Visium."""
    return Section


@pytest.fixture
def write_matrix() -> Callable[[Path, Section], None]:
    """Write the counts of a run, in the format that the name tells."""

    def write(path: Path, section: Section) -> None:
        (write_h5 if path.suffix == ".h5" else write_mtx)(path, section)

    return write


@pytest.fixture(params=["half", "nothing", "another format"])
def spoil(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Damage a file."""
    change = {
        "half": lambda b: b[: len(b) // 2],
        "nothing": lambda _: b"",
        "another format": lambda _: b"\x89\xff\0<ht",
    }

    def damage(path: Path) -> None:
        path.write_bytes(change[request.param](path.read_bytes()))

    return damage
