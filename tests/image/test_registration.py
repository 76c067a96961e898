"""Affine maps from coordinates to pixels, as files and users give them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmmr import InputError
from stmmr.image.registration import XENIUM_UM_PER_PX, mapped, read_registration, scale_of, scaling

TURNED = np.array([[0.0, -2.0, 500.0], [2.0, 0.0, 10.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("separator", [",", " "])
def test_matrix_from_a_file(tmp_path, separator):
    np.savetxt(tmp_path / "he.csv", TURNED, delimiter=separator)
    np.testing.assert_array_equal(read_registration(tmp_path / "he.csv"), TURNED)
    np.save(tmp_path / "he.npy", TURNED)
    np.testing.assert_array_equal(read_registration(tmp_path / "he.npy"), TURNED)
    np.testing.assert_array_equal(read_registration(TURNED[:2]), TURNED)


def test_alignment_of_xenium_goes_from_the_image_to_the_spots(tmp_path):
    """A pixel of the image, taken to µm as Xenium Explorer does, is found again from there."""
    path = tmp_path / "Xenium_V1_he_imagealignment.csv"
    np.savetxt(path, TURNED, delimiter=",")
    pixel = np.array([[120.0, 33.0]])
    um = mapped(TURNED, pixel) * XENIUM_UM_PER_PX
    np.testing.assert_allclose(mapped(read_registration(path), um), pixel)
    np.testing.assert_allclose(mapped(read_registration(path, um_per_unit=1000), um / 1000), pixel)


@given(st.floats(0.01, 100))
def test_scale_of_a_scaling_is_its_factor(factor):
    assert scale_of(scaling(factor)) == factor


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(4), r"a 3 × 3 matrix in registration, found shape \(4, 4\)"),
        (TURNED.T, "a transposed one"),
        (np.diag([1.0, 0.0, 1.0]), "determinant 0"),
        (np.full((3, 3), np.nan), "an affine map"),
        ([["a"] * 3] * 3, "matrix of numbers"),
    ],
)
def test_what_is_no_affine_map_is_refused(matrix, message):
    with pytest.raises(InputError, match=message):
        read_registration(matrix)


def test_files_that_are_no_matrix_are_refused(tmp_path):
    (tmp_path / "he.csv").write_text("barcode,x,y\nA,1,2\n")
    with pytest.raises(InputError, match="a 3 × 3 matrix at"):
        read_registration(tmp_path / "he.csv")
    with pytest.raises(FileNotFoundError, match=r"found nothing; did you mean he\.csv"):
        read_registration(tmp_path / "he2.csv")
