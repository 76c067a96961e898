"""Names of columns with coordinates: x, y and z in the forms that people and programs write, and their unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

RANKED: Final = (
    ("global",),
    ("slide",),
    ("",),  # x and y alone
    ("centroids", "centroid", "center", "centre"),
    ("coordinates", "coordinate", "coords", "coord", "coor", "coo"),
    ("positions", "position", "pos"),
    ("locations", "location", "loc"),
    ("axis", "st", "aligned", "registered", "transformed", "reconstructed", "stage", "sdim", "spatial"),
    ("cell", "nucleus", "object", "spot", "bead", "section", "tissue", "plot", "c", "ccf", "new", "adjusted"),
    ("image", "img", "im", "pixels", "pixel", "pxl", "pix", "px", "in_fullres", "fullres", "full", "array"),
    ("local", "fov"),
)
"""Words beside x or y in the names of columns; those of the earlier groups are preferred."""
WITHIN_FIELDS: Final = re.compile(r"local|fov")
"""Words of positions that are counted anew in each field of view."""
_WORD: Final = "|".join(sorted((word for group in RANKED for word in group if word), key=len, reverse=True))
_AXIS: Final = re.compile(
    rf"(?P<before>(?:(?:{_WORD})_?)*)(?P<axis>x|y|z|col(?:umn)?|row)(?P<after>(?:_?(?:{_WORD}))*)"
)
_NUMBERED: Final = re.compile(
    r"((?:spatial|coord(?:inate)?s?|sdim|loc(?:ation)?s?|pos(?:ition)?s?|centroids?)_?)([012])"
)
LONGEST_NAME: Final = 40
"""Characters of a name of coordinates, at most."""
AXES: Final = frozenset("xyz")
UNITS: Final = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1000.0}
"""µm of units at the end of a name; pixels have no fixed length."""
_UNIT: Final = re.compile(rf"(?:(?<=.)[_\[(]+|(?<=^[xyz]))({'|'.join(UNITS)}|px|pixels?)[\])]?$")
_KEYS: Final = re.compile(r"(x_)?(spatial(3d)?|spatial_?coords?|spatial_?coordinates|coords?|coordinates|xy)")
_LIKE_KEYS: Final = re.compile(r".*(spatial|coord|centroid|location|position|slideseq|visium|xy).*")
_UNLIKE_KEYS: Final = re.compile(
    r".*(umap|tsne|pca|lsi|emb|latent|lag|graph|net|conn|dist|neigh|feat|gene|expr|score|array).*"
)
"""Keys of ``obsm`` that hold coordinates, those that may, and what others have in their names."""


class Axis(NamedTuple):
    """What the name of a column with coordinates says."""

    letter: str
    """x, y or z."""
    stem: tuple[bool, str, str]
    """The rest, the same for the other axes: whether it is a column or row, and the words before and after."""
    rank: int
    """Lower is better."""


def plain(name: object) -> str:
    """Write the name of a column in lower case, with "_" for blanks and dots, and without quotes."""
    return re.sub(r"[\s.\-/]+", "_", str(name).strip().strip("\"'").strip().lower())


def split_unit(name: object) -> tuple[str, float | None]:
    """Split the plain name of a column into what it names and the µm of its unit (None: pixels, or no unit)."""
    text = plain(name)
    match = _UNIT.search(text)
    return (text, None) if match is None else (text[: match.start()], UNITS.get(match[1]))


def axis_of(name: object) -> Axis | None:
    """Read a name such as ``x``, ``Centroid X µm``, ``pxl_row_in_fullres`` or ``imagecol``."""
    text = split_unit(name)[0]
    match = _AXIS.fullmatch(text) if len(text) <= LONGEST_NAME else None
    if match is None:
        return None
    axis, before, after = (match[part].strip("_") for part in ("axis", "before", "after"))
    words = f"{before}_{after}"
    found = [i for i, group in enumerate(RANKED) for word in group if word and word in words]
    rank = min(found, default=RANKED.index(("",)))
    if has_lines := axis not in AXES:  # of an image, or of the array
        rank += len(RANKED) * (3 if not found else 2 if "array" in words else 1)
    if WITHIN_FIELDS.search(words):
        rank += 4 * len(RANKED)
    return Axis({"c": "x", "r": "y"}.get(axis[0], axis), (has_lines, before, after), rank)


def coordinate_columns(header: Iterable[object]) -> tuple[str, str] | None:
    """Find the columns with x and y by their names, the best pair of them."""
    header = list(header)
    found: dict[tuple[bool, str, str], dict[str, list[str]]] = {}
    ranks: dict[tuple[bool, str, str], int] = {}
    for name in header:
        if axis := axis_of(name):
            found.setdefault(axis.stem, {}).setdefault(axis.letter, []).append(str(name))
            ranks[axis.stem] = axis.rank
    for stem in sorted(found, key=ranks.__getitem__):
        xs, ys = found[stem].get("x", []), found[stem].get("y", [])
        if xs and ys:  # R calls the names of rows "X"
            return next(((x, y) for x in xs for y in ys if _as_written(x) == _as_written(y)), (xs[0], ys[0]))
    return _numbered(header)


def _as_written(name: str) -> str:
    """Write a name with one letter for every axis, in its case."""
    return re.sub("[xyz]", "x", re.sub("[XYZ]", "X", name))


def _numbered(header: Iterable[object]) -> tuple[str, str] | None:
    """Find x and y that are numbered from 0 or 1; centroids from 0 are row and column, as in scikit-image."""
    found: dict[str, dict[int, str]] = {}
    for name in header:
        if match := _NUMBERED.fullmatch(plain(name)):
            found.setdefault(match[1], {})[int(match[2])] = str(name)
    for words, names in found.items():
        for first, second in ((0, 1), (1, 2)):
            if {first, second} <= names.keys():
                lines = first == 0 and words.startswith("centroid")
                return (names[second], names[first]) if lines else (names[first], names[second])
    return None


def depth_column(header: Iterable[object]) -> str | None:
    """Find the column with z by its name."""
    return next((str(name) for name in header if (axis := axis_of(name)) and axis.letter == "z"), None)


def microns_of(xy: Iterable[str]) -> float | None:
    """Get the µm of a unit that both names of coordinates end with; None if they state none."""
    stated = {split_unit(name)[1] for name in xy}
    return stated.pop() if len(stated) == 1 else None


def columns_of_axes(names: Iterable[object]) -> list[Any] | None:
    """List the columns with x, y and, if there is one, z, by their names or numbers; None if nothing tells x from y."""
    names = list(names)
    if pair := coordinate_columns(names):
        return [*pair, *([depth] if (depth := depth_column(names)) else [])]
    parts = [re.fullmatch(r"(.*?)(\d+)", str(name)) for name in names]
    numbers = {int(part[2]): name for part, name in zip(parts, names, strict=True) if part}  # dim_2, dim_1
    if len({part[1] for part in parts if part}) == 1 and 2 <= len(numbers) == len(names) <= 3:
        return [numbers[number] for number in sorted(numbers)]
    return None


def spatial_keys(names: Iterable[str]) -> dict[str, bool]:
    """List the keys of ``obsm`` that hold coordinates by their names, the likeliest first, and whether that is sure."""
    found = {name: _KEYS.fullmatch(plain(name)) is not None for name in names}
    likely = {
        name: is_sure
        for name, is_sure in found.items()
        if is_sure or (_LIKE_KEYS.fullmatch(plain(name)) and not _UNLIKE_KEYS.fullmatch(plain(name)))
    }
    return dict(sorted(likely.items(), key=lambda item: (item[0] != "spatial", not item[1])))
