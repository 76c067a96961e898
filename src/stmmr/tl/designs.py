"""Tests between groups of sections, with covariates and with donors that link sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core.categories import is_absent
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.columns import are_names, numbers_of
from stmmr._core.sections import sections_of
from stmmr._core.stats import fdr_bh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from stmmr._core.types import Float64


class Design(NamedTuple):
    """What is known about sections; rows are sections, or donors once their sections are averaged."""

    group: pd.Series
    """The groups that are compared."""
    covariates: pd.DataFrame
    """Numbers and categories whose effects are removed."""
    donor: pd.Series | None = None
    """Donors whose effects are removed, as some of them have sections of several groups."""

    @property
    def names(self) -> list[str]:
        """Names of the groups, the largest first."""
        return list(self.group.value_counts().index)


class Comparison(NamedTuple):
    """How groups of sections are compared."""

    design: Design
    group: pd.Series
    """Group of each section."""
    donor: pd.Series | None
    """Donor of each section if values are to be averaged over the sections of a donor, because each donor is in one
    group; rows of the design are then donors."""

    def tested(self, values: pd.DataFrame, shown: pd.DataFrame, *, name: str) -> dict[str, Float64]:
        """Test whether columns of values differ between the groups, as columns of a table.

        Parameters
        ----------
        values
            What is compared, shape (sections, features).
        shown
            What is averaged over the sections of each group, of the same shape, in columns called ``{name}_{group}``.
        name
            Name of these columns.
        """
        statistic, pval = compare_groups(values, self.design, self.donor)
        of_groups = {
            f"{name}_{group}": shown.loc[self.group.index[self.group == group]].mean().to_numpy()
            for group in self.design.names
        }
        adjusted = fdr_bh(np.nan_to_num(pval, nan=1.0))
        return {**of_groups, "statistic": statistic, "pval": pval, "pval_adj": adjusted}


def section_values(adata: AnnData, section_key: str, column: str) -> pd.Series:
    """Get the value of a column of ``obs`` in each section, checked.

    Raises InputError if a column does not exist, a spot has no section, or a section has no value or two of them.
    """
    require_key(adata.obs.columns, column, where="obs")
    sections_of(adata, section_key)
    values = adata.obs.groupby(section_key, observed=True)[column].unique()
    mixed = [str(name) for name, found in values.items() if len(found) != 1]
    if mixed:
        raise InputError(f"Expected one {column} for each section, found several in {listed(mixed)}.")
    value: pd.Series = values.map(lambda found: found[0])
    missing = [str(name) for name in value.index[value.isna() | value.map(is_absent).astype(bool)]]
    if missing:
        raise InputError(f"Expected a {column} for each section, found none for {listed(missing)}.")
    return value


def section_groups(adata: AnnData, section_key: str, *, group_key: str) -> pd.Series:
    """Get the group of each section, checked.

    Raises InputError as `section_values`, or if there are not two groups of at least two sections.
    """
    group = section_values(adata, section_key, group_key)
    _require_replicates(group, f"sections, the replicates, in obs[{group_key!r}]")
    return group


def _require_replicates(group: pd.Series, replicates: str) -> None:
    sizes = group.value_counts()
    if len(sizes) < 2 or sizes.min() < 2:
        raise InputError(
            f"Expected at least two groups of two {replicates}, found "
            f"{listed(f'{name}: {n}' for name, n in sizes.items())}."
        )


def section_design(
    adata: AnnData, section_key: str, *, group_key: str, covariates: Sequence[str] = (), donor_key: str | None = None
) -> Comparison:
    """Get group, covariates and donor of each section, checked."""
    group = section_groups(adata, section_key, group_key=group_key)
    table = pd.DataFrame({name: _column(adata, section_key, name) for name in covariates}, index=group.index)
    if donor_key is None:
        return Comparison(_checked(Design(group, table), group_key), group, None)
    donor = section_values(adata, section_key, donor_key)
    if (group.groupby(donor).nunique() > 1).any():
        return Comparison(_checked(Design(group, table, donor), group_key), group, None)
    by_donor = group.groupby(donor).first()
    _require_replicates(by_donor, f"donors, the replicates, in obs[{group_key!r}]")
    return Comparison(_checked(Design(by_donor, _averaged(table, donor)), group_key), group, donor)


def _column(adata: AnnData, section_key: str, name: str) -> pd.Series:
    """Get a covariate: numbers, also those of categories, as numbers unless they are names; all else as text."""
    values = section_values(adata, section_key, name)
    numbers = None if are_names(name) else numbers_of(values)
    if numbers is not None:
        return pd.Series(numbers, index=values.index)
    return values.astype(float) if pd.api.types.is_numeric_dtype(adata.obs[name]) else values.astype(str)


def _averaged(table: pd.DataFrame, donor: pd.Series) -> pd.DataFrame:
    """Average covariates over the sections of each donor; categories must be the same in them."""
    averaged = {}
    for name, values in table.items():
        by_donor = values.groupby(donor)
        numeric = pd.api.types.is_numeric_dtype(values)
        if not numeric and (by_donor.nunique() > 1).any():
            raise InputError(
                f"Expected one {name} for each donor, as each donor is in one group, found several. Leave this "
                "covariate or the donors out."
            )
        averaged[name] = by_donor.mean() if numeric else by_donor.first()
    return pd.DataFrame(averaged, index=donor.groupby(donor).first().index)


def _checked(design: Design, group_key: str) -> Design:
    """Check that the effect of the groups can be told from all others, with sections to spare."""
    if design.covariates.shape[1] or design.donor is not None:
        full, n_others = _matrix(design)
        others, rank = np.linalg.matrix_rank(full[:, :n_others]), np.linalg.matrix_rank(full)
        if rank - others < len(design.names) - 1:
            raise InputError(
                f"Expected {group_key} to vary among sections of the same covariates and donors, found that these "
                "determine it. Leave a covariate or the donors out."
            )
        if rank >= len(full):
            raise InputError(
                f"Expected more sections than effects of groups, covariates and donors, found {len(full)} for {rank}. "
                "Leave covariates out, or add sections."
            )
    return design


def _matrix(design: Design) -> tuple[Float64, int]:
    """Build the design matrix; get the number of its columns before those of the groups, which are the last."""
    columns = [np.ones((len(design.group), 1))]
    for _, values in design.covariates.items():
        if pd.api.types.is_numeric_dtype(values):
            spread = float(values.std()) or 1.0
            columns.append(((values - values.mean()) / spread).to_numpy(np.float64)[:, None])
        else:
            columns.append(_indicators(values))
    if design.donor is not None:
        columns.append(_indicators(design.donor))
    n_others = sum(part.shape[1] for part in columns)
    columns.append((design.group.to_numpy()[:, None] == np.array(design.names, dtype=object)[1:]).astype(np.float64))
    return np.hstack(columns), n_others


def _indicators(values: pd.Series) -> Float64:
    """Get a column for each value but the first."""
    codes, names = pd.factorize(values)
    return np.asarray(codes[:, None] == np.arange(1, len(names)), dtype=np.float64)


def compare_groups(values: pd.DataFrame, design: Design, donor: pd.Series | None) -> tuple[Float64, Float64]:
    """Test whether columns, with a row for each section, differ between the groups.

    Welch's t-test of two groups, or an analysis of variance of more; with covariates or donors, the F-test of a linear
    model with and without the groups, whose signed root is the statistic for two groups.

    Parameters
    ----------
    values
        Shape (sections, features).
    design, donor
        From `section_design`.

    Returns
    -------
    Statistics, positive if the first group is higher than the second, and p-values; NaN where nothing varies.
    """
    from scipy.stats import f, f_oneway, ttest_ind

    rows = values if donor is None else values.groupby(donor).mean()
    rows = rows.loc[design.group.index]
    if not design.covariates.shape[1] and design.donor is None:
        by_group = [rows[(design.group == name).to_numpy()].to_numpy() for name in design.names]
        test = ttest_ind(*by_group, equal_var=False) if len(by_group) == 2 else f_oneway(*by_group)
        return np.atleast_1d(test.statistic).astype(np.float64), np.atleast_1d(test.pvalue).astype(np.float64)
    full, n_others = _matrix(design)
    y = rows.to_numpy(np.float64)
    without, _ = _fitted(full[:, :n_others], y)
    rest, coefficients = _fitted(full, y)
    n_groups, df = len(design.names) - 1, len(full) - np.linalg.matrix_rank(full)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(without > 0, (without - rest) / n_groups / (rest / df), np.nan)
    pval = f.sf(statistic, n_groups, df)
    if n_groups == 1:
        statistic = -np.sign(coefficients[-1]) * np.sqrt(np.maximum(statistic, 0))
    return statistic, pval


def _fitted(design: Float64, values: Float64) -> tuple[Float64, Float64]:
    """Fit by least squares; get the sum of squares that remains of each column, and the coefficients."""
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    rest = ((values - design @ coefficients) ** 2).sum(axis=0)
    noise = 1e-20 * np.maximum((values**2).sum(axis=0), np.finfo(np.float64).tiny)
    return np.where(rest > noise, rest, 0.0), np.asarray(coefficients, dtype=np.float64)
