"""AnnData as nobody should have them, and options as nobody should give them, as hypothesis draws them."""

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from hypothesis import strategies as st
from scipy import sparse

SIZES = st.sampled_from([(0, 5), (1, 3), (5, 4), (12, 6), (13, 6), (30, 0), (30, 1), (25, 2)])
DTYPES = ["f4", "f8", "f2", ">i4", ">f8", "i1", "u8", "i8", "?", "u2", ">u2"]
NAMES = [
    lambda i: f"spot{i}",
    lambda i: f"=cmd{i}",
    lambda i: f"a\nb{i}",
    lambda i: f"$x_{i}$",
    lambda i: str(i),
    lambda i: "same",
    lambda i: f"Ω/{i}",
    lambda i: f"\x1b[31m{i}",
    lambda i: "" if i == 0 else f"-{i}",
]
SEED = st.integers(0, 2**16)


def values(draw: Any, odd: set[str], n: int, g: int) -> Any:
    """Draw counts, or what is taken for them."""
    rng = np.random.default_rng(draw(SEED))
    dense = rng.poisson(np.where(np.arange(g)[None] % 2 == np.arange(n)[:, None] // max(n // 2, 1), 5.0, 1.0))
    kinds = ["zeros", "huge", "negative", "nan", "inf", "fraction", "one", "text"]
    kind = draw(st.sampled_from(kinds)) if "values" in odd else "counts"
    dense = dense.astype(np.float64)
    if kind == "text":
        return dense.astype(int).astype(str).astype(object)
    if kind == "zeros":
        dense[:] = 0
    elif kind == "one":
        dense[:] = 1
    elif kind != "counts" and dense.size:
        dense.flat[0] = {"huge": 3e38, "negative": -1, "nan": np.nan, "inf": np.inf, "fraction": 0.5}[kind]
    dtype = np.dtype(draw(st.sampled_from(DTYPES)) if "dtype" in odd else "f4")
    with np.errstate(all="ignore"):
        dense = dense.astype(dtype)
    form = draw(st.sampled_from(["csr", "csc", "array", "fortran", "csr_array", "unsorted"]))
    if form in ("array", "fortran") or dtype.str in ("<f2", ">u2", ">i4", ">f8"):  # scipy has no others
        return np.asfortranarray(dense) if form == "fortran" else dense
    made = {"csc": sparse.csc_matrix, "csr_array": sparse.csr_array}.get(form, sparse.csr_matrix)(dense)
    if form == "unsorted" and made.nnz > 1:
        made.indices, made.data = made.indices[::-1].copy(), made.data[::-1].copy()
        made = sparse.csr_matrix((made.data, made.indices % g, made.indptr), shape=(n, g))
    return made


def positions(draw: Any, odd: set[str], n: int) -> Any:
    """Draw coordinates, or what is taken for them."""
    rng = np.random.default_rng(draw(SEED))
    side = int(np.ceil(np.sqrt(max(n, 1))))
    grid = np.array([(i % side, i // side) for i in range(n)], dtype=float).reshape(n, 2) * 100
    kinds = ["nan", "line", "point", "text", "one", "three", "far", "big", "ints", "frame", "tiny", "twice"]
    kind = draw(st.sampled_from(kinds)) if "positions" in odd else "grid"
    if kind == "nan" and n:
        grid[0] = np.nan
    with np.errstate(all="ignore"):
        whole = grid.astype(np.int16)
    table = {
        "line": grid * [1, 0],
        "point": grid * 0,
        "text": grid.astype(str),
        "one": grid[:, :1],
        "three": np.column_stack([grid, rng.normal(size=n)]),
        "far": grid + 1e9,
        "big": grid * 1e290,
        "ints": whole,
        "frame": pd.DataFrame(grid, columns=["x", "y"]),
        "tiny": grid * 1e-12,
        "twice": grid // 200,
    }
    return table.get(kind, grid)


def columns(draw: Any, n: int) -> dict[str, Any]:
    """Draw columns of obs."""
    rng = np.random.default_rng(draw(SEED))
    pool = {
        "size": [np.arange(n), np.zeros(n), np.full(n, 3.5), np.full(n, np.nan), np.full(n, "x"), -np.ones(n)],
        "section": [
            np.array(["a", "b"])[np.arange(n) % 2],
            pd.Categorical(np.arange(n) // max(n // 2, 1)),
            np.full(n, np.nan),
            np.arange(n),
            np.array([True, False])[np.arange(n) % 2],
            pd.Categorical(["a/b"] * n, categories=["a/b", "unused"]),
        ],
        "label": [
            pd.Categorical(np.where(rng.random(n) < 0.5, "x", "y")),
            np.arange(n) % 3,
            rng.random(n),
            np.full(n, None, dtype=object),
            pd.array([pd.NA] * n, dtype="Int64"),
            np.array([["q"], ["NA"], [""]], dtype=object).ravel()[np.arange(n) % 3],
        ],
        "array_row": [np.arange(n) // 6, np.full(n, np.nan), np.full(n, "r")],
        "array_col": [np.arange(n) % 6, np.full(n, 2**40)],
        "in_tissue": [np.ones(n), np.zeros(n), np.full(n, "yes")],
    }
    return {name: draw(st.sampled_from(choices)) for name, choices in pool.items() if draw(st.integers(0, 2)) == 0}


SPATIAL_UNS: list[Any] = [
    "text",
    {},
    {"lib": 3},
    {"lib": {}},
    {"lib": {"images": 3, "scalefactors": "x"}},
    {"lib": {"images": {"hires": np.zeros((4, 4))}, "scalefactors": {}}},
    {"lib": {"images": {"hires": np.zeros((8, 8, 3), np.uint8)}, "scalefactors": {"tissue_hires_scalef": 0.0}}},
    {"lib": {"images": {"hires": np.full((9, 9, 3), "a")}, "scalefactors": {"tissue_hires_scalef": "0.1"}}},
    {"lib": {"scalefactors": {"microns_per_pixel": -1.0}}},
    {"lib": {"scalefactors": {"microns_per_pixel": "x"}}},
    {"is_single": True},
    np.arange(3),
]
COLOURS: list[Any] = [{"1": "red"}, ["red"], "red", np.array([1, 2]), []]
UNS = {"spatial": "spatial", "notes": "stmmr", "colours": "stmmr_domain_colors"}
NOTES: list[Any] = [
    "text",
    3,
    {},
    {"model": "x"},
    {"model": {}},
    {"spatial_graph": {}},
    {"expression": {"layer": 4}},
    [],
]


ASPECTS = [
    "size",
    "values",
    "dtype",
    "positions",
    "names",
    "genes",
    "spatial",
    "notes",
    "colours",
    "domains",
    "columns",
]
ASPECTS += ["no X", "no positions", "layer", "view", "options", "X_pca"]


@st.composite
def cases(draw: Any) -> tuple[ad.AnnData, dict[str, Any]]:
    """Draw an AnnData with up to four odd aspects, and options of a run."""
    odd = draw(st.sets(st.sampled_from(ASPECTS), max_size=4))
    n, g = draw(SIZES) if "size" in odd else (40, 20)
    spot, gene = (draw(st.sampled_from(NAMES)) if aspect in odd else NAMES[0] for aspect in ("names", "genes"))
    obs = pd.DataFrame(columns(draw, n) if "columns" in odd else {}, index=[spot(i) for i in range(n)])
    adata = ad.AnnData(None, obs=obs, var=pd.DataFrame(index=[gene(i) for i in range(g)]))
    if "no X" not in odd:
        adata.X = values(draw, odd, n, g)
    if "layer" in odd:
        adata.layers[draw(st.sampled_from(["counts", "other"]))] = values(draw, odd | {"values"}, n, g)
    if "no positions" not in odd:
        xy = positions(draw, odd, n)
        adata.obsm["spatial"] = xy.set_index(adata.obs_names) if isinstance(xy, pd.DataFrame) else xy
    if "X_pca" in odd:
        rng = np.random.default_rng(draw(SEED))
        adata.obsm["X_pca"] = rng.normal(size=(n, 3)) * draw(st.sampled_from([1, 0, np.nan, 1e30]))
    for key, choices in (("spatial", SPATIAL_UNS), ("notes", NOTES), ("colours", COLOURS)):
        if key in odd:
            adata.uns[UNS[key]] = draw(st.sampled_from(choices))
    if "domains" in odd:
        adata.obs["stmmr_domain"] = draw(st.sampled_from(["1", 1, np.nan]))
    chosen: dict[str, Any] = {"n_domains": 2, "method": "kmeans", "progress": False}
    if "options" in odd:
        for name in draw(st.lists(st.sampled_from(sorted(OPTIONS)), min_size=1, max_size=2)):
            chosen[name] = draw(st.sampled_from(OPTIONS[name]))
    return (adata[: max(n - 1, 0)] if "view" in odd else adata), chosen


OPTIONS: dict[str, list[Any]] = {
    "n_domains": [2, 3, 1, 0, -1, 3.5, "3", "auto", 10**9, True, None, np.int64(2), np.nan],
    "method": ["kmeans", "gaussian_mixture", "consensus", "agglomerative", "nothing", 3],
    "layer": ["counts", "other", "missing", 3],
    "size_key": ["size", "missing", "label"],
    "section_key": ["section", "label", "missing", 3],
    "label_key": ["label", "section", "missing"],
    "use_rep": ["X_pca", "spatial", "missing"],
    "um_per_pixel": [1.0, 0, -1, np.nan, "x", 1e300],
    "random_state": [0, -1, 1.5, 2**40, "0"],
    "histology": [True, False],
    "blocks": [{}, ["a=X_pca:gaussian"], ["a"], ["a=missing"], 3],
    "image": [np.zeros((5, 5)), np.zeros((400, 400, 3), np.uint8), "nothing.png", 3],
}
