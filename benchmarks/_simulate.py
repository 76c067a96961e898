"""Simulate a section of any size: `python -m benchmarks._simulate OUT.h5ad --cells N --genes G` writes it.

Cells are on a jittered grid, 10 µm apart. More cells are more tissue of the same density, and its domains grow with it.
There are twelve domains: curved layers, thick and thin in turn, and round nodules. Each domain has its own mixture of
cell types, and a cell expresses genes by its type alone. Cells are in the file by field of view, as instruments write
them. Memory holds one chunk of cells, and `obs`.
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
"""Widths of the layers, relative to each other."""
NODULES = ((0.30, 0.28, 0.11), (0.72, 0.40, 0.13), (0.42, 0.76, 0.12))
"""Centre (x, y) and radius of each nodule, in a section of side 1."""
WAVES_UM, N_WAVES, WAVINESS = (60.0, 160.0), 6, 0.8
"""Lengths of the waves by which mixtures vary within a domain, their number for each type, and their height."""
FOLD = 2.5
"""Mean log fold change of the genes that mark a type."""
DISPERSION = np.float32(2.0)
"""θ of the negative binomial: variance = mean + mean² / 2."""
DENSITIES = {1_000: 0.15, 4_000: 0.05, 10_000: 0.04}
"""Share of the counts that are not zero, up to a number of genes: 75 genes of a cell with 500, 200 with 5,000."""
SEEN_IN_A_BIN = 300
"""Genes that are seen in a bin with all genes: 1.8·10⁸ counts of 600,000 bins of 8 µm, a whole Visium HD chip."""
CHUNK = 4096
ENTRIES = 1 << 20
"""Entries of a chunk in the file: 4 MB of values."""


def domain_of(xy: np.ndarray) -> np.ndarray:
    """Tell the domain, 0 … 11, of cells in a section of side 1; shape (n_obs, 2) to (n_obs,)."""
    inside = np.stack(np.meshgrid(*[(np.arange(200) + 0.5) / 200] * 2), axis=-1).reshape(-1, 2)
    borders = np.quantile(across_layers(inside), np.cumsum(LAYERS)[:-1] / sum(LAYERS))
    domain = borders.searchsorted(across_layers(xy))
    for number, (x, y, radius) in enumerate(NODULES, start=len(LAYERS)):
        dx, dy = xy[:, 0] - x, xy[:, 1] - y
        domain[np.hypot(dx, dy) < radius * (1 + 0.07 * np.sin(3 * np.arctan2(dy, dx) + number))] = number
    return domain


def across_layers(xy: np.ndarray) -> np.ndarray:
    """Measure the position across the layers, which are folded arcs around a point outside; (n_obs, 2) to (n_obs,)."""
    x, y = xy[:, 0] - 0.3, xy[:, 1] + 0.9
    turn = np.arctan2(y, x)
    return np.hypot(x, y) + 0.03 * np.sin(9 * turn + 1) + 0.01 * np.sin(23 * turn + 2)


def cells(n_cells: int, rng: np.random.Generator) -> pd.DataFrame:
    """Place the cells: coordinates in µm, field of view, domain and type."""
    n_columns = int(np.ceil(np.sqrt(n_cells)))
    row, column = np.divmod(np.arange(n_cells), n_columns)
    xy = PITCH_UM * np.column_stack([column + 0.5, row + 0.5]) + rng.normal(0, JITTER_UM, (n_cells, 2))
    field_x, field_y = (xy // FIELD_UM).clip(0).astype(int).T
    order = np.lexsort([field_x, field_y])
    domain = domain_of(xy / (n_columns * PITCH_UM))
    field = field_y * (field_x.max() + 1) + field_x
    table = {"x": xy[:, 0], "y": xy[:, 1], "field": field, "domain": domain, "type": types(xy, domain, rng)}
    return pd.DataFrame(table).iloc[order]


def types(xy: np.ndarray, domain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the type of each cell from the mixture of its domain, which varies over tens of µm by plane waves."""
    mixtures = rng.dirichlet(np.full(N_TYPES, 0.5), N_DOMAINS)
    turn, phase = rng.uniform(0, 2 * np.pi, (2, N_TYPES, N_WAVES))
    number = 2 * np.pi / rng.uniform(*WAVES_UM, turn.shape) * [np.cos(turn), np.sin(turn)]  # (2, type, wave)
    drawn = rng.random(len(xy))
    kind = np.empty(len(xy), dtype=np.int8)
    for rows in slices(len(xy), CHUNK):
        waves = np.cos(np.tensordot(xy[rows], number, 1) + phase).sum(axis=2) / np.sqrt(N_WAVES / 2)  # (n, type)
        share = mixtures[domain[rows]] * np.exp(WAVINESS * waves)
        share = share.cumsum(axis=1) / share.sum(axis=1, keepdims=True)
        kind[rows] = (drawn[rows, None] > share[:, :-1]).sum(axis=1)
    return kind


def profiles(n_genes: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the expression of each type, shape (type, gene): abundances differ, and a tenth of the genes mark it."""
    abundance = rng.lognormal(0, 1.0, n_genes)
    marked = rng.random((N_TYPES, n_genes)) < 0.1
    fold = np.exp(rng.normal(0, 0.15, (N_TYPES, n_genes)) + marked * rng.normal(FOLD, 0.5, (N_TYPES, n_genes)))
    return (abundance * fold).astype(np.float32)


def at_density(profile: np.ndarray, size: np.ndarray, kind: np.ndarray, wanted: float) -> np.ndarray:
    """Scale the profiles so that a given share of the entries is not zero; found by bisection, on some of the cells."""
    some = size[:1000, None] * profile[kind[:1000]]
    low, high = -20.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        share = 1 - np.mean((1 + np.exp(middle) * some / DISPERSION) ** -DISPERSION)
        low, high = (middle, high) if share < wanted else (low, middle)
    return (profile * np.exp(middle)).astype(np.float32)


def counts(mean: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    """Draw from negative binomials by inversion of their distribution, only where the count is not zero; (n, G)."""
    drawn = rng.random(mean.shape, dtype=np.float32)
    zero = (1 + mean / DISPERSION) ** -DISPERSION
    nonzero = np.flatnonzero(drawn > zero)
    u, probability = drawn.ravel()[nonzero], zero.ravel()[nonzero]
    ratio = (mean / (mean + DISPERSION)).ravel()[nonzero]
    values, below, left = np.zeros(len(nonzero), dtype=np.float32), probability.copy(), np.arange(len(nonzero))
    while len(left):
        k = values[left]
        probability[left] *= (k + DISPERSION) / (k + 1) * ratio[left]
        values[left] += 1
        below[left] += probability[left]
        left = left[(u[left] > below[left]) & (probability[left] > 1e-9)]
    rows, columns = np.divmod(nonzero, mean.shape[1])
    indptr = np.concatenate([[0], np.bincount(rows, minlength=len(mean)).cumsum()])
    return sparse.csr_matrix((values, columns.astype(np.int32), indptr), shape=mean.shape)


def chunks(
    section: pd.DataFrame, n_genes: int, rng: np.random.Generator, replicate: np.random.Generator | None = None
) -> Iterator[sparse.csr_matrix]:
    """Draw the counts, a chunk of cells at a time; those of a replicate with a capture efficiency of its own."""
    size = rng.lognormal(0, 0.4, len(section)).astype(np.float32)
    kind = section["type"].to_numpy()
    spread = rng.permutation(len(section))[:1000]
    wanted = next((share for most, share in DENSITIES.items() if n_genes <= most), SEEN_IN_A_BIN / n_genes)
    profile = at_density(profiles(n_genes, rng), size[spread], kind[spread], wanted)
    if replicate is not None:
        rng, size = replicate, size * np.float32(replicate.lognormal(0, 0.3))
    for rows in slices(len(section), CHUNK):
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


def simulate(path: Path, *, n_cells: int, n_genes: int, seed: int = 0, replicate: int = 0) -> None:
    """Write a section as .h5ad; `obs["ground_truth"]` holds the domains, `obsm["spatial"]` the coordinates in µm.

    Replicates are the same tissue, counted again.
    """
    rng = np.random.default_rng(seed)
    again = np.random.default_rng([seed, replicate]) if replicate else None
    section = cells(n_cells, rng)
    names = [f"Layer {i + 1}" for i in range(len(LAYERS))] + [f"Nodule {i + 1}" for i in range(len(NODULES))]
    obs = pd.DataFrame(
        {
            "ground_truth": pd.Categorical.from_codes(section["domain"], names),
            "cell_type": pd.Categorical.from_codes(section["type"], [f"Type {i + 1}" for i in range(N_TYPES)]),
            "field_of_view": section["field"].to_numpy(),
        },
        index=[f"cell_{i + 1}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"gene_{i + 1}" for i in range(n_genes)])
    elements: dict[str, Any] = {"obs": obs, "var": var, "obsm": {"spatial": section[["x", "y"]].to_numpy()}}
    elements |= {name: {} for name in ("layers", "obsp", "uns", "varm", "varp")}
    with atomic_write(path) as new, h5py.File(new, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_rows(file, chunks(section, n_genes, rng, again), (n_cells, n_genes))
        for name, value in elements.items():
            write_elem(file, name, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, metavar="OUT.h5ad")
    parser.add_argument("--cells", type=int, required=True)
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicate", type=int, default=0)
    options = parser.parse_args()
    sizes = {"n_cells": options.cells, "n_genes": options.genes}
    simulate(options.path, **sizes, seed=options.seed, replicate=options.replicate)


if __name__ == "__main__":
    main()
