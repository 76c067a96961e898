"""A simulated section of any size: `python -m benchmarks._simulate OUT.h5ad --places N --genes G` writes it.

Cells on a jittered grid, 10 µm apart; more cells are more tissue, of the same density, and its domains grow with it.
Twelve domains: curved layers, thick and thin in turn, and round nodules. Each has its own mixture of cell types, and
types alone decide what is expressed. Cells lie in the file by field of view, as instruments write them. Memory is
bounded by a chunk of cells, besides what `obs` holds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem
from scipy import sparse

from stmmr._core.files import atomic_write
from stmmr._core.rows import slices

PITCH_UM, JITTER_UM, FIELD_UM = 10.0, 2.0, 1000.0
N_DOMAINS, N_TYPES = 12, 16
LAYERS = (1.0, 0.5, 1.2, 0.7, 0.4, 1.1, 0.6, 0.9, 0.5)
"""Widths, relative to each other."""
NODULES = ((0.30, 0.28, 0.11), (0.72, 0.40, 0.13), (0.42, 0.76, 0.12))
"""Middle and radius, of a section of side 1."""
WAVES_UM, N_WAVES, WAVINESS = (60.0, 160.0), 6, 0.8
"""Lengths of the waves by which mixtures vary within a domain, how many for each type, and their height."""
FOLD = 2.5
"""Mean log fold of the genes that mark a type."""
DISPERSION = np.float32(2.0)
"""Of the negative binomial: variance = mean + mean² / 2."""
CHUNK = 4096
ENTRIES = 1 << 20
"""Entries of a chunk in the file: 4 MB of values."""


def domain_of(places: np.ndarray) -> np.ndarray:
    """Tell the domain, 0 … 11, of places in a section of side 1; (N, 2) to (N,)."""
    inside = np.stack(np.meshgrid(*[(np.arange(200) + 0.5) / 200] * 2), axis=-1).reshape(-1, 2)
    borders = np.quantile(across_layers(inside), np.cumsum(LAYERS)[:-1] / sum(LAYERS))
    domain = borders.searchsorted(across_layers(places))
    for number, (x, y, radius) in enumerate(NODULES, start=len(LAYERS)):
        dx, dy = places[:, 0] - x, places[:, 1] - y
        domain[np.hypot(dx, dy) < radius * (1 + 0.07 * np.sin(3 * np.arctan2(dy, dx) + number))] = number
    return domain


def across_layers(places: np.ndarray) -> np.ndarray:
    """Measure how far places are across the layers: arcs around a point outside, with folds; (N, 2) to (N,)."""
    x, y = places[:, 0] - 0.3, places[:, 1] + 0.9
    turn = np.arctan2(y, x)
    return np.hypot(x, y) + 0.03 * np.sin(9 * turn + 1) + 0.01 * np.sin(23 * turn + 2)


def cells(n_places: int, rng: np.random.Generator) -> pd.DataFrame:
    """Lay out the cells: coordinates in µm, field of view, domain and type."""
    n_columns = int(np.ceil(np.sqrt(n_places)))
    row, column = np.divmod(np.arange(n_places), n_columns)
    xy = PITCH_UM * np.column_stack([column + 0.5, row + 0.5]) + rng.normal(0, JITTER_UM, (n_places, 2))
    field_x, field_y = (xy // FIELD_UM).clip(0).astype(int).T
    order = np.lexsort([field_x, field_y])
    domain = domain_of(xy / (n_columns * PITCH_UM))
    field = field_y * (field_x.max() + 1) + field_x
    found = {"x": xy[:, 0], "y": xy[:, 1], "field": field, "domain": domain, "type": types(xy, domain, rng)}
    return pd.DataFrame(found).iloc[order]


def types(xy: np.ndarray, domain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the types of cells from the mixtures of their domains, which vary within tens of µm: sums of plane waves."""
    mixtures = rng.dirichlet(np.full(N_TYPES, 0.5), N_DOMAINS)
    turn, phase = rng.uniform(0, 2 * np.pi, (2, N_TYPES, N_WAVES))
    number = 2 * np.pi / rng.uniform(*WAVES_UM, turn.shape) * [np.cos(turn), np.sin(turn)]  # (2, type, wave)
    drawn = rng.random(len(xy))
    found = np.empty(len(xy), dtype=np.int8)
    for rows in slices(len(xy), CHUNK):
        waves = np.cos(np.tensordot(xy[rows], number, 1) + phase).sum(axis=2) / np.sqrt(N_WAVES / 2)  # (n, type)
        share = mixtures[domain[rows]] * np.exp(WAVINESS * waves)
        share = share.cumsum(axis=1) / share.sum(axis=1, keepdims=True)
        found[rows] = (drawn[rows, None] > share[:, :-1]).sum(axis=1)
    return found


def profiles(n_genes: int, rng: np.random.Generator) -> np.ndarray:
    """Draw what each type expresses, shape (type, gene): genes of very different abundance, a tenth marks it."""
    abundance = rng.lognormal(0, 1.0, n_genes)
    marked = rng.random((N_TYPES, n_genes)) < 0.1
    fold = np.exp(rng.normal(0, 0.15, (N_TYPES, n_genes)) + marked * rng.normal(FOLD, 0.5, (N_TYPES, n_genes)))
    return (abundance * fold).astype(np.float32)


def at_density(profile: np.ndarray, size: np.ndarray, kind: np.ndarray, wanted: float) -> np.ndarray:
    """Scale the profiles so that a share of the entries is not zero, by halves, on some of the cells."""
    some = size[:1000, None] * profile[kind[:1000]]
    low, high = -20.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        share = 1 - np.mean((1 + np.exp(middle) * some / DISPERSION) ** -DISPERSION)
        low, high = (middle, high) if share < wanted else (low, middle)
    return (profile * np.exp(middle)).astype(np.float32)


def counts(mean: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    """Draw from negative binomials by inversion of their distribution, at what is not zero only; (n, G)."""
    drawn = rng.random(mean.shape, dtype=np.float32)
    zero = (1 + mean / DISPERSION) ** -DISPERSION
    at = np.flatnonzero(drawn > zero)
    u, probability = drawn.ravel()[at], zero.ravel()[at]
    ratio = (mean / (mean + DISPERSION)).ravel()[at]
    values, below, left = np.zeros(len(at), dtype=np.float32), probability.copy(), np.arange(len(at))
    while len(left):
        k = values[left]
        probability[left] *= (k + DISPERSION) / (k + 1) * ratio[left]
        values[left] += 1
        below[left] += probability[left]
        left = left[(u[left] > below[left]) & (probability[left] > 1e-9)]
    rows, columns = np.divmod(at, mean.shape[1])
    indptr = np.concatenate([[0], np.bincount(rows, minlength=len(mean)).cumsum()])
    return sparse.csr_matrix((values, columns.astype(np.int32), indptr), shape=mean.shape)


def chunks(found: pd.DataFrame, n_genes: int, rng: np.random.Generator) -> Iterator[sparse.csr_matrix]:
    """Draw the counts of the cells, some at a time."""
    size = rng.lognormal(0, 0.4, len(found)).astype(np.float32)
    kind = found["type"].to_numpy()
    spread = rng.permutation(len(found))[:1000]
    wanted = 0.15 if n_genes <= 1000 else 0.05
    profile = at_density(profiles(n_genes, rng), size[spread], kind[spread], wanted)
    for rows in slices(len(found), CHUNK):
        yield counts(size[rows, None] * profile[kind[rows]], rng)


def write_rows(file: h5py.File, parts: Iterator[sparse.csr_matrix], shape: tuple[int, int]) -> None:
    """Write X as CSR, part by part."""
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    data, indices = (
        group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(ENTRIES,))
        for name, dtype in (("data", np.float32), ("indices", np.int32))
    )
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    row = 0
    for part in parts:
        before = int(indptr[row])
        for stored, given in ((data, part.data), (indices, part.indices)):
            stored.resize((before + part.nnz,))
            stored[before:] = given
        indptr[row + 1 : row + 1 + part.shape[0]] = before + part.indptr[1:]
        row += part.shape[0]
    group["indptr"] = indptr


def simulate(path: Path, *, n_places: int, n_genes: int, seed: int = 0) -> None:
    """Write a section as .h5ad; `obs["ground_truth"]` holds the domains, `obsm["spatial"]` the coordinates in µm."""
    rng = np.random.default_rng(seed)
    found = cells(n_places, rng)
    names = [f"Layer {i + 1}" for i in range(len(LAYERS))] + [f"Nodule {i + 1}" for i in range(len(NODULES))]
    obs = pd.DataFrame(
        {
            "ground_truth": pd.Categorical.from_codes(found["domain"], names),
            "cell_type": pd.Categorical.from_codes(found["type"], [f"Type {i + 1}" for i in range(N_TYPES)]),
            "field_of_view": found["field"].to_numpy(),
        },
        index=[f"cell_{i + 1}" for i in range(n_places)],
    )
    var = pd.DataFrame(index=[f"gene_{i + 1}" for i in range(n_genes)])
    elements: dict[str, Any] = {"obs": obs, "var": var, "obsm": {"spatial": found[["x", "y"]].to_numpy()}}
    elements |= {name: {} for name in ("layers", "obsp", "uns", "varm", "varp")}
    with atomic_write(path) as new, h5py.File(new, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_rows(file, chunks(found, n_genes, rng), (n_places, n_genes))
        for name, value in elements.items():
            write_elem(file, name, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, metavar="OUT.h5ad")
    parser.add_argument("--places", type=int, required=True)
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    simulate(asked.path, n_places=asked.places, n_genes=asked.genes, seed=asked.seed)


if __name__ == "__main__":
    main()
