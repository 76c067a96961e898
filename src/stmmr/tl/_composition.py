"""Composition of sections: the share of every domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories, is_absent
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.depends import depends
from stmmr._core.options import checked
from stmmr._core.record import record
from stmmr._core.sections import sections_of
from stmmr._core.stats import fdr_bh

if TYPE_CHECKING:
    from anndata import AnnData

PSEUDO: Final = 0.5
"""Pseudo-count that is added to each domain of a section, so that its logarithm is finite."""


@checked
def composition(adata: AnnData, section_key: str, *, domain_key: str = keys.DOMAIN) -> pd.DataFrame:
    """Count the spots of every domain in every section.

    Parameters
    ----------
    adata
        With domains.

    Returns
    -------
    A row for each section and domain, with columns ``section``, ``domain``, ``n_obs`` (number of spots) and ``share``
    (of the spots of the section that have a domain).

    Raises
    ------
    InputError
        If a column does not exist, or a spot has no section.
    """
    sections, domains = sections_of(adata, section_key), categories(adata, domain_key)
    assert sections is not None  # noqa: S101 - the key is given
    counts = np.zeros((len(sections.categories), len(domains.categories)), dtype=int)
    known = domains.codes >= 0
    np.add.at(counts, (sections.codes[known], domains.codes[known]), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    index = pd.MultiIndex.from_product([sections.categories, domains.categories], names=["section", "domain"])
    return pd.DataFrame({"n_obs": counts.ravel(), "share": share.ravel()}, index=index).reset_index()


@checked
def compare_composition(
    adata: AnnData, section_key: str, *, group_key: str, domain_key: str = keys.DOMAIN
) -> pd.DataFrame:
    """Test whether the share of each domain differs between groups of sections.

    Sections are the replicates, not spots. Centred log-ratios of the shares (Aitchison 1982,
    doi:10.1111/j.2517-6161.1982.tb01195.x) are compared by Welch's t-test between two groups, or by an analysis of
    variance between more. Domains that are in no section are left out.

    Parameters
    ----------
    adata
        With domains.
    group_key
        Column of ``obs`` with the group of each section, e.g. a condition.

    Returns
    -------
    A row for each domain: ``domain``; ``share_…``, the mean share in each group; ``statistic``; ``pval``; ``pval_adj``
    (Benjamini and Hochberg, over domains).

    Raises
    ------
    InputError
        If a section is in two groups, or there are not two groups of at least two sections.
    """
    from scipy.stats import f_oneway, ttest_ind

    group = section_groups(adata, section_key, group_key=group_key)
    sizes = group.value_counts()
    table = composition(adata, section_key, domain_key=domain_key)
    counts = table.pivot_table(index="section", columns="domain", values="n_obs", observed=True)
    counts = counts.loc[:, counts.sum() > 0]  # an empty domain would move the centre of all others
    logs = (counts + PSEUDO).apply(np.log)
    ratios = logs.sub(logs.mean(axis=1), axis=0)
    by_group = [ratios.loc[group.index[group == name]] for name in sizes.index]
    values = [[rows[domain].to_numpy() for rows in by_group] for domain in ratios.columns]
    tests = [ttest_ind(*groups, equal_var=False) if len(groups) == 2 else f_oneway(*groups) for groups in values]
    shares = table.pivot_table(index="section", columns="domain", values="share", observed=True)
    shares = shares[ratios.columns]
    means = {f"share_{name}": shares.loc[group.index[group == name]].mean().to_numpy() for name in sizes.index}
    pval = np.array([test.pvalue for test in tests])
    return pd.DataFrame(
        {
            "domain": ratios.columns.astype(str),
            **means,
            "statistic": [float(test.statistic) for test in tests],
            "pval": pval,
            "pval_adj": fdr_bh(np.nan_to_num(pval, nan=1.0)),
        }
    )


def write_composition(
    adata: AnnData, section_key: str, *, group_key: str | None = None, domain_key: str = keys.DOMAIN
) -> None:
    """Write the tables of `composition` and, with groups, of `compare_composition` to ``uns``."""
    tables = {keys.COMPOSITION: composition(adata, section_key, domain_key=domain_key)}
    if group_key is not None:
        tests = compare_composition(adata, section_key, group_key=group_key, domain_key=domain_key)
        tables[keys.COMPOSITION_TESTS] = tests
    adata.uns.update({key: named_rows(table) for key, table in tables.items()})
    note_composition(adata, section_key, group_key=group_key, domain_key=domain_key)


def note_composition(
    adata: AnnData, section_key: str | None, *, group_key: str | None, domain_key: str = keys.DOMAIN, **facts: str
) -> None:
    """Record what the tables of composition were computed from."""
    columns = {"section_key": section_key or "", "group_key": group_key or "", "domain_key": domain_key}
    record(adata, composition=columns | facts)
    writes = [f"uns:{keys.COMPOSITION}", f"uns:{keys.COMPOSITION_TESTS}", "notes:composition"]
    sources = [f"obs:{name}" for name in (domain_key, section_key, group_key) if name]
    depends(adata, "composition", on=sources, writes=writes)


def named_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Name rows by texts, as files hold them."""
    return table.set_axis(table.index.astype(str))


def section_groups(adata: AnnData, section_key: str, *, group_key: str) -> pd.Series:
    """Get the group of each section, checked.

    Raises InputError if a column does not exist, a spot has no section, a section has no group or two of them, or there
    are not two groups of at least two sections.
    """
    require_key(adata.obs.columns, group_key, where="obs")
    sections_of(adata, section_key)
    groups = adata.obs.groupby(section_key, observed=True)[group_key].unique()
    mixed = [str(name) for name, values in groups.items() if len(values) != 1]
    if mixed:
        raise InputError(f"Expected one {group_key} for each section, found several in {listed(mixed)}.")
    group: pd.Series = groups.map(lambda values: values[0])
    missing = [str(name) for name in group.index[group.isna() | group.map(is_absent).astype(bool)]]
    if missing:
        raise InputError(f"Expected a {group_key} for each section, found none for {listed(missing)}.")
    sizes = group.value_counts()
    if len(sizes) < 2 or sizes.min() < 2:
        raise InputError(
            f"Expected at least two groups of two sections, the replicates, in obs[{group_key!r}], found "
            f"{listed(f'{name}: {n}' for name, n in sizes.items())}."
        )
    return group
