"""The rows of the table of analyses that compare sections, and the cell types of domains."""

from __future__ import annotations

from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from stmmr._core import keys
from stmmr._core.checks import InputError, require_extra
from stmmr.pipeline.analysis import Analysis, Figure, Section, Table, draw, renamed_columns, table_in

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from stmmr.pipeline.analyses import AnalysisOptions
    from stmmr.pipeline.analysis import Cite, Prepared, Work

tl = cache(lambda: import_module("stmmr.tl"))
written = partial(keys.written, "analysis")
SHOWN: Final = 20
"""Rows of a section of the report."""


def require_sections(prepared: Prepared, option: str) -> str:
    """Get the column of the sections, which an option needs."""
    if prepared.section_key is None:
        raise InputError(f"Expected several sections for {option}, found no section_key. Give it to the run as well.")
    return prepared.section_key


def _linked(options: AnalysisOptions) -> dict[str, Any]:
    return {"covariates": tuple(options.covariates or ()), "donor_key": options.donor_key}


def _contacts(work: Work) -> None:
    options = work.options
    group_key, domain_key = str(options.group_key), options.domain_key
    tl().compare_contacts(work.adata, work.section_key, group_key=group_key, domain_key=domain_key, **_linked(options))


def _cell_types(work: Work) -> None:
    options = work.options
    key, section_key = str(options.cell_type_key), work.section_key or None
    tl().cell_types(work.adata, key, section_key=section_key, domain_key=options.domain_key)


def _condition_genes(work: Work) -> None:
    options = work.options
    sections = {"section_key": work.section_key, "domain_key": options.domain_key}
    tl().condition_genes(work.adata, str(options.design), **sections, progress=work.progress)


def new_table(adata: AnnData, options: AnalysisOptions, table: str) -> bool:
    """Tell whether there is no such table of these domains."""
    from stmmr._core.shown import domain_key_of

    return table not in adata.uns or domain_key_of(adata, table) != options.domain_key


def _compares_sections(adata: AnnData, options: AnalysisOptions) -> bool:
    from stmmr._core.sections import section_key_of

    new = new_table(adata, options, keys.COMPOSITION)
    return section_key_of(adata) is not None and (new or options.group_key is not None)


def _compose(work: Work) -> None:
    from stmmr.tl._composition import write_composition

    options = work.options
    linked = _linked(options) if options.group_key is not None else {}
    group_key, domain_key = options.group_key, options.domain_key
    write_composition(work.adata, work.section_key, group_key=group_key, domain_key=domain_key, **linked)


def _check_composition(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr._core.sections import sections_of
    from stmmr.tl.designs import section_design

    if options.group_key is not None:
        key = require_sections(prepared, "group_key")
        section_design(adata, key, group_key=options.group_key, **_linked(options))
        return
    for name in ("covariates (--covariate)", "donor_key (--donor-key)"):
        if getattr(options, name.partition(" ")[0]):
            raise InputError(f"Expected group_key (--group-key) to compare groups with {name}, found none.")
    if prepared.section_key is not None:
        sections_of(adata, prepared.section_key)


def _composition_tests(adata: AnnData) -> pd.DataFrame | None:
    table: pd.DataFrame | None = adata.uns.get(keys.COMPOSITION_TESTS)
    if table is None:
        return None
    shares = [name for name in table.columns if name.startswith("share_")]
    names = {name: f"Share in {name.removeprefix('share_')}" for name in shares}
    return renamed_columns(table, {"domain": "Domain"} | names | {"pval_adj": "Adjusted p"})


def _tested_by(steps: dict[str, Any], name: str) -> str:
    """Say how groups of sections were compared."""
    step = steps.get(name, {})
    removed = [*step.get("covariates", ()), *([step["donor_key"]] if step.get("donor_key") else [])]
    model = f"a linear model with {', '.join(map(str, removed))}" if removed else "Welch's test or analysis of variance"
    return f"between groups of sections ({step.get('group_key', '')}) by {model}, with sections or donors as replicates"


def _composition_sentence(adata: AnnData, steps: dict[str, Any], _: Cite) -> str:
    if keys.COMPOSITION_TESTS not in adata.uns:
        return ""
    return f"Centred log-ratios of the shares of domains were compared {_tested_by(steps, 'composition')}."


def _contact_tests(adata: AnnData) -> pd.DataFrame | None:
    table: pd.DataFrame | None = adata.uns.get(keys.CONTACT_TESTS)
    if table is None:
        return None
    ratios = [name for name in table.columns if name.startswith("log2_ratio_")]
    names = {name: f"Log2 ratio in {name.removeprefix('log2_ratio_')}" for name in ratios}
    best = table.sort_values("pval", kind="stable").head(SHOWN)
    return renamed_columns(best, {"domain": "Domain", "other": "Neighbour"} | names | {"pval_adj": "Adjusted p"})


def _check_cell_types(adata: AnnData, options: AnalysisOptions, _: Prepared) -> None:
    from stmmr.tl._cell_types import shares_of

    if options.cell_type_key is not None:
        shares_of(adata, options.cell_type_key)


def _cell_type_table(adata: AnnData) -> pd.DataFrame | None:
    table: pd.DataFrame | None = adata.uns.get(keys.CELL_TYPES)
    if table is None:
        return None
    best = table[table["z"] > 0].sort_values("pval", kind="stable").groupby("domain", sort=False).head(3)
    names = {"domain": "Domain", "cell_type": "Cell type", "share": "Share", "log2_ratio": "Log2 ratio"}
    return renamed_columns(best, names | {"pval_adj": "Adjusted p"})


def _check_condition_genes(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    if options.design is None:
        return
    require_extra("pydeseq2", extra="deseq")
    from stmmr.tl._condition_genes import section_metadata

    section_metadata(adata, options.design, section_key=require_sections(prepared, "design"))


def _condition_gene_table(adata: AnnData) -> pd.DataFrame | None:
    table: pd.DataFrame | None = adata.uns.get(keys.CONDITION_GENES)
    if table is None:
        return None
    best = table[table["specific"]].groupby(["domain", "condition"], observed=True, sort=False).head(5)
    names = {"domain": "Domain", "condition": "Condition", "against": "Against", "gene": "Gene"}
    return renamed_columns(best, names | {"log2_fold_change": "Log2 fold change", "pval_adj": "Adjusted p"})


OF_COHORTS: Final = (
    Analysis(
        name="composition",
        options=("group_key", "covariates", "donor_key"),
        requested=_compares_sections,
        step=_compose,
        keys=written(uns=(keys.COMPOSITION, keys.COMPOSITION_TESTS), notes=("composition",)),
        check=_check_composition,
        tables={
            "composition.csv": Table("spots of every domain in every section", table_in(keys.COMPOSITION)),
            "composition_tests.csv": Table(
                "tests: does the share of a domain differ between groups of sections", table_in(keys.COMPOSITION_TESTS)
            ),
        },
        figures={
            "composition.png": Figure("the share of each domain in each section", draw("composition")),
            "composition_tests.png": Figure(
                "the share of each domain by groups of sections",
                draw("composition_tests"),
                lambda adata: keys.COMPOSITION_TESTS in adata.uns,
            ),
        },
        methods=_composition_sentence,
        section=Section(
            "Groups of sections", "Whether groups of sections differ in the share of a domain.", _composition_tests
        ),
    ),
    Analysis(
        name="contacts of domains",
        options=("group_key", "covariates", "donor_key"),
        requested=lambda adata, options: options.group_key is not None and _compares_sections(adata, options),
        step=_contacts,
        keys=written(uns=(keys.CONTACT_TESTS,), notes=("contact_tests",)),
        compares=True,
        tables={
            "contact_tests.csv": Table(
                "tests: do groups of sections differ in which domains are neighbours", table_in(keys.CONTACT_TESTS)
            )
        },
        figures={"contact_tests.png": Figure("which domains are neighbours more often in a group", draw("contacts"))},
        methods=lambda _, steps, __: (
            "Pairs of neighbouring spots of two domains, relative to those expected by chance, were compared "
            f"{_tested_by(steps, 'contact_tests')}."
        ),
        section=Section(
            "Neighbourhoods by groups of sections",
            "Pairs of domains that are neighbours more (log2 ratio > 0) or less often than by chance, in each group. "
            "A domain with itself tells how compact it is. The 20 pairs with the lowest p-values are shown.",
            _contact_tests,
        ),
        adjusts_pvalues=True,
    ),
    Analysis(
        name="cell types of domains",
        options=("cell_type_key",),
        requested=lambda _, options: options.cell_type_key is not None,
        step=_cell_types,
        keys=written(uns=(keys.CELL_TYPES,), notes=("cell_types",)),
        check=_check_cell_types,
        tables={"cell_types.csv": Table("cell types of each domain, against the tissue", table_in(keys.CELL_TYPES))},
        figures={"cell_types.png": Figure("cell types that are frequent in a domain", draw("cell_types"))},
        methods=lambda _, steps, __: (
            f"Shares of cell types in domains were tested against {steps['cell_types']['n_permutations']} random "
            "shifts of the domains over the tissue."
        ),
        section=Section(
            "Cell types of domains",
            "The three cell types of each domain that are most surely more frequent there than in all of the tissue.",
            _cell_type_table,
        ),
        adjusts_pvalues=True,
    ),
    Analysis(
        name="genes of conditions",
        options=("design",),
        requested=lambda _, options: options.design is not None,
        step=_condition_genes,
        keys=written(uns=(keys.CONDITION_GENES,), notes=("condition_genes",)),
        check=_check_condition_genes,
        tables={
            "condition_genes.csv": Table(
                "genes that differ between conditions within each domain", table_in(keys.CONDITION_GENES)
            )
        },
        figures={
            "condition_genes.png": Figure(
                "genes that differ most between conditions",
                draw("condition_genes"),
                lambda adata: bool(adata.uns[keys.CONDITION_GENES]["pval"].notna().any()),
            )
        },
        methods=lambda _, steps, __: (
            f"Within each domain, counts summed over sections were compared by DESeq2 with the design "
            f"{steps['condition_genes']['design']}."
        ),
        section=Section(
            "Genes of conditions within domains",
            "Up to five genes of each domain with an adjusted p-value below 0.05 and a fold change of at least 1.5.",
            _condition_gene_table,
        ),
        adjusts_pvalues=True,
    ),
)
"""Analyses of several sections, in the order in which they are carried out."""
