"""The table of analyses: what each needs, does, writes, draws and says. A new analysis is one more row.

What a row holds is documented in `stmmr.pipeline.analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypedDict

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_extra, shown_bytes
from stmmr._core.record import drop_results, recorded
from stmmr.pipeline.analysis import Analysis, Figure, Section, Table, draw, renamed_columns, table_in
from stmmr.pipeline.cohort_analyses import OF_COHORTS, new_table, require_sections
from stmmr.pipeline.sentences import gene_sets_sentence, genes_sentence, trajectory_sentence

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from stmmr.pipeline.analysis import Prepared, Work

tl = cache(lambda: import_module("stmmr.tl"))
"""The functions of `stmmr.tl`, loaded when they are needed."""
written = partial(keys.written, "analysis")
SHOWN_OF_EACH_DOMAIN: Final = 3
"""Genes of each domain in a section of the report."""
MAX_PVAL_ADJ: Final = 0.05
"""Adjusted p-value up to which a gene of a domain is in the table; all are in the data."""


class Roots(TypedDict):
    """The root of a trajectory, as `stmmr.tl.trajectory` takes it; all None for the rule of that function."""

    root_domain: str | None
    root_gene: str | None
    root_spot: str | None


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """Options of `stmmr.analyse` and of the analyses of ``stmmr run``, ``stmmr map`` and ``stmmr analyse``."""

    genes: bool | None = None
    """Find the genes of each domain, and the spatially variable genes (Moran's I). A run finds them by default up to
    a million spots."""
    pseudobulk: bool = False
    """Find the genes of each domain with sections as replicates (extra ``deseq``)."""
    gene_sets: str | Path | None = None
    """A local .gmt file: find the gene sets enriched among the genes of each domain."""
    group_key: str | None = None
    """Column of obs with the group of each section, such as a condition: test whether groups differ in their
    domains and in which of them are neighbours."""
    covariates: Sequence[str] | None = None
    """Columns of obs whose effects on the comparison of groups are removed, such as a batch or the age."""
    donor_key: str | None = None
    """Column of obs with the donor of each section: groups are compared within donors. If each donor is in one group,
    donors are the replicates."""
    design: str | None = None
    """Find the genes that differ between conditions within each domain, by a formula of columns of obs, such as
    "~ donor + condition": the last one is tested (extra ``deseq``)."""
    cell_type_key: str | None = None
    """Column of obs with cell types, or key of obsm with their fractions: compare the cell types of domains."""
    trajectory: bool = False
    """Order the spots by pseudotime and find the genes that change along it. Without a root, it starts at the larger
    end of the longest path through the domains."""
    root_domain: str | None = None
    """Domain that the trajectory starts in."""
    root_gene: str | None = None
    """Gene at whose highest expression the trajectory starts."""
    root_spot: str | None = None
    """Spot or cell at which the trajectory starts."""
    root_expression: Literal["highest", "lowest"] = "highest"
    """"lowest" starts where the root gene is lowest instead."""
    domain_key: str = keys.DOMAIN
    """Column of obs with the domains to analyse, such as clusters of scanpy or the annotation of an expert."""
    enhance: bool = False
    """Write denoised expression as a layer, four bytes for each spot and gene (extra ``torch``)."""
    enhance_genes: Sequence[str] | None = None
    """Genes to write denoised, instead of all."""

    @property
    def roots(self) -> Roots:
        """The root of the trajectory, as `stmmr.tl.trajectory` takes it."""
        return {"root_domain": self.root_domain, "root_gene": self.root_gene, "root_spot": self.root_spot}

    @property
    def ordered(self) -> bool:
        """Whether a trajectory is requested; a root requests one."""
        return self.trajectory or any(name is not None for name in self.roots.values())

    @property
    def enhanced(self) -> bool:
        """Whether denoised expression is requested; its genes request it."""
        return self.enhance or bool(self.enhance_genes)


def _check_genes(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr._core.genes import gene_columns

    reads_genes = options.genes or options.pseudobulk or options.gene_sets or options.root_gene
    if prepared.use_rep is not None and reads_genes:
        gene_columns(adata, prepared.layer)  # the run itself reads no counts


def _leading_genes(adata: AnnData) -> pd.DataFrame | None:
    table = adata.uns.get(keys.DOMAIN_GENES)
    return None if table is None else table.loc[(table["z"] > 0) & (table["pval_adj"] < MAX_PVAL_ADJ)]


def _moran_table(adata: AnnData) -> pd.DataFrame | None:
    if keys.MORAN_I not in adata.var:
        return None
    names = {keys.MORAN_I: "morans_i", keys.MORAN_Z: "z", keys.MORAN_P: "pval", keys.MORAN_P_ADJUSTED: "pval_adj"}
    table = renamed_columns(adata.var, names).rename_axis(index="gene").reset_index()
    return table.sort_values("morans_i", ascending=False, kind="stable")


def _check_pseudobulk(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr._core.sections import sections_of

    if not options.pseudobulk:
        return
    require_extra("pydeseq2", extra="deseq")
    key = require_sections(prepared, "pseudobulk")
    sections = sections_of(adata, key)
    if sections is not None and len(sections.categories) < 2:
        raise InputError(f"Expected several sections in obs[{key!r}] for pseudobulk, found one.")


def _leading_pseudobulk_genes(adata: AnnData) -> pd.DataFrame | None:
    table = adata.uns.get(keys.DOMAIN_GENES_PSEUDOBULK)
    if table is None:
        return None
    best: pd.DataFrame = table.loc[(table["pval_adj"] < MAX_PVAL_ADJ) & (table["log2_fold_change"] > 0)]
    best = best.groupby("domain", observed=True, sort=False).head(SHOWN_OF_EACH_DOMAIN)
    names = {"domain": "Domain", "gene": "Gene", "log2_fold_change": "Log2 fold change", "pval_adj": "Adjusted p"}
    return renamed_columns(best, names)


def _check_gene_sets(adata: AnnData, options: AnalysisOptions, _: Prepared) -> None:
    from stmmr.tl._enrichment import measured_sets, read_gmt

    if options.gene_sets is not None:
        path = Path(options.gene_sets)
        measured_sets(read_gmt(path), adata.var_names.astype(str), name=path.name)


def _check_trajectory(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr.tl._trajectory import chosen_root

    if options.ordered:
        names = prepared.domains if prepared.domains is not None else [str(options.root_domain)]
        chosen_root(adata, names, options.domain_key, **options.roots)


def _trends_table(adata: AnnData) -> pd.DataFrame | None:
    table: pd.DataFrame | None = recorded(adata).get("gene_trends", {}).get("table")
    return None if table is None else table.rename_axis(index="gene").reset_index()


def _enhance(work: Work) -> None:
    if work.model is None:
        raise InputError("Expected the fitted model for denoised expression, found none.")
    tl().enhance(work.model(), genes=work.options.enhance_genes or None, progress=work.progress)


def _check_enhance(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr._core.genes import require_genes
    from stmmr.tl._enhance import require_small

    if not options.enhanced:
        return
    if prepared.preset == "paper" or prepared.use_rep is not None:
        instead = "use_rep" if prepared.use_rep is not None else "preset 'paper'"
        raise InputError(f"Expected a model of counts (the default preset) for denoised expression, found {instead}.")
    require_extra("torch", extra="torch")
    genes = require_genes(adata, options.enhance_genes or (), may_be_empty=True)
    n_bytes = require_small(adata, layer=prepared.layer, n_genes=len(genes) or None)
    if n_bytes > 1e6:
        logger.info("Denoised expression will take %s of memory, and less in the file.", shown_bytes(n_bytes))


ANALYSES: Final = (
    Analysis(
        name="domain genes",
        options=("genes",),
        requested=lambda adata, options: (
            options.genes is True or (options.gene_sets is not None and new_table(adata, options, keys.DOMAIN_GENES))
        ),
        step=lambda work: tl().domain_genes(work.adata, domain_key=work.options.domain_key, progress=work.progress),
        keys=written(uns=(keys.DOMAIN_GENES,), notes=("domain_genes",)),
        check=_check_genes,
        compares=True,
        tables={
            "domain_genes.csv": Table(
                "genes that are higher in a domain than in its neighbours or the rest, best first", _leading_genes
            )
        },
        figures={
            "domain_genes.png": Figure(
                "the leading genes of each domain",
                draw("domain_genes"),
                lambda adata: any(tl().leading_genes(adata).values()),
            )
        },
        methods=genes_sentence,
        adjusts_pvalues=True,
    ),
    Analysis(
        name="spatially variable genes",
        options=("genes",),
        requested=lambda _, options: options.genes is True,
        step=lambda work: tl().spatially_variable_genes(work.adata, progress=work.progress),
        keys=written(
            var=(keys.MORAN_I, keys.MORAN_Z, keys.MORAN_P, keys.MORAN_P_ADJUSTED), notes=("spatially_variable_genes",)
        ),
        tables={"spatially_variable_genes.csv": Table("Moran's I of each gene, highest first", _moran_table)},
        methods=lambda _, __, cite: (
            f"Spatially variable genes were ranked by Moran's I {cite('moran')} of their normalised values."
        ),
        adjusts_pvalues=True,
    ),
    Analysis(
        name="domain genes by pseudo-bulk",
        options=("pseudobulk",),
        requested=lambda _, options: options.pseudobulk,
        step=lambda work: tl().domain_genes_pseudobulk(
            work.adata,
            section_key=work.section_key,
            domain_key=work.options.domain_key,
            progress=work.progress,
        ),
        keys=written(uns=(keys.DOMAIN_GENES_PSEUDOBULK,), notes=("domain_genes_pseudobulk",)),
        check=_check_pseudobulk,
        compares=True,
        tables={
            "domain_genes_pseudobulk.csv": Table(
                "genes of each domain, with sections as replicates", table_in(keys.DOMAIN_GENES_PSEUDOBULK)
            )
        },
        methods=lambda *_: (
            "Genes of domains were also compared with sections as replicates, by a negative-binomial model."
        ),
        section=Section(
            "Domain genes with sections as replicates",
            "Genes that are higher in a domain than in the rest of its sections, up to three per domain with an "
            "adjusted p-value below 0.05.",
            _leading_pseudobulk_genes,
        ),
        adjusts_pvalues=True,
    ),
    Analysis(
        name="gene sets",
        options=("gene_sets",),
        requested=lambda _, options: options.gene_sets is not None,
        step=lambda work: tl().enrichment(work.adata, str(work.options.gene_sets)),
        keys=written(uns=(keys.ENRICHMENT,), notes=("enrichment",)),
        check=_check_gene_sets,
        compares=True,
        needs="domain genes",
        tables={
            "enrichment.csv": Table("gene sets enriched among the genes of each domain", table_in(keys.ENRICHMENT))
        },
        figures={
            "enrichment.png": Figure(
                "the most enriched gene sets of each domain",
                draw("enrichment"),
                lambda adata: bool((adata.uns[keys.ENRICHMENT]["pval_adj"] <= MAX_PVAL_ADJ).any()),
            )
        },
        methods=gene_sets_sentence,
        adjusts_pvalues=True,
    ),
    *OF_COHORTS,
    Analysis(
        name="trajectory",
        options=("trajectory", "root_domain", "root_gene", "root_spot", "root_expression"),
        requested=lambda _, options: options.ordered,
        step=lambda work: tl().trajectory(
            work.adata,
            expression=work.options.root_expression,
            domain_key=work.options.domain_key,
            **work.options.roots,
        ),
        keys=written(notes=("trajectory",), obs=(keys.PSEUDOTIME, keys.BRANCH)),
        check=_check_trajectory,
        compares=True,
        figures={
            "trajectory.png": Figure("pseudotime in the tissue, its root as a star", draw("trajectory")),
            "paga.png": Figure("the graph of domains (PAGA) and the trajectory in it", draw("paga")),
        },
        methods=trajectory_sentence,
    ),
    Analysis(
        name="gene trends",
        requested=lambda adata, options: options.ordered and "expression" in recorded(adata),
        step=lambda work: tl().gene_trends(work.adata, progress=work.progress),
        keys=written(notes=("gene_trends",)),
        needs="trajectory",
        tables={"gene_trends.csv": Table("genes along pseudotime, with a test of whether they change", _trends_table)},
        figures={
            "gene_trends.png": Figure(
                "genes along pseudotime: the two surest of those that peak early, midway and late", draw("gene_trends")
            )
        },
        methods=lambda _, steps, cite: (
            f"The rate of each of {len(steps['gene_trends']['table']):,} genes was fitted as a smooth curve of "
            f"pseudotime and tested against a constant rate {cite('tradeseq')}."
        ),
        adjusts_pvalues=True,
    ),
    Analysis(
        name="denoised expression",
        options=("enhance", "enhance_genes"),
        requested=lambda _, options: options.enhanced,
        step=_enhance,
        keys=written(notes=("enhance",), obsm=(keys.ENHANCED,), layers=(keys.ENHANCED,)),
        check=_check_enhance,
    ),
)
"""All analyses, in the order in which they are carried out."""


def drop_earlier(adata: AnnData) -> None:
    """Remove the results of an earlier run, so that they are not taken for those of a new one."""
    of_run = [key for key in keys.KEYS if key.step in ("embedding", "domains", "run") or key.name == "counts"]
    drop_results(adata, [*of_run, *(key for analysis in ANALYSES for key in analysis.keys)])


def analysis_files() -> dict[str, str]:
    """Get the files that analyses write to a result folder, with what each holds."""
    files: dict[str, Table | Figure] = {}
    for analysis in ANALYSES:
        files |= {**analysis.tables, **analysis.figures}
    return {name: file.description for name, file in files.items()}
