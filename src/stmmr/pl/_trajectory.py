"""Pseudotime in the tissue, the graph over domains, and genes over pseudotime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import PALETTE, categories, category_colors
from stmmr._core.checks import InputError, require_key, require_step
from stmmr._core.genes import gene_list
from stmmr._core.record import recorded
from stmmr._core.sections import graph_sections
from stmmr._core.space import coordinates
from stmmr.pl._axes import new_axes, text_width
from stmmr.pl._tissue import values
from stmmr.tl._graphs import Rooted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import NDArray


def trajectory(
    adata: AnnData,
    *,
    cmap: str | Colormap = "viridis",
    image: bool = True,
    library_id: str | None = None,
    alpha: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the pseudotime of every place in the tissue, its root as a star; light grey where it does not lead.

    Drawn as `stmmr.pl.values` draws numbers. The root is not marked where sections lie side by side. Branches are
    drawn by ``stmmr.pl.domains(adata, domain_key="stmmr_branch")``.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.tl.trajectory`.
    cmap
        Colour map of matplotlib.
    image
        Whether to draw the picture in ``uns["spatial"]``: the one called hires, else lowres.
    library_id
        Which picture, where ``uns["spatial"]`` has several.
    alpha
        Opacity of the places: 0.9 over a picture and 1 otherwise, if None.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("trajectory.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no pseudotime.
    """
    require_key(adata.obs.columns, keys.PSEUDOTIME, where="obs", hint="Run stmmr.tl.trajectory(adata) first.")
    ax = values(adata, keys.PSEUDOTIME, cmap=cmap, image=image, library_id=library_id, alpha=alpha, ax=ax)
    root = recorded(adata).get("trajectory", {}).get("root_place")
    at = np.flatnonzero(adata.obs_names == root)
    if len(at) and graph_sections(adata) is None:
        x, y = coordinates(adata)[at[0]]
        ax.plot(x, y, marker="*", markersize=13, color="white", markeredgecolor="black", linestyle="", zorder=5)
    return ax


EDGE_FROM: Final = 0.1
"""Links that are drawn: a tenth of those expected at random."""
_WIDEST: Final = 5.0
"""Width of the line of the strongest link, in points."""
_LARGEST: Final = 500.0
_SMALLEST: Final = 60.0
"""Area of the marker of a domain, in square points."""
_COLUMN: Final = 0.75
_ROW: Final = 0.9
"""Distance between domains, in inches."""


def paga(adata: AnnData, *, threshold: float = EDGE_FROM, ax: Axes | None = None) -> Axes:
    """Draw which domains are linked to which in the embedding, from the root at the left along the tree.

    Straight lines are the tree, in which each domain stands as many steps to the right as it is from the root's;
    arcs are links beside it. The stronger a link, the wider its line; domains have the colours they have everywhere,
    and sizes by their number of places. The root has a black rim.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.tl.trajectory`.
    threshold
        Links beside the tree that are weaker are left out; 1 is as many as expected at random.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("paga.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no trajectory, or its domains are no longer in ``obs``.
    """
    from matplotlib.patheffects import withStroke

    found = require_step(adata, "trajectory", by="stmmr.tl.trajectory")
    names, key = [str(name) for name in found["domains"]], str(found["domain_key"])
    weights, tree = np.asarray(found["connectivities"]), np.asarray(found["tree"])
    sizes = _sizes(adata, key, names)
    at = layout(tree, names.index(str(found["root_domain"])), sizes)
    if ax is None:
        column = max(_COLUMN, text_width(*names) + 0.1)
        ax = new_axes(*((np.ptp(at, axis=0) + 1) * [column, _ROW] + [0, 0.4]))
    _draw_links(ax, at, weights, tree, threshold)
    colors = category_colors(adata, key, pd.Index(names))
    rims = ["black" if name == found["root_domain"] else "white" for name in names]
    area = np.maximum(_LARGEST * sizes / sizes.max(), _SMALLEST)
    ax.scatter(at[:, 0], at[:, 1], s=area, color=colors, edgecolors=rims, linewidths=1.5, zorder=3)
    for (x, y), name, size in zip(at, names, area, strict=True):
        below = (0, -np.sqrt(size) / 2 - 3)
        ax.annotate(
            name,
            (x, y),
            below,
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize="small",
            zorder=4,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],  # so that no line strikes it through
        )
    low, high = at.min(axis=0), at.max(axis=0)
    ax.set(xlim=(low[0] - 0.5, high[0] + 0.5), ylim=(low[1] - 0.6, high[1] + 0.6))
    ax.set_axis_off()
    return ax


def _sizes(adata: AnnData, key: str, names: list[str]) -> NDArray[np.intp]:
    """Count the places of domains, checked."""
    require_key(adata.obs.columns, key, where="obs")
    counts = pd.Series(categories(adata, key).astype(str)).value_counts()
    if missing := [name for name in names if name not in counts.index]:
        raise InputError(
            f"Expected the domains of the trajectory in obs[{key!r}], found none of {missing[0]!r}. "
            "Run stmmr.tl.trajectory(adata) again."
        )
    return np.array([int(counts[name]) for name in names])


def _draw_links(
    ax: Axes, at: NDArray[np.float64], weights: NDArray[np.float64], tree: NDArray[np.float64], threshold: float
) -> None:
    """Draw the tree as lines and other links as arcs."""
    from matplotlib.patches import FancyArrowPatch

    for i, j in zip(*np.triu_indices(len(at), 1), strict=True):
        in_tree = tree[i, j] > 0
        if not in_tree and weights[i, j] < threshold:
            continue
        ends = sorted((tuple(at[i]), tuple(at[j])))
        ax.add_patch(
            FancyArrowPatch(
                *ends,
                arrowstyle="-",
                connectionstyle="arc3" if in_tree else "arc3,rad=-0.35",
                linewidth=max(0.6, _WIDEST * weights[i, j]),
                color="#595959" if in_tree else "#A6A6A6",
                zorder=2 if in_tree else 1,
                shrinkA=0,
                shrinkB=0,
                clip_on=False,  # arcs may rise above the axes
            )
        )


def layout(tree: NDArray[np.float64], root: int, sizes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Place the nodes of a forest: x counts the edges to the root, no two nodes share a spot.

    The largest children go on in the row of their parent; each other one begins a branch in the next row below that has
    room for it.

    Parameters
    ----------
    tree
        Weights, shape (K, K), symmetric.
    root
        First node of the topmost tree; each other tree begins with its largest node, below.
    sizes
        Of the nodes, shape (K,).

    Returns
    -------
    Shape (K, 2).
    """
    at = np.full((len(tree), 2), np.nan)
    taken: set[tuple[int, int]] = set()

    def place(node: int, row: int, rooted: Rooted) -> None:
        run, others = [node], []
        while children := sorted(rooted.children(run[-1]), key=lambda child: (-sizes[child], child)):
            others.append(children[1:])
            run.append(children[0])
        columns = [int(rooted.depth[one]) for one in run]
        while any((column, row) in taken for column in columns):
            row += 1
        taken.update((column, row) for column in columns)
        at[run] = np.column_stack([columns, np.full(len(run), -float(row))])
        for children in others[::-1]:  # the short branches at the end stay close
            for child in children:
                place(child, row + 1, rooted)

    while np.isnan(at).any():
        place(root, max((row + 1 for _, row in taken), default=0), Rooted.at(tree, root))
        todo = np.flatnonzero(np.isnan(at[:, 0]))
        root = int(todo[sizes[todo].argmax()]) if len(todo) else root
    return at


EACH: Final = 2
"""Genes that are drawn of those that peak in each third of pseudotime."""
STYLES: Final = ("-", "--", ":")


def gene_trends(adata: AnnData, *, genes: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the curves of genes over pseudotime with their confidence bands, on the scale of log1p.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.tl.gene_trends`.
    genes
        Names of fitted genes; if None, the two surest of those that peak early, midway and late each, as the surest of
        all often rise and fall together. At most 18.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("gene_trends.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there are no curves, a gene is not among them, or there are more genes than lines to tell apart.
    """
    found = require_step(adata, "gene_trends", by="stmmr.tl.gene_trends")
    fitted = [str(name) for name in found["table"].index]
    shown = leading_trends(found["table"]) if genes is None else gene_list(genes)
    colors = [color for color in PALETTE if color != "#F0E442"][:6]  # yellow lines are lost on white
    if not 1 <= len(shown) <= len(colors) * len(STYLES):
        raise InputError(f"Expected 1 to {len(colors) * len(STYLES)} genes, found {len(shown)}.")
    for gene in shown:
        require_key(fitted, gene, where="the table of gene trends")
    time = np.asarray(found["pseudotime"])
    ax = ax or new_axes(4.5 + 0.5 + text_width(*shown), 3)
    for at, gene in enumerate(shown):
        curve, low, high = (np.log1p(found[name][fitted.index(gene)]) for name in ("curve", "low", "high"))
        color = colors[at % len(colors)]
        ax.fill_between(time, low, high, color=color, alpha=0.2, linewidth=0)
        ax.plot(time, curve, color=color, linewidth=1.5, linestyle=STYLES[at // len(colors)], label=gene)
    top = max(np.log1p(found["curve"][fitted.index(gene)]).max() for gene in shown)
    ax.set(xlabel="Pseudotime", ylabel="Expression (log1p)", xlim=(time[0], time[-1]), ylim=(0, 1.15 * top))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")
    return ax


def leading_trends(table: pd.DataFrame) -> list[str]:
    """Choose genes to draw from the table of gene trends, which has the surest first; early peaks first."""
    third = np.minimum(3 * table["peak"].to_numpy(), 2).astype(int)
    shown = table.groupby(third).head(EACH).sort_values("peak", kind="stable")
    return [str(name) for name in shown.index]
