"""Names of columns and features: which hold coordinates, names of spots, sections, or values that are no genes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from stmmr._core.categories import is_absent

if TYPE_CHECKING:
    from collections.abc import Iterable

IDENTIFIERS: Final = frozenset(
    {"donor", "patient", "subject", "individual", "animal", "condition", "group", "batch", "sample"}
    | {"slide", "replicate"}
)
"""Columns about sections in which numbers are names, as those do that end with "id"."""
COORDINATES: Final = (
    ("global_x", "global_y"),
    ("x_global", "y_global"),
    ("centerx_global", "centery_global"),
    ("x_slide", "y_slide"),
    ("x", "y"),
    ("x_centroid", "y_centroid"),
    ("center_x", "center_y"),
    ("centroid_x", "centroid_y"),
    ("xcoord", "ycoord"),
    ("x_coord", "y_coord"),
    ("x_coords", "y_coords"),
    ("x_coordinate", "y_coordinate"),
    ("coord_x", "coord_y"),
    ("pos_x", "pos_y"),
    ("x_pos", "y_pos"),
    ("x_position", "y_position"),
    ("x_location", "y_location"),
    ("location_x", "location_y"),
    ("location_center_x", "location_center_y"),
    ("position_x", "position_y"),
    ("x_center", "y_center"),
    ("centroidx", "centroidy"),
    ("centerx", "centery"),
    ("coordx", "coordy"),
    ("xpos", "ypos"),
    ("xaxis", "yaxis"),
    ("x_axis", "y_axis"),
    ("st_x", "st_y"),
    ("aligned_x", "aligned_y"),
    ("stage_x", "stage_y"),
    ("loc_x", "loc_y"),
    ("x_loc", "y_loc"),
    ("sdimx", "sdimy"),
    ("spatial_x", "spatial_y"),
    ("x_spatial", "y_spatial"),
    ("spatial_0", "spatial_1"),
    ("spatial_1", "spatial_2"),
    ("spatial1", "spatial2"),
    ("imagecol", "imagerow"),
    ("image_col", "image_row"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
    ("pxl_col", "pxl_row"),
    ("pixel_x", "pixel_y"),
    ("x_pixel", "y_pixel"),
    ("array_col", "array_row"),
    ("col", "row"),
)
"""Names of the columns with x and y, as `plain` writes them, the best first."""
DEPTHS: Final = frozenset(
    {"z", "z_centroid", "center_z", "centroid_z", "global_z", "z_coord", "coord_z", "pos_z", "spatial_z", "sdimz"}
)
"""Names of the column with z."""
UNITS: Final = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1000.0}
"""µm of units at the end of a name; pixels have no fixed length."""
_UNIT: Final = re.compile(rf"(?<=.)[_\[(]+({'|'.join(UNITS)}|px|pixels?)[\])]?$")
NAMES: Final = re.compile(
    r"|unnamed:?_?\d+|index|level_0|id|rownames?|row_names?|obs_names"
    r"|(cell|bead|spot|bin|object|entity|instance)s?_?(id|name|barcode|number|label|index)2?|(cell|bead|spot)s?|barcodes?|label_?(id)?"
)
"""Columns that name spots or number the rows, as `plain` writes them."""
DESCRIPTIONS: Final = re.compile(
    r"n_?(counts?|features?|genes?|umis?|transcripts?)(_.*)?|(log\d*p?_)?(total|sum)_(counts?|umis?|genes?).*|total|umis?"
    r"|log\d*p?_n_?(counts?|features?|genes?).*|(pct|percent|fraction)_.*|library_size|size_?factors?"
    r"|transcript_counts?|.*_(probe|codeword|transcript)_counts?|fov|field_of_view|volume|.*_?(area|perimeter|volume)"
    r"|(seurat|snn|graph|kmeans).*|.*_?clusters?|leiden.*|louvain.*|(cell_?)?types?_?(id)?|annotations?|domain(_id)?"
    r"|(min|max|center|centroid)_?[xyz].*|[xyz]_(min|max|center|centroid)|solidity|eccentricity|anisotropy|aspect_ratio"
    r"|(width|height|circularity|roundness)|in_tissue|(array|image|pxl)_?(row|col).*|(s|g2m|doublet|module)_score"
    r"|(mean|max)_(panck|cd\d+|dapi|membrane|b2m|cd298_b2m)|(dapi|polyt|cellbound\d)_(raw|high_pass)|barcodecount"
    r"|samples?(_?id)?|sections?(_?id)?|slides?(_?id)?|slice(_?id)?|batch(_?id)?|run_?id|region(_?id)?"
)
"""Columns that describe spots, as `plain` writes them."""
CONTROLS: Final = re.compile(
    r"neg[-_. ]?(prb|prob|ative|con|ctrl)|sys(tem)?[-_. ]?control|false[-_. ]?code|blank([-_. ]|\d|$)"
    r"|(unassigned|deprecated)[-_. ]?codeword|antisense[-_. ]|intergenic[-_. ]|genomic[-_. ]?control"
    r"|__(no_feature|ambiguous|too_low_aqual|not_aligned|alignment_not_unique)$"  # of HTSeq
    r"|n_(unmapped|multimapping|nofeature|ambiguous)$"  # of STAR
    r"|ercc-\d{5}$",  # molecules that were added
    re.IGNORECASE,
)
"""Beginnings of the names of features that are controls of a platform, or sums that counting programs write."""
GENE_TYPES: Final = frozenset({"gene expression", "gene", "genes", "endogenous", "rna"})
"""Types of features that are genes, in lower case."""
TYPE_COLUMNS: Final = ("feature_types", "feature_type", "feature_class", "codeclass", "CodeClass")
"""Columns of ``var`` with the type of each feature."""
SECTIONS: Final = re.compile(
    r"(.*_)?(section|sample|slice|slide|library|puck|core|donor|patient|specimen|replicate|capture_area|mouse|animal)s?"
    r"|librar(y|ies)|batch(es)?|rep"
    r"|datasets?|orig_?ident|images?|fovs?|rois?|cores?|animals?|mouse|embryos?|capture_?area|chips?|z|bregma|field_of_view",
)
"""Columns that may name sections, as `plain` writes them, with or without "id" or "name" at the end."""


def plain(name: object) -> str:
    """Write the name of a column in lower case, with "_" for blanks and dots, and without quotes."""
    return re.sub(r"[\s.\-/]+", "_", str(name).strip().strip("\"'").strip().lower())


def are_names(column: object) -> bool:
    """Tell whether numbers in a column about sections are names, such as those of donors."""
    words = plain(column).split("_")
    return words[-1] in ("id", "key") or bool(IDENTIFIERS & set(words))


def numbers_of(texts: Iterable[object]) -> list[float] | None:
    """Read texts as numbers, NaN where they stand for a missing value; None if one is no finite number, or none is."""
    numbers = [math.nan if is_absent(text) else _number(text) for text in texts]
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    if not finite or None in numbers:
        return None
    return [number for number in numbers if number is not None]


def _number(text: object) -> float | None:
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def split_unit(name: object) -> tuple[str, float | None]:
    """Split the plain name of a column into what it names and the µm of its unit (None: pixels, or no unit)."""
    text = plain(name)
    match = _UNIT.search(text)
    return (text, None) if match is None else (text[: match.start()], UNITS.get(match[1]))


def coordinate_columns(header: Iterable[object]) -> tuple[str, str] | None:
    """Find the columns with x and y by their names."""
    by_name = {split_unit(name)[0]: str(name) for name in reversed(list(header))}
    pair = next((pair for pair in COORDINATES if set(pair) <= set(by_name)), None)
    return None if pair is None else (by_name[pair[0]], by_name[pair[1]])


def depth_column(header: Iterable[object]) -> str | None:
    """Find the column with z by its name."""
    return next((str(name) for name in header if split_unit(name)[0] in DEPTHS), None)


def microns_of(xy: Iterable[str]) -> float | None:
    """Get the µm of a unit that both names of coordinates end with; None if they state none."""
    stated = {split_unit(name)[1] for name in xy}
    return stated.pop() if len(stated) == 1 else None


def names_rows(name: object) -> bool:
    """Tell whether a column names or numbers the rows of a table."""
    return NAMES.fullmatch(plain(name)) is not None


def describes_rows(name: object) -> bool:
    """Tell whether a column of numbers describes spots and is no gene."""
    return names_rows(name) or DESCRIPTIONS.fullmatch(plain(name)) is not None


def may_name_sections(name: object) -> bool:
    """Tell whether a column may name the section of each spot."""
    text = re.sub(r"_?(ids?|names?|keys?|labels?|no|num(ber)?|index)$", "", plain(name))
    return SECTIONS.fullmatch(text) is not None
