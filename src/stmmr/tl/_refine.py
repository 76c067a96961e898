"""Smoothing of domains by a majority vote of neighbours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError
from stmmr._core.colors import colors_by_name, set_colors
from stmmr._core.depends import clears_outdated, depends
from stmmr._core.kernel import nearest_in_chunks
from stmmr._core.options import checked
from stmmr._core.order import in_tissue_order
from stmmr._core.pieces import gap_of, on_one_piece
from stmmr._core.record import record, recorded
from stmmr._core.sections import tissue_coordinates
from stmmr._core.space import rows_called

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Ints

logger = logging.getLogger("stmmr")


@checked
@clears_outdated
@in_tissue_order
def refine(
    adata: AnnData, *, n_neighbors: int = 12, domain_key: str = keys.DOMAIN, key_added: str = keys.DOMAIN_REFINED
) -> None:
    """Assign each spot the domain of most of its neighbours, in one pass.

    The spot itself and its `n_neighbors` nearest neighbours vote. The domain changes only if another one has more votes
    than any other, so a tie keeps the domain. Spots without a domain do not vote and get none. No spot votes across a
    gap in the tissue that is wider than three distances between spots. Run :func:`stmmr.tl.domains` first.

    Twelve neighbours are complete rings on the hexagonal array of Visium (6 + 6) and on a square one (4 + 4 + 4). The
    published vote (50 neighbours, without the spot itself) reaches four spots far and removes layers that are thinner.
    If domains are much wider, use `n_neighbors=50`.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    n_neighbors
        Number of nearest neighbours that vote besides the spot itself.
    domain_key
        Column of ``obs`` with the domains to refine.
    key_added
        Column of ``obs`` to write.

    Returns
    -------
    None. Sets:

    ``obs[key_added]``
        Refined domains, categorical with the categories of `domain_key`, even if a domain lost its last spot, so that
        domains keep their names and colours.
    ``uns[f"{key_added}_colors"]``
        The colours of `domain_key`, where it has some.
    ``uns["stmmr"]["refine"][key_added]``
        `n_neighbors`, `domain_key` and ``"changed"``, the share of spots whose domain changed.

    Raises
    ------
    InputError
        If the column does not exist, no spot has a domain, or there are no more than `n_neighbors` spots.
    """
    domains = categories(adata, domain_key, hint="Run stmmr.tl.domains(adata) first.")
    if not (domains.codes >= 0).any():
        raise InputError(f"Expected domains in obs[{domain_key!r}], found only missing values.")
    codes = domains.codes.astype(np.intp)
    refined = codes.copy()
    xy = tissue_coordinates(adata)
    gap = gap_of(xy)
    for index, neighbors in nearest_in_chunks(xy, n_neighbors):
        ballots = np.where(on_one_piece(xy, index, neighbors, gap), codes[neighbors], -1)
        refined[index] = _vote(codes[index], ballots)
    adata.obs[key_added] = pd.Categorical.from_codes(refined, dtype=domains.dtype)
    if known := colors_by_name(adata, domain_key):
        set_colors(adata, key_added, known=known)
    changed = float(np.mean(refined != codes))
    spots = rows_called(adata)
    logger.info("The vote of %d neighbours changed the domain of %.1f %% of %s.", n_neighbors, 100 * changed, spots)
    step = {"n_neighbors": n_neighbors, "domain_key": domain_key, "changed": changed}
    record(adata, refine={**recorded(adata).get("refine", {}), key_added: step})
    writes = [f"obs:{key_added}", f"notes:refine:{key_added}"]
    depends(adata, f"refine:{key_added}", on=[f"obs:{domain_key}"], writes=writes)


def _vote(own: Ints, others: Ints) -> Ints:
    """Let spots, shape (n,), and their neighbours, shape (n, k), vote for domains; −1 is no vote."""
    ballots = np.column_stack([own, others])
    n_domains = ballots.max() + 1
    spot, voter = np.nonzero(ballots >= 0)
    cells = spot * n_domains + ballots[spot, voter]
    votes = np.bincount(cells, minlength=len(ballots) * n_domains).reshape(-1, n_domains)
    most = votes.max(axis=1, keepdims=True)
    # a single winner is the domain of the spot, or has more votes
    single = ((votes == most).sum(axis=1) == 1) & (ballots[:, 0] >= 0)
    return np.where(single, votes.argmax(axis=1), ballots[:, 0])
