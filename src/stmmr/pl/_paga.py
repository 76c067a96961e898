"""The graph over domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core.checks import InputError, require_key, require_step
from stmmr.pl._axes import new_axes, text_width
from stmmr.pl._palette import category_colors
from stmmr.tl._metrics import categories
from stmmr.tl._paga import Rooted

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

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
