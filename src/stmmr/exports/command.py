"""The command ``stmmr export``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from stmmr.exports.options import ExportOptions, Target

OPTIONS: Final = ExportOptions()


def export_command(
    result: Annotated[Path, Parameter(name=["RESULT", "--result"])],
    *,
    to: Target,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    options: Annotated[ExportOptions, Parameter(name="*", negative_bool="", show_default=False)] = OPTIONS,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="", show_default=False)] = False,
) -> None:
    """Write the domains of a result for another tool, with a README.txt that tells how to open them.

    Parameters
    ----------
    result
        Folder that stmmr run or stmmr map wrote, or any .h5ad or .zarr with domains (--domain-key).
    to
        Tool or format: cell groups for Xenium Explorer, categories for Loupe Browser, outlines of domains and of spots
        for QuPath, outlines as GeoJSON, a SpatialData store for napari, a view for Vitessce, or tables (csv) with a
        script for Seurat and SpatialExperiment.
    output
        Folder to write; by default beside the result, named after it and the tool.
    quiet
        Print warnings and errors only.
    """
    from dataclasses import asdict

    from stmmr.exports.export import export, read_domains

    logging.getLogger("stmmr").setLevel("WARNING" if quiet else "INFO")
    folder = output or result.absolute().with_name(f"{result.absolute().name}_{to}")
    export(read_domains(result), folder, to=to, **asdict(options))
