"""Tables of platforms that other programs saved again: separators, encodings, indices and ends of lines."""

import csv

import numpy as np
import pandas as pd
import pytest

import people
from people import cosmx, counts_table, merscope, visium, xy_table
from stmmr import io


def xenium(folder, section):
    people.write_10x_h5(folder / "cell_feature_matrix.h5", section)
    table = xy_table(section, "x_centroid", "y_centroid").rename_axis("cell_id").assign(cell_area=3.5)
    table.to_csv(folder / "cells.csv")


def slideseq(folder, section):
    counts_table(section).T.rename_axis("GENE").to_csv(folder / "P1.digital_expression.csv")
    xy_table(section, "xcoord", "ycoord").to_csv(folder / "P1_bead_locations.csv", index_label="barcode")


def seqfish(folder, section):
    section.obs_names = [str(i) for i in range(1, section.n_obs + 1)]
    counts_table(section).to_csv(folder / "R_CxG_section1.csv")
    cells = xy_table(section, "center_x", "center_y").assign(area=4.5)
    cells.to_csv(folder / "R_CellCoordinates_section1.csv", index_label="label")


def st(folder, section):
    col, row = section.obs["array_col"], section.obs["array_row"]
    section.obs_names = [f"{c}x{r}" for c, r in zip(col, row, strict=True)]
    counts_table(section).to_csv(folder / "A1.stdata.csv")
    spots = xy_table(section, "pixel_x", "pixel_y").reset_index(drop=True)
    spots = spots.assign(x=col.to_numpy(), y=row.to_numpy(), selected=1)
    spots.to_csv(folder / "spot_data-selection-A1.csv", index=False)


PLATFORMS = {
    "Visium": visium,
    "Xenium": xenium,
    "MERSCOPE": merscope,
    "CosMx": cosmx,
    "Slide-seq": slideseq,
    "seqFISH": seqfish,
    "ST": st,
}


def saved(encoding="utf-8", decimal=".", edit=str, **options):
    """Save tables as another program does."""

    def save(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.columns = ["" if name.startswith("Unnamed") else name for name in table.columns]
        if decimal != ".":
            table = table.replace(r"^(-?\d+)\.(\d+)$", rf"\1{decimal}\2", regex=True)
        path.write_bytes(edit(table.to_csv(**{"index": False, **options})).encode(encoding))

    return save


DIALECTS = {
    "BOM and carriage returns": saved("utf-8-sig", lineterminator="\r\n"),
    "semicolons and decimal commas": saved(sep=";", decimal=","),
    "semicolons": saved(sep=";"),
    "UTF-16 with tabs": saved("utf-16", sep="\t"),
    "Latin-1": saved("latin-1", edit=lambda text: f"# µm\n{text}"),
    "quotes": saved(quoting=csv.QUOTE_ALL),
    "blanks": saved(sep=" ", quoting=csv.QUOTE_ALL),
    "an index": saved(index=True),
    "separators at the end of rows": saved(edit=lambda text: text.replace("\n", ",\n")),
    "blank lines at the end": saved(edit=lambda text: f"{text}\n\n"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("save", DIALECTS.values(), ids=DIALECTS)
def test_tables_that_another_program_saved(platform, save, tmp_path):
    section = people.section()
    PLATFORMS[platform](tmp_path, section)
    for path in tmp_path.rglob("*.csv"):
        save(path)
    adata = io.read(tmp_path)
    assert sorted(adata.obs_names) == sorted(section.obs_names)
    assert sorted(adata.var_names) == sorted(section.var_names)
    np.testing.assert_array_equal(adata[section.obs_names, section.var_names].X.toarray(), section.X.toarray())
    np.testing.assert_allclose(adata[section.obs_names].obsm["spatial"], section.obsm["spatial"], atol=1e-4)
    ((_, library),) = adata.uns["spatial"].items()
    assert library["metadata"]["platform"] == platform
