"""Spatial domains by clustering the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import PALETTE
from stmmr._core.checks import InputError, logger, require_choice
from stmmr._core.colors import FEWEST, colors_by_name, set_colors
from stmmr._core.depends import clears_outdated, depends, facts_about
from stmmr._core.options import Checked, checked, shows_options
from stmmr._core.order import in_tissue_order
from stmmr._core.parallel import one_thread
from stmmr._core.record import record, recorded
from stmmr._core.sources import partition_of
from stmmr.tl._leiden import leiden
from stmmr.tl._number import chosen_number
from stmmr.tl._points import N_COMPONENTS, points_of
from stmmr.tl._readouts import Covariance, agglomerative, gaussian_mixture, kmeans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from stmmr._core.types import Floats, Ints

Method = Literal["gaussian_mixture", "kmeans", "leiden", "agglomerative"]
NEW: Final = "new"
"""Name of a group of the second answer that is like none of the domains."""


@dataclass(frozen=True, kw_only=True)
class DomainsOptions(Checked):
    """Options of single methods.

    Attributes
    ----------
    covariance
        Covariance of the mixture: "tied" (one for all domains), "full" or "diag" (one for each).
    resolution
        Resolution of "leiden", larger for more domains. None: a search finds one that gives `n_domains`.
    whiten
        Whether to cluster the leading principal components, each scaled to unit variance, instead of the embedding
        itself. None: unless the scales of the embedding have a meaning, as those of the default preset do.
    n_components
        Number of components, if they are scaled.
    """

    covariance: Covariance = "tied"
    resolution: float | None = None
    whiten: bool | None = None
    n_components: int = N_COMPONENTS


@checked
@shows_options(DomainsOptions)
@one_thread
@clears_outdated
@in_tissue_order
def domains(
    adata: AnnData,
    n_domains: int | Literal["auto"] | None = None,
    *,
    method: Method = "gaussian_mixture",
    use_rep: str = keys.EMBEDDING,
    random_state: int = 0,
    key_added: str = keys.DOMAIN,
    **options: Any,
) -> None:
    """Cluster the embedding into spatial domains.

    By default, 20 Gaussian mixtures are fitted, each started from k-means, and the likeliest is taken. With more than
    10,000 spots, the method is fitted to a sample of 10,000 and the others are assigned. Coordinates are not used:
    isolated spots and separate pieces of tissue are treated like all others.

    Parameters
    ----------
    adata
        With an embedding.
    n_domains
        Number of domains; "auto" takes the number from `stmmr.tl.number_of_domains`. None only with `resolution`.
    method
        "gaussian_mixture"; "kmeans", the best of 20; "leiden", communities of the graph of 15 nearest neighbours in the
        embedding (needs the extra ``leiden``); or "agglomerative" (Ward), for at most 20,000 spots.
    use_rep
        Key of ``obsm``.
    random_state
        Seed; the same seed gives the same domains.
    key_added
        Column of ``obs`` to write.

    Returns
    -------
    None. Sets:

    ``obs[key_added]``
        Categorical "1" … "K", from the largest domain to the smallest; every spot has one and none is empty. K is
        `n_domains`, or with a warning the closest number that "leiden" reached.
    ``uns[f"{key_added}_colors"]``
        One colour for each domain; those of neighbouring domains differ most, also with colour blindness.
    ``uns["stmmr"]["domains"]``
        Parameters; ``"n_domains"`` is K, and ``"resolution"`` the one that was used.

    Raises
    ------
    InputError
        If there is no such embedding, it has an entry that is not finite, there are fewer different spots than
        domains, or too many spots for "agglomerative".
    ImportError
        If the extra ``leiden`` is needed and not installed.
    """
    require_choice(method, get_args(Method), name="method")
    chosen = DomainsOptions(**options)
    number = "auto" if n_domains == "auto" else "given"
    if n_domains == "auto":
        n_domains = chosen_number(adata, use_rep=use_rep, random_state=random_state)
    points, whiten = points_of(
        adata,
        use_rep,
        fewest=1 if n_domains is None else n_domains,
        whiten=chosen.whiten,
        n_components=chosen.n_components,
        random_state=random_state,
    )
    labels, details = _cluster(points, n_domains, chosen, method=method, random_state=random_state)
    adata.obs[key_added] = by_size(labels, n_domains)
    parameters = {
        "n_domains": len(np.unique(labels)),
        "method": method,
        **details,
        "use_rep": use_rep,
        "whiten": whiten,
        "n_components": points.shape[1],
        "random_state": random_state,
        "key_added": key_added,
    }
    describe_domains(adata, "domains", parameters, number=number)


def describe_domains(
    adata: AnnData,
    step: str,
    parameters: dict[str, Any],
    *,
    number: str = "",
    known_colors: Mapping[str, str] | None = None,
) -> None:
    """Record how the domains of a column were found, instead of what described its domains before; set their colours.

    `number` is "given" or "auto"; `known_colors` are those of domains that have some already.
    """
    key = parameters["key_added"]
    notes, confidence = recorded(adata), parameters.get("confidence_key")
    for name in ("consensus", "domains", "transfer"):
        if notes.get(name, {}).get("key_added") == key:
            before = notes.pop(name)
            columns = {before.get("confidence_key"), before.get("alternative", {}).get("key_added")}
            for column in columns - {confidence, parameters.get("alternative", {}).get("key_added")}:
                if column in adata.obs:
                    del adata.obs[column]
    partition = partition_of(adata, key)
    n_domains = len(adata.obs[key].cat.categories)
    same = facts_about(adata, step).get("partition") == partition and len(colors_by_name(adata, key)) == n_domains
    if not same:
        set_colors(adata, key, known=known_colors)
    notes[step] = parameters
    adata.uns[keys.UNS] = {}
    record(adata, **notes)
    depends(
        adata, step, on=[f"obsm:{parameters['use_rep']}"], writes=[f"notes:{step}"], partition=partition, number=number
    )
    if other := parameters.get("alternative"):  # it has the names of the domains
        column, known = other["key_added"], colors_by_name(adata, key)
        if known:
            set_colors(adata, column, known=known | {NEW: PALETTE[max(len(known), FEWEST) % len(PALETTE)]})
        depends(adata, f"alternative:{column}", on=[f"obs:{key}"], writes=[f"obs:{column}"])


def by_size(labels: Ints, n_domains: int | None = None) -> pd.Categorical[str]:
    """Name groups "1" … "K", from the largest to the smallest; warn if there are not `n_domains`."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if n_domains not in (None, len(sizes)):
        logger.warning("Found %d domains instead of the requested %s.", len(sizes), n_domains)
    rank = np.empty(len(sizes), dtype=np.intp)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    names = [str(i + 1) for i in range(len(sizes))]
    return pd.Categorical.from_codes(rank[codes], categories=pd.Index(names))


def _cluster(
    points: Floats, n_domains: int | None, options: DomainsOptions, *, method: Method, random_state: int
) -> tuple[Ints, dict[str, object]]:
    """Label the points, and get the parameters of the method."""
    if method == "leiden":
        labels, resolution = leiden(points, n_domains, resolution=options.resolution, random_state=random_state)
        return labels, {"resolution": resolution}
    if n_domains is None or options.resolution is not None:
        raise InputError(
            f"Expected n_domains and no resolution with method={method!r}. Only 'leiden' has a resolution."
        )
    if method == "gaussian_mixture":
        labels = gaussian_mixture(points, n_domains, covariance=options.covariance, random_state=random_state)
        return labels, {"covariance": options.covariance}
    if method == "kmeans":
        return kmeans(points, n_domains, random_state=random_state), {}
    return agglomerative(points, n_domains), {}
