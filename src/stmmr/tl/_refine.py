"""Smoothing of domains by the vote of each place's neighbourhood."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError
from stmmr._core.kernel import nearest_in_chunks
from stmmr._core.record import record, recorded
from stmmr._core.sections import tissue_coordinates

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")


def refine(
    adata: AnnData,
    *,
    n_neighbors: int = 12,
    domain_key: str = keys.DOMAIN,
    key_added: str = keys.DOMAIN_REFINED,
) -> None:
    """Give each place the domain that most of its neighbourhood has, in one pass.

    The place itself and its `n_neighbors` nearest places vote. The domain changes only where another one has
    more votes than any other, so a tie keeps the domain. Places without a domain have no vote and get none.
    Run :func:`stmmr.tl.domains` first.

    Twelve neighbours are whole rings on the hexagonal array of Visium (6 + 6) and on a square one
    (4 + 4 + 4). The published vote (50, without the place itself) reaches four spots far and erases layers
    thinner than that; where domains are much wider, ask for `n_neighbors=50`.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    n_neighbors
        Nearest places that vote besides the place itself.
    domain_key
        Column of ``obs`` with the domains to refine.
    key_added
        Column of ``obs`` to write.

    Returns
    -------
    Nothing; writes

    ``obs[key_added]``
        Refined domains, categorical. The categories are those of `domain_key`, also where a domain lost its
        last place, so that domains keep their names and colours.
    ``uns["stmmr"]["refine"][key_added]``
        `n_neighbors`, `domain_key` and ``changed``, the share of places with another domain than before.

    Raises
    ------
    InputError
        If the column is not there, no place has a domain, or not more than `n_neighbors` places are there.
    """
    domains = categories(adata, domain_key, hint="Run stmmr.tl.domains(adata) first.")
    if not (domains.codes >= 0).any():
        raise InputError(f"Expected domains in obs[{domain_key!r}], found every place without one.")
    codes = domains.codes.astype(np.intp)
    refined = codes.copy()
    for places, neighbors in nearest_in_chunks(tissue_coordinates(adata), n_neighbors):
        refined[places] = _vote(codes, places, neighbors)
    adata.obs[key_added] = pd.Categorical.from_codes(refined, dtype=domains.dtype)
    changed = float(np.mean(refined != codes))
    logger.info("The vote of %d neighbours changed the domain of %.1f %% of the places.", n_neighbors, 100 * changed)
    step = {"n_neighbors": n_neighbors, "domain_key": domain_key, "changed": changed}
    record(adata, refine={**recorded(adata).get("refine", {}), key_added: step})


def _vote(codes: NDArray[np.intp], places: NDArray[np.intp], neighbors: NDArray[np.intp]) -> NDArray[np.intp]:
    """Let places, shape (n,), and their neighbours, shape (n, k), vote on their domains; code -1 is none."""
    n_domains = codes.max() + 1
    ballots = codes[np.column_stack([places, neighbors])]
    place, voter = np.nonzero(ballots >= 0)
    cells = place * n_domains + ballots[place, voter]
    votes = np.bincount(cells, minlength=len(ballots) * n_domains).reshape(-1, n_domains)
    most = votes.max(axis=1, keepdims=True)
    # a sole winner is the place's own domain or beats it
    sole = ((votes == most).sum(axis=1) == 1) & (ballots[:, 0] >= 0)
    return np.where(sole, votes.argmax(axis=1), ballots[:, 0])
