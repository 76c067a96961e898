"""The table of analyses: what each needs, does, writes, draws and says. A new analysis is one more row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypedDict

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_extra
from stmmr._core.depends import depends
from stmmr._core.record import record, recorded

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr.model import StMMR

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
    100,000 spots."""
    pseudobulk: bool = False
    """Find the genes of each domain with sections as replicates (extra ``deseq``)."""
    gene_sets: str | Path | None = None
    """A local .gmt file: find the gene sets enriched among the genes of each domain."""
    group_key: str | None = None
    """Column of obs with the group of each section, such as a condition: test whether groups differ in their
    domains."""
    trajectory: bool = False
    """Order the spots by pseudotime and find the genes that change along it. Without a root, it starts at the larger
    end of the longest path through the domains."""
    root_domain: str | None = None
    """Domain that the trajectory starts in."""
    root_gene: str | None = None
    """Gene at whose highest expression the trajectory starts."""
    root_spot: str | None = None
    """Spot at which the trajectory starts."""
    root_expression: Literal["highest", "lowest"] = "highest"
    """"lowest" starts where the root gene is lowest instead."""
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


class Prepared(NamedTuple):
    """What is known about the data when the options of analyses are checked."""

    domains: list[str] | None
    """Names of the domains; None before they are found."""
    section_key: str | None = None
    use_rep: str | None = None
    """Representation that the model uses instead of counts."""
    layer: str | None = None
    """Layer with the raw counts."""
    preset: str = "default"


class Work(NamedTuple):
    """What the step of an analysis works with."""

    adata: AnnData
    options: AnalysisOptions
    model: Callable[[], StMMR] | None
    """Gets the fitted model."""
    progress: bool

    @property
    def section_key(self) -> str:
        """Column of the sections that the spatial graph keeps apart; empty without."""
        from stmmr._core.sections import section_key_of

        return section_key_of(self.adata) or ""


class Cite(Protocol):
    """Numbers references; see `stmmr.report`."""

    def __call__(self, *works: str) -> str:
        """Cite works, as [1, 2]."""


class Section(NamedTuple):
    """A section of the report: a title, a sentence and a table."""

    title: str
    text: str
    table: Callable[[AnnData], pd.DataFrame | None]
    """Gets the rows to show, with the headings as columns; None where the analysis did not run."""


class Table(NamedTuple):
    """A table that an analysis writes to the result folder."""

    description: str
    of: Callable[[AnnData], pd.DataFrame | None]
    """Gets it from the data; None where the analysis did not run."""


class Figure(NamedTuple):
    """A figure that an analysis draws into the result folder."""

    description: str
    drawn: Callable[[AnnData], bool]
    """Whether there is something to draw."""
    draw: Callable[[AnnData], Axes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """One analysis of the domains."""

    name: str
    """Name in log lines, run.json and ``uns["stmmr"]["seconds"]``."""
    options: tuple[str, ...] = ()
    """Attributes of `AnalysisOptions` that belong to it."""
    requested: Callable[[AnnData, AnalysisOptions], bool]
    """Whether the options request it, for data with domains."""
    step: Callable[[Work], None]
    check: Callable[[AnnData, AnalysisOptions, Prepared], None] = lambda *_: None
    """Raises an InputError for options that do not fit the data. It is called before the first long step."""
    compares: Callable[[AnalysisOptions], bool] = lambda _: False
    """Whether options request a comparison of at least two domains."""
    needs: str = ""
    """Analysis whose results it reads."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    methods: Callable[[AnnData, dict[str, Any], Cite], str] = lambda *_: ""
    """Writes its sentence in the methods; empty where it did not run."""
    section: Section | None = None
    """Its section of the report, where the page has none of its own design for it."""
    adjusts_pvalues: bool = False
    """Whether its p-values are adjusted, for the methods."""


def named_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Name rows by texts, as files hold them."""
    return table.set_axis(table.index.astype(str))


def _table(key: str) -> Callable[[AnnData], pd.DataFrame | None]:
    """Get a table of ``uns``, where it is."""
    return lambda adata: adata.uns.get(key)


# genes of domains


def _leading_genes(adata: AnnData) -> pd.DataFrame | None:
    table = adata.uns.get(keys.DOMAIN_GENES)
    return None if table is None else table.loc[(table["z"] > 0) & (table["pval_adj"] < MAX_PVAL_ADJ)]


def _find_genes(work: Work) -> None:
    from stmmr import tl

    tl.domain_genes(work.adata, progress=work.progress)


def _check_genes(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr._core.genes import gene_columns

    reads_genes = options.genes or options.pseudobulk or options.gene_sets or options.root_gene
    if prepared.use_rep is not None and reads_genes:
        gene_columns(adata, prepared.layer)  # the run itself reads no counts


def _draw(name: str) -> Callable[[AnnData], Axes]:
    """Draw by a function of `stmmr.pl`, loaded when it is needed."""

    def draw(adata: AnnData) -> Axes:
        from stmmr import pl

        axes: Axes = getattr(pl, name)(adata)
        return axes

    return draw


_DOMAIN_GENES = Analysis(
    name="domain genes",
    options=("genes",),
    requested=lambda adata, options: (
        options.genes is True or (options.gene_sets is not None and keys.DOMAIN_GENES not in adata.uns)
    ),
    step=_find_genes,
    check=_check_genes,
    compares=lambda options: bool(options.genes),
    tables={
        "domain_genes.csv": Table(
            "genes that are higher in a domain than in its neighbours or the rest, best first", _leading_genes
        )
    },
    figures={
        "domain_genes.png": Figure(
            "the leading genes of each domain",
            lambda adata: keys.DOMAIN_GENES in adata.uns and bool((adata.uns[keys.DOMAIN_GENES]["z"] > 0).any()),
            _draw("domain_genes"),
        )
    },
    methods=lambda adata, _, cite: (
        "Genes specific to domains were found by rank-sum tests on normalised values against neighbouring domains and "
        f"the rest, with the thresholds of SpaGCN {cite('spagcn')}."
        if keys.DOMAIN_GENES in adata.uns
        else ""
    ),
    adjusts_pvalues=True,
)


# spatially variable genes


def _find_variable_genes(work: Work) -> None:
    from stmmr import tl

    tl.spatially_variable_genes(work.adata, progress=work.progress)


def _moran_table(adata: AnnData) -> pd.DataFrame | None:
    names = {
        keys.MORAN_I: "morans_i",
        keys.MORAN_Z: "z",
        keys.MORAN_P: "pval",
        keys.MORAN_P_ADJUSTED: "pval_adj",
    }
    if keys.MORAN_I not in adata.var:
        return None
    table: pd.DataFrame = adata.var[list(names)].rename(columns=names).rename_axis(index="gene").reset_index()
    return table.sort_values("morans_i", ascending=False, kind="stable")


_VARIABLE_GENES = Analysis(
    name="spatially variable genes",
    options=("genes",),
    requested=lambda _, options: options.genes is True,
    step=_find_variable_genes,
    tables={"spatially_variable_genes.csv": Table("Moran's I of each gene, highest first", _moran_table)},
    methods=lambda adata, _, cite: (
        f"Spatially variable genes were ranked by Moran's I {cite('moran')} of their normalised values."
        if keys.MORAN_I in adata.var
        else ""
    ),
    adjusts_pvalues=True,
)


# pseudo-bulk


def _find_pseudobulk_genes(work: Work) -> None:
    from stmmr import tl

    tl.domain_genes_pseudobulk(work.adata, section_key=work.section_key, progress=work.progress)


def _require_sections(prepared: Prepared, option: str) -> str:
    if prepared.section_key is None:
        raise InputError(f"Expected several sections for {option}, found no section_key. Give it to the run as well.")
    return prepared.section_key


def _check_pseudobulk(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr._core.sections import sections_of

    if not options.pseudobulk:
        return
    require_extra("pydeseq2", extra="deseq")
    key = _require_sections(prepared, "pseudobulk")
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
    return best[list(names)].rename(columns=names)


_PSEUDOBULK = Analysis(
    name="domain genes by pseudo-bulk",
    options=("pseudobulk",),
    requested=lambda _, options: options.pseudobulk,
    step=_find_pseudobulk_genes,
    check=_check_pseudobulk,
    compares=lambda options: options.pseudobulk,
    tables={
        "domain_genes_pseudobulk.csv": Table(
            "genes of each domain, with sections as replicates", _table(keys.DOMAIN_GENES_PSEUDOBULK)
        )
    },
    methods=lambda adata, _, cite: (
        "Genes of domains were also compared with sections as replicates, by a negative-binomial model."
        if keys.DOMAIN_GENES_PSEUDOBULK in adata.uns
        else ""
    ),
    section=Section(
        "Domain genes with sections as replicates",
        "Genes that are higher in a domain than in the rest of its sections, up to three per domain with an adjusted "
        "p-value below 0.05.",
        _leading_pseudobulk_genes,
    ),
    adjusts_pvalues=True,
)


# gene sets


def _find_gene_sets(work: Work) -> None:
    from stmmr import tl

    tl.enrichment(work.adata, str(work.options.gene_sets))


def _check_gene_sets(adata: AnnData, options: AnalysisOptions, _: Prepared) -> None:
    from stmmr.tl._enrichment import measured_sets, read_gmt

    if options.gene_sets is not None:
        path = Path(options.gene_sets)
        measured_sets(read_gmt(path), adata.var_names.astype(str), name=path.name)


def _gene_sets_sentence(adata: AnnData, steps: dict[str, Any], _: Cite) -> str:
    if keys.ENRICHMENT not in adata.uns:
        return ""
    file = steps.get("enrichment", {}).get(keys.ENRICHMENT, {}).get("gmt", "")
    origin = f" of {file}" if file else ""
    return f"Gene sets{origin} were tested for over-representation by the hypergeometric distribution."


_GENE_SETS = Analysis(
    name="gene sets",
    options=("gene_sets",),
    requested=lambda _, options: options.gene_sets is not None,
    step=_find_gene_sets,
    check=_check_gene_sets,
    compares=lambda options: options.gene_sets is not None,
    needs="domain genes",
    tables={"enrichment.csv": Table("gene sets enriched among the genes of each domain", _table(keys.ENRICHMENT))},
    figures={
        "enrichment.png": Figure(
            "the most enriched gene sets of each domain",
            lambda adata: (
                keys.ENRICHMENT in adata.uns and bool((adata.uns[keys.ENRICHMENT]["pval_adj"] <= MAX_PVAL_ADJ).any())
            ),
            _draw("enrichment"),
        )
    },
    methods=_gene_sets_sentence,
    adjusts_pvalues=True,
)


# composition of sections


def _compares_sections(adata: AnnData, options: AnalysisOptions) -> bool:
    from stmmr._core.sections import section_key_of

    new = keys.COMPOSITION not in adata.uns
    return section_key_of(adata) is not None and (new or options.group_key is not None)


def _compose(work: Work) -> None:
    from stmmr import tl

    adata, key, group_key = work.adata, work.section_key, work.options.group_key
    adata.uns[keys.COMPOSITION] = named_rows(tl.composition(adata, key))
    if group_key is not None:
        tests = tl.compare_composition(adata, key, group_key=group_key)
        adata.uns[keys.COMPOSITION_TESTS] = named_rows(tests)
    record(adata, composition={"section_key": key, "group_key": group_key or ""})
    sources = [f"obs:{column}" for column in (keys.DOMAIN, key, group_key) if column]
    tables = [f"uns:{table}" for table in (keys.COMPOSITION, keys.COMPOSITION_TESTS)]
    depends(adata, "composition", on=sources, writes=[*tables, "notes:composition"])


def _check_composition(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr._core.sections import sections_of
    from stmmr.tl._composition import section_groups

    if options.group_key is not None:
        section_groups(adata, _require_sections(prepared, "group_key"), group_key=options.group_key)
    elif prepared.section_key is not None:
        sections_of(adata, prepared.section_key)


def _composition_tests(adata: AnnData) -> pd.DataFrame | None:
    table: pd.DataFrame | None = adata.uns.get(keys.COMPOSITION_TESTS)
    if table is None:
        return None
    shares = [name for name in table.columns if name.startswith("share_")]
    names = {name: f"Share in {name.removeprefix('share_')}" for name in shares}
    names = {"domain": "Domain"} | names | {"pval_adj": "Adjusted p"}
    return table[list(names)].rename(columns=names)


_COMPOSITION = Analysis(
    name="composition",
    options=("group_key",),
    requested=_compares_sections,
    step=_compose,
    check=_check_composition,
    tables={
        "composition.csv": Table("spots of every domain in every section", _table(keys.COMPOSITION)),
        "composition_tests.csv": Table(
            "tests: does the share of a domain differ between groups of sections", _table(keys.COMPOSITION_TESTS)
        ),
    },
    figures={
        "composition.png": Figure(
            "the share of each domain in each section",
            lambda adata: keys.COMPOSITION in adata.uns,
            _draw("composition"),
        )
    },
    section=Section(
        "Groups of sections",
        "Whether groups of sections differ in the share of a domain.",
        _composition_tests,
    ),
)


# trajectory


def _find_trajectory(work: Work) -> None:
    from stmmr import tl

    tl.trajectory(work.adata, expression=work.options.root_expression, **work.options.roots)


def _check_trajectory(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr.tl._trajectory import chosen_root

    if options.ordered:
        names = prepared.domains if prepared.domains is not None else [str(options.root_domain)]
        chosen_root(
            adata,
            names,
            keys.DOMAIN,
            domain=options.root_domain,
            gene=options.root_gene,
            spot=options.root_spot,
        )


def _trajectory_sentence(adata: AnnData, steps: dict[str, Any], cite: Cite) -> str:
    from stmmr._core.space import rows_called

    step = steps.get("trajectory")
    if step is None:
        return ""
    end = ", one end of the longest path" if step.get("root") == "tree" else ""
    return (
        f"Domains were connected by PAGA {cite('paga')} and {rows_called(adata)} ordered by diffusion pseudotime "
        f"{cite('dpt')} in scanpy {cite('scanpy')}, with the root in domain {step['root_domain']}{end}."
    )


def _has_trajectory(adata: AnnData) -> bool:
    return "trajectory" in recorded(adata)


_TRAJECTORY = Analysis(
    name="trajectory",
    options=("trajectory", "root_domain", "root_gene", "root_spot", "root_expression"),
    requested=lambda _, options: options.ordered,
    step=_find_trajectory,
    check=_check_trajectory,
    compares=lambda options: options.ordered,
    figures={
        "trajectory.png": Figure("pseudotime in the tissue, its root as a star", _has_trajectory, _draw("trajectory")),
        "paga.png": Figure("the graph of domains (PAGA) and the trajectory in it", _has_trajectory, _draw("paga")),
    },
    methods=_trajectory_sentence,
)


# genes along pseudotime


def _find_trends(work: Work) -> None:
    from stmmr import tl

    tl.gene_trends(work.adata, progress=work.progress)


def _trends_table(adata: AnnData) -> pd.DataFrame | None:
    step = recorded(adata).get("gene_trends")
    if step is None:
        return None
    table: pd.DataFrame = step["table"].rename_axis(index="gene").reset_index()
    return table


_TRENDS = Analysis(
    name="gene trends",
    requested=lambda adata, options: options.ordered and "expression" in recorded(adata),
    step=_find_trends,
    needs="trajectory",
    tables={"gene_trends.csv": Table("genes along pseudotime, with a test of whether they change", _trends_table)},
    figures={
        "gene_trends.png": Figure(
            "genes along pseudotime: the two surest of those that peak early, midway and late",
            lambda adata: "gene_trends" in recorded(adata),
            _draw("gene_trends"),
        )
    },
    methods=lambda _, steps, cite: (
        f"The rate of each of {len(steps['gene_trends']['table']):,} genes was fitted as a smooth curve of pseudotime "
        f"and tested against a constant rate {cite('tradeseq')}."
        if "gene_trends" in steps
        else ""
    ),
    adjusts_pvalues=True,
)


# denoised expression


def _enhance(work: Work) -> None:
    from stmmr import tl

    if work.model is None:
        raise InputError("Expected the fitted model for denoised expression, found none.")
    tl.enhance(work.model(), genes=work.options.enhance_genes or None, progress=work.progress)


def _check_enhance(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    from stmmr._core.genes import require_gene
    from stmmr.tl._enhance import require_small

    if not options.enhanced:
        return
    if prepared.preset == "paper" or prepared.use_rep is not None:
        instead = "use_rep" if prepared.use_rep is not None else "preset 'paper'"
        raise InputError(f"Expected a model of counts (the default preset) for denoised expression, found {instead}.")
    require_extra("torch", extra="torch")
    for gene in options.enhance_genes or ():
        require_gene(adata, gene)
    n_genes = len(options.enhance_genes) if options.enhance_genes else None
    n_bytes = require_small(adata, layer=prepared.layer, n_genes=n_genes)
    if n_bytes > 1e6:
        logger.info("Denoised expression will take %.0f MB of memory, and less in the file.", n_bytes / 1e6)


_ENHANCED = Analysis(
    name="denoised expression",
    options=("enhance", "enhance_genes"),
    requested=lambda _, options: options.enhanced,
    step=_enhance,
    check=_check_enhance,
)

ANALYSES: Final = (
    _DOMAIN_GENES,
    _VARIABLE_GENES,
    _PSEUDOBULK,
    _GENE_SETS,
    _COMPOSITION,
    _TRAJECTORY,
    _TRENDS,
    _ENHANCED,
)
"""All analyses, in the order in which they are carried out."""


def analysis_files() -> dict[str, str]:
    """Get the files that analyses write to a result folder, with what each holds."""
    described: dict[str, str] = {}
    for analysis in ANALYSES:
        described |= {name: table.description for name, table in analysis.tables.items()}
        described |= {name: figure.description for name, figure in analysis.figures.items()}
    return described
