"""Consensus of many partitions, with a confidence for each spot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.arrays import device, likeliest
from stmmr._core.checks import InputError, require_positive
from stmmr._core.depends import clears_outdated
from stmmr._core.kernel import kernel_of
from stmmr._core.options import Checked, checked, shows_options
from stmmr._core.order import in_tissue_order
from stmmr._core.parallel import in_parallel, one_thread
from stmmr._core.rows import CHUNK, empty, release, slices
from stmmr._core.sections import graph_sections
from stmmr.tl._alternatives import second_answer
from stmmr.tl._domains import NEW, by_size, describe_domains
from stmmr.tl._number import behind_best, chosen_number, n_independent
from stmmr.tl._points import embedding_at, fitted_features, moves_with_bandwidth, points_of, variance_scaled
from stmmr.tl._readouts import fit_from_kmeans, kmeans, sample
from stmmr.tl._vote import adjusted_rand, drawn, n_groups_of, vote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from stmmr._core.types import Float64, Floats, Ints
    from stmmr.tl._alternatives import Alternative
    from stmmr.tl._mixture import TiedMixture

FITTED_AT_MOST: Final = 5_000
"""Spots that one mixture is fitted to; the others are assigned."""
PATIENCE: Final = 2.0
"""Standard errors by which a mixture fits worse than the best, for which its weight in the vote falls by a factor e."""


@dataclass(frozen=True, kw_only=True)
class ConsensusOptions(Checked):
    """Options of the partitions.

    Attributes
    ----------
    scales
        Bandwidths as multiples of that of the graph. Only 1 is used unless the embedding comes from untrained linear
        encoders, as with the default preset.
    variance_scales
        The same for the second view, the leading components of the propagated expression, each scaled to unit variance.
        Empty: only the embedding.
    n_partitions
        Number of partitions, over all scales of both views.
    confidence_key
        Column of ``obs`` for the confidence.
    alternative_key
        Column of ``obs`` for a second partition, written where there is one.
    """

    scales: Sequence[float] = (1.0, 1.25)
    variance_scales: Sequence[float] = (0.85, 1.1)
    n_partitions: int = 80
    confidence_key: str = keys.CONFIDENCE
    alternative_key: str = keys.ALTERNATIVE

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        for scale in (*self.scales, *self.variance_scales):
            require_positive(scale, name="each of scales")
        if 1.0 not in self.scales:
            raise InputError(f"Expected scales to contain 1, found {list(self.scales)}.")


@checked
@shows_options(ConsensusOptions)
@one_thread
@clears_outdated
@in_tissue_order
def consensus(
    adata: AnnData,
    n_domains: int | Literal["auto"],
    *,
    use_rep: str = keys.EMBEDDING,
    random_state: int = 0,
    key_added: str = keys.DOMAIN,
    progress: bool = False,
    **options: Any,
) -> None:
    """Find spatial domains as the consensus of many partitions, with a confidence for each spot.

    Gaussian mixtures are fitted from different starts, to the embedding at two bandwidths, and to a second view, in
    which components count by their variance instead of their noise. They are matched to the partition that agrees best
    with all others and vote on the domain of each spot. Votes of mixtures that fit the data worse than the best one by
    some standard errors count less. Memory grows with the number of spots times partitions (one byte each), not with
    pairs of spots.

    Parameters
    ----------
    adata
        With an embedding from `stmmr.StMMR`, or any in ``obsm``.
    n_domains
        Number of domains, at most 127; "auto" takes the number from `stmmr.tl.number_of_domains`.
    use_rep
        Key of ``obsm``.
    random_state
        Seed of the starts.
    key_added
        Column of ``obs`` for the domains.

    Returns
    -------
    None. Sets:

    ``obs[key_added]``
        Categorical "1" … "K", from the largest domain to the smallest; K is `n_domains`.
    ``obs[confidence_key]``
        Share of the votes for the domain of the spot, in (0, 1].
    ``obs[alternative_key]``
        Categorical, only where partitions with at least a fifth of the votes agree with each other on a second one; see
        `stmmr.tl.alternatives`. Its names are those of the domains with which they share most spots.
    ``uns[f"{key_added}_colors"]``
        One colour for each domain; those of neighbouring domains differ most, also with colour blindness.
    ``uns["stmmr"]["consensus"]``
        Parameters, and ``"agreement"``: the mean adjusted Rand index between the consensus and the partitions,
        by their votes.

    Raises
    ------
    InputError
        If there is no such embedding, or there are fewer different spots than domains.
    """
    chosen = ConsensusOptions(**options)
    number = "auto" if n_domains == "auto" else "given"
    if n_domains == "auto":
        n_domains = chosen_number(adata, use_rep=use_rep, random_state=random_state)
    if n_domains > 127:
        raise InputError(f"Expected 1 to 127 domains, found {n_domains}.")
    embedding, _ = points_of(adata, use_rep, fewest=n_domains, random_state=random_state)
    scales: tuple[float, ...] = (1.0,)
    variance_scales: tuple[float, ...] = ()
    if moves_with_bandwidth(adata, use_rep):
        scales, variance_scales = tuple(chosen.scales), tuple(chosen.variance_scales)
    n_views = len(scales + variance_scales)
    features = fitted_features(adata) if n_views > 1 else []

    def views() -> Iterator[Floats]:
        for scale in scales:
            if scale == 1:
                yield embedding
            else:
                yield embedding_at(adata, kernel_of(adata, scale=scale), features=features, progress=progress)
        for scale in variance_scales:
            yield variance_scaled(features[0], kernel_of(adata, scale=scale), progress=progress)

    sections = graph_sections(adata)
    codes = None if sections is None else sections.codes.astype(np.intp)
    n_each = -(-chosen.n_partitions // n_views)
    partitions = empty((n_each * n_views, adata.n_obs), np.int8)
    weights = np.empty(len(partitions))
    n = n_independent(kernel_of(adata)) if n_views > 1 else float(adata.n_obs)
    for i, points in enumerate(views()):
        block = slice(i * n_each, (i + 1) * n_each)
        seeds = (random_state * len(partitions) + j for j in range(block.start, block.stop))
        mixtures = [one_mixture(points, n_domains, seed=seed, sections=codes) for seed in seeds]
        weights[block] = plausibility(mixtures, points, n=n, random_state=random_state)
        for rows, groups in assigned_by_all(mixtures, points):
            partitions[block, rows] = groups
        release()
    if not (n_groups_of(partitions) == n_domains).any():
        partitions[0] = kmeans(embedding, n_domains, fitted_at_most=FITTED_AT_MOST, random_state=random_state)
    similarity = adjusted_rand(partitions[:, drawn(adata.n_obs, random_state=random_state)], n_domains)
    known: dict[str, Any] = {"weights": weights, "random_state": random_state, "similarity": similarity}
    labels, confidence, agreement = vote(partitions, n_domains, **known)
    other, support = second_answer(partitions, labels, n_domains, **known)
    adata.obs[key_added] = by_size(labels, n_domains)
    adata.obs[chosen.confidence_key] = confidence
    parameters = {
        "n_domains": n_domains,
        "scales": list(scales),
        "variance_scales": list(variance_scales),
        "n_partitions": len(partitions),
        "use_rep": use_rep,
        "random_state": random_state,
        "key_added": key_added,
        "confidence_key": chosen.confidence_key,
        "agreement": agreement,
        "support": support,
        **_written(adata, other, labels, key_added=key_added, alternative_key=chosen.alternative_key),
    }
    describe_domains(adata, "consensus", parameters, number=number)


def one_mixture(points: Floats, n_domains: int, *, seed: int, sections: Ints | None = None) -> TiedMixture:
    """Fit a mixture from one start, to a sample of the points if there are many, balanced over `sections`."""
    if len(points) > FITTED_AT_MOST:
        points = sample(points, n_domains, at_most=FITTED_AT_MOST, random_state=seed, sections=sections)
    fitted = points.astype(np.float64, copy=False)  # enough different ones, as `points_of` checked
    return fit_from_kmeans(fitted, n_domains, random_state=np.random.RandomState(seed))


def plausibility(mixtures: Sequence[TiedMixture], points: Floats, *, n: float, random_state: int) -> Float64:
    """Weigh M mixtures by how well they fit the points, of which `n` are independent; shape (M,), with sum 1.

    The weight of a mixture falls by a factor e for each two standard errors by which its mean log density is behind
    the best (Vuong 1989). Groups count as equally large: otherwise those that part a few spots from all others lead.
    """
    points = sample(points, 1, at_most=FITTED_AT_MOST, random_state=random_state)
    equal = np.full(len(mixtures[0].weights_), 1 / len(mixtures[0].weights_))
    density = np.array([replace(mixture, weights_=equal).score_samples(points) for mixture in mixtures])
    weights = np.exp(-behind_best(density, min(n, float(len(points)))) / PATIENCE)
    return np.asarray(weights / weights.sum())


def assigned_by_all(mixtures: Sequence[TiedMixture], points: Floats) -> Iterator[tuple[slice, Ints]]:
    """Find the likeliest group of every point under each of M mixtures, with one product per chunk of points.

    Yields
    ------
    The rows of a chunk, and the groups of its points, shape (M, n).
    """
    linear = [mixture.linear() for mixture in mixtures]
    slopes = np.hstack([slope for slope, _, _ in linear])  # (d, M K)
    offsets = np.concatenate([offset for _, offset, _ in linear])
    chunks = list(slices(len(points), CHUNK))
    assign = partial(likeliest, slopes=slopes, offsets=offsets, n_mixtures=len(mixtures), device=device())
    yield from zip(chunks, in_parallel(assign, ((points[rows],) for rows in chunks)), strict=True)


def _written(
    adata: AnnData, other: Alternative | None, labels: Ints, *, key_added: str, alternative_key: str
) -> dict[str, dict[str, object]]:
    """Write the second partition with the names of the domains, instead of an earlier one; describe it."""
    if alternative_key in adata.obs:
        del adata.obs[alternative_key]
    if other is None:
        return {}
    domains = adata.obs[key_added].cat
    names = dict(zip(labels, np.asarray(domains.categories)[domains.codes], strict=True))
    shown = pd.Categorical([names.get(group, NEW) for group in other.labels])
    in_order = [name for name in (*domains.categories, NEW) if name in shown.categories]
    adata.obs[alternative_key] = shown.reorder_categories(in_order)
    return {"alternative": {"key_added": alternative_key, "support": other.support, "similarity": other.similarity}}
