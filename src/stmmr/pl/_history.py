"""The course of the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmmr._core.checks import InputError
from stmmr._core.record import recorded
from stmmr.pl._axes import new_axes
from stmmr.pl._palette import PALETTE

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def history(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw each term of the loss over the epochs.

    The terms differ by orders of magnitude and some may be negative; so each is drawn over its own range, from its
    lowest (0) to its highest value (1), and the legend says where it started and ended. An only term is drawn as it is.

    Parameters
    ----------
    adata
        Annotated data with ``uns["stmmr"]["history"]``: for each term its value in every epoch.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("history.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no history.
    """
    from matplotlib.ticker import MaxNLocator

    steps = recorded(adata).get("history", {})
    terms = {name: np.asarray(values, dtype=np.float64) for name, values in steps.items() if len(values)}
    if not terms:
        raise InputError(
            "Expected the training history in uns['stmmr']['history'], found none. "
            "Train first: stmmr.StMMR(adata).fit()."
        )
    ax = ax or new_axes(6, 3)
    names = sorted(terms, key=lambda name: name != "loss")
    if names[0] == "loss" and len(names) == 2:
        names = names[:1]  # the only term is the loss itself
    single = len(names) == 1
    for color, name in zip(["black", *PALETTE], names, strict=False):
        values = terms[name]
        ax.plot(
            np.arange(1, len(values) + 1),
            np.where(np.isfinite(values), values, np.nan) if single else _over_range(values),
            label=f"{name}  {values[0]:.3g} → {values[-1]:.3g}",
            color=color,
            linewidth=2 if name == "loss" and not single else 1.2,
            marker="o" if len(values) == 1 else None,
        )
    ax.set(xlabel="Step", ylabel="Loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    if not single:
        ax.set(ylabel="Loss over its range", ylim=(-0.03, 1.03), yticks=[0, 0.5, 1])
        ax.legend(
            title="First → last value",
            loc="upper left",
            bbox_to_anchor=(1, 1),
            frameon=False,
            fontsize="small",
            title_fontsize="small",
            alignment="left",
        )
    return ax


def _over_range(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring the values to 0 (lowest) to 1 (highest); values that never change to 0, others than finite to gaps."""
    finite = values[np.isfinite(values)]
    low, span = (finite.min(), np.ptp(finite)) if finite.size else (0.0, 0.0)
    return np.where(np.isfinite(values), (values - low) / (span or 1.0), np.nan)
