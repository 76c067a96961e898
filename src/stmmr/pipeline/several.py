"""Several inputs of one command: sections of one run, named after their files or folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_key, require_positive
from stmmr._core.record import record, recorded
from stmmr.io._placing import GENERIC
from stmmr.settings import named_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

SAYS_NOTHING: Final = re.compile(
    rf"{GENERIC.pattern}filtered_feature_bc_matrix|raw_feature_bc_matrix|cell_feature_matrix|result|spatialdata|adata"
)
"""Names of files and folders that say nothing about the sample."""
ENDINGS: Final = (".gz", ".h5ad", ".h5mu", ".h5", ".zarr", ".csv", ".tsv", ".txt", ".mtx", ".gef", ".parquet")
OF_ONE: Final = ("image", "registration")
"""Options that hold for a single section."""


def named_inputs(sources: Sequence[Path]) -> dict[str, Path]:
    """Name inputs by the first part of their path, from the end, that says something; names become unique.

    Raises
    ------
    InputError
        If one is given twice.
    """
    paths = [path.resolve() for path in sources]
    twice = [str(path) for at, path in enumerate(paths) if path in paths[:at]]
    if twice:
        raise InputError(f"Expected each section once, found {listed(twice)} twice. Leave it out.")
    names = [_telling(path)[0] for path in paths]
    names = [
        " ".join(_telling(path)[1::-1]) if names.count(name) > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]
    named: dict[str, Path] = {}
    for name, source in zip(names, sources, strict=True):
        unique, at = name, 1
        while unique in named or (at > 1 and unique in names):
            at += 1
            unique = f"{name} {at}"
        named[unique] = source
    return named


def _telling(path: Path) -> list[str]:
    """Get the parts of a path that say something of the sample, from the end."""
    last = path.name
    while last.lower().endswith(ENDINGS):
        last = last.rpartition(".")[0]
    found = [part for part in (last, *(folder.name for folder in path.parents)) if not SAYS_NOTHING.fullmatch(part)]
    return found or ["section"]


def check_several(options: Mapping[str, Any], *, mode: str) -> None:
    """Check that options go with several inputs."""
    if options.get("section_key") is not None:
        raise InputError(
            f"Expected no --section-key with several inputs, found {options['section_key']!r}. Leave it out: each "
            "input is a section."
        )
    given = [name for name in OF_ONE if options.get(name) is not None]
    if given:
        raise InputError(
            f"Expected the pictures of several inputs in the inputs themselves, found --{given[0]}, which is of one. "
            "Put each beside its section, or call stmmr.run(image={'section': 'he.jpg', …}) in Python."
        )
    if mode == "disk":
        raise InputError(
            "Expected several inputs in memory, found --mode disk. Put the sections into one .h5ad "
            "(stmmr.pp.concat_sections) and run it with --section-key."
        )


def together(
    opened: Mapping[str, tuple[AnnData, dict[str, Any]]], options: Mapping[str, Any]
) -> tuple[AnnData, dict[str, Any]]:
    """Put sections into one table; get the options that remain of all.

    Parameters
    ----------
    opened
        By name, what was read of each input and the options that remained: blocks that came with it, and the picture
        of a SpatialData store with its registration.
    options
        Those that were given.
    """
    from stmmr.pp import concat_sections

    key = keys.SECTION
    if any(key in adata.obs for adata, _ in opened.values()):
        key = f"stmmr_{key}"
        logger.info("There are columns 'section' in obs already; the sections stand in obs[%r].", key)
    adata = concat_sections({name: adata for name, (adata, _) in opened.items()}, section_key=key)
    said = [left for _, left in opened.values()]
    joined = {**options, **{name: value for name, value in said[0].items() if name not in OF_ONE}, "section_key": key}
    blocks = {name: block for left in said for name, block in named_blocks(left.get("blocks")).items()}
    for name in OF_ONE:
        each = {section: left[name] for section, (_, left) in opened.items() if left.get(name) is not None}
        joined[name] = each or None
    return adata, joined | {"blocks": blocks or None}


def align(adata: AnnData, um: float, options: Mapping[str, Any]) -> dict[str, Any]:
    """Stack sections `um` µm apart, aligned, for a run in three dimensions; get its options.

    Sets ``obsm["spatial_3d"]``; what the alignment reads is not kept, as the run makes it itself.
    """
    from anndata import AnnData

    from stmmr import pp

    require_positive(um, name="--align (µm)")
    key, use_rep = options.get("section_key"), options.get("use_rep")
    if key is None:
        raise InputError("Expected several sections for --align, found one input. Give more, or --section-key.")
    require_key(adata.obs.columns, key, where="obs")
    if options.get("preset") == "paper":
        raise InputError("Expected the default preset with --align, found 'paper', whose graph is of the array.")
    if keys.SPATIAL_3D in adata.obsm:
        logger.warning("obsm['spatial_3d'] is replaced by the alignment; to use it as it is, give --in-3d.")
    light = AnnData(
        X=adata.X,
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        obsm=dict(adata.obsm),
        layers=dict(adata.layers),
        uns=dict(adata.uns),
    )
    layer, progress = options.get("layer"), options.get("progress", True)
    if use_rep is None:
        pp.expression(light, layer=layer, size_key=options.get("size_key"), section_key=key, progress=progress)
    pp.align_sections(light, key, z=um, use_rep=use_rep or keys.COMPONENTS, random_state=options.get("random_state", 0))
    adata.obsm[keys.SPATIAL_3D] = light.obsm[keys.SPATIAL_3D]
    record(adata, align_sections=recorded(light)["align_sections"])
    return {**options, "in_3d": True}
