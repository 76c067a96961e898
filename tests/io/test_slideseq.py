"""Slide-seq arrays as they are shared, and what can be wrong with them."""

import gzip

import numpy as np
import pandas as pd
import pytest

from stmmr import InputError, io
from stmmr.io import read_slideseq

GENES = ["Gad1", "Mbp", "Snap25"]
N = 40


@pytest.fixture
def puck():
    rng = np.random.default_rng(0)
    beads = ["".join(row) for row in rng.choice(list("ACGT"), (N, 14))]
    counts = pd.DataFrame(rng.poisson(1.0, (len(GENES), N)), index=pd.Index(GENES, name="GENE"), columns=beads)
    where = pd.DataFrame({"barcodes": beads}) if N else None
    where[["xcoord", "ycoord"]] = rng.uniform(0, 150, (N, 2))
    return counts, where.sample(frac=1, random_state=0)


@pytest.fixture
def write(tmp_path):
    def write(puck, counts="MappedDGEForR.csv", beads="BeadLocationsForR.csv", *, header=True):
        folder = tmp_path / "puck"
        folder.mkdir(exist_ok=True)
        puck[0].to_csv(folder / counts, sep="\t" if ".txt" in counts else ",")
        puck[1].to_csv(folder / beads, index=False, header=header, sep="\t" if ".txt" in beads else ",")
        return folder

    return write


def assert_holds(adata, puck):
    counts, where = puck
    assert list(adata.var_names) == GENES
    np.testing.assert_array_equal(adata.X.toarray(), counts[list(adata.obs_names)].T)
    np.testing.assert_allclose(adata.obsm["spatial"], where.set_index("barcodes").loc[adata.obs_names])


@pytest.mark.parametrize(
    ("counts", "beads", "library"),
    [
        ("MappedDGEForR.csv", "BeadLocationsForR.csv", "puck"),
        ("MappedDGEForR.csv.gz", "BeadLocationsForR.csv.gz", "puck"),
        ("Puck_200115_08.digital_expression.txt.gz", "Puck_200115_08_bead_locations.csv", "Puck_200115_08"),
        ("P1.matched.digital_expression.txt", "P1_matched_bead_locations.txt", "P1"),
        ("P1_MappedDGEForR.csv", "P1_BeadLocationsForR.csv", "P1"),
    ],
)
@pytest.mark.parametrize("header", [True, False])
def test_array(puck, write, counts, beads, library, header, tmp_path):
    folder = write(puck, counts, beads, header=header)
    assert io.recognise(folder).platform == io.recognise(folder / counts).platform == "slideseq"
    adata = io.read(folder)
    assert_holds(adata, puck)
    assert adata.n_obs == N
    assert adata.uns["spatial"][library]["scalefactors"]["microns_per_pixel"] == 0.65
    adata.write_h5ad(tmp_path / "a.h5ad")


def test_scale_can_be_given(puck, write):
    adata = read_slideseq(write(puck), microns_per_pixel=1.0)
    assert adata.uns["spatial"]["puck"]["scalefactors"]["microns_per_pixel"] == 1
    with pytest.raises(InputError, match="positive"):
        read_slideseq(write(puck), microns_per_pixel=-1)


def test_missing_companions(puck, write):
    folder = write(puck)
    (folder / "BeadLocationsForR.csv").unlink()
    with pytest.raises(InputError, match=r"locations of the beads \(BeadLocationsForR.csv or .*found MappedDGE"):
        io.read(folder)
    (folder / "MappedDGEForR.csv").unlink()
    with pytest.raises(InputError, match=r"Expected MappedDGEForR.csv .*found nothing"):
        read_slideseq(folder)


def test_beads_of_another_array(puck, write, caplog):
    counts, where = puck
    assert_holds(io.read(write((counts, where[:10]))), puck)
    assert "10 of 40 beads (25 %)" in caplog.text
    with pytest.raises(InputError, match="found none of 40: the counts have"):
        io.read(write((counts, where.assign(barcodes=where["barcodes"].str.lower()))))
    with pytest.raises(InputError, match="Expected barcode, x and y in"):
        io.read(write((counts, where[["barcodes", "xcoord"]])))


@pytest.mark.parametrize("name", ["MappedDGEForR.csv.gz", "BeadLocationsForR.csv.gz"])
def test_damaged_files(puck, write, name, spoil):
    folder = write(puck, "MappedDGEForR.csv.gz", "BeadLocationsForR.csv.gz")
    spoil(folder / name)
    with pytest.raises(InputError, match=rf"Expected .*{name}"):
        io.read(folder)


def test_a_row_that_ends_early(puck, write):
    folder = write(puck, "MappedDGEForR.csv.gz")
    path = folder / "MappedDGEForR.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode().rstrip()
    path.write_bytes(gzip.compress(text[: text.rindex(",")].encode()))
    with pytest.raises(InputError, match=r"row 3 is incomplete|could not convert"):
        io.read(folder)
