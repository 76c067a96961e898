"""The scale of the image, from the distances on the array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmmr._core.space import SPOT_STEP, microns_per_pixel


def grid(n_rows: int, n_cols: int) -> np.ndarray:
    """Row and column of each spot: odd rows have odd columns."""
    return np.array([(row, col) for row in range(n_rows) for col in range(row % 2, n_cols, 2)])


def neighbours(array: np.ndarray) -> np.ndarray:
    """Indices of the spots two columns to the right of one another: 100 µm apart."""
    index = {tuple(spot): i for i, spot in enumerate(array)}
    return np.array([(i, index[r, c + 2]) for (r, c), i in index.items() if (r, c + 2) in index])


@given(
    pitch=st.floats(5, 500),
    angle=st.floats(-np.pi, np.pi),
    mirrored=st.booleans(),
    seed=st.integers(0, 2**16),
    n_kept=st.integers(20, 200),
)
def test_turned_mirrored_and_sparse_grids(pitch, angle, mirrored, seed, n_kept):
    array = grid(30, 40)
    # built from the six neighbours of a hexagonal lattice, not from the steps that the estimate assumes
    right = np.array([np.cos(angle), np.sin(angle)]) * pitch
    down = np.array([np.cos(angle + np.pi / 3), np.sin(angle + np.pi / 3)]) * pitch
    n_down = array[:, 0]
    n_right = (array[:, 1] - n_down) / 2
    xy = n_right[:, None] * right + n_down[:, None] * down
    if mirrored:
        xy = xy * [-1, 1]
    start, stop = neighbours(array).T
    np.testing.assert_allclose(np.linalg.norm(xy[start] - xy[stop], axis=1), pitch)

    kept = np.random.default_rng(seed).choice(len(array), n_kept, replace=False)
    rounded = np.rint(xy[kept] * 16) / 16
    found = microns_per_pixel(array[kept][:, ::-1], rounded, step=SPOT_STEP)
    assert found == pytest.approx(100 / pitch, rel=2e-3)


def test_square_grid_is_not_taken_for_a_hexagonal_one():
    array = np.array([(row, col) for row in range(10) for col in range(10)])
    assert microns_per_pixel(array[:, ::-1], array[:, ::-1] * 50.0, step=SPOT_STEP) is None


@pytest.mark.parametrize("array", [np.array([(0, 0)]), np.array([(2, col) for col in range(0, 20, 2)])])
def test_a_point_and_a_line_have_no_scale(array):
    assert microns_per_pixel(array[:, ::-1], array[:, ::-1] * 50.0, step=SPOT_STEP) is None
