"""How much of each section every domain makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.sections import sections_of
from stmmr._core.stats import fdr_bh

if TYPE_CHECKING:
    from anndata import AnnData

PSEUDO: Final = 0.5
"""Places that are added to each domain of a section, so that its logarithm is finite."""


def composition(adata: AnnData, section_key: str, *, domain_key: str = keys.DOMAIN) -> pd.DataFrame:
    """Count the places of every domain in every section.

    Parameters
    ----------
    adata
        With domains.
    section_key
        Column of ``obs`` with the section of each place.
    domain_key
        Column of ``obs`` with the domains.

    Returns
    -------
    A row for each section and domain: ``section``, ``domain``, ``places`` and ``share`` of the section.

    Raises
    ------
    InputError
        If a column is not there, or a place has no section.
    """
    sections, domains = sections_of(adata, section_key), categories(adata, domain_key)
    assert sections is not None  # noqa: S101 - there is a key
    counts = np.zeros((len(sections.categories), len(domains.categories)), dtype=int)
    known = domains.codes >= 0
    np.add.at(counts, (sections.codes[known], domains.codes[known]), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    index = pd.MultiIndex.from_product([sections.categories, domains.categories], names=["section", "domain"])
    return pd.DataFrame({"places": counts.ravel(), "share": share.ravel()}, index=index).reset_index()


def compare_composition(
    adata: AnnData, section_key: str, *, group_key: str, domain_key: str = keys.DOMAIN
) -> pd.DataFrame:
    """Test whether groups of sections differ in how much of them each domain makes up.

    Sections are the replicates, not places: Welch's t-test between two groups, or an analysis of variance between more,
    of the centred log-ratios of the shares (Aitchison 1982, doi:10.1111/j.2517-6161.1982.tb01195.x), and the false
    discovery rate over domains (Benjamini and Hochberg 1995). Domains that no section has are left out.

    Parameters
    ----------
    adata
        With domains.
    section_key
        Column of ``obs`` with the section of each place.
    group_key
        Column of ``obs`` with the group of each section, e.g. a condition.
    domain_key
        Column of ``obs`` with the domains.

    Returns
    -------
    A row for each domain: ``domain``, the mean share in each group, ``statistic``, ``pval`` and ``pval_adj``.

    Raises
    ------
    InputError
        If a section is of two groups, or there are not two groups of two sections or more.
    """
    from scipy.stats import f_oneway, ttest_ind

    group = section_groups(adata, section_key, group_key=group_key)
    sizes = group.value_counts()
    table = composition(adata, section_key, domain_key=domain_key)
    counts = table.pivot_table(index="section", columns="domain", values="places", observed=True)
    counts = counts.loc[:, counts.sum() > 0]  # a name without places would move the centre of all others
    logs = (counts + PSEUDO).apply(np.log)
    ratios = logs.sub(logs.mean(axis=1), axis=0)
    by_group = [ratios.loc[group.index[group == name]] for name in sizes.index]
    values = [[rows[domain].to_numpy() for rows in by_group] for domain in ratios.columns]
    found = [ttest_ind(*each, equal_var=False) if len(each) == 2 else f_oneway(*each) for each in values]
    shares = table.pivot_table(index="section", columns="domain", values="share", observed=True)
    shares = shares[ratios.columns]
    means = {f"share_{name}": shares.loc[group.index[group == name]].mean().to_numpy() for name in sizes.index}
    pval = np.array([one.pvalue for one in found])
    return pd.DataFrame(
        {
            "domain": ratios.columns.astype(str),
            **means,
            "statistic": [float(one.statistic) for one in found],
            "pval": pval,
            "pval_adj": fdr_bh(np.nan_to_num(pval, nan=1.0)),
        }
    )


def section_groups(adata: AnnData, section_key: str, *, group_key: str) -> pd.Series:
    """Get the group of each section, checked.

    Raises
    ------
    InputError
        If a column is not there, a place has no section or no group, a section is of two groups, or there are not two
        groups of two sections or more.
    """
    require_key(adata.obs.columns, group_key, where="obs")
    sections_of(adata, section_key)
    of = adata.obs.groupby(section_key, observed=True)[group_key].unique()
    mixed = [str(name) for name, groups in of.items() if len(groups) != 1]
    if mixed:
        raise InputError(f"Expected one {group_key} for each section, found several in {listed(mixed)}.")
    group: pd.Series = of.map(lambda groups: groups[0])
    without = [str(name) for name in group.index[group.isna()]]
    if without:
        raise InputError(f"Expected a {group_key} for each section, found none of {listed(without)}.")
    sizes = group.value_counts()
    if len(sizes) < 2 or sizes.min() < 2:
        raise InputError(
            f"Expected two groups or more of at least two sections each in obs[{group_key!r}], found "
            f"{listed(f'{name}: {n}' for name, n in sizes.items())}. Sections are the replicates."
        )
    return group
