"""Cell types of domains, against shifted domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, listed
from stmmr._core.depends import depends
from stmmr._core.options import checked
from stmmr._core.record import record
from stmmr._core.sections import section_codes, sections_of
from stmmr._core.space import coordinates, rows_called, spacing
from stmmr._core.stats import fdr_bh

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Float64, Ints

COMPARED_AT_MOST: Final = 20_000
"""Spots that domains are shifted over; of more, a random sample."""
SMALLEST_SHARE: Final = 1e-4
"""Share that is added to both of a ratio, so that it is finite."""


@checked
def cell_types(
    adata: AnnData,
    cell_type_key: str,
    *,
    domain_key: str = keys.DOMAIN,
    section_key: str | None = None,
    n_permutations: int = 999,
    random_state: int = 0,
) -> None:
    """Compare the cell types of each domain with those of the whole tissue.

    Cell types and domains are both patchy, so neighbouring spots are no independent observations: if single spots were
    permuted, everything would be significant. The null hypothesis here is that the domains lie on the tissue by chance.
    They are shifted as a whole, in each section by a random distance, and what leaves the section on one side comes in
    on the other; each spot gets the domain that then lies over it.

    Parameters
    ----------
    adata
        With domains and coordinates.
    cell_type_key
        Column of ``obs`` with the type of each cell, or key of ``obsm`` with fractions of cell types in each spot, e.g.
        from a deconvolution (a data frame, or an array).
    section_key
        Column of ``obs`` with the section of each spot, if there are several.
    n_permutations
        Number of random shifts.
    random_state
        Seed.

    Returns
    -------
    None. Sets:

    ``uns["stmmr_cell_types"]``
        DataFrame with a row for each domain and cell type: ``domain``, ``cell_type``; ``share``, its mean share in the
        domain; ``log2_ratio``, of this share to that in all spots; ``z``, relative to the shifted domains; ``pval``,
        two-sided; ``pval_adj`` (Benjamini and Hochberg, over all rows).
    ``uns["stmmr"]["cell_types"]``
        Parameters.

    Raises
    ------
    InputError
        If there is no such column or key, fractions are negative or not finite, or there are no coordinates.
    """
    shares, names = shares_of(adata, cell_type_key)
    domains, sections = categories(adata, domain_key), sections_of(adata, section_key)
    codes = domains.codes.astype(np.intp)
    section = section_codes(sections, adata.n_obs)
    rng = np.random.default_rng(random_state)
    known = np.flatnonzero((codes >= 0) & np.isfinite(shares).all(axis=1))
    if not len(known):
        raise InputError(f"Expected {rows_called(adata)} with a domain and a cell type, found none.")
    used = np.sort(rng.choice(known, COMPARED_AT_MOST, replace=False)) if len(known) > COMPARED_AT_MOST else known
    shift = _Shifts(coordinates(adata)[used], section[used])
    n_domains = len(domains.categories)
    own, parts = codes[used], shares[used]
    null = np.array([_means(own[shift(rng)], parts, n_domains) for _ in range(n_permutations)])
    observed = _means(own, parts, n_domains)  # (K, T)
    every = _means(codes[known], shares[known], n_domains)
    with np.errstate(divide="ignore", invalid="ignore"):
        z, pval = _against(observed, null)
    overall = shares[known].mean(axis=0)
    present = np.flatnonzero(np.isfinite(every).all(axis=1))
    rows = pd.MultiIndex.from_product([domains.categories[present].astype(str), names])
    table = pd.DataFrame(
        {
            "domain": rows.get_level_values(0),
            "cell_type": rows.get_level_values(1),
            "share": every[present].ravel(),
            "log2_ratio": np.log2((every[present] + SMALLEST_SHARE) / (overall + SMALLEST_SHARE)).ravel(),
            "z": z[present].ravel(),
            "pval": pval[present].ravel(),
            "pval_adj": fdr_bh(pval[present].ravel()),
        }
    )
    adata.uns[keys.CELL_TYPES] = table.set_axis(table.index.astype(str))
    columns = {"cell_type_key": cell_type_key, "domain_key": domain_key, "section_key": section_key or ""}
    record(adata, cell_types=columns | {"n_permutations": n_permutations, "random_state": random_state})
    where = "obs" if cell_type_key in adata.obs else "obsm"
    sources = [f"obs:{domain_key}", f"{where}:{cell_type_key}", *([f"obs:{section_key}"] if section_key else [])]
    depends(adata, "cell_types", on=sources, writes=[f"uns:{keys.CELL_TYPES}", "notes:cell_types"])


def shares_of(adata: AnnData, key: str) -> tuple[Float64, list[str]]:
    """Get the fractions of cell types, shape (n_obs, T), and their names; NaN where the type is unknown."""
    if key in adata.obs:
        types = categories(adata, key).remove_unused_categories()
        shares = np.eye(len(types.categories))[types.codes]
        shares[types.codes < 0] = np.nan
        return shares, [str(name) for name in types.categories]
    if key not in adata.obsm:
        raise InputError(
            f"Expected cell types in obs[{key!r}] or their fractions in obsm[{key!r}], found obs columns: "
            f"{listed(adata.obs.columns)}; obsm keys: {listed(adata.obsm)}."
        )
    values: Any = adata.obsm[key]
    names = (
        list(map(str, values.columns))
        if hasattr(values, "columns")
        else [f"type {i + 1}" for i in range(values.shape[1])]
    )
    shares = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)
    if np.isinf(shares).any() or (shares < 0).any():
        raise InputError(f"Expected fractions of at least 0 in obsm[{key!r}], found negative or infinite ones.")
    return shares, names


class _Shifts:
    """Random shifts of sections over themselves; positions that leave a section come in on the other side."""

    def __init__(self, xy: Float64, section: Ints) -> None:
        self.n = len(xy)
        self.rows = [np.flatnonzero(section == code) for code in np.unique(section)]
        self.low = [xy[rows].min(axis=0) for rows in self.rows]
        self.size = [np.ptp(xy[rows], axis=0) + (spacing(xy[rows]) or 1.0) for rows in self.rows]
        self.xy = xy
        self.trees = [cKDTree(xy[rows]) for rows in self.rows]

    def __call__(self, rng: np.random.Generator) -> Ints:
        """Get the spot that lies over each spot after a shift, shape (n,)."""
        over = np.empty(self.n, dtype=np.intp)
        for rows, low, size, tree in zip(self.rows, self.low, self.size, self.trees, strict=True):
            moved = low + (self.xy[rows] - low + rng.uniform(0, 1, 2) * size) % size
            over[rows] = rows[tree.query(moved)[1]]
        return over


def _means(codes: Ints, shares: Float64, n_domains: int) -> Float64:
    """Average shares over the spots of each domain, shape (K, T); NaN for a domain without spots."""
    sizes = np.bincount(codes, minlength=n_domains)
    sums = np.array([np.bincount(codes, column, minlength=n_domains) for column in shares.T]).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / sizes[:, None])


def _against(observed: Float64, null: Float64) -> tuple[Float64, Float64]:
    """Compare with values under the null hypothesis, shape (B, K, T): z-scores and two-sided p-values."""
    there = np.isfinite(null)
    n = there.sum(axis=0)
    mean = np.where(there, null, 0).sum(axis=0) / np.maximum(n, 1)
    apart = np.abs(np.where(there, null - mean, 0))
    spread = np.sqrt((apart**2).sum(axis=0) / np.maximum(n, 1))
    far = (there & (apart >= np.abs(observed - mean) * (1 - 1e-9))).sum(axis=0)
    z = np.where(spread > 0, (observed - mean) / spread, 0.0)
    return z, np.asarray((1 + far) / (1 + n), dtype=np.float64)
