"""Trajectory: pseudotime in the tissue, the graph over domains, and genes over pseudotime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import PALETTE, categories
from stmmr._core.checks import InputError, require_key, require_step
from stmmr._core.depends import warn_outdated
from stmmr._core.genes import gene_list
from stmmr._core.options import shows_options
from stmmr._core.record import recorded
from stmmr._core.sections import graph_sections
from stmmr._core.space import coordinates, rows_called
from stmmr.pl._axes import LEGEND, colors_of, drawing, drawing_domains, n_lines, text_width, wrapped
from stmmr.pl._tissue import TissueOptions
from stmmr.pl._values import values
from stmmr.pl.canvas import new_axes, pt, pt2
from stmmr.tl._graphs import Rooted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.lines import Line2D

    from stmmr._core.types import Float64, Ints


EDGE_FROM: Final = 0.1
"""Weakest link that is drawn: a tenth of the number expected at random."""
_WIDEST: Final = 5.0
"""Width of the strongest link in points."""
_LARGEST: Final = 500.0
_SMALLEST: Final = 60.0
"""Area of the marker of a domain in square points."""
_COLUMN: Final = 0.75
_ROW: Final = 0.9
"""Distance between domains in inches."""
_LINE: Final = 0.16
"""Inches from one line of a name to the next."""
_LETTERS: Final = 18
"""Letters of a line."""
_KEY: Final = 2.2
"""Width and smallest height of the key in inches."""
_TREE, _ARC = "#595959", "#A6A6A6"
PER_THIRD: Final = 2
"""Number of genes that are drawn for each third of pseudotime in which they peak."""
STYLES: Final = ("-", "--", ":")


@drawing
@shows_options(TissueOptions)
def trajectory(adata: AnnData, *, cmap: str | Colormap = "viridis", **options: Any) -> Axes:
    """Draw the pseudotime of every spot in the tissue, with the root as a star; light grey if it is missing.

    Drawn as numbers by `stmmr.pl.values`. With several sections side by side, the root is not marked. Branches are
    drawn by ``stmmr.pl.domains(adata, domain_key="stmmr_branch")``.

    Parameters
    ----------
    adata
        After `stmmr.tl.trajectory`.

    Raises
    ------
    InputError
        If there is no pseudotime.
    """
    require_key(adata.obs.columns, keys.PSEUDOTIME, where="obs", hint="Run stmmr.tl.trajectory(adata) first.")
    warn_outdated(adata, "trajectory")
    ax: Axes = values(adata, keys.PSEUDOTIME, cmap=cmap, **options)
    step = recorded(adata).get("trajectory", {})
    root = np.flatnonzero(adata.obs_names == step.get("root_spot"))
    if len(root) and graph_sections(adata) is None:
        x, y = coordinates(adata)[root[0]]
        (star,) = ax.plot(x, y, marker="*", markersize=pt(13), color="white", linestyle="", zorder=5)
        star.set(markeredgecolor="black", markeredgewidth=pt(1))
    return ax


@drawing_domains
def paga(adata: AnnData, *, threshold: float = EDGE_FROM, ax: Axes | None = None) -> Axes:
    """Draw the graph over domains, from the root at the left along its tree.

    Straight lines are the tree: each domain is as many steps to the right as it is from the root. Arcs are other links.
    Wider lines are stronger links: 1 is as many links between the spots of two domains as are expected at random, or
    more. Domains have their usual colours, and sizes by their number of spots. The root has a
    black rim.

    Parameters
    ----------
    adata
        After `stmmr.tl.trajectory`.
    threshold
        Weakest link outside of the tree that is drawn; 1 is as many links as expected at random.

    Raises
    ------
    InputError
        If there is no trajectory, or its domains are no longer in ``obs``.
    """
    from matplotlib.patheffects import withStroke

    step = require_step(adata, "trajectory", by="stmmr.tl.trajectory")
    names, key = [str(name) for name in step["domains"]], str(step["domain_key"])
    weights, tree = np.asarray(step["connectivities"]), np.asarray(step["tree"])
    warn_outdated(adata, "trajectory")
    sizes = _sizes(adata, key, names)
    lines = [wrapped(name, _LETTERS) for name in names]
    xy = layout(tree, names.index(str(step["root_domain"])), sizes)
    if ax is None:
        column = max(_COLUMN, text_width(*lines) + 0.1)
        width, height = (np.ptp(xy, axis=0) + 1) * [column, _ROW + _LINE * (n_lines(*lines) - 1)] + [_KEY, 0.4]
        ax = new_axes(width, max(height, _KEY))
    _draw_links(ax, xy, weights, tree, threshold)
    colors = colors_of(adata, key, pd.Index(names))
    rims = ["black" if name == step["root_domain"] else "white" for name in names]
    area = pt2(np.maximum(_LARGEST * sizes / sizes.max(), _SMALLEST))
    ax.scatter(xy[:, 0], xy[:, 1], s=area, color=colors, edgecolors=rims, linewidths=pt(1.5), zorder=3)
    for (x, y), name, size in zip(xy, lines, area, strict=True):
        below = (0, -np.sqrt(size) / 2 - pt(3))
        ax.annotate(
            name,
            (x, y),
            below,
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize="small",
            zorder=4,
            path_effects=[withStroke(linewidth=pt(2.5), foreground="white")],  # to be legible over a line
        )
    low, high = xy.min(axis=0), xy.max(axis=0)
    ax.set(xlim=(low[0] - 0.5, high[0] + 0.5), ylim=(low[1] - 0.6, high[1] + 0.6))
    ax.set_axis_off()
    _explain(ax, sizes, area, rows_called(adata))
    return ax


def _explain(ax: Axes, sizes: Ints, area: Float64, spots: str) -> None:
    """Add a key of links and circles to the right of the axes."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_TREE, linewidth=pt(_WIDEST * weight), label=f"connectivity {weight:g}")
        for weight in (1, 0.5, 0.1)
    ]
    handles.append(Line2D([], [], color=_ARC, linewidth=pt(_WIDEST * 0.5), label="not in the tree"))
    for i in dict.fromkeys((int(sizes.argmax()), int(sizes.argmin()))):
        handles.append(
            _dot(np.sqrt(area[i]), f"{sizes[i]:,} {spots[:-1] if sizes[i] == 1 else spots}", fill=_ARC, rim="white")
        )
    handles.append(_dot(pt(9), "root", fill="white", rim="black"))
    ax.legend(handles=handles, bbox_to_anchor=(1, 1), labelspacing=1.1, **LEGEND)


def _dot(size: float, label: str, *, fill: str, rim: str) -> Line2D:
    """Make a circle of a key."""
    from matplotlib.lines import Line2D

    dot = Line2D([], [], linestyle="", marker="o", markersize=size, color=fill, label=label)
    dot.set(markeredgecolor=rim, markeredgewidth=pt(1.5))
    return dot


def _sizes(adata: AnnData, key: str, names: list[str]) -> Ints:
    """Count the spots of each domain, checked."""
    require_key(adata.obs.columns, key, where="obs")
    counts = pd.Series(categories(adata, key).astype(str)).value_counts()
    if missing := [name for name in names if name not in counts.index]:
        raise InputError(
            f"Expected the domains of the trajectory in obs[{key!r}], found none of {missing[0]!r}. "
            "Run stmmr.tl.trajectory(adata) again."
        )
    return np.array([int(counts[name]) for name in names])


def _draw_links(ax: Axes, xy: Float64, weights: Float64, tree: Float64, threshold: float) -> None:
    """Draw the tree as lines and other links as arcs."""
    from matplotlib.patches import FancyArrowPatch

    for i, j in zip(*np.triu_indices(len(xy), 1), strict=True):
        in_tree = tree[i, j] > 0
        if not in_tree and weights[i, j] < threshold:
            continue
        ends = sorted((tuple(xy[i]), tuple(xy[j])))
        ax.add_patch(
            FancyArrowPatch(
                *ends,
                arrowstyle="-",
                connectionstyle="arc3" if in_tree else "arc3,rad=-0.35",
                linewidth=pt(max(0.6, _WIDEST * weights[i, j])),
                color=_TREE if in_tree else _ARC,
                zorder=2 if in_tree else 1,
                shrinkA=0,
                shrinkB=0,
                clip_on=False,  # arcs may extend beyond the axes
            )
        )


def layout(tree: Float64, root: int, sizes: Ints) -> Float64:
    """Arrange the nodes of a forest, shape (K, 2): x is the number of edges to the root; no two positions are the same.

    The tree has weights, shape (K, K), symmetric. The root is the first node of the top tree; each other tree, below
    it, starts with its largest node. The largest child is in the row of its parent. Each other child starts a branch in
    the next row below that has space for it.
    """
    xy = np.full((len(tree), 2), np.nan)
    taken: set[tuple[int, int]] = set()

    def arrange(node: int, row: int, rooted: Rooted) -> None:
        run, others = [node], []
        while children := sorted(rooted.children(run[-1]), key=lambda child: (-sizes[child], child)):
            others.append(children[1:])
            run.append(children[0])
        columns = [int(rooted.depth[node]) for node in run]
        while any((column, row) in taken for column in columns):
            row += 1
        taken.update((column, row) for column in columns)
        xy[run] = np.column_stack([columns, np.full(len(run), -float(row))])
        for children in others[::-1]:  # short branches at the end stay close
            for child in children:
                arrange(child, row + 1, rooted)

    while np.isnan(xy).any():
        arrange(root, max((row + 1 for _, row in taken), default=0), Rooted.at(tree, root))
        rest = np.flatnonzero(np.isnan(xy[:, 0]))
        root = int(rest[sizes[rest].argmax()]) if len(rest) else root
    return xy


@drawing
def gene_trends(adata: AnnData, *, genes: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the expression of genes over pseudotime with confidence bands, on the scale of log1p.

    Parameters
    ----------
    adata
        After `stmmr.tl.gene_trends`.
    genes
        Names of at most 18 fitted genes. None: the two with the smallest p-values among those that peak early, midway
        and late, because the genes with the smallest p-values of all often rise and fall together.

    Raises
    ------
    InputError
        If there are no curves, a gene is not among them, or there are more genes than lines that can be told apart.
    """
    step = require_step(adata, "gene_trends", by="stmmr.tl.gene_trends")
    warn_outdated(adata, "gene_trends")
    fitted = [str(name) for name in step["table"].index]
    shown = leading_trends(step["table"]) if genes is None else gene_list(genes)
    colors = [color for color in PALETTE if color != "#F0E442"][:6]  # yellow lines are hard to see on white
    if not 1 <= len(shown) <= len(colors) * len(STYLES):
        raise InputError(f"Expected 1 to {len(colors) * len(STYLES)} genes, found {len(shown)}.")
    for gene in shown:
        require_key(fitted, gene, where="the table of gene trends")
    time = np.asarray(step["pseudotime"])
    ax = ax or new_axes(4.5 + 0.5 + text_width(*shown), 3)
    for i, gene in enumerate(shown):
        curve, low, high = (np.log1p(step[name][fitted.index(gene)]) for name in ("curve", "low", "high"))
        color = colors[i % len(colors)]
        ax.fill_between(time, low, high, color=color, alpha=0.2, linewidth=0)
        ax.plot(time, curve, color=color, linewidth=pt(1.5), linestyle=STYLES[i // len(colors)], label=gene)
    top = max(np.log1p(step["curve"][fitted.index(gene)]).max() for gene in shown)
    ax.set(xlabel="Pseudotime", ylabel="Expression (log1p)", xlim=(time[0], time[-1]), ylim=(0, 1.15 * top))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(bbox_to_anchor=(1, 1), **LEGEND)
    return ax


def leading_trends(table: pd.DataFrame) -> list[str]:
    """Choose the genes to draw from the table of gene trends, sorted by p-value; early peaks come first."""
    third = np.minimum(3 * table["peak"].to_numpy(), 2).astype(int)
    shown = table.groupby(third).head(PER_THIRD).sort_values("peak", kind="stable")
    return [str(name) for name in shown.index]
