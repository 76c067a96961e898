"""One order of the spots for every step, so that results do not depend on the order of the rows.

Random draws, k-means and sums of floating-point numbers depend on the order of the points. Steps therefore work on the
spots in the order of their position in the tissue, and put their results back into the order of the AnnData.
"""

from __future__ import annotations

import warnings
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
import pandas as pd
from scipy import sparse

from stmmr._core import keys
from stmmr._core.record import recorded
from stmmr._core.rows import empty, release, slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from stmmr._core.types import Ints, Numbers

Step = TypeVar("Step", bound="Callable[..., Any]")
TAKEN: Final = 2**17
"""Rows that are taken at a time."""
ARRAY: Final = [keys.ARRAY_COL, keys.ARRAY_ROW]


def tissue_order(adata: AnnData, *, section_key: str | None = None) -> Ints:
    """Get the rows in the order of section, x, y and name, shape (n_obs,).

    The spots have the same order whatever the order of the rows. Sections are those of the key, otherwise those that
    the data were prepared with.
    """
    for step in ("spatial_graph", "expression"):
        section_key = section_key or str(recorded(adata).get(step, {}).get("section_key") or "")
    positions: Any = np.zeros((adata.n_obs, 0))
    if keys.SPATIAL in adata.obsm:
        positions = np.asarray(adata.obsm[keys.SPATIAL])
    elif set(ARRAY) <= set(adata.obs.columns):
        positions = adata.obs[ARRAY].to_numpy()
    if positions.ndim != 2 or positions.dtype.kind not in "biuf":  # the step itself says what is wrong with them
        return np.arange(adata.n_obs)
    columns = list(positions.T)
    if section_key in adata.obs.columns:
        columns.insert(0, pd.Categorical(adata.obs[section_key]).codes)
    order = np.lexsort(columns[::-1]) if columns else np.arange(adata.n_obs)
    at_one_position = np.ones(max(adata.n_obs - 1, 0), dtype=bool)
    for column in columns:
        at_one_position &= column[order[1:]] == column[order[:-1]]
    if at_one_position.any():
        names = np.unique(adata.obs_names.to_numpy(str), return_inverse=True)[1]
        order = np.lexsort([names, *columns[::-1]])
    return order.astype(np.intp)


def put_back(values: Any, order: Ints) -> Any:
    """Bring rows in the order of the tissue, along the first axis, back into that of the AnnData."""
    return taken(values, np.argsort(order, kind="stable"))


class Arranged:
    """Rows of an array or a sparse matrix in another order, of which a slice is copied at a time."""

    def __init__(self, values: Any, order: Ints) -> None:
        self.values, self.order = values, order
        self.shape = tuple(values.shape)

    def __len__(self) -> int:
        """Get the number of rows."""
        return len(self.order)

    def __getitem__(self, rows: Any) -> Any:
        """Read some rows."""
        return self.values[self.order[rows]]


def taken(values: Any, order: Ints) -> Any:
    """Take rows of an array, a sparse matrix, a data frame or a categorical."""
    if isinstance(values, pd.DataFrame | pd.Series):
        return values.iloc[order]
    array: Any = values
    if sparse.issparse(values) or isinstance(values, pd.api.extensions.ExtensionArray):
        return array[order]
    array = np.asarray(values)
    if array.ndim < 2 or array.dtype.hasobject:
        return array[order]
    arranged = empty((len(order), *array.shape[1:]), array.dtype)
    for rows in slices(len(order), TAKEN):
        arranged[rows] = array[order[rows]]
    release()
    return arranged


def in_tissue_order(step: Step) -> Step:
    """Carry out a step that reads no counts on the spots in the order of the tissue."""

    @wraps(step)
    def ordered(adata: AnnData, *args: Any, **options: Any) -> Any:
        order = tissue_order(adata, section_key=options.get("section_key"))
        if (np.diff(order) == 1).all():
            return step(adata, *args, **options)
        arranged = without_counts(adata, order)
        before = {name: dict(getattr(arranged, name)) for name in ("obs", "var", "obsm", "varm", "obsp", "uns")}
        result = step(arranged, *args, **options)
        _write_back(arranged, before, adata, order)
        return result

    return cast("Step", ordered)


def without_counts(adata: AnnData, order: Ints) -> AnnData:
    """Get the data with its rows in an order, without ``X`` and ``layers``; matrices in ``obsp`` are empty."""
    from anndata import AnnData

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
        return AnnData(
            obs=adata.obs.iloc[order],
            var=adata.var.copy(deep=False),
            obsm={name: taken(values, order) for name, values in adata.obsm.items()},
            varm=dict(adata.varm),
            obsp={name: sparse.csr_matrix((adata.n_obs, adata.n_obs)) for name in adata.obsp},
            uns=dict(adata.uns),
        )


def _write_back(arranged: AnnData, before: dict[str, dict[str, Any]], adata: AnnData, order: Ints) -> None:
    """Write what a step changed to the data themselves."""
    for container, known in before.items():
        new, target = getattr(arranged, container), getattr(adata, container)
        for name in known.keys() - set(new):
            del target[name]
        for name in list(new):
            values = new[name]
            if name in known and (values is known[name] or _same_column(values, known[name])):
                continue
            if container == "obs":
                values = put_back(values.array, order)
            elif container == "var":
                values = values.array
            elif container == "obsm":
                values = put_back(values, order)
            elif container == "obsp":
                values = _both_axes(values, np.argsort(order, kind="stable"))
            target[name] = values


def _same_column(values: Any, other: Any) -> bool:
    return isinstance(values, pd.Series) and values.equals(other)


def _both_axes(matrix: Numbers, order: Ints) -> Any:
    arranged: Any = sparse.csr_matrix(matrix)[order][:, order]
    arranged.sort_indices()
    return arranged
