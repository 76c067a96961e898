"""What a row of the table of analyses (`stmmr.pipeline.analyses`) holds, and the functions that most rows share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stmmr._core.record import recorded

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr._core.keys import Key
    from stmmr.model import StMMR
    from stmmr.pipeline.analyses import AnalysisOptions


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
    draw: Callable[[AnnData], Axes]
    drawn: Callable[[AnnData], bool] = lambda _: True
    """Whether there is something to draw, once the analysis ran."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """One analysis of the domains."""

    name: str
    """Name in log lines, run.json and ``uns["stmmr"]["seconds"]``."""
    options: tuple[str, ...] = ()
    """Attributes of `AnalysisOptions` that belong to it."""
    requested: Callable[[AnnData, AnalysisOptions], bool]
    """Whether the options request it, for data with domains."""
    step: Callable[[Work], object]
    keys: tuple[Key, ...]
    """What it writes, made by `stmmr._core.keys.written`. The first key is there whenever it ran."""
    check: Callable[[AnnData, AnalysisOptions, Prepared], None] = lambda *_: None
    """Raises an InputError for options that do not fit the data. It is called before the first long step."""
    compares: bool = False
    """Whether it compares at least two domains."""
    needs: str = ""
    """Analysis whose results it reads."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    methods: Callable[[AnnData, dict[str, Any], Cite], str] = lambda *_: ""
    """Writes its sentence in the methods, once it ran."""
    section: Section | None = None
    """Its section of the report, where the page has none of its own design for it."""
    adjusts_pvalues: bool = False
    """Whether its p-values are adjusted, for the methods."""

    def ran(self, adata: AnnData) -> bool:
        """Tell whether its results are in the data."""
        container, name, _ = self.keys[0]
        return name in (recorded(adata) if container == "notes" else getattr(adata, container))


def table_in(key: str) -> Callable[[AnnData], pd.DataFrame | None]:
    """Get a table of ``uns``, where it is."""
    return lambda adata: adata.uns.get(key)


def draw(name: str) -> Callable[[AnnData], Axes]:
    """Draw by a function of `stmmr.pl`, loaded when it is needed."""

    def drawing(adata: AnnData) -> Axes:
        from stmmr import pl

        axes: Axes = getattr(pl, name)(adata)
        return axes

    return drawing


def renamed_columns(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Get some columns of a table under other names."""
    return table[list(names)].rename(columns=names)
