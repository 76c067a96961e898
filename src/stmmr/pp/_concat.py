"""Sections that come one by one, put into one table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_choice, unique_names
from stmmr._core.compat import layers_of, names_in
from stmmr._core.files import names_may_repeat
from stmmr._core.space import coordinates, um_per_unit
from stmmr.image.library import FULLRES, scale_key

if TYPE_CHECKING:
    from anndata import AnnData

Join = Literal["inner", "outer"]
FEW_SHARED: Final = 0.5
"""Share of the genes of the section with the fewest, below which so few in common are warned of."""
ENSEMBL: Final = re.compile(r"ENS[A-Z]*G\d{6,}")
"""Names of genes in Ensembl, of any species."""
OF_ONE_RUN: Final = frozenset(
    {
        keys.LOGNORM,
        keys.ENHANCED,
        keys.COMPONENTS,
        keys.EMBEDDING,
        keys.UMAP,
        keys.DOMAIN,
        keys.CONFIDENCE,
        keys.DOMAIN_REFINED,
        keys.PSEUDOTIME,
        keys.BRANCH,
        keys.LIBRARY_SIZE,
    }
)
"""What holds for a section by itself: domain 1 of one is not domain 1 of another."""


def concat_sections(
    sections: Mapping[str, AnnData] | Sequence[AnnData], *, section_key: str = keys.SECTION, join: Join = "inner"
) -> AnnData:
    """Put sections into one table, as every step takes them with `section_key`.

    Coordinates stay those of each section. Where the length of their unit is known in all sections and differs, they
    are brought to the unit of the first, and scale factors with them.

    Parameters
    ----------
    sections
        By name; in a sequence, they are named "1", "2", ….
    section_key
        Column of ``obs`` for the names.
    join
        "inner" keeps the genes that all sections have, "outer" all genes, a gene that was not measured in a section
        counting as 0 there: the model takes the mean of each section off, so that it does not vary there.

    Returns
    -------
    AnnData with

    ``obs[section_key]``
        Categorical, in the order given.
    ``obs_names``
        As they were, or with the name of the section after a hyphen if any of them is in several sections.
    ``uns["spatial"]``
        Pictures and scale factors of each section under its name (``library_key`` of squidpy is `section_key`); with
        ``microns_per_pixel`` where it is known.
    ``obs``
        The columns of all sections (that all have, with "inner").
    ``obsm``, ``layers``
        Entries that all sections have, in one width; others are left out with a warning.

    Results of `stmmr`, which hold for a section by itself, ``obsp`` and other entries of ``uns`` stay behind.

    Raises
    ------
    InputError
        If there are fewer than two sections, one is no AnnData, they have no genes in common (the likely reason is
        said), one has a column of the name `section_key`, or only some have coordinates.
    """
    import anndata as ad

    require_choice(join, ("inner", "outer"), name="join")
    parts = _named(sections, section_key, filled=join == "outer")
    _check_genes(parts)
    names = pd.Index(np.concatenate([part.obs_names.to_numpy(dtype=str) for part in parts.values()]))
    clashing = int(names.duplicated().sum())
    if clashing:
        logger.warning(
            "%d names of places, such as %s, are in several sections; each name got that of its section behind it.",
            clashing,
            names[names.duplicated()][0],
        )
    placed = _in_one_unit(parts)
    _keep_common(placed)
    both: AnnData = ad.concat(
        placed, label=section_key, join=join, merge="same", index_unique="-" if clashing else None
    )
    both.obs[section_key] = pd.Categorical(both.obs[section_key].astype(str), categories=list(parts))
    libraries = {name: library for part in placed.values() for name, library in part.uns[keys.SPATIAL].items()}
    if libraries:
        both.uns[keys.SPATIAL] = libraries
    return both


def _named(
    sections: Mapping[str, AnnData] | Sequence[AnnData], section_key: str, *, filled: bool
) -> dict[str, AnnData]:
    """Name sections and check that they can be put together; `filled` ones can take genes that they lack."""
    from anndata import AnnData

    if isinstance(sections, Mapping):
        named = {str(name): part for name, part in sections.items()}
    elif isinstance(sections, AnnData):
        raise InputError(
            "Expected two sections or more, found one table. Name its sections by section_key in each step."
        )
    else:
        named = {str(at): part for at, part in enumerate(sections, start=1)}
    if len(named) < 2:
        raise InputError(f"Expected two sections or more, found {len(named)}. Run a single one by itself.")
    for name, part in named.items():
        if not isinstance(part, AnnData):
            raise InputError(
                f"Expected AnnData for every section, found {type(part).__name__} for {name!r}. Read files by "
                "stmmr.read; of MuData give the modality with the expression, of SpatialData the table."
            )
        if section_key in part.obs:
            raise InputError(
                f"Expected sections without a column {section_key!r} in obs, found one in {name!r}. "
                "Give another name: section_key='…'."
            )
        if part.isbacked:
            raise InputError(f"Expected sections in memory, found {name!r} on disk. Read it without backed=True.")
        coordinates(part)
    return {name: _distinct(part, filled=filled) for name, part in named.items()}


def _distinct(part: AnnData, *, filled: bool) -> AnnData:
    """Leave out what holds for one section by itself; names become unique. The section given stays as it is."""
    from anndata import AnnData

    layers = {key: value for key, value in layers_of(part).items() if key not in OF_ONE_RUN}
    with names_may_repeat():
        kept = AnnData(
            X=_as_csr(part.X) if filled else part.X,
            obs=part.obs[[column for column in part.obs if column not in OF_ONE_RUN]].copy(),
            var=part.var[[column for column in part.var if not str(column).startswith("stmmr_")]].copy(),
            obsm={key: value for key, value in part.obsm.items() if key not in OF_ONE_RUN},
            layers={key: _as_csr(value) if filled else value for key, value in layers.items()},
            uns={keys.SPATIAL: dict(part.uns.get(keys.SPATIAL, {}))},
        )
    unique_names(kept)
    return kept


def _check_genes(parts: Mapping[str, AnnData]) -> None:
    """Check that sections have genes in common."""
    shared: pd.Index[str] | None = None
    for name, part in parts.items():
        found = part.var_names if shared is None else shared.intersection(part.var_names)
        if shared is not None and not len(found):
            first = next(iter(parts))
            raise InputError(
                f"Expected genes that all sections have, found none that {name!r} ({part.n_vars}, such as "
                f"{listed(part.var_names, at_most=3)}) shares with those before ({len(shared)}, such as "
                f"{listed(shared[:3])}).{_reason(parts[first], part)}"
            )
        shared = found
    fewest = min(part.n_vars for part in parts.values())
    if shared is not None and len(shared) < FEW_SHARED * fewest:
        logger.warning("%d genes are in all sections, of %d in the one with the fewest.", len(shared), fewest)


def _reason(one: AnnData, other: AnnData) -> str:
    """Say why the genes of two sections are not named alike; empty where that is not plain."""
    by_id = [np.mean([bool(ENSEMBL.match(name)) for name in part.var_names]) > 0.5 for part in (one, other)]
    if by_id[0] != by_id[1]:
        return " One has identifiers of Ensembl and the other has symbols; set var_names of both to the same."
    if all(by_id):
        first, second = (part.var_names.str.replace(r"\.\d+$", "", regex=True) for part in (one, other))
        if len(first.intersection(second)):
            return " They differ by the version after the point; cut it off."
        return " They are identifiers of Ensembl of different species, or of different genes; map them to orthologues."
    if len(one.var_names.str.upper().intersection(other.var_names.str.upper())):
        return " They agree but for capital letters, as those of human and mouse do; map them to orthologues."
    return " Name genes alike in all sections."


def _in_one_unit(parts: Mapping[str, AnnData]) -> dict[str, AnnData]:
    """Bring coordinates to the unit of the first section where all are known; name libraries after sections."""
    um = {
        name: um_per_unit(part, coordinates(part), *part.uns[keys.SPATIAL].values())[0] for name, part in parts.items()
    }
    if not all(map(math.isfinite, um.values())):
        um = dict.fromkeys(um, math.nan)
    some = any(keys.SPATIAL in part.obsm for part in parts.values())
    unit = next(iter(um.values()))
    for name, part in parts.items():
        factor = um[name] / unit if math.isfinite(unit) else 1.0
        if some:
            part.obsm[keys.SPATIAL] = coordinates(part) * factor
        if abs(factor - 1) > 1e-2:
            logger.info("Coordinates of %s are brought to the unit of the first section: times %.4g.", name, factor)
        libraries = part.uns[keys.SPATIAL] or ({name: {}} if some and math.isfinite(unit) else {})
        alone = len(libraries) == 1
        part.uns[keys.SPATIAL] = {
            name if alone else f"{name}-{library}": _scaled(content, factor, unit)
            for library, content in libraries.items()
        }
    return dict(parts)


def _keep_common(parts: Mapping[str, AnnData]) -> None:
    """Leave out what only some sections have, or in another width: filled with 0, missing counts would pass for none.

    anndata would also cut arrays in ``obsm`` to the narrowest, whatever their columns stand for.
    """
    for what in ("obsm", "layers"):
        every = [getattr(part, what) for part in parts.values()]
        for key in dict.fromkeys(key for one in every for key in names_in(one)):
            found = {_kind(one[key], what) if key in one else None for one in every}
            if len(found) > 1:
                logger.warning("%s[%r] is left out: some sections lack it, or have it in another width.", what, key)
                for one in every:
                    one.pop(key, None)


def _kind(value: Any, what: str) -> tuple[bool, int]:
    """Tell what can stand under one key; layers are as wide as their section has genes."""
    return isinstance(value, pd.DataFrame), value.shape[1] if what == "obsm" else 0


def _scaled(library: Mapping[str, Any], factor: float, um: float) -> dict[str, Any]:
    """Change the scale factors of a library for coordinates that were multiplied."""
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
    """Make a matrix sparse, so that what is missing in it becomes 0 and not NaN."""
    return sparse.csr_matrix(matrix) if isinstance(matrix, np.ndarray) else matrix
