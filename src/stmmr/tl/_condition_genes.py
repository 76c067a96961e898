"""Genes that differ between conditions within a domain: pseudobulk counts with a design formula."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_extra, unique_names
from stmmr._core.depends import depends
from stmmr._core.genes import gene_columns
from stmmr._core.options import checked, shows_options
from stmmr._core.record import record
from stmmr._core.sections import sections_of
from stmmr.tl._genes import tested_domains
from stmmr.tl._pseudobulk import PseudobulkOptions, _summed, wald_tests
from stmmr.tl.designs import section_values

if TYPE_CHECKING:
    from anndata import AnnData


@checked
@shows_options(PseudobulkOptions)
def condition_genes(
    adata: AnnData,
    design: str,
    *,
    section_key: str,
    domain_key: str = keys.DOMAIN,
    layer: str | None = None,
    progress: bool = False,
    **options: Any,
) -> None:
    """Find genes that differ between conditions within each domain, with sections as replicates (pseudobulk).

    Raw counts are summed over the spots of each domain in each section. For each domain, the negative-binomial model of
    DESeq2 is fitted to these sums with a design formula, such as ``"~ donor + condition"``. The last variable of the
    formula is tested (Wald test): each of its values against the first. The others are effects that are removed. Needs
    the extra ``deseq``.

    Parameters
    ----------
    adata
        With domains and raw counts of several sections.
    design
        Formula of columns of ``obs`` with one value for each section: numbers are continuous, all else are categories.
    layer
        Layer with the raw counts, as in `stmmr.tl.domain_genes`.

    Returns
    -------
    None. Sets:

    ``uns["stmmr_condition_genes"]``
        DataFrame with a row for each domain, value of the tested variable and gene, lowest p-value first: ``domain``,
        ``condition``, ``against`` (the first value) and ``gene`` (categories); ``base_mean``; ``log2_fold_change`` and
        its ``standard_error``; ``z``; ``pval``; ``pval_adj`` (Benjamini and Hochberg, over genes); ``specific``. Genes
        with fewer counts than `min_counts` have no rows. Domains with fewer than two sections of two values, or with
        too few sections for the formula, are left out with a warning.
    ``uns["stmmr"]["condition_genes"]``
        Parameters; ``"sections"``, the number of sections with each of ``"domains"``.

    Raises
    ------
    InputError
        If the formula names no column, a column has several values in a section, the tested variable has one value, or
        no domain can be tested.
    ImportError
        If PyDESeq2 is not installed.

    References
    ----------
    Love, Huber and Anders (2014), doi:10.1186/s13059-014-0550-8; Muzellec et al. (2023),
    doi:10.1093/bioinformatics/btad547.
    """
    chosen = PseudobulkOptions(**options)
    require_extra("pydeseq2.dds", extra="deseq")
    unique_names(adata)
    metadata, tested = section_metadata(adata, design, section_key=section_key)
    sections, domains = sections_of(adata, section_key), tested_domains(adata, domain_key)
    assert sections is not None  # noqa: S101 - the key is given
    counts = gene_columns(adata, layer, progress=progress).counts
    sums, samples = _summed(counts, sections, domains, min_spots=chosen.min_spots, progress=progress)
    names, genes = domains.categories.astype(str), adata.var_names.astype(str)
    tables, left_out = [], []
    for code, name in enumerate(names):
        own = np.flatnonzero(samples["domain"] == code)
        of_domain = metadata.iloc[samples["section"].to_numpy()[own]].set_axis([f"sample{i}" for i in own])
        counted = pd.DataFrame(sums[own], index=of_domain.index, columns=genes)
        counted = counted.loc[:, sums[own].sum(axis=0) >= chosen.min_counts]
        if not counted.shape[1] or not can_be_fitted(of_domain, design, tested):
            left_out.append(str(name))
            continue
        tables += [part.assign(domain=str(name)) for part in _fitted(counted, of_domain, design, tested)]
    if not tables:
        raise InputError(
            f"Expected domains with two sections or more of two values of {tested!r}, and more sections than effects "
            f"of {design!r}, found none. Lower min_spots, or use a simpler design."
        )
    if left_out:
        logger.warning("Not tested, as they are in too few sections for the design: domains %s.", listed(left_out))
    adata.uns[keys.CONDITION_GENES] = _arranged(pd.concat(tables, ignore_index=True), chosen)
    n_sections = np.bincount(samples["domain"], minlength=len(names))
    step = {
        "design": design,
        "tested": tested,
        "section_key": section_key,
        "domain_key": domain_key,
        "layer": layer or "",
    }
    found = {"domains": names.to_numpy(dtype=object), "sections": n_sections}
    record(adata, condition_genes=step | asdict(chosen) | found)
    sources = [f"obs:{name}" for name in (domain_key, section_key, *metadata.columns)]
    depends(adata, "condition_genes", on=sources, writes=[f"uns:{keys.CONDITION_GENES}", "notes:condition_genes"])


def section_metadata(adata: AnnData, design: str, *, section_key: str) -> tuple[pd.DataFrame, str]:
    """Get the columns that a formula names, a row for each section, checked; and the last one, which is tested."""
    metadata = {}
    for name in _variables(design):
        values = section_values(adata, section_key, name)
        metadata[name] = values.astype(float) if pd.api.types.is_numeric_dtype(adata.obs[name]) else values.astype(str)
    tested = list(metadata)[-1]
    if metadata[tested].nunique() == 2:  # numbers such as 0 and 1 are categories, too
        metadata[tested] = section_values(adata, section_key, tested).astype(str)
    if metadata[tested].nunique() < 2 or pd.api.types.is_numeric_dtype(metadata[tested]):
        raise InputError(
            f"Expected a last variable in the design {design!r} with two categories or more, found "
            f"{listed(metadata[tested].unique())}. Put the condition last: '~ donor + condition'."
        )
    return pd.DataFrame(metadata), tested


def _variables(design: str) -> list[str]:
    """Get the columns that a formula names, in their order."""
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    try:
        formula = Formula(design)
        terms = formula.rhs if hasattr(formula, "rhs") else formula
        named = [str(factor.expr) for term in terms for factor in term.factors if str(factor.expr) != "1"]
    except (FormulaicError, SyntaxError, ValueError) as error:
        raise InputError(f"Expected a design such as '~ donor + condition', found {design!r} ({error}).") from error
    if not named:
        raise InputError(f"Expected a design with a condition, such as '~ donor + condition', found {design!r}.")
    return list(dict.fromkeys(named))


def can_be_fitted(metadata: pd.DataFrame, design: str, tested: str) -> bool:
    """Tell whether there are replicates of two values, and more samples than independent effects."""
    from formulaic import model_matrix

    sizes = metadata[tested].value_counts()
    if (sizes >= 2).sum() < 2:
        return False
    effects = np.asarray(model_matrix(design, metadata), dtype=np.float64)
    return bool(np.linalg.matrix_rank(effects) == effects.shape[1] < len(effects))


def _fitted(counts: pd.DataFrame, metadata: pd.DataFrame, design: str, tested: str) -> list[pd.DataFrame]:
    """Fit the model of DESeq2 to one domain, and test each value of a variable against the first."""
    reference, *others = sorted(metadata[tested].unique())
    contrasts = {value: [tested, value, reference] for value in others}
    return [
        results.rename_axis("gene").reset_index().assign(condition=value, against=reference)
        for value, results in wald_tests(counts, metadata, design, contrasts).items()
    ]


def _arranged(table: pd.DataFrame, chosen: PseudobulkOptions) -> pd.DataFrame:
    """Put columns and rows in order: the genes of each domain by their p-values."""
    domains = list(dict.fromkeys(table["domain"]))
    table["domain"] = pd.Categorical(table["domain"], categories=domains)
    for name in ("condition", "against", "gene"):
        table[name] = pd.Categorical(table[name])
    changed = table["log2_fold_change"].abs() > np.log2(chosen.min_fold_change)
    table["specific"] = (table["pval_adj"] < chosen.max_pval_adj) & changed
    table = table.sort_values(["domain", "condition", "pval"], kind="stable", na_position="last")
    first = ["domain", "condition", "against", "gene"]
    table = table[first + [name for name in table if name not in first]]
    return table.set_axis(pd.RangeIndex(len(table)).astype(str))
