"""Example data: a simulated tissue with known domains and a simulated H&E image, and public sections by name."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from scipy import ndimage, sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, require_choice
from stmmr._core.download import download
from stmmr._core.files import atomic_write
from stmmr._core.options import checked

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.types import Float64, Ints

__all__ = ["fetch", "simulated_tissue"]

ADDRESS: Final = "https://exampledata.scverse.org/squidpy/10x_genomics"
"""Where scverse keeps sections that 10x Genomics published (CC BY 4.0)."""
COUNTS: Final = "filtered_feature_bc_matrix.h5"
POSITIONS: Final = "spatial.tar.gz"


class Published(NamedTuple):
    """A public section: its name at 10x, and the SHA-256 of its files."""

    sample: str
    sha256: Mapping[str, str]


PUBLISHED: Final = {
    "human-lymph-node": Published(
        "V1_Human_Lymph_Node",
        {
            COUNTS: "86fd533eb907450e7125b9820183a0ca73776eeafcc5eddae5695b6aabfd9139",
            POSITIONS: "812808883366ff9623dc8354847a7211b0d922b2bfc4c9359d6e12e993ea6a73",
        },
    ),
    "mouse-brain": Published(
        "V1_Adult_Mouse_Brain",
        {
            COUNTS: "eb78379e02dcf48036abf05b67233e73ecb0d880787feb82f76ff16f6ce01eb3",
            POSITIONS: "46d6b05ba740f232d6bf4b27b9a8846815851e000985fb878f1364bab04e5bd4",
        },
    ),
}
"""Sections that can be downloaded, by name. The hashes are those that squidpy verifies as well."""

PITCH_UM: Final = 100.0
"""Distance between spots, as on a Visium array."""
SPOT_UM: Final = 55.0
FRAME_UM: Final = 200.0
"""Margin of glass around the array."""
FULLRES_UM: Final = 0.5
HIRES_UM: Final = 4.0
"""µm per unit of the coordinates, and per pixel of the image."""
SCALES: Final = {
    "tissue_hires_scalef": FULLRES_UM / HIRES_UM,
    "spot_diameter_fullres": SPOT_UM / FULLRES_UM,
    "microns_per_pixel": FULLRES_UM,
}
MEDIAN_COUNTS: Final = 1500
HAEMATOXYLIN: Final = np.array([0.65, 0.70, 0.29])
EOSIN: Final = np.array([0.11, 0.86, 0.40])
"""Optical density of the stains in red, green and blue."""


Value = TypeVar("Value")


class _Look(NamedTuple, Generic[Value]):
    """Appearance of a domain, or of every pixel, under the microscope."""

    nuclei_per_mm2: Value
    radius_um: Value
    """Mean radius of a nucleus."""
    elongation: Value
    """Length of a nucleus over its width."""
    eosin: Value
    haematoxylin: Value
    """Optical densities between the nuclei."""
    fibres: Value
    """Contrast of the fibres, relative to eosin."""


# similar to neuropil, small dense cells, large sparse cells, fibrous stroma, epithelium, loose stroma
LAYERS: Final = (
    _Look(900, 5.5, 1.2, 0.17, 0.02, 0.25),
    _Look(3600, 5.2, 1.1, 0.20, 0.06, 0.15),
    _Look(1500, 7.5, 1.3, 0.25, 0.05, 0.30),
    _Look(1300, 5.0, 2.6, 0.33, 0.03, 0.60),
    _Look(2400, 6.5, 1.4, 0.28, 0.08, 0.35),
    _Look(1000, 5.0, 2.0, 0.22, 0.01, 0.60),
)
NODULE: Final = _Look(5200, 6.5, 1.1, 0.18, 0.12, 0.15)


class _Map(NamedTuple):
    """The tissue on the pixels of its image; all of shape (height, width)."""

    depth: Float64
    """Approximate distance from the outline in µm; negative outside."""
    domain: Ints
    """The layers from 0; the nodule is last."""
    across: Float64
    along: Float64
    """Coordinates across and along the fibres, in µm."""


def fetch(name: str, *, folder: str | Path = "stmmr_data") -> Path:
    """Download a public Visium section of 10x Genomics (CC BY 4.0), once.

    Parameters
    ----------
    name
        "human-lymph-node" or "mouse-brain".
    folder
        Folder to keep it in.

    Returns
    -------
    A folder as Space Ranger writes it, for ``stmmr.read(path)`` or ``stmmr run``.

    Raises
    ------
    InputError
        If there is no such section, no connection, or the files are not those that were published.
    """
    require_choice(name, PUBLISHED, name="name")
    section, target = PUBLISHED[name], Path(folder).expanduser() / name
    for file, sha256 in section.sha256.items():
        download(f"{ADDRESS}/{section.sample}/{section.sample}_{file}", target / file, sha256=sha256)
    with tarfile.open(target / POSITIONS) as archive:
        for member in archive:
            if (content := archive.extractfile(member)) is not None:  # a file
                path = target / "spatial" / Path(member.name).name
                path.parent.mkdir(exist_ok=True)
                with atomic_write(path) as new:
                    new.write_bytes(content.read())
    return target


@checked
def simulated_tissue(
    *, n_rows: int = 40, n_cols: int = 40, n_domains: int = 5, n_genes: int = 400, random_state: int = 0
) -> AnnData:
    """Simulate a section on a Visium-like array: counts, known domains and an H&E image.

    The domains are curved layers, alternately thick and thin, and one round nodule. A quarter of the genes are markers
    of a domain, a tenth follow a gradient across the tissue, the others are noise.

    Parameters
    ----------
    n_rows, n_cols
        Size of the array; spots outside the tissue are not in the data.
    n_domains
        Number of domains, at least 2.
    n_genes
        Number of genes.
    random_state
        The same number gives the same tissue.

    Returns
    -------
    AnnData with

    ``X``
        Counts, negative binomial; float32 CSR.
    ``obs["array_row"]``, ``obs["array_col"]``, ``obs["in_tissue"]``
        Position on the array.
    ``obs["ground_truth"]``
        Categorical, the domain; missing at about 1 % of the spots.
    ``var["marker_of"]``, ``var["gradient"]``
        Categorical, the domain that a gene marks, if any; bool, whether it follows the gradient.
    ``obsm["spatial"]``
        Coordinates in pixels of a full-resolution image of 0.5 µm per pixel; float64.
    ``uns["spatial"]["simulated"]``
        The image, uint8 RGB of 4 µm per pixel, and the scale factors, as Space Ranger writes them.

    Raises
    ------
    InputError
        If the array is smaller than 8 × 8, or there are fewer than 2 domains or fewer genes than domains.
    """
    from anndata import AnnData

    if min(n_rows, n_cols) < 8 or n_domains < 2 or n_genes < n_domains:
        raise InputError(
            "Expected at least 8 rows and columns, 2 domains and a gene per domain, found "
            f"n_rows={n_rows}, n_cols={n_cols}, n_domains={n_domains}, n_genes={n_genes}."
        )
    map_rng, image_rng, count_rng = np.random.default_rng(random_state).spawn(3)
    row, column = (index.ravel() for index in np.mgrid[:n_rows, :n_cols])
    xy_um = FRAME_UM + PITCH_UM * np.column_stack([column + 0.5 * (row % 2), np.sqrt(0.75) * row])
    tissue = _map(map_rng, np.ceil((xy_um.max(axis=0) + FRAME_UM) / HIRES_UM).astype(int), n_domains)
    pixel = tuple((xy_um / HIRES_UM).astype(int).T[::-1])
    kept = tissue.depth[pixel] > 0
    domain = tissue.domain[pixel][kept]
    names = [*(f"Layer {i + 1}" for i in range(n_domains - 1)), "Nodule"]
    counts, var = _counts(count_rng, domain, xy_um[kept], n_genes=n_genes, names=names)
    is_unknown = count_rng.random(len(domain)) < 0.01
    obs = _obs(row[kept], column[kept], _categorical(np.where(is_unknown, -1, domain), names))
    library = {
        "images": {"hires": _image(image_rng, tissue)},
        "scalefactors": dict(SCALES),
        "metadata": {"source": "stmmr.datasets.simulated_tissue"},
    }
    obsm, uns = {keys.SPATIAL: xy_um[kept] / FULLRES_UM}, {keys.SPATIAL: {"simulated": library}}
    return AnnData(counts, obs=obs, var=var, obsm=obsm, uns=uns)


def _obs(row: Ints, column: Ints, domain: pd.Categorical[str]) -> pd.DataFrame:
    """Describe the spots: Visium numbers every second column of a row."""
    position = {keys.IN_TISSUE: 1, keys.ARRAY_ROW: row, keys.ARRAY_COL: 2 * column + row % 2}
    names = [f"spot_{r:03d}_{c:03d}" for r, c in zip(row, column, strict=True)]
    return pd.DataFrame({**position, "ground_truth": domain}, index=names)


def _map(rng: np.random.Generator, size: Ints, n_domains: int) -> _Map:
    """Arrange outline, layers and nodule on an image of a size (width, height)."""
    half = size * HIRES_UM / 2 - FRAME_UM
    y, x = (np.indices(size[::-1].tolist()) + 0.5) * HIRES_UM - (half + FRAME_UM)[::-1, None, None]
    phase = rng.uniform(0, 2 * np.pi, 8)

    # a rounded box with an uneven edge
    turn = np.arctan2(y, x)
    depth = 0.93 - (np.abs(x / half[0]) ** 3 + np.abs(y / half[1]) ** 3) ** (1 / 3)
    for i, (height, times) in enumerate([(0.035, 2), (0.03, 3), (0.015, 7), (0.008, 17), (0.003, 29)]):
        depth += height * np.sin(times * turn + phase[i])

    # layers: arcs around a point beyond the tissue, with folds
    middle = [-0.4, 2.4] * half
    turn = np.arctan2(y - middle[1], x - middle[0])
    folds = 0.05 * np.sin(9 * turn + phase[5]) + 0.02 * np.sin(23 * turn + phase[6])
    across = np.hypot(x - middle[0], y - middle[1]) + half[1] * folds
    along = turn * across.mean()
    shares = np.resize([1.0, 0.42, 1.1, 0.65], n_domains - 1)
    borders = np.quantile(across[depth > 0], np.cumsum(shares[::-1])[:-1] / shares.sum())
    domain = n_domains - 2 - np.searchsorted(borders, across)

    # the nodule, in a capsule with fibres around it
    x, y = x - 0.36 * half[0], y + 0.16 * half[1]
    turn = np.arctan2(y, x)
    distance = np.hypot(x, y)
    radius = half.min() * (0.31 + 0.02 * np.sin(3 * turn + phase[7]))
    domain[distance < radius] = n_domains - 1
    around = distance < 1.15 * radius
    across[around], along[around] = distance[around], turn[around] * radius[around]
    return _Map(depth * half.min(), domain, across, along)


def _image(rng: np.random.Generator, tissue: _Map) -> NDArray[np.uint8]:
    """Simulate the section as stained with haematoxylin and eosin."""
    shape = tissue.domain.shape
    n_layers = tissue.domain.max()
    looks = [*(LAYERS[i % len(LAYERS)] for i in range(n_layers)), NODULE]
    # domains blend into each other over a few cells
    look = _Look(*(ndimage.gaussian_filter(values[tissue.domain], 4) for values in np.array(looks).T))

    stroma = 1 + 0.10 * _noise(rng, shape, 50) + 0.10 * _noise(rng, shape, 1.2)
    fibres = look.fibres * _fibres(rng, tissue)
    rim = 0.5 * np.exp(-np.maximum(tissue.depth, 0) / 30)
    eosin = look.eosin * np.maximum(stroma + fibres + rim, 0.15)
    haematoxylin = look.haematoxylin * np.maximum(stroma + 0.5 * fibres, 0)

    lumen = _vessels(rng, tissue, eosin)
    opacity = (1 - lumen) / (1 + np.exp(-(tissue.depth + 4 * _noise(rng, shape, 2)) / 3))
    haematoxylin += _nuclei(rng, tissue, look, opacity)
    density = opacity[..., None] * (haematoxylin[..., None] * HAEMATOXYLIN + eosin[..., None] * EOSIN)
    glass = np.array([243, 241, 242]) + 1.5 * _noise(rng, shape, 80)[..., None]
    pixels = glass * 10**-density + rng.normal(0, 1.2, (*shape, 3))
    return np.asarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Float64:
    """Simulate smooth noise with mean 0 and standard deviation 1."""
    step = int(max(sigma / 4, 1))  # smooth noise needs few points
    noise = rng.normal(size=[-(-length // step) for length in shape])
    noise = ndimage.gaussian_filter(noise, sigma / step, mode="wrap")
    noise = ndimage.zoom(noise, step, order=1)[tuple(slice(length) for length in shape)]
    return np.asarray((noise - noise.mean()) / noise.std())


def _fibres(rng: np.random.Generator, tissue: _Map) -> Float64:
    """Simulate noise that is stretched along the fibres."""
    texture = _noise(rng, (512, 512), 1)
    fibres = np.zeros(tissue.domain.shape)
    for strength, width, length in ((0.7, 14, 110), (0.5, 6, 40)):
        position = [tissue.across / width, tissue.along / length]
        fibres += strength * ndimage.map_coordinates(texture, position, order=1, mode="grid-wrap")
    return fibres


def _vessels(rng: np.random.Generator, tissue: _Map, eosin: Float64) -> Float64:
    """Add the walls of a few vessels to the eosin; return the share of lumen in each pixel, 0 to 1."""
    lumen = np.zeros(tissue.domain.shape)
    candidates = np.argwhere((tissue.depth > 150) & (tissue.domain < tissue.domain.max()))
    for centre in rng.choice(candidates, size=1 + len(candidates) // 100_000):
        radius = rng.uniform(5, 13)
        box = tuple(slice(max(int(c - 40), 0), int(c + 40)) for c in centre)
        y, x = (index - c for index, c in zip(np.mgrid[box], centre, strict=True))
        distance = np.hypot(x, rng.uniform(1, 1.8) * y) - radius
        eosin[box] += 0.3 * np.exp(-((distance / 4) ** 2))
        lumen[box] = np.maximum(lumen[box], 1 / (1 + np.exp(2 * distance)))
    return lumen


def _nuclei(rng: np.random.Generator, tissue: _Map, look: _Look[Float64], opacity: Float64) -> Float64:
    """Simulate nuclei as ellipses along the fibres; return their haematoxylin."""
    shape = tissue.domain.shape
    rate = look.nuclei_per_mm2 * (HIRES_UM / 1000) ** 2 * np.clip(1 + 0.35 * _noise(rng, shape, 8), 0.1, None)
    centres = np.nonzero(rng.poisson(rate * (opacity > 0.8)))
    n = len(centres[0])
    gradient = np.gradient(tissue.across)
    turn = np.arctan2(gradient[0][centres], gradient[1][centres]) + rng.normal(0, 0.3, n)
    size = look.radius_um[centres] / HIRES_UM * rng.lognormal(0, 0.18, n)
    stretch = np.sqrt(look.elongation[centres] * rng.lognormal(0, 0.12, n))

    offset = np.mgrid[-5:6, -5:6].reshape(2, 1, -1)
    dy, dx = offset + rng.uniform(-0.5, 0.5, (2, n, 1))  # (n, 121)
    u = (np.cos(turn)[:, None] * dx + np.sin(turn)[:, None] * dy) * (stretch / size)[:, None]
    v = (np.cos(turn)[:, None] * dy - np.sin(turn)[:, None] * dx) / (stretch * size)[:, None]
    stain = rng.lognormal(np.log(0.62), 0.22, n)[:, None] / (1 + np.exp(6 * (np.hypot(u, v) - 1)))
    y, x = (np.clip(a[:, None] + o, 0, limit - 1) for a, o, limit in zip(centres, offset, shape, strict=True))
    nuclei = np.zeros(shape)
    np.maximum.at(nuclei, (y, x), stain)
    return nuclei


def _counts(
    rng: np.random.Generator, domain: Ints, xy: Float64, *, n_genes: int, names: list[str]
) -> tuple[sparse.csr_matrix[np.float32], pd.DataFrame]:
    """Simulate counts, shape (n_obs, n_genes), and describe the genes."""
    n_markers = max(n_genes // (4 * len(names)), 1)
    marker_of = np.full(n_genes, -1)
    marker_of[: n_markers * len(names)] = np.repeat(np.arange(len(names)), n_markers)
    gradient = np.zeros(n_genes, dtype=bool)
    gradient[n_markers * len(names) :][: n_genes // 10] = True
    order = rng.permutation(n_genes)
    marker_of, gradient = marker_of[order], gradient[order]

    effect = rng.uniform(0.2, 0.7, n_genes)
    profile = effect * (marker_of == domain[:, None])  # (n_obs, n_genes), log scale
    position = (xy @ [0.8, 0.6] - (xy @ [0.8, 0.6]).mean()) / np.ptp(xy, axis=0).max()
    profile += 0.6 * gradient * rng.choice([-1, 1], n_genes) * position[:, None]
    rate = np.exp(rng.normal(0, 1, n_genes) + profile)
    rate *= MEDIAN_COUNTS * rng.lognormal(0, 0.35, (len(domain), 1)) / rate.sum(axis=1, keepdims=True)
    counts = rng.poisson(rate * rng.gamma(5, 1 / 5, rate.shape))
    var = pd.DataFrame(
        {"marker_of": _categorical(marker_of, names), "gradient": gradient},
        index=[f"GENE{i + 1:03d}" for i in range(n_genes)],
    )
    return sparse.csr_matrix(counts, dtype=np.float32), var


def _categorical(codes: Ints, names: list[str]) -> pd.Categorical[str]:
    """Make a categorical of codes; -1 is missing."""
    return pd.Categorical.from_codes(codes.tolist(), pd.Index(names))
