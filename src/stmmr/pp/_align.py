"""Alignment of serial sections in three dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, representation, require_extra, require_key, require_positive
from stmmr._core.compat import libraries_of
from stmmr._core.kernel import nearest_neighbour_distance
from stmmr._core.options import checked
from stmmr._core.order import in_tissue_order
from stmmr._core.record import record
from stmmr._core.sections import sections_of
from stmmr._core.space import coordinates
from stmmr._core.space import um_per_unit as um_of

if TYPE_CHECKING:
    from types import ModuleType

    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float32, Float64, Ints

SPACE: Final = 0.1
"""Weight of distances in the tissue relative to expression, as in PASTE."""
SMOOTHED_OVER: Final = 7
"""Spots over which expression is averaged before it is compared, including the spot itself."""
MATCHED_AT_MOST: Final = 1_000
"""Spots of a section that are matched; of a larger section, as many are drawn at random."""
SEEN_AT: Final = 1.0
"""Width of the Gaussian that reads expression between spots, in spot distances."""
ROUNDS: Final = 2
"""Rounds of the local search."""
MIRRORED: Final = 0.7
"""Remaining mean squared distance with a reflection, over that without, below which a section looks mirrored."""


@checked
@in_tissue_order
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
    """Align serial sections by rotation and shift, one after another, and stack them.

    Each section is matched to the one before it by fused Gromov-Wasserstein transport of expression and distances
    (PASTE: Zeira et al., Nature Methods 2022, doi:10.1038/s41592-022-01459-6; by POT, extra ``integration``). It is
    then moved by the rotation and shift that minimise the squared distance between matched spots (weighted
    Procrustes). From there, a local search finds the rotation and shift at which spots are most similar in expression
    to the spots below them. Nothing is stretched or bent. Sections should show much the same area of tissue.

    Parameters
    ----------
    adata
        After ``stmmr.pp.expression(adata, section_key=…)``.
    section_key
        Column of ``obs`` with the section of each spot. Sections are stacked in the order of its categories.
    z
        Distance between consecutive sections in µm, or the position of each section in µm by name, which also gives
        the order.
    um_per_unit
        µm per unit of the coordinates, the same in all sections; None: from the scale factors or the array of each.
    use_rep
        Key of ``obsm`` with the expression, comparable between sections.
    mirror
        Whether a section may be turned over. If not, a warning names a section that would fit clearly better.
    random_state
        Seed of the spots that are drawn from a section of more than 1,000.

    Returns
    -------
    None. Sets:

    ``obsm["spatial_3d"]``
        x, y and z in µm, float64, shape (n_obs, 3); the frame is that of the first section.
    ``uns["stmmr"]["align_sections"]``
        The parameters, and for each section but the first, in order: ``"rotation"`` in degrees, ``"mirrored"``, and
        ``"similarity"``, the mean cosine similarity of the expression of its spots to that below them, 0 where there is
        no tissue below.

    Raises
    ------
    InputError
        If there is only one section, the length of a unit or z of a section is not known, or a key is missing.
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
    samples = [_sample(xy, features, np.flatnonzero(sections.codes == code), rng) for code in range(len(names))]
    xyz = np.column_stack([xy, np.asarray(heights)[sections.codes]])
    moves: list[_Move] = []
    similarities: list[float] = []
    for before, code in pairwise(order):
        (target, target_features), (source, source_features) = samples[before], samples[code]
        plan = _plan(ot, xyz[target, :2], target_features, xy[source], source_features)
        move = _procrustes(plan, xyz[target, :2], xy[source], mirror=mirror)
        if not mirror and (turned := _procrustes(plan, xyz[target, :2], xy[source], mirror=True)).mirrored:
            _warn_mirrored(names[code], names[before], (turned.rms / max(move.rms, 1e-12)) ** 2)
        move, similarity = _refined(move, xyz[target, :2], target_features, xy[source], source_features)
        inside = sections.codes == code
        xyz[inside, :2] = move(xy[inside])
        moves.append(move)
        similarities.append(similarity)
    adata.obsm[keys.SPATIAL_3D] = xyz
    parameters = {
        "section_key": section_key,
        "order": [names[code] for code in order],
        "z_um": [heights[code] for code in order],
        "use_rep": use_rep,
        "rotation": [move.degrees for move in moves],
        "mirrored": [move.mirrored for move in moves],
        "similarity": similarities,
    }
    record(adata, align_sections=parameters)


class _Move:
    """A rotation, with or without a reflection, and a shift."""

    def __init__(self, matrix: Float64, shift: Float64, rms: float = math.nan) -> None:
        self.matrix, self.shift, self.rms = matrix, shift, rms

    def __call__(self, xy: Float64) -> Float64:
        """Move points, shape (N, 2)."""
        return np.asarray(xy @ self.matrix + self.shift)

    @property
    def mirrored(self) -> bool:
        """Whether it turns the section over."""
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def degrees(self) -> float:
        """Angle of the rotation, from x towards y."""
        return math.degrees(math.atan2(self.matrix[0, 1], self.matrix[0, 0]))


def _heights(z: float | Mapping[str, float], names: list[str]) -> list[float]:
    """Get z of each section in µm."""
    if not isinstance(z, Mapping):
        require_positive(z, name="z")
        return [float(z) * i for i in range(len(names))]
    heights = {str(name): float(height) for name, height in z.items()}
    missing = [name for name in names if not math.isfinite(heights.get(name, math.nan))]
    if missing:
        raise InputError(f"Expected z of every section in µm, found none for {listed(missing)}.")
    return [heights[name] for name in names]


def _in_um(adata: AnnData, sections: pd.Categorical, um_per_unit: float | None) -> Float64:
    """Get coordinates in µm, shape (N, 2)."""
    xy = coordinates(adata)
    if um_per_unit is not None:
        return xy * um_per_unit
    libraries = libraries_of(adata)
    um = np.empty(len(xy))
    for code, name in enumerate(sections.categories):
        inside = sections.codes == code
        library = [libraries[str(name)]] if str(name) in libraries else list(libraries.values())
        um[inside], _ = um_of(adata[inside], xy[inside], *library)
    if not np.isfinite(um).all():
        unknown = sections.categories[np.unique(sections.codes[~np.isfinite(um)])]
        raise InputError(
            f"Expected the length of a unit of the coordinates in µm, found none for {listed(unknown)}. Bring all "
            "sections to one unit and give um_per_unit=…."
        )
    return np.asarray(xy * um[:, None])


def _sample(xy: Float64, features: Float32, inside: Ints, rng: np.random.Generator) -> tuple[Ints, Float32]:
    """Draw the spots of a section that are matched, and average the expression around each; shape (n, F)."""
    sample = inside if len(inside) <= MATCHED_AT_MOST else np.sort(rng.choice(inside, MATCHED_AT_MOST, replace=False))
    near = cKDTree(xy[inside]).query(xy[sample], k=min(SMOOTHED_OVER, len(inside)))[1].reshape(len(sample), -1)
    return sample, features[inside[near]].mean(axis=1)


def _plan(
    ot: ModuleType, target: Float64, target_features: Float32, source: Float64, source_features: Float32
) -> Float64:
    """Match spots by expression and by distances within their section, shape (n_target, n_source)."""
    unlike = cdist(target_features, source_features, "sqeuclidean")
    within = [cdist(points, points) for points in (target, source)]
    scale = max(float(distances.max()) for distances in within) or 1.0
    return np.asarray(
        ot.gromov.fused_gromov_wasserstein(
            unlike / (unlike.mean() or 1.0), within[0] / scale, within[1] / scale, alpha=SPACE, symmetric=True
        )
    )


def _procrustes(plan: Float64, target: Float64, source: Float64, *, mirror: bool) -> _Move:
    """Find the move that brings matched spots closest (Kabsch 1976, doi:10.1107/S0567739476001873)."""
    weight = plan / plan.sum()
    target_centre, source_centre = weight.sum(axis=1) @ target, weight.sum(axis=0) @ source
    u, _, vt = np.linalg.svd((source - source_centre).T @ weight.T @ (target - target_centre))
    flip = 1.0 if mirror else float(np.sign(np.linalg.det(u @ vt)))
    matrix = u @ np.diag([1.0, flip]) @ vt
    shift = target_centre - source_centre @ matrix
    remaining = float((weight * cdist(target, source @ matrix + shift, "sqeuclidean")).sum())
    return _Move(matrix, shift, math.sqrt(remaining))


def _refined(
    move: _Move, target: Float64, target_features: Float32, source: Float64, source_features: Float32
) -> tuple[_Move, float]:
    """Search the rotation and shift near a move at which spots are most similar to those below them.

    Transport matches each spot to many, so its move is right to a spot or two only. Expression below a moved spot is
    that of the six nearest spots, by a Gaussian of their distances; a spot without tissue within two spot distances has
    the similarity 0.

    Returns
    -------
    The move, and the mean cosine similarity.
    """
    moved, tree = move(source), cKDTree(target)
    centre, spot = moved.mean(axis=0), nearest_neighbour_distance(target)
    radius = float(np.linalg.norm(moved - centre, axis=1).mean()) or 1.0
    below, own = _directions(target_features), _directions(source_features)
    n_near = min(6, len(target))

    def move_by(parameters: Float64) -> _Move:
        angle, shift = parameters[0], radius * parameters[1:]
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        return _Move(move.matrix @ turn, (move.shift - centre) @ turn + centre + shift)

    def unlike(parameters: Float64) -> float:
        distances, near = map(np.asarray, tree.query(move_by(parameters)(source), k=[*range(1, n_near + 1)]))
        distance = distances / spot  # (n, k)
        weight = np.exp(-np.square(distance / SEEN_AT)) + np.finfo(float).tiny
        similarity = (np.einsum("nkf,nf->nk", below[near], own) * weight).sum(axis=1) / weight.sum(axis=1)
        return -float((similarity * np.clip(2 - distance[:, 0], 0, 1)).mean())

    best = np.zeros(3)
    for _ in range(ROUNDS):  # one pass along the axes can end beside the optimum
        best = min(best, minimize(unlike, best, method="Powell").x, key=unlike)
    return move_by(best), -unlike(best)


def _directions(features: Float32) -> Float64:
    """Centre features and scale each row to length one."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))


def _warn_mirrored(name: str, before: str, ratio: float) -> None:
    if ratio < MIRRORED:
        logger.warning(
            "Section %s would fit %s better turned over (%.0f %% of the mean squared distance). If it may lie upside "
            "down, give mirror=True.",
            name,
            before,
            100 * ratio,
        )
