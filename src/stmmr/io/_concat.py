"""Several sections, each in an AnnData, concatenated into one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_choice, unique_names
from stmmr._core.compat import layers_of, libraries_of, names_in
from stmmr._core.files import names_may_repeat
from stmmr._core.genes import ENSEMBL
from stmmr._core.options import checked
from stmmr._core.space import coordinates, rows_called, um_per_unit
from stmmr.image.library import FULLRES, scale_key

if TYPE_CHECKING:
    from anndata import AnnData

Join = Literal["inner", "outer"]
FEW_SHARED: Final = 0.5
"""Share of shared genes, of the section with the fewest genes, below which there is a warning."""


@checked
def concat_sections(
    sections: Mapping[str, AnnData] | Sequence[AnnData], *, section_key: str = keys.SECTION, join: Join = "inner"
) -> AnnData:
    """Concatenate sections into one AnnData, which every step takes with `section_key`.

    Each section keeps its own coordinates. If the length of their unit is known in all sections and differs,
    coordinates and scale factors are converted to the unit of the first.

    Parameters
    ----------
    sections
        Sections by name; those of a sequence are named "1", "2", ….
    section_key
        Column of ``obs`` for the names.
    join
        "inner" keeps the genes that all sections have, "outer" keeps all genes. A gene that was not measured in a
        section is then 0 there; as the model centres each section, the gene does not vary there.

    Returns
    -------
    AnnData with

    ``obs[section_key]``
        Categorical, in the order of `sections`.
    ``obs_names``
        Unchanged; if a name is in several sections, all get the name of their section after a hyphen.
    ``uns["spatial"]``
        Images and scale factors of each section under its name (`section_key` is the ``library_key`` of squidpy), with
        ``microns_per_pixel`` if it is known.
    ``obs``
        The columns of all sections ("outer"), or those that all have ("inner").
    ``obsm``, ``layers``
        Entries that all sections have with the same width; a warning names the others, which are left out.

    Results of `stmmr`, which hold for one section, ``obsp`` and other entries of ``uns`` are not copied.

    Raises
    ------
    InputError
        If there are fewer than two sections, one is not an AnnData, they have no genes in common (the message gives
        the likely reason), one has a column named `section_key`, or only some have coordinates.
    """
    import anndata as ad

    require_choice(join, ("inner", "outer"), name="join")
    parts = _named(sections, section_key, filled=join == "outer")
    _check_genes(parts)
    names = np.concatenate([part.obs_names.astype(str).to_numpy(object) for part in parts.values()])
    again = pd.Series(names, dtype=object).duplicated().to_numpy()
    clashing = int(again.sum())
    if clashing:
        logger.warning(
            "%d names of %s, such as %s, are in several sections. The name of the section was added to each.",
            clashing,
            rows_called(next(iter(parts.values()))),
            names[again.argmax()],
        )
    del names, again
    converted = _in_one_unit(parts)
    _keep_common(converted)
    joined: AnnData = ad.concat(
        converted, label=section_key, join=join, merge="same", index_unique="-" if clashing else None
    )
    joined.obs[section_key] = pd.Categorical(joined.obs[section_key].astype(str), categories=list(parts))
    libraries = {name: library for part in converted.values() for name, library in part.uns[keys.SPATIAL].items()}
    if libraries:
        joined.uns[keys.SPATIAL] = libraries
    return joined


def _named(
    sections: Mapping[str, AnnData] | Sequence[AnnData], section_key: str, *, filled: bool
) -> dict[str, AnnData]:
    """Name sections and check that they can be concatenated; in `filled` ones, missing genes become 0."""
    from anndata import AnnData

    if isinstance(sections, Mapping):
        named = {str(name): part for name, part in sections.items()}
    elif isinstance(sections, AnnData) or not isinstance(sections, Iterable):
        hint = ' Name the column of its sections (section_key="…").' if isinstance(sections, AnnData) else ""
        raise InputError(f"Expected two sections or more, found one {type(sections).__name__}.{hint}")
    else:
        named = {str(i): part for i, part in enumerate(sections, start=1)}
    if len(named) < 2:
        raise InputError(f"Expected two sections or more, found {len(named)}. Run a single section by itself.")
    for name, part in named.items():
        if not isinstance(part, AnnData):
            raise InputError(
                f"Expected AnnData for every section, found {type(part).__name__} for {name!r}. Read files with "
                "stmmr.read. Of MuData take the modality with the expression, of SpatialData the table."
            )
        if section_key in part.obs:
            raise InputError(
                f"Expected sections without a column {section_key!r} in obs, found one in {name!r}. "
                'Choose another name (section_key="…").'
            )
        if part.isbacked:
            raise InputError(f"Expected sections in memory, found {name!r} on disk. Read it without backed=True.")
        coordinates(part)
    return {name: _distinct(part, filled=filled) for name, part in named.items()}


def _distinct(part: AnnData, *, filled: bool) -> AnnData:
    """Copy a section without the results of a single section, and make names unique."""
    from anndata import AnnData

    layers = {key: value for key, value in layers_of(part).items() if keys.survives_join(key)}
    with names_may_repeat():
        kept = AnnData(
            X=_as_csr(part.X) if filled else part.X,
            obs=part.obs[[column for column in part.obs if keys.survives_join(str(column))]].copy(),
            var=part.var[[column for column in part.var if keys.survives_join(str(column))]].copy(),
            obsm={key: value for key, value in part.obsm.items() if keys.survives_join(key)},
            layers={key: _as_csr(value) if filled else value for key, value in layers.items()},
            uns={keys.SPATIAL: libraries_of(part)},
        )
    unique_names(kept)
    return kept


def _check_genes(parts: Mapping[str, AnnData]) -> None:
    """Check that sections have genes in common."""
    shared: pd.Index[str] | None = None
    for name, part in parts.items():
        common = part.var_names if shared is None else shared.intersection(part.var_names)
        if shared is not None and not len(common):
            first = next(iter(parts))
            raise InputError(
                f"Expected genes that all sections have, found none that {name!r} ({part.n_vars} genes, such as "
                f"{listed(part.var_names[:3])}) shares with the sections before it ({len(shared)} genes, such "
                f"as {listed(shared[:3])}).{reason_of_other_genes(parts[first].var_names, part.var_names)}"
            )
        shared = common
    fewest = min(part.n_vars for part in parts.values())
    if shared is not None and len(shared) < FEW_SHARED * fewest:
        logger.warning("Only %d genes are in all sections; the section with the fewest has %d.", len(shared), fewest)


def reason_of_other_genes(names: pd.Index, others: pd.Index) -> str:
    """Explain why two sections have no gene names in common."""
    by_id = [np.mean([bool(ENSEMBL.match(name)) for name in index]) > 0.5 for index in (names, others)]
    if by_id[0] != by_id[1]:
        return " One has Ensembl identifiers and the other symbols. Use the same kind in var_names of both."
    if all(by_id):
        first, second = (index.str.replace(r"\.\d+$", "", regex=True) for index in (names, others))
        if len(first.intersection(second)):
            return " They differ in the version after the dot. Remove it."
        return " They are Ensembl identifiers of different species or different genes. Map them to orthologues."
    if len(names.str.upper().intersection(others.str.upper())):
        return " They differ only in upper and lower case, as those of human and mouse do. Map them to orthologues."
    return " Use the same gene names in all sections."


def _in_one_unit(parts: Mapping[str, AnnData]) -> dict[str, AnnData]:
    """Convert coordinates to the unit of the first section if all are known, and name libraries after sections."""
    um = {
        name: um_per_unit(part, coordinates(part), *part.uns[keys.SPATIAL].values())[0] for name, part in parts.items()
    }
    if not all(map(math.isfinite, um.values())):
        um = dict.fromkeys(um, math.nan)
    any_spatial = any(keys.SPATIAL in part.obsm for part in parts.values())
    unit = next(iter(um.values()))
    for name, part in parts.items():
        factor = um[name] / unit if math.isfinite(unit) else 1.0
        if any_spatial:
            part.obsm[keys.SPATIAL] = coordinates(part) * factor
        if keys.BOUNDARIES in part.obsm:
            part.obsm[keys.BOUNDARIES] = part.obsm[keys.BOUNDARIES] * np.float32(factor)
        if abs(factor - 1) > 1e-2:
            logger.info("Coordinates of %s are multiplied by %.4g, to the unit of the first section.", name, factor)
        libraries = part.uns[keys.SPATIAL] or ({name: {}} if any_spatial and math.isfinite(unit) else {})
        single = len(libraries) == 1
        part.uns[keys.SPATIAL] = {
            name if single else f"{name}-{library}": _scaled(content, factor, unit)
            for library, content in libraries.items()
        }
    return dict(parts)


def _keep_common(parts: Mapping[str, AnnData]) -> None:
    """Remove entries that some sections lack or have with another width.

    Filled with 0, missing counts would look like zeros; and anndata would cut arrays in ``obsm`` to the narrowest.
    """
    for attribute in ("obsm", "layers"):
        every = [getattr(part, attribute) for part in parts.values()]
        for key in dict.fromkeys(key for entries in every for key in names_in(entries)):
            kinds = {_kind(entries[key], attribute) if key in entries else None for entries in every}
            if len(kinds) > 1:
                logger.warning("%s[%r] is left out: some sections lack it or have another width.", attribute, key)
                for entries in every:
                    entries.pop(key, None)


def _kind(value: Any, attribute: str) -> tuple[bool, int]:
    """Get what entries under one key must have in common; layers are as wide as their section has genes."""
    return isinstance(value, pd.DataFrame), value.shape[1] if attribute == "obsm" else 0


def _scaled(library: Mapping[str, Any], factor: float, um: float) -> dict[str, Any]:
    """Adapt the scale factors of a library to coordinates that were multiplied."""
    factors = dict(library.get("scalefactors", {}))
    if factor != 1:
        factors.setdefault(scale_key(FULLRES), 1.0)
    for key in [key for key in factors if key.startswith("tissue_") and key.endswith("_scalef")]:
        factors[key] = factors[key] / factor
    for key in ("spot_diameter_fullres", "fiducial_diameter_fullres"):
        if key in factors:
            factors[key] = factors[key] * factor
    if math.isfinite(um):
        factors["microns_per_pixel"] = um
    return {**library, "scalefactors": factors}


def _as_csr(matrix: Any) -> Any:
    """Make a matrix sparse, so that missing genes become 0 and not NaN."""
    return sparse.csr_matrix(matrix) if isinstance(matrix, np.ndarray) else matrix
