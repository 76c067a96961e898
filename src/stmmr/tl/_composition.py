"""Composition of sections: the share of every domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.depends import depends
from stmmr._core.options import checked
from stmmr._core.record import record
from stmmr._core.sections import sections_of
from stmmr.tl.designs import section_design

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    adata: AnnData,
    section_key: str,
    *,
    group_key: str,
    covariates: Sequence[str] = (),
    donor_key: str | None = None,
    domain_key: str = keys.DOMAIN,
) -> pd.DataFrame:
    """Test whether the share of each domain differs between groups of sections.

    Sections are the replicates, not spots. Centred log-ratios of the shares (Aitchison 1982,
    doi:10.1111/j.2517-6161.1982.tb01195.x) are compared by Welch's t-test between two groups, or by an analysis of
    variance between more. With covariates or donors, a linear model of the log-ratios is compared with the one without
    groups: the statistic is the signed t of the group for two groups, and F for more. Domains that are in no section
    are left out.

    Parameters
    ----------
    adata
        With domains.
    group_key
        Column of ``obs`` with the group of each section, e.g. a condition.
    covariates
        Columns of ``obs`` whose effects are removed, such as a batch (text or categories) or the age (numbers); each
        with one value for each section.
    donor_key
        Column of ``obs`` with the donor of each section. If donors have sections of several groups, differences are
        tested within donors (a paired test). If each donor is in one group, sections of a donor are averaged, and
        donors are the replicates.

    Returns
    -------
    A row for each domain: ``domain``; ``share_…``, the mean share in each group; ``statistic``; ``pval``; ``pval_adj``
    (Benjamini and Hochberg, over domains).

    Raises
    ------
    InputError
        If a section has two groups, donors or values of a covariate, there are not two groups of at least two sections
        (or donors), or covariates and donors determine the groups.
    """
    compared = section_design(adata, section_key, group_key=group_key, covariates=covariates, donor_key=donor_key)
    table = composition(adata, section_key, domain_key=domain_key)
    counts = table.pivot_table(index="section", columns="domain", values="n_obs", observed=True)
    counts = counts.loc[:, counts.sum() > 0]  # an empty domain would move the centre of all others
    logs = (counts + PSEUDO).apply(np.log)
    ratios = logs.sub(logs.mean(axis=1), axis=0)
    shares = table.pivot_table(index="section", columns="domain", values="share", observed=True)[ratios.columns]
    return pd.DataFrame({"domain": ratios.columns.astype(str), **compared.tested(ratios, shares, name="share")})


def write_composition(
    adata: AnnData, section_key: str, *, group_key: str | None = None, domain_key: str = keys.DOMAIN, **linked: Any
) -> None:
    """Write the tables of `composition` and, with groups, of `compare_composition` to ``uns``.

    `linked` are its covariates and donors.
    """
    tables = {keys.COMPOSITION: composition(adata, section_key, domain_key=domain_key)}
    if group_key is not None:
        tests = compare_composition(adata, section_key, group_key=group_key, domain_key=domain_key, **linked)
        tables[keys.COMPOSITION_TESTS] = tests
    adata.uns.update({key: named_rows(table) for key, table in tables.items()})
    columns = {name: list(value) if name == "covariates" else value for name, value in linked.items() if value}
    note_composition(adata, section_key, group_key=group_key, domain_key=domain_key, **columns)


def note_composition(
    adata: AnnData, section_key: str | None, *, group_key: str | None, domain_key: str = keys.DOMAIN, **facts: Any
) -> None:
    """Record what the tables of composition were computed from."""
    columns = {"section_key": section_key or "", "group_key": group_key or "", "domain_key": domain_key}
    record(adata, composition=columns | facts)
    writes = [f"uns:{keys.COMPOSITION}", f"uns:{keys.COMPOSITION_TESTS}", "notes:composition"]
    linked = (*facts.get("covariates", ()), facts.get("donor_key"))
    sources = [f"obs:{name}" for name in (domain_key, section_key, group_key, *linked) if name]
    depends(adata, "composition", on=sources, writes=writes)


def named_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Name rows by texts, as files hold them."""
    return table.set_axis(table.index.astype(str))
