"""Tables that 10x viewers import: the domain of each spot or cell by its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pandas as pd

from stmmr._core.checks import InputError
from stmmr._core.files import write_csv

if TYPE_CHECKING:
    from pathlib import Path

    from stmmr.exports.content import Content

BARCODE: Final = re.compile(r"([ACGT]{14,}|s_\d{3}um_\d+_\d+|cellid_\d+)(?:[-.](\d+))?")
"""Names of spots, bins and cells as Space Ranger gives them, without and with the number of the section."""


def write_xenium_explorer(content: Content, folder: Path) -> list[str]:
    """Write cell groups for Xenium Explorer: the names of cells, their domains and the colours of these.

    The columns are those of the cell groups that 10x publishes with its data sets, such as [1]_; [2]_ is the vendor's
    page about cell groups. Raises InputError if the rows are no cells.

    .. [1] https://cf.10xgenomics.com/samples/xenium/3.0.0/Xenium_Prime_Ovarian_Cancer_FFPE_XRrun/Xenium_Prime_Ovarian_Cancer_FFPE_XRrun_cell_groups.csv
    .. [2] https://www.10xgenomics.com/support/software/xenium-explorer/latest/analysis/interface-and-features/nav-cells
    """
    if content.rows != "cells":
        raise InputError(
            f"Expected cells for Xenium Explorer, found {content.rows}. Choose loupe, qupath or another target."
        )
    for section, end, cells in content.sections():
        table = pd.DataFrame({"cell_id": content.original_names(section, cells), "group": content.texts[cells]})
        table["color"] = table["group"].map(content.colors)
        write_csv(table[table["group"] != ""], folder / f"cell_groups{end}.csv", index=False)
    return [
        "In Xenium Explorer, open the section, then Cells > Add cell categorization, and choose cell_groups.csv (one "
        "file for each section where there are several)."
    ]


def write_loupe(content: Content, folder: Path) -> list[str]:
    """Write categories for Loupe Browser: the barcodes and their domains; sections are numbered as by Space Ranger.

    The first column holds barcodes, and a further one is a category with the name of its header [1]_. Raises InputError
    if the names are no barcodes of 10x.

    .. [1] https://www.10xgenomics.com/support/software/loupe-browser/latest/tutorials/assay-analysis/lb-sc-interoperability
    """
    parts = []
    for number, (section, _, spots) in enumerate(content.sections(), start=1):
        names = content.original_names(section, spots)
        matches = [BARCODE.fullmatch(name) for name in names]
        if not all(matches):
            wrong = names[matches.index(None)]
            raise InputError(
                f"Expected barcodes of 10x, such as AAACAAGTATCTCCCA-1, as the names of all {content.rows} for Loupe "
                f"Browser, found {wrong!r}. Choose qupath, csv or another target."
            )
        pairs = [(match[1], str(number) if section else match[2] or "1") for match in matches if match]
        barcodes = [f"{barcode}-{suffix}" for barcode, suffix in pairs]
        parts.append(pd.DataFrame({"Barcode": barcodes, content.domain_key: content.texts[spots]}))
    table = pd.concat(parts)
    write_csv(table[table[content.domain_key] != ""], folder / "categories.csv", index=False)
    how = ["In Loupe Browser, open the .cloupe file, then Categories > Import categories, and choose categories.csv."]
    if len(parts) > 1:
        order = ", ".join(f"{name} (-{number})" for number, name in enumerate(content.section_names, start=1))
        how.append(f"Barcodes end in the number of the section, as after spaceranger aggr in this order: {order}.")
    return how
