"""Which analyses are asked for, and what is wrong with that as far as it can be known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_extra
from stmmr._core.genes import counts_layer, gene_columns, require_gene
from stmmr._core.record import recorded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

GENES: Final = "domain genes"
SPATIALLY_VARIABLE: Final = "spatially variable genes"
PSEUDOBULK: Final = "domain genes by pseudo-bulk"
GENE_SETS: Final = "gene sets"
COMPOSITION: Final = "composition"
TRAJECTORY: Final = "trajectory"
TRENDS: Final = "gene trends"
ENHANCE: Final = "denoised expression"
NEEDS: Final = {GENE_SETS: GENES, TRENDS: TRAJECTORY}
"""What an analysis reads of another one."""
OPTIONS: Final = {
    GENES: ("genes",),
    SPATIALLY_VARIABLE: ("genes",),
    PSEUDOBULK: ("pseudobulk",),
    GENE_SETS: ("gene_sets",),
    COMPOSITION: ("group_key",),
    TRAJECTORY: ("trajectory", "root_domain", "root_gene", "root_place", "root_expression"),
    TRENDS: (),
    ENHANCE: ("enhance", "enhance_genes"),
}
"""The options of each, in the order in which they are carried out."""


@dataclass(frozen=True, kw_only=True)
class Analyses:
    """Which analyses are asked for; the options are those of `stmmr.analyse`."""

    genes: bool | None = None
    pseudobulk: bool = False
    gene_sets: str | Path | None = None
    group_key: str | None = None
    trajectory: bool = False
    root_domain: str | None = None
    root_gene: str | None = None
    root_place: str | None = None
    root_expression: Literal["highest", "lowest"] = "highest"
    enhance: bool = False
    enhance_genes: Sequence[str] | None = None

    @classmethod
    def names(cls) -> list[str]:
        """Get the names of the options."""
        return [field.name for field in fields(cls)]

    @property
    def roots(self) -> dict[str, str | None]:
        """Where the trajectory starts, as `stmmr.tl.trajectory` is told."""
        return {"domain": self.root_domain, "gene": self.root_gene, "spot": self.root_place}

    @property
    def ordered(self) -> bool:
        """Whether a trajectory is asked for: a root asks for one."""
        return self.trajectory or any(name is not None for name in self.roots.values())

    @property
    def enhanced(self) -> bool:
        """Whether denoised expression is asked for: its genes ask for it."""
        return self.enhance or bool(self.enhance_genes)

    def wanted(self, adata: AnnData) -> list[str]:
        """Name what is to be done of data whose domains are known, in its order."""
        needed = self.gene_sets is not None and keys.DOMAIN_GENES not in adata.uns
        new = keys.COMPOSITION not in adata.uns
        asked = {
            GENES: self.genes is True or needed,
            SPATIALLY_VARIABLE: self.genes is True,
            PSEUDOBULK: self.pseudobulk,
            GENE_SETS: self.gene_sets is not None,
            COMPOSITION: bool(section_key_of(adata)) and (new or self.group_key is not None),
            TRAJECTORY: self.ordered,
            TRENDS: self.ordered and "expression" in recorded(adata),
            ENHANCE: self.enhanced,
        }
        return [name for name, wanted in asked.items() if wanted]

    def options_of(self, name: str) -> dict[str, Any]:
        """Get the options of an analysis that were given."""
        given = {option: getattr(self, option) for option in OPTIONS[name]}
        return {option: value for option, value in given.items() if value != getattr(Analyses, option)}


class Before(NamedTuple):
    """What is known of the data when analyses are checked."""

    domains: list[str] | None
    """Names of the domains; None where they are still to be found."""
    section_key: str | None = None
    use_rep: str | None = None
    """Representation that the model reads instead of counts."""
    layer: str | None = None
    """Layer with the raw counts."""
    preset: str = "default"

    @classmethod
    def of_result(cls, adata: AnnData) -> Before:
        """Get it of data whose domains are known."""
        from stmmr._core.categories import categories

        steps = recorded(adata)
        domains = categories(adata, keys.DOMAIN, hint="Run stmmr.run(adata) first.").remove_unused_categories()
        model = steps.get("model", {})
        return cls(
            [str(name) for name in domains.categories],
            section_key_of(adata),
            str(model.get("use_rep") or "") or None,
            counts_layer(adata),
            str(model.get("preset", "default")),
        )

    @classmethod
    def of_run(cls, options: Mapping[str, Any]) -> Before:
        """Get it of the options of a run that is to come."""
        number = options.get("n_domains", "auto")
        # domains are named by their number; fewer may be found, which is only said then
        domains = None if isinstance(number, str) else [str(i + 1) for i in range(int(number))]
        preset = options.get("preset", "default")
        return cls(domains, options.get("section_key"), options.get("use_rep"), options.get("layer"), preset)


def section_key_of(adata: AnnData) -> str | None:
    """Get the column with the sections that the spatial graph, or an earlier analysis, kept apart."""
    return str(recorded(adata).get("spatial_graph", {}).get("section_key") or "") or None


def check(adata: AnnData, asked: Analyses, before: Before) -> None:
    """Find what is wrong with what is asked for, as far as it can be known.

    Raises
    ------
    InputError
        If something is.
    ImportError
        If a package for it is not installed.
    """
    _check_domains(adata, asked, before)
    if before.use_rep is not None and (asked.genes or asked.pseudobulk or asked.gene_sets or asked.root_gene):
        gene_columns(adata, before.layer)  # the run itself reads no counts, which may not be there
    if asked.gene_sets is not None:
        _check_gene_sets(adata, Path(asked.gene_sets))
    _check_sections(adata, asked, before)
    if asked.enhanced:
        _check_enhance(adata, asked, before)


def _check_domains(adata: AnnData, asked: Analyses, before: Before) -> None:
    from stmmr.tl._trajectory import chosen_root

    compares = {"the genes of domains": asked.genes, "gene sets": asked.gene_sets, "a trajectory": asked.ordered}
    compares["pseudo-bulk"] = asked.pseudobulk
    if before.domains is not None and len(before.domains) < 2:
        for what, wanted in compares.items():
            if wanted:
                raise InputError(f"Expected at least 2 domains for {what}, found {len(before.domains)}.")
    if asked.ordered:
        names = before.domains if before.domains is not None else [str(asked.root_domain)]
        chosen_root(adata, names, keys.DOMAIN, **asked.roots)


def _check_gene_sets(adata: AnnData, path: Path) -> None:
    from stmmr.tl._enrichment import measured_sets, read_gmt

    measured_sets(read_gmt(path), adata.var_names.astype(str), name=path.name)


def _check_sections(adata: AnnData, asked: Analyses, before: Before) -> None:
    from stmmr._core.sections import sections_of
    from stmmr.tl._composition import section_groups

    if asked.pseudobulk:
        require_extra("pydeseq2", extra="deseq")
    for name, value in (("pseudobulk", asked.pseudobulk), ("group_key", asked.group_key)):
        if value and before.section_key is None:
            raise InputError(f"Expected several sections for {name}, found no section_key. Give it to the run as well.")
    if before.section_key is None:
        return
    sections = sections_of(adata, before.section_key)
    if asked.pseudobulk and sections is not None and len(sections.categories) < 2:
        raise InputError(f"Expected several sections in obs[{before.section_key!r}] for pseudobulk, found one.")
    if asked.group_key is not None:
        section_groups(adata, before.section_key, group_key=asked.group_key)


def _check_enhance(adata: AnnData, asked: Analyses, before: Before) -> None:
    from stmmr.tl._enhance import require_small

    if before.preset == "paper" or before.use_rep is not None:
        found = "use_rep" if before.use_rep is not None else "preset 'paper'"
        raise InputError(f"Expected a model of counts (the default preset) for denoised expression, found {found}.")
    for gene in asked.enhance_genes or ():
        require_gene(adata, gene)
    n_genes = len(asked.enhance_genes) if asked.enhance_genes else None
    n_bytes = require_small(adata, layer=before.layer, n_genes=n_genes)
    if n_bytes > 1e6:
        logger.info("Denoised expression will take %.0f MB in memory, and less in the file.", n_bytes / 1e6)
