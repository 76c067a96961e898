"""Colours of domains: those of neighbouring domains are far apart, also with colour blindness."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.borders import contacts
from stmmr._core.categories import PALETTE, categories
from stmmr._core.checks import InputError
from stmmr._core.sections import graph_sections, section_codes, tissue_coordinates

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Float64

SIGHTS: Final = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
"""What is seen of linear red, green and blue with each kind of colour blindness (Machado 2009, severity 1)."""
SAMPLED: Final = 20_000
"""Spots from which it is learnt which domains are neighbours."""
FEWEST: Final = 7
"""Colours to choose from, also for fewer domains."""
NEIGHBORS: Final = 6
BORDER: Final = 0.05
"""Share of the border of a domain from which on another one counts as its neighbour in full."""


def seen_distances(colors: tuple[str, ...]) -> Float64:
    """Measure how different colours look: the smallest CIEDE2000 difference over all `SIGHTS`, shape (n, n)."""
    from matplotlib.colors import to_rgba_array
    from skimage.color import deltaE_ciede2000, rgb2lab

    rgb = to_rgba_array(colors)[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    differences = []
    for sight in SIGHTS.values():
        seen = np.clip(linear @ np.transpose(sight), 0, 1)
        lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
        differences.append(deltaE_ciede2000(lab[:, None], lab[None]))  # type: ignore[no-untyped-call]
    return np.asarray(np.min(differences, axis=0))


def assigned_colors(border: Float64) -> list[str]:
    """Assign K domains the first K colours of the palette, or some of its first seven, so that neighbours differ most.

    Colours are swapped as long as that helps.

    Parameters
    ----------
    border
        How much two domains are neighbours, 0 to 1, shape (K, K), symmetric.

    Returns
    -------
    The colour of each domain, shape (K,). The same borders give the same colours.
    """
    n = max(len(border), FEWEST)
    weights, nearness, order = np.zeros((n, n)), _nearness(n), np.arange(n)
    weights[: len(border), : len(border)] = border  # a colour that is left over is that of a domain without neighbours
    while True:
        near = nearness[np.ix_(order, order)]
        cost = weights @ near  # of each domain (row) with the colour of another one
        own = np.diag(cost)
        gain = own[:, None] + own - cost - cost.T - 2 * weights * near
        i, j = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[i, j] <= 1e-12:
            return [PALETTE[index] for index in order[: len(border)]]
        order[[i, j]] = order[[j, i]]


@cache
def _nearness(n: int) -> Float64:
    """Get how alike the first colours look: 1 over the square of their difference, shape (n, n)."""
    distance = seen_distances(PALETTE[:n])
    np.fill_diagonal(distance, np.inf)
    return np.asarray(1 / distance**2)


def borders_of(adata: AnnData, key: str) -> Float64:
    """Measure how much the domains of a column are neighbours in the tissue, 0 to 1, shape (K, K), symmetric."""
    domains = categories(adata, key)
    n_domains = len(domains.categories)
    try:
        xy, sections = tissue_coordinates(adata), graph_sections(adata)
    except InputError:  # domains of an embedding without coordinates
        return np.zeros((n_domains, n_domains))
    sampled = np.arange(adata.n_obs)[:: -(-adata.n_obs // SAMPLED)]
    if len(sampled) <= NEIGHBORS or not np.ptp(xy, axis=0).any():
        return np.zeros((n_domains, n_domains))
    section = section_codes(sections, adata.n_obs)
    counted = contacts(
        xy[sampled],
        domains.codes[sampled].astype(np.intp),
        section[sampled],
        n_domains=n_domains,
        n_neighbors=NEIGHBORS,
    ).astype(np.float64)
    np.fill_diagonal(counted, 0)
    counted += counted.T
    share = counted / np.maximum(counted.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.minimum(np.maximum(share, share.T) / BORDER, 1))


def set_colors(adata: AnnData, key: str, *, known: Mapping[str, str] | None = None) -> None:
    """Set ``uns[f"{key}_colors"]``, one colour for each domain of a column, as scanpy reads it.

    Colours that the user gave by name for all domains stay.

    Parameters
    ----------
    adata
        With domains.
    key
        Column of ``obs``.
    known
        Colours of domains that have one already.
    """
    names = [str(name) for name in categories(adata, key).categories]
    own: Any = adata.uns.get(f"{key}_colors")
    if isinstance(own, Mapping) and set(names) <= {str(name) for name in own}:
        return
    if len(names) > len(PALETTE):
        adata.uns.pop(f"{key}_colors", None)
        return
    if known and set(names) <= known.keys():
        colors = [known[name] for name in names]
    else:
        colors = assigned_colors(borders_of(adata, key))
    adata.uns[f"{key}_colors"] = colors


def colors_by_name(adata: AnnData, key: str) -> dict[str, str]:
    """Get the colours that are set for the domains of a column, by name; empty if there is not one for each."""
    names = [str(name) for name in categories(adata, key).categories]
    own: Any = adata.uns.get(f"{key}_colors")
    if isinstance(own, Mapping):
        return {str(name): str(color) for name, color in own.items()}
    if own is None or isinstance(own, str) or len(own) < len(names):
        return {}
    return dict(zip(names, map(str, own), strict=False))
