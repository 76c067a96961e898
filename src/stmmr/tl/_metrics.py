"""Agreement of domains with an annotation, and their continuity in space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.spatial import cKDTree

from stmmr._core import keys
from stmmr._core.categories import UNTOLD, categories
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.depends import depends
from stmmr._core.kernel import nearest
from stmmr._core.options import checked
from stmmr._core.record import record, recorded
from stmmr._core.sections import tissue_coordinates
from stmmr._core.space import rows_called

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike

    from stmmr._core.types import Float64, Ints

_PAS_NEIGHBORS: Final = 10


@checked
def evaluate(adata: AnnData, *, label_key: str, domain_key: str = keys.DOMAIN) -> dict[str, float]:
    """Compare domains with an annotation, and measure their continuity in space.

    Domains never depend on the annotation. Run :func:`stmmr.tl.consensus` or :func:`stmmr.tl.domains` first.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    label_key
        Column of ``obs`` with the annotation. NaN, None and the texts that `pandas.read_csv` reads as missing (``""``,
        ``"nan"``, ``"NA"``, ``"None"``, …) count as not annotated. Names such as "unknown" are labels like all others,
        with a warning: set them to NaN to leave these spots out.

    Returns
    -------
    The scores, also stored in ``uns["stmmr"]["evaluation"][domain_key]``:

    ``ari``, ``nmi``, ``homogeneity``, ``completeness``
        Agreement over spots with both an annotation and a domain: adjusted Rand index, normalised mutual information
        (arithmetic mean), and its two components. 1 is best.
    ``chaos``, ``pas``
        Continuity of the domains, without the annotation; see :func:`chaos` and :func:`pas`. 0 is best.
    ``n_labelled``, ``n_domains``
        Number of spots that were compared, and of domains with at least one spot.

    Raises
    ------
    InputError
        If a column does not exist, no spot has both an annotation and a domain, or fewer than 11 spots have a domain.
    """
    from sklearn import metrics

    truth = categories(adata, label_key)
    if untold := [str(name) for name in truth.categories if str(name).strip().casefold() in UNTOLD]:
        logger.warning(
            "obs[%r] has the label %s, which counts as one. To leave these %s out, set it to NaN.",
            label_key, listed(untold), rows_called(adata),
        )  # fmt: skip
    domains = categories(adata, domain_key, hint="Run stmmr.tl.domains(adata) first.")
    assigned = domains.codes >= 0
    both = assigned & (truth.codes >= 0)
    spots = rows_called(adata)
    if not both.any():
        raise InputError(
            f"Expected {spots} with both a label in obs[{label_key!r}] and a domain in obs[{domain_key!r}], "
            f"found none among {adata.n_obs}. Check that label_key names the annotation."
        )
    if assigned.sum() <= _PAS_NEIGHBORS:
        raise InputError(
            f"Expected more than {_PAS_NEIGHBORS} {spots} with a domain in obs[{domain_key!r}], "
            f"found {assigned.sum()}: too few to measure continuity."
        )
    labels, predicted = truth.codes[both], domains.codes[both]
    xy, codes = tissue_coordinates(adata)[assigned], domains.codes[assigned]
    scores = {
        "ari": float(metrics.adjusted_rand_score(labels, predicted)),
        "nmi": float(metrics.normalized_mutual_info_score(labels, predicted)),
        "homogeneity": float(metrics.homogeneity_score(labels, predicted)),
        "completeness": float(metrics.completeness_score(labels, predicted)),
        "chaos": chaos(xy, codes),
        "pas": pas(xy, codes),
        "n_labelled": int(both.sum()),
        "n_domains": len(np.unique(codes)),
    }
    record(adata, evaluation={**recorded(adata).get("evaluation", {}), domain_key: scores})
    sources, writes = [f"obs:{domain_key}", f"obs:{label_key}"], [f"notes:evaluation:{domain_key}"]
    depends(adata, f"evaluation:{domain_key}", on=sources, writes=writes)
    return scores


def chaos(xy: ArrayLike, domains: ArrayLike) -> float:
    r"""Measure how scattered domains are: the mean distance to the nearest spot of the same domain; 0 is best.

    .. math:: \frac{1}{N} \sum_k \sum_{i \in k} \min_{j \in k,\, j \ne i} \lVert x_i - x_j \rVert

    with each coordinate of `xy`, shape (N, 2), divided by its (sample) standard deviation. A domain of one spot adds 0
    to the sum, as in the reference implementation: Shang and Zhou (2022), SpatialPCA, doi:10.1038/s41467-022-34879-1.
    """
    xy, codes = _checked(xy, domains)
    spread = xy.std(axis=0, ddof=1)
    scaled = xy / np.where(spread > 0, spread, 1)  # spots on a line have no spread across it
    total = 0.0
    for code in range(codes.max() + 1):
        inside = scaled[codes == code]
        if len(inside) > 1:
            total += float(np.sum(cKDTree(inside).query(inside, k=[2])[0]))
    return total / len(xy)


def pas(xy: ArrayLike, domains: ArrayLike, *, n_neighbors: int = _PAS_NEIGHBORS) -> float:
    """Measure the percentage of abnormal spots (PAS): those with more than half of their neighbours in other domains.

    With 10 neighbours, at least six have to be in other domains. From 0 to 1; 0 is best. Coordinates have shape (N, 2),
    N above `n_neighbors`. Source: Shang and Zhou (2022), doi:10.1038/s41467-022-34879-1.
    """
    xy, codes = _checked(xy, domains)
    other = codes[nearest(xy, n_neighbors)] != codes[:, None]
    return float(np.mean(other.sum(axis=1) > n_neighbors / 2))


def _checked(xy: ArrayLike, domains: ArrayLike) -> tuple[Float64, Ints]:
    """Convert coordinates to float64 and domains to codes from 0, and check that they match."""
    xy, domains = np.asarray(xy, dtype=np.float64), np.asarray(domains)
    if xy.ndim != 2 or domains.shape != xy.shape[:1] or len(xy) < 2:
        raise InputError(
            f"Expected coordinates of shape (N, 2) and N domains, N at least 2, found {xy.shape} and {domains.shape}."
        )
    return xy, np.unique(domains, return_inverse=True)[1]
