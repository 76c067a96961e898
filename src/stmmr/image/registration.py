"""The affine map from coordinates to pixels of an image, as files and users give it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.checks import InputError, require_positive
from stmmr._core.files import existing, parsing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

XENIUM_UM_PER_PX: Final = 0.2125
"""Size of a pixel of Xenium's morphology image, in µm (https://www.10xgenomics.com/support/in-situ-gene-expression/
documentation/steps/onboard-analysis/understanding-xenium-outputs, "Morphology images")."""
XENIUM_ALIGNMENT: Final = "imagealignment.csv"
"""How the names of Xenium's alignment files end. They hold the map from pixels of the image to those of the
morphology image (Xenium Explorer, "Image alignment")."""


def read_registration(source: str | Path | ArrayLike, *, um_per_unit: float = 1.0) -> NDArray[np.float64]:
    """Get the affine map from coordinates to pixels of an image, shape (3, 3).

    The source is a matrix of shape (3, 3) or (2, 3) that takes (x, y, 1) of a spot to its pixel, or a file with it (CSV
    or .npy). A file whose name ends with ``imagealignment.csv`` is one of Xenium Explorer: it maps the image to the
    morphology image and is inverted, for coordinates of `um_per_unit` µm. Raises FileNotFoundError without the file,
    InputError if it is not an invertible affine map.
    """
    if not isinstance(source, (str, Path)):
        return _checked(source, where="registration")
    path = existing(source)
    with parsing(path, expected="a 3 × 3 matrix"):
        values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _from_text(path)
    matrix = _checked(values, where=str(path))
    if not path.name.endswith(XENIUM_ALIGNMENT):
        return matrix
    require_positive(um_per_unit, name="µm per unit of the coordinates, which Xenium's alignment needs,")
    return inverse(matrix) @ scaling(um_per_unit / XENIUM_UM_PER_PX)


def scaling(factor: float) -> NDArray[np.float64]:
    """Make the map of an image whose pixels are coordinates times a factor."""
    return np.diag([factor, factor, 1.0])


def mapped(matrix: NDArray[np.float64], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply an affine map to points, shape (N, 2)."""
    return xy @ matrix[:2, :2].T + matrix[:2, 2]


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert an affine map."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def scale_of(matrix: NDArray[np.float64]) -> float:
    """Get the factor by which an affine map scales lengths, the mean of both directions: pixels per unit."""
    (a, b), (c, d) = matrix[:2, :2]
    return float(np.sqrt(abs(a * d - b * c)))


def _from_text(path: Path) -> NDArray[np.float64]:
    return np.loadtxt(path, delimiter="," if "," in path.read_text(encoding="utf-8") else None, ndmin=2)


def _checked(values: ArrayLike, *, where: str) -> NDArray[np.float64]:
    """Check that a matrix is an invertible affine map."""
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected a 3 × 3 matrix of numbers in {where}, found {error}.") from error
    if matrix.shape == (2, 3):
        matrix = np.vstack([matrix, [0, 0, 1]])
    if matrix.shape != (3, 3):
        raise InputError(f"Expected a 3 × 3 matrix in {where}, found shape {matrix.shape}.")
    if not np.isfinite(matrix).all() or not np.allclose(matrix[2], [0, 0, 1]):
        raise InputError(
            f"Expected an affine map in {where}, with 0, 0, 1 as its last row, found {matrix[2].tolist()}. "
            "Give the matrix that takes (x, y, 1) of a spot to its pixel; a transposed one has 0, 0, 1 as its last "
            "column."
        )
    if abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError(f"Expected an invertible map in {where}, found one of determinant 0.")
    return matrix
