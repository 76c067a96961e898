"""seqFISH runs as Spatial Genomics writes them, and what can be wrong with them."""

import numpy as np
import pandas as pd
import pytest

from stmmr import InputError, io
from stmmr.io import read_seqfish

GENES = ["Gad1", "Mbp", "Snap25"]


def section(seed, n):
    rng = np.random.default_rng(seed)
    counts = pd.DataFrame(rng.poisson(1.0, (n, len(GENES))), columns=GENES, index=np.arange(1, n + 1))
    cells = pd.DataFrame({"label": counts.index, "area": rng.uniform(20, 90, n)})
    cells[["center_x", "center_y"]] = rng.uniform(0, 100, (n, 2))
    return counts, cells.sample(frac=1, random_state=0)


@pytest.fixture
def write(tmp_path):
    def write(*sections, prefix="kidney_"):
        for number, (counts, cells) in enumerate(sections, start=1):
            counts.to_csv(tmp_path / f"{prefix}CxG_section{number}.csv")
            cells.to_csv(tmp_path / f"{prefix}CellCoordinates_section{number}.csv", index=False)
        return tmp_path

    return write


def assert_holds(adata, counts, cells):
    labels = [int(name.split("_")[0]) for name in adata.obs_names]
    np.testing.assert_array_equal(adata.X.toarray(), counts.loc[labels])
    at = cells.set_index("label").loc[labels]
    np.testing.assert_allclose(adata.obsm["spatial"], at[["center_x", "center_y"]])
    np.testing.assert_allclose(adata.obs["area"], at["area"])


def test_one_section(write):
    counts, cells = section(0, 20)
    run = write((counts, cells))
    for path in (run, run / "kidney_CxG_section1.csv"):
        assert io.recognise(path).platform == "seqfish"
        adata = io.read(path)
        assert_holds(adata, counts, cells)
        assert adata.uns["spatial"]["kidney"]["scalefactors"]["microns_per_pixel"] == 1


def test_several_sections(write, tmp_path):
    parts = [section(0, 20), section(1, 25)]
    adata = io.read(write(*parts))
    assert adata.shape == (45, 3)
    for number, part in zip("12", parts, strict=True):
        own = adata[adata.obs["section"] == number]
        assert own.obs_names[0].endswith(f"_section{number}")
        assert_holds(own, *part)
    assert len(adata.uns["spatial"]) == 1
    adata.write_h5ad(tmp_path / "a.h5ad")


def test_names_of_newer_software(tmp_path):
    parts = [section(0, 20), section(1, 25)]
    for number, (counts, cells) in enumerate(parts, start=1):
        counts.to_csv(tmp_path / f"Roi{number}_CellxGene.csv")
        cells.to_csv(tmp_path / f"Roi{number}_CellCoordinates.csv", index=False)
    adata = io.read(tmp_path)
    for number, part in zip("12", parts, strict=True):
        assert_holds(adata[adata.obs["section"] == number], *part)
    assert io.read(tmp_path / "Roi2_CellxGene.csv").n_obs == 25


def test_cells_without_label_come_in_order(write):
    counts, cells = section(0, 20)
    cells = cells.sort_values("label")
    adata = io.read(write((counts, cells.drop(columns="label"))))
    assert_holds(adata, counts, cells)
    with pytest.raises(InputError, match=r"Expected a column label in .* \(20\), found .* of 19 cells"):
        io.read(write((counts, cells.drop(columns="label")[:19])))


def test_missing_and_mixed_up(write, caplog):
    counts, cells = section(0, 20)
    run = write((counts, cells[:8]))
    assert io.read(run).n_obs == 8
    assert "8 of 20 cells (40 %)" in caplog.text
    write((counts, cells.assign(label=cells["label"] + 100)))
    with pytest.raises(InputError, match="found none of 20: the counts have"):
        io.read(run)
    (run / "kidney_CellCoordinates_section1.csv").unlink()
    with pytest.raises(InputError, match=r"positions of the cells \(kidney_CellCoordinates_section1.csv\)"):
        io.read(run)
    (run / "kidney_CxG_section1.csv").unlink()
    with pytest.raises(InputError, match=r"Expected …_CxG_section1.csv"):
        read_seqfish(run)


def test_two_runs_in_a_folder(write):
    write(section(0, 9))
    run = write(section(1, 9), prefix="brain_")
    with pytest.raises(InputError, match=r"Expected one run in .*brain_CxG.*kidney_CxG"):
        io.read(run)
    assert list(io.read(run / "brain_CxG_section1.csv").uns["spatial"]) == ["brain"]


@pytest.mark.parametrize("name", ["kidney_CxG_section1.csv", "kidney_CellCoordinates_section1.csv"])
def test_foreign_files(write, name):
    run = write(section(0, 20))
    for content in (b"", b"\x89PNG\r\n\x1a\n\0\0"):
        (run / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"Expected .*{name}"):
            io.read(run)
