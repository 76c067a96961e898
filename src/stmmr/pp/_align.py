"""Serial sections brought to one frame in three dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, representation, require_extra, require_key, require_positive
from stmmr._core.compat import libraries_of
from stmmr._core.record import record
from stmmr._core.sections import sections_of
from stmmr._core.space import coordinates
from stmmr._core.space import um_per_unit as um_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

SPACE: Final = 0.1
"""Weight of distances in the tissue against likeness of expression, as in PASTE."""
SMOOTHED_OVER: Final = 7
"""Places over which expression is averaged before it is compared, the place itself among them."""
PLACES_AT_MOST: Final = 1_000
"""Places of a section that are matched; of more, as many are drawn, spread over the section."""
MIRRORED: Final = 0.7
"""Ratio of the mean squared distances left, mirrored over turned, below which to say that a section looks mirrored."""


def align_sections(
    adata: AnnData,
    section_key: str,
    *,
    z: float | Mapping[str, float],
    um_per_unit: float | None = None,
    use_rep: str = keys.COMPONENTS,
    mirror: bool = False,
    random_state: int = 0,
) -> None:
    """Turn and shift sections onto each other, one after another, and stack them.

    Each section is matched to the one before it by fused Gromov-Wasserstein transport of expression and distances
    (PASTE: Zeira et al., Nature Methods 2022, doi:10.1038/s41592-022-01459-6; by POT, extra ``integration``), and
    brought onto it by the rotation and the shift that leave the least squared distance of matched places (weighted
    Procrustes). Nothing is stretched or bent. Sections are taken to show much the same area of tissue.

    Parameters
    ----------
    adata
        After ``stmmr.pp.expression(adata, section_key=…)``.
    section_key
        Column of ``obs`` with the section of each place. Sections are stacked in the order of its categories.
    z
        Distance between neighbouring sections in µm, or the position of each section in µm by name; these give
        the order too.
    um_per_unit
        µm per unit of the coordinates, the same in all sections; ``None``: what scale factors or the array tell of
        each.
    use_rep
        Key of ``obsm`` with the expression, comparable over sections.
    mirror
        Whether a section may be turned over. If not, one that fits clearly better that way is named in a warning.
    random_state
        Seed of the places that are drawn of a section of more than 1,000.

    Returns
    -------
    None. Sets:

    ``obsm["spatial_3d"]``
        x, y and z in µm, float64, shape (n_obs, 3); the frame is that of the first section.
    ``uns["stmmr"]["align_sections"]``
        The parameters, and of each section but the first, in order: ``"rotation"`` in degrees, whether it was
        ``"mirrored"``, and ``"rms_um"``, the root mean square distance left between matched places.

    Raises
    ------
    InputError
        If there is one section only, the length of a unit or z of a section is not known, or something is missing.
    """
    sections = sections_of(adata, section_key)
    names = [] if sections is None else [str(name) for name in sections.categories]
    if sections is None or len(names) < 2:
        raise InputError(f"Expected two sections or more in obs[{section_key!r}], found {listed(names)}.")
    heights = _heights(z, names)
    order = sorted(range(len(names)), key=lambda code: heights[code]) if isinstance(z, Mapping) else range(len(names))
    hint = f"Run stmmr.pp.expression(adata, section_key={section_key!r}) first."
    require_key(adata.obsm, use_rep, where="obsm", hint=hint)
    ot = require_extra("ot", extra="integration")
    xy = _in_um(adata, sections, um_per_unit)
    features, rng = representation(adata, use_rep), np.random.default_rng(random_state)
    read = [_read(xy, features, np.flatnonzero(sections.codes == code), rng) for code in range(len(names))]
    xyz, found = np.column_stack([xy, np.asarray(heights)[sections.codes]]), []
    for before, code in pairwise(order):
        (target, known), (source, here) = read[before], read[code]
        plan = _plan(ot, xyz[target, :2], known, xy[source], here)
        moved = _procrustes(plan, xyz[target, :2], xy[source], mirror=mirror)
        if not mirror and (turned := _procrustes(plan, xyz[target, :2], xy[source], mirror=True)).mirrored:
            _say_mirrored(names[code], names[before], (turned.rms / max(moved.rms, 1e-12)) ** 2)
        own = sections.codes == code
        xyz[own, :2] = moved(xy[own])
        found.append(moved)
    adata.obsm[keys.SPATIAL_3D] = xyz
    parameters: dict[str, Any] = {
        "section_key": section_key,
        "order": [names[code] for code in order],
        "z_um": [heights[code] for code in order],
        "use_rep": use_rep,
        "rotation": [move.degrees for move in found],
        "mirrored": [move.mirrored for move in found],
        "rms_um": [move.rms for move in found],
    }
    record(adata, align_sections=parameters)


class _Move:
    """A rotation, maybe with a reflection, and a shift."""

    def __init__(self, matrix: NDArray[np.float64], shift: NDArray[np.float64], rms: float) -> None:
        self.matrix, self.shift, self.rms = matrix, shift, rms

    def __call__(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move places, shape (N, 2)."""
        return np.asarray(xy @ self.matrix + self.shift)

    @property
    def mirrored(self) -> bool:
        """Whether it turns the section over."""
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def degrees(self) -> float:
        """How far it turns the x axis, towards y."""
        return math.degrees(math.atan2(self.matrix[0, 1], self.matrix[0, 0]))


def _heights(z: float | Mapping[str, float], names: list[str]) -> list[float]:
    """Get z of each section in µm."""
    if not isinstance(z, Mapping):
        require_positive(z, name="z")
        return [float(z) * at for at in range(len(names))]
    given = {str(name): float(height) for name, height in z.items()}
    missing = [name for name in names if not math.isfinite(given.get(name, math.nan))]
    if missing:
        raise InputError(f"Expected z of every section in µm, found none of {listed(missing)}.")
    return [given[name] for name in names]


def _in_um(adata: AnnData, sections: pd.Categorical, um_per_unit: float | None) -> NDArray[np.float64]:
    """Get coordinates in µm, shape (N, 2)."""
    xy = coordinates(adata)
    if um_per_unit is not None:
        require_positive(um_per_unit, name="um_per_unit")
        return xy * um_per_unit
    libraries = libraries_of(adata)
    um = np.empty(len(xy))
    for code, name in enumerate(sections.categories):
        own = sections.codes == code
        library = [libraries[str(name)]] if str(name) in libraries else list(libraries.values())
        um[own], _ = um_of(adata[own], xy[own], *library)
    if not np.isfinite(um).all():
        unknown = sections.categories[np.unique(sections.codes[~np.isfinite(um)])]
        raise InputError(
            f"Expected the length of a unit of the coordinates, found nothing that tells it in {listed(unknown)}. Give "
            "um_per_unit=…, with all sections in one unit."
        )
    return np.asarray(xy * um[:, None])


def _read(
    xy: NDArray[np.float64], features: NDArray[np.float32], own: NDArray[np.intp], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Choose the places of a section that are matched, and average expression around each; shape (n, F)."""
    chosen = own if len(own) <= PLACES_AT_MOST else np.sort(rng.choice(own, PLACES_AT_MOST, replace=False))
    near = cKDTree(xy[own]).query(xy[chosen], k=min(SMOOTHED_OVER, len(own)))[1].reshape(len(chosen), -1)
    return chosen, features[own[near]].mean(axis=1)


def _plan(
    ot: Any,
    target: NDArray[np.float64],
    known: NDArray[np.float32],
    source: NDArray[np.float64],
    here: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Match places by expression and by their distances to others of their section, shape (n_target, n_source)."""
    unlike = cdist(known, here, "sqeuclidean")
    inside = [cdist(places, places) for places in (target, source)]
    scale = max(float(within.max()) for within in inside) or 1.0
    return np.asarray(
        ot.gromov.fused_gromov_wasserstein(
            unlike / (unlike.mean() or 1.0), inside[0] / scale, inside[1] / scale, alpha=SPACE, symmetric=True
        )
    )


def _procrustes(
    plan: NDArray[np.float64], target: NDArray[np.float64], source: NDArray[np.float64], *, mirror: bool
) -> _Move:
    """Find what brings matched places closest, weighted by the plan (Kabsch 1976, doi:10.1107/S0567739476001873)."""
    weight = plan / plan.sum()
    to, of = weight.sum(axis=1) @ target, weight.sum(axis=0) @ source
    u, _, vt = np.linalg.svd((source - of).T @ weight.T @ (target - to))
    flip = 1.0 if mirror else float(np.sign(np.linalg.det(u @ vt)))
    matrix = u @ np.diag([1.0, flip]) @ vt
    shift = to - of @ matrix
    left = float((weight * cdist(target, source @ matrix + shift, "sqeuclidean")).sum())
    return _Move(matrix, shift, math.sqrt(left))


def _say_mirrored(name: str, before: str, ratio: float) -> None:
    if ratio < MIRRORED:
        logger.warning(
            "Section %s fits %s better when it is turned over (%.0f %% of the mean squared distance); it was not. Give "
            "mirror=True if it may lie upside down.",
            name,
            before,
            100 * ratio,
        )
