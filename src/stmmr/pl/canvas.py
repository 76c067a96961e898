"""The look of figures: one theme, sizes in mm, files for journals, and texts as they are."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from stmmr._core.checks import InputError, listed
from stmmr._core.files import FIGURE_FORMATS
from stmmr._core.options import Checked, check_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Palette = str | Sequence[str] | Mapping[str, str]
else:
    Palette = Any

LITERAL: Final[Any] = {"text.parse_math": False, "text.usetex": False}
"""Settings of matplotlib by which "$" in the name of a section or gene is no formula."""
SIZE: Final = 7.0
"""Size of the text of a figure, in points, as journals ask for."""
FONTS: Final = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")
"""Fonts, the best first. The third has the widths of the first, and the last comes with matplotlib."""
WIDTHS: Final = {"single": 89.0, "double": 183.0}
"""Width of one column and of two columns of a journal, in mm."""
SAVED: Final[Any] = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "stmmr"}
"""Settings of files: fonts are embedded as TrueType, and texts of SVG stay texts."""
DPI, SHOWN_DPI = 300, 150
"""Pixels per inch of files, and of new figures on the screen."""
_AT_SIZE: Final = 10.0
"""Size of the text, in points, that figures are laid out for. They are scaled to the size of the theme."""
_off_screen: ContextVar[bool] = ContextVar("figures for files", default=False)


@dataclass(frozen=True, kw_only=True)
class FigureOptions(Checked):
    """Options of all figures.

    Attributes
    ----------
    width
        Width of a new figure: "single" (89 mm) or "double" (183 mm) column, or mm. None: what its content needs.
    save
        File to save the figure to: ``.png`` (300 dpi), ``.svg``, ``.pdf`` or another that matplotlib writes.
    show
        Show the figure, and return nothing.
    """

    width: Literal["single", "double"] | float | None = None
    save: str | Path | None = None
    show: bool = False

    def __post_init__(self) -> None:
        """Check the width, the switch, that matplotlib writes files of the kind, and that their folder exists."""
        from matplotlib.backend_bases import FigureCanvasBase

        number = isinstance(self.width, int | float) and not isinstance(self.width, bool)
        if not (self.width is None or str(self.width) in WIDTHS or (number and 20 <= float(self.width) <= 2000)):
            raise InputError(f"Expected width to be {listed(WIDTHS)} or a number of mm from 20, found {self.width!r}.")
        check_argument("show", self.show, default=False, annotation="bool")
        if self.save is None:
            return
        if not isinstance(self.save, str | Path):
            raise InputError(f"Expected save to be a path, such as 'figure.png', found {self.save!r}.")
        known, path = FigureCanvasBase.get_supported_filetypes(), Path(self.save).expanduser()
        if path.suffix.lower().removeprefix(".") not in known:
            kinds = ", ".join(f".{kind}" for kind in FIGURE_FORMATS)
            raise InputError(f"Expected a file to save the figure to, such as {kinds}, found {path.name}.")
        if not path.parent.is_dir():
            raise InputError(f"Expected a folder to save the figure in, found none at {path.parent}. Make it first.")


@dataclass(frozen=True, kw_only=True)
class ColoredOptions(FigureOptions):
    """Options of figures with domains.

    Attributes
    ----------
    palette
        Colours of the domains: the name of a colour map of matplotlib, a list, or a mapping from names. None: the same
        as in every figure (``uns["…_colors"]``).
    """

    palette: Palette | None = None


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the figure at hand is drawn."""

    width: float | None = None
    """Width of a new figure in inches; None: as it is laid out."""
    palette: Palette | None = None
    new: list[Figure] = field(default_factory=list)
    """Figures that were made."""


_style: ContextVar[Style | None] = ContextVar("style of the figure", default=None)


def style() -> Style:
    """Get how the figure at hand is drawn."""
    return _style.get() or Style()


@contextmanager
def styled(options: FigureOptions, *, new: bool) -> Iterator[Style]:
    """Draw with the theme, unless the figure is the user's, and with texts as they are."""
    from matplotlib import rc_context, rcParams

    if (outer := _style.get()) is not None:  # called by another function that draws
        yield outer
        return
    width = WIDTHS.get(str(options.width), options.width)
    inches = None if width is None else float(width) / 25.4
    before = _style.set(Style(width=inches, palette=getattr(options, "palette", None)))
    interactive = rcParams["interactive"]
    try:
        with rc_context(LITERAL | (theme() if new else {})):
            yield style()
            interactive = rcParams["interactive"]
    finally:
        rcParams["interactive"] = interactive  # a notebook switches it on with its first figure, which may be ours
        _style.reset(before)


def theme() -> dict[str, Any]:
    """Get the settings of matplotlib for new figures, without those that the user has changed."""
    import matplotlib as mpl

    now, default = dict(mpl.rcParams.items()), dict(mpl.rcParamsDefault.items())
    ours = {
        "font.size": SIZE,
        "font.family": [_font()],
        "axes.linewidth": 0.6,
        "axes.titlesize": SIZE,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "figure.dpi": SHOWN_DPI,
    }
    return {name: value for name, value in ours.items() if now[name] == default[name]}


@cache
def _font() -> str:
    """Choose the first font that is installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return next((name for name in FONTS if name in installed), FONTS[-1])


def pt(length: float) -> float:
    """Scale a length in points with the text of the figure."""
    from matplotlib import rcParams

    return float(length * rcParams["font.size"] / _AT_SIZE)


def pt2(area: Any) -> Any:
    """Scale an area in square points with the text of the figure."""
    return area * pt(1) ** 2


def new_axes(width: float, height: float) -> Axes:
    """Create a figure with one axes; sizes in inches, laid out for text of 10 points."""
    (ax,) = new_grid(1, width, height)
    return ax


def new_grid(n: int, width: float, height: float, *, n_cols: int = 1) -> list[Axes]:
    """Create a figure with axes in rows; sizes of each in inches, laid out for text of 10 points."""
    n_cols = min(n, n_cols)
    n_rows = -(-n // n_cols)
    size = pt(1) * width * n_cols, pt(1) * height * n_rows
    size = (style().width or size[0], size[1])
    if is_off_screen():
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
    else:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr, call-arg]  # it is constrained
    style().new.append(figure)
    axes = figure.subplots(n_rows, n_cols, squeeze=False).ravel()
    for ax in axes[n:]:
        ax.remove()
    return list(axes[:n])


def fit_height(figure: Figure) -> None:
    """Give a figure of maps, which have an aspect of their own, the height of what is in it."""
    from matplotlib import rc_context

    if any(ax.get_aspect() == "auto" for ax in figure.axes if ax.get_subplotspec() is not None):
        return
    with rc_context(LITERAL):
        figure.set_figheight(10 * figure.get_figwidth())
        for _ in range(2):
            figure.draw_without_rendering()
            rows: dict[int, float] = {}
            for ax in figure.axes:
                if (place := ax.get_subplotspec()) is not None and (box := ax.get_tightbbox()) is not None:
                    row = place.rowspan.start
                    rows[row] = max(rows.get(row, 0.0), box.height / figure.dpi)
            figure.set_figheight(sum(rows.values()) + 0.04 * len(rows))


def save_figure(figure: Figure, path: Path, *, exact: bool) -> None:
    """Save a figure as journals take it; an `exact` one with its own size, another without its empty margin."""
    from matplotlib import rc_context

    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    fitting: dict[str, Any] = {} if exact else {"bbox_inches": "tight", "pad_inches": 0.03}
    if path.suffix.lower() == ".png":  # half the time of the default, for 3 % more bytes
        fitting["pil_kwargs"] = {"compress_level": 4}
    with rc_context(SAVED | LITERAL):
        figure.savefig(path, dpi=DPI, metadata=undated, **fitting)


def saved_figure(draw: Callable[[], Axes], paths: Iterable[Path], options: FigureOptions) -> None:
    """Draw a figure, and save it to several files; those that fail are removed."""
    exact = options.width is not None
    with styled(options, new=True) as current:
        figure = draw().get_figure(root=True)
        if exact:
            for each in current.new:
                fit_height(each)
    for path in paths:
        try:
            save_figure(figure, path, exact=exact)  # type: ignore[arg-type]  # axes are in a figure
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@contextmanager
def off_screen() -> Iterator[None]:
    """Make new figures outside pyplot, which may have a backend that cannot be used here."""
    before = _off_screen.set(True)
    try:
        yield
    finally:
        _off_screen.reset(before)


def is_off_screen() -> bool:
    """Tell whether new figures are made outside pyplot."""
    return _off_screen.get()
