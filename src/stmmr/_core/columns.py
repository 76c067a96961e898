"""Names of columns and features: which name spots or sections, describe spots, or are no genes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from stmmr._core.axes import axis_of, plain
from stmmr._core.categories import is_absent

if TYPE_CHECKING:
    from collections.abc import Iterable

IDENTIFIERS: Final = frozenset(
    {"donor", "patient", "subject", "individual", "animal", "condition", "group", "batch", "sample"}
    | {"slide", "replicate"}
)
"""Columns about sections in which numbers are names, as those do that end with "id"."""
NAMES: Final = re.compile(
    r"|unnamed:?_?\d+(_\d+)?|index|level_0|id|rownames?|row_names?|obs_names"
    r"|(cell|bead|spot|bin|object|entity|instance|obs)s?_?(id|name|barcode|number|label|index)2?"
    r"|(cell|bead|spot)s?|barcodes?|label_?(id)?|name|rn|_index|key_0|_+\d+"
)
"""Columns that name spots or number the rows, as `plain` writes them."""
DESCRIPTIONS: Final = re.compile(
    r"n_?(counts?|features?|genes?|umis?|transcripts?)(_.*)?|(log\d*p?_?)?(total|sum)_(counts?|umis?|genes?).*|total|umis?"
    r"|log\d*p?_?n?_?(counts?|features?|genes?).*|genes?_?detected|(pct|percent|fraction)_.*|library_size|size_?factors?"
    r"|.*_counts?|barcode_?count|(is|n|scvi|_scvi|predicted)_.+|.*(doublet|scrublet).*|fov|field_of_view"
    r"|.*_?(area|perimeter|volume|density|intensity|ratio|confidence|score|probability|entropy)(_[µμu]m[23²³]?)?"
    r"|(cell|nucle(us|i)|spot|bead)?_?size|(seurat|graph|kmeans).*|.*(snn_?)?res(olution)?_\d.*|.*clusters?(_?(id|name|label|no))?"
    r"|leiden.*|louvain.*|(cell_?)?types?_?(id)?|.*_(label|class|type|group|category|code)s?|annotations?|domain(_id)?"
    r"|(umap|t_?sne|pca?|lsi|phate|harmony)_?\d+|pseudotime|depth|layers?(_?id)?|phase|age|sex|gender|time(_?point)?"
    r"|(min|max)_?[xyz].*|[xyz]_(min|max)|solidity|eccentricity|anisotropy|aspect_?ratio|(width|height|circularity|roundness)"
    r"|(in|on|under)_?tissue|(mean|max|min|median|std)_.+|(dapi|polyt|cellbound\d)_(raw|high_pass)|(nucleus|cell|cytoplasm):.*"
    r"|(samples?|sections?|slides?|slice|batch|run|region|animal|donor|patient|mouse|subject|replicate)_?(id|name|number)?(_numeric)?"
    r"|orig_?ident|bregma|run_tissue_name"
)
"""Columns that describe spots, as `plain` writes them."""
CONTROLS: Final = re.compile(
    r"neg[-_. ]?(prb|prob|ative|con|ctrl)|sys(tem)?[-_. ]?control|false[-_. ]?(code|\d)|blank(bc)?([-_. ]|\d|$)"
    r"|(unassigned|deprecated)[-_. ]?codeword|antisense[-_. ]|intergenic[-_. ]|genomic[-_. ]?control|control[-_. ]?\d+$"
    r"|no[-_. ]?target|rts\d{7}$|(adt|hto|hashtag)[-_.]|.*[-_.]total[-_]?seq[-_]?[a-d]"
    r"|__(no_feature|ambiguous|too_low_aqual|not_aligned|alignment_not_unique)(\[|$)"  # of HTSeq
    r"|n_(unmapped|multimapping|nofeature|ambiguous)$"  # of STAR
    r"|ercc[-_.]\d{5}$|spike[-_. ]?in",  # molecules that were added
    re.IGNORECASE,
)
"""Beginnings of the names of features that are controls of a platform, or sums that counting programs write."""
GENE_TYPES: Final = frozenset({"gene expression", "gene", "genes", "endogenous", "rna"})
"""Types of features that are genes, in lower case."""
TYPE_COLUMNS: Final = re.compile(r"feature_?(types?|class)|code_?class")
"""Columns of ``var`` in which every other type is no gene, as `plain` writes them."""
LOOSE_TYPE_COLUMNS: Final = re.compile(
    r"(feature_?bio|gene_?|probe_?|target_?)?types?|modality|assay|feature_biotypes?"
)
"""Columns of ``var`` that may have other types of genes as well, as `plain` writes them."""
OTHER_TYPES: Final = re.compile(
    r".*(antibod|protein(?!_coding)|adt|hto|hashtag|neg(ative)?([^a-z]|$)|control|blank|codeword|spike|peak|crispr|guide).*|prot"
)
"""Types of features that are no genes, in lower case."""
FLAGS: Final = {"is_control": True, "control": True, "is_negative": True, "is_blank": True, "is_gene": False}
"""Columns of ``var`` with truth values, as `plain` writes them, and the one of features that are no genes."""
SECTIONS: Final = re.compile(
    r"(.*_)?(section|sample|slice|slide|library|puck|core|donor|patient|specimen|replicate|capture_area|mouse|animal)s?"
    r"|librar(y|ies)|batch(es)?|rep|regions?|experiments?|stages?|conditions?|treatments?|tissues?|gsm|time(_?points?)?"
    r"|wells?|runs?|s|blocks?|files?|plates?|brains?|organs?|genotypes?|strains?|individuals?|subjects?|acc(ession)?"
    r"|datasets?|orig_?ident|images?|fovs?|rois?|cores?|animals?|mouse|embryos?|capture_?area|chips?|z|bregma|field_of_view",
)
"""Columns that may name sections, as `plain` writes them, with or without "id" or "name" at the end."""


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


def names_rows(name: object) -> bool:
    """Tell whether a column names or numbers the rows of a table."""
    return NAMES.fullmatch(plain(name)) is not None


def describes_rows(name: object) -> bool:
    """Tell whether a column of numbers describes spots and is no gene."""
    axis = axis_of(name)
    is_bare = plain(name) in {"x", "y", "z", "col", "row"}  # genes of flies are called so
    is_axis = axis is not None and not is_bare
    return is_axis or names_rows(name) or DESCRIPTIONS.fullmatch(plain(name)) is not None


def may_name_sections(name: object) -> bool:
    """Tell whether a column may name the section of each spot."""
    text = re.sub(r"_?(ids?|names?|keys?|labels?|no|num(ber)?|index)$", "", plain(name))
    return SECTIONS.fullmatch(text) is not None or ((axis := axis_of(name)) is not None and axis.letter == "z")
