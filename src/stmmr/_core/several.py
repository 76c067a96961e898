"""Recognise several sections in one table that nobody named: repeated positions, several libraries, overlaid tissue."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from stmmr._core import keys
from stmmr._core.axes import depth_column
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.columns import may_name_sections
from stmmr._core.compat import libraries_of
from stmmr._core.sections import (
    SAMPLED,
    SPOTS_PER_SECTION,
    laid_apart,
    look_like_labels,
    section_key_of,
    sections_of,
)
from stmmr._core.space import (
    ARRAY,
    FEW_DEPTHS,
    UM,
    array_numbers,
    coordinates,
    is_plausible,
    rows_called,
    stored_coordinates,
    warn_implausible_scale,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64

AUTO: Final = "auto"
"""Value of the section key that takes the column found here."""
REPEATED: Final = 0.01
"""Share of repeated positions from which a table holds several sections, if a column tells them apart."""
SURELY: Final = 0.2
"""The same without such a column."""
MIXED: Final = 0.2
"""Share of spots nearest to one of another section from which sections are overlaid."""
COVERED: Final = 0.5
"""Share of the extent of the tissue that most groups have in x and in y, if their names tell sections."""
MOST_BY_NAME: Final = 24
"""Sections that names alone tell, at most."""


class Several(NamedTuple):
    """Several sections in one table."""

    because: str
    """What shows it."""
    key: str | None
    """Column of ``obs`` that names them; None if there is none."""
    values: pd.Categorical | None = None
    """Section of each spot, if no column of ``obs`` has it."""
    by_z: bool = False
    """Whether z tells them apart."""
    others: tuple[str, ...] = ()
    """Columns of ``obs`` that tell repeated positions apart, and are not named after sections."""


def find_several(adata: AnnData) -> Several | None:
    """Find out whether a table holds several sections, and by which column of ``obs``; None if it does not."""
    import pandas as pd

    coordinates(adata)  # checked
    xy, z, where = stored_coordinates(adata)
    columns = _columns(adata)
    if z is None and (name := depth_column(adata.obs.columns)):
        z, where = pd.to_numeric(adata.obs[name], errors="coerce").to_numpy(np.float64), f"obs[{name!r}]"
    if z is not None and (depths := _depths(z)) is not None:
        because = f"{where} has {len(depths.categories)} values of z"
        key = next((name for name, values in columns.items() if _same_groups(values, depths)), None)
        return Several(because, key, None if key else depths, by_z=True)
    if set(ARRAY) <= set(adata.obs.columns):
        array = pd.DataFrame(array_numbers(adata.obs)).dropna()
        is_array = len(array.drop_duplicates()) >= SPOTS_PER_SECTION  # and not a value that stands for none
        if is_array and (found := _by_repeats(adata, array, columns, "array positions")):
            return found
    if found := _by_repeats(adata, pd.DataFrame(xy).dropna(), columns, "coordinates"):
        return found
    if len(libraries := libraries_of(adata)) > 1:
        because = f"uns['spatial'] has {len(libraries)} libraries ({listed(libraries, at_most=3)})"
        named = (name for name, values in columns.items() if set(map(str, values.categories)) <= set(libraries))
        key = next(named, None)
        return Several(because, key) if key else None
    return _overlaid(adata, columns)


def with_sections(adata: AnnData, section_key: str | None) -> str | None:
    """Get the column of the sections: `section_key`; with "auto", the one found; with None, sections by z.

    Sections by z are written into ``obs`` if no column names them.

    Raises
    ------
    InputError
        If no section key is given, and the table holds several sections side by side or on top of each other.
    """
    if section_key is not None and (section_key != AUTO or AUTO in adata.obs):
        return section_key
    several = find_several(adata)
    if several is None:
        return _apart(adata) if section_key == AUTO else None
    if section_key is None and not several.by_z:
        raise InputError(_advice(adata, several))
    key = several.key
    if several.values is not None:
        key = keys.SECTION if keys.SECTION not in adata.obs else keys.NEW_SECTION
        adata.obs[key] = several.values
    if key is None:
        raise InputError(_advice(adata, several))
    n = adata.obs[key].nunique()
    logger.warning("There are several sections, as %s: %d are taken from obs[%r].", several.because, n, key)
    return key


def coordinates_apart(adata: AnnData, section_key: str | None = None) -> Float64:
    """Get coordinates whose sections are moved apart, shape (n_obs, 2), so that no neighbour is of another section.

    Sections are those of `section_key`, of the spatial graph, or those found.
    """
    xy, graph = coordinates(adata), section_key_of(adata)
    if section_key in adata.obs.columns or graph in adata.obs.columns:
        return laid_apart(xy, sections_of(adata, section_key if section_key in adata.obs.columns else graph))
    if (several := find_several(adata)) is None:
        return xy
    return laid_apart(xy, several.values if several.key is None else sections_of(adata, several.key))


def warn_implausible(adata: AnnData) -> None:
    """Warn if neighbours in a section are nearer or further, by the scale factors, than on any platform."""
    xy = adata.obsm.get(keys.SPATIAL)
    if not isinstance(xy, np.ndarray) or xy.ndim != 2 or xy.shape[1] < 2:
        return
    for name, library in libraries_of(adata).items():
        um = library.get("scalefactors", {}).get(UM)
        if isinstance(um, int | float) and um > 0 and not is_plausible(xy, um):
            with suppress(InputError):  # what cannot be used is said by the step that needs it
                xy = coordinates_apart(adata)
            warn_implausible_scale(xy, um, told_by=f"microns_per_pixel of {name}")


def _advice(adata: AnnData, several: Several) -> str:
    expected = f"Expected one section, found several in one table: {several.because}."
    if several.key is not None:
        return (
            f"{expected} Give the column of obs that names them: section_key={several.key!r} (--section-key "
            f'{several.key}), or section_key="auto" (--section-key auto).'
        )
    if several.values is not None:
        rows = rows_called(adata)
        return f'{expected} The names of the {rows} tell them apart: section_key="auto" (--section-key auto).'
    hint = f" Columns that tell them apart: {listed(several.others, at_most=4)}." if several.others else ""
    return f'{expected} Name the column of obs with the section of each: section_key="…" (--section-key …).{hint}'


def _columns(adata: AnnData) -> dict[str, pd.Categorical]:
    """Get the columns of ``obs`` that group the spots, those named after sections first, then those of few groups."""
    import pandas as pd

    groups: dict[str, pd.Categorical] = {}
    for name, column in adata.obs.items():
        if name in ARRAY or (column.dtype.kind == "f" and not may_name_sections(name)):
            continue
        if column.dtype.kind in "OUT" and column.map(type).nunique() > 2:
            continue
        values = pd.Categorical(column).remove_unused_categories()
        if 2 <= len(values.categories) <= adata.n_obs // SPOTS_PER_SECTION and (values.codes >= 0).all():
            groups[str(name)] = values
    return dict(sorted(groups.items(), key=lambda item: (not may_name_sections(item[0]), len(item[1].categories))))


def _depths(z: Float64) -> pd.Categorical | None:
    """Take the values of z as sections; None if there is one value, or so many that the section is thick."""
    import pandas as pd

    values = np.unique(np.round(z[np.isfinite(z)], 6))
    if not 2 <= len(values) <= len(z) / FEW_DEPTHS or not np.isfinite(z).all():
        return None
    names: Any = [f"{value:g}" for value in np.round(z, 6)]
    return pd.Categorical(names, categories=[f"{value:g}" for value in values])


def _same_groups(values: pd.Categorical, other: pd.Categorical) -> bool:
    import pandas as pd

    pairs = pd.DataFrame({"a": values.codes, "b": other.codes}).drop_duplicates()
    return len(pairs) == len(values.categories) == len(other.categories)


def _by_repeats(
    adata: AnnData, positions: pd.DataFrame, columns: dict[str, pd.Categorical], what: str
) -> Several | None:
    """Find several sections by positions that occur more than once."""
    repeated = float(positions.duplicated().mean()) if len(positions) else 0.0
    if repeated < REPEATED:
        return None
    kept = positions.index.to_numpy()  # rows with a position
    apart = [name for name, values in columns.items() if _tells_apart(positions, values[kept])]
    named = [name for name in apart if may_name_sections(name)]
    because = f"{repeated:.0%} of the {what} occur again"
    if named:
        return Several(because, named[0])
    by_name = _by_names(adata)
    if by_name is not None and _tells_apart(positions, by_name[kept]):
        key = next((name for name in apart if _same_groups(columns[name], by_name)), None)
        return Several(because, key, by_name if key is None else None)
    return Several(because, None, others=tuple(apart)) if repeated >= SURELY else None


def _tells_apart(positions: pd.DataFrame, values: pd.Categorical) -> bool:
    """Check that positions hardly repeat within groups."""
    codes = values.codes
    return bool(positions.assign(section=codes).duplicated().mean() < REPEATED / 2)


def _by_names(adata: AnnData) -> pd.Categorical | None:
    """Take what follows the last hyphen of names, or what precedes the first underscore, as sections."""
    import pandas as pd

    names = adata.obs_names.astype(str).str
    for part in (names.extract(r"[-_]([^-_]+)$")[0], names.extract(r"^([^_]+)_")[0]):
        values = pd.Categorical(part)
        if 2 <= len(values.categories) <= max(2, adata.n_obs // FEW_DEPTHS) and (values.codes >= 0).all():
            return values
    return None


def _overlaid(adata: AnnData, columns: dict[str, pd.Categorical]) -> Several | None:
    """Find sections that lie on top of each other, by columns that are named after sections."""
    named = {name: values for name, values in columns.items() if may_name_sections(name)}
    xy = coordinates(adata)
    overlaid = {name: share for name, values in named.items() if (share := _mixed(xy, values)) > MIXED}
    for name in overlaid:  # few groups first: the one within which no other is overlaid
        apart = laid_apart(xy, named[name])
        if all(_mixed(apart, named[other]) <= MIXED for other in overlaid if other != name):
            return Several(f"the groups of obs[{name!r}] lie on top of each other", name)
    by_name = _by_names(adata)
    if by_name is None or len(by_name.categories) > MOST_BY_NAME:  # numbers of the cells of a field, maybe
        return None
    if _cover_the_same(xy, by_name) and _mixed(xy, by_name) > MIXED:
        return Several("the groups that the names tell lie on top of each other", None, by_name)
    return None


def _cover_the_same(xy: Float64, values: pd.Categorical) -> bool:
    """Tell whether most groups extend over most of the tissue, as bins named by their column or row do not."""
    extents = [np.ptp(xy[values.codes == code], axis=0) for code in range(len(values.categories))]
    return bool(np.median(np.min(np.array(extents) / np.maximum(np.ptp(xy, axis=0), 1e-12), axis=1)) > COVERED)


def _mixed(xy: Float64, values: pd.Categorical) -> float:
    """Measure the share of spots whose nearest one is of another group; 0 for labels of one piece of tissue."""
    from scipy.spatial import cKDTree

    sampled = np.arange(len(xy))[:: -(-len(xy) // SAMPLED)]
    nearest = cKDTree(xy).query(xy[sampled], k=[2])[1].ravel()
    share = float((values.codes[nearest] != values.codes[sampled]).mean())
    return 0.0 if share > MIXED and look_like_labels(xy, values) else share


def _apart(adata: AnnData) -> str | None:
    """Find the column of sections that lie side by side; None if there is none."""
    xy: Any = coordinates(adata)
    for name, values in _columns(adata).items():
        if may_name_sections(name) and not look_like_labels(xy, values):
            sections_of(adata, name)
            logger.info("Sections are those of obs[%r], which are apart.", name)
            return name
    logger.info("There is one section.")
    return None
