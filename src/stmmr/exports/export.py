"""`stmmr.export`: domains for another tool, in a folder that appears as a whole."""

from __future__ import annotations

import importlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

from stmmr._core import keys
from stmmr._core.checks import require_choice
from stmmr._core.folders import Kind, publish_folder
from stmmr._core.options import checked, option_names, shows_options, with_changes
from stmmr._core.validated import read_json
from stmmr._core.version import VERSION
from stmmr.exports.content import Content
from stmmr.exports.options import ExportOptions, Target

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("stmmr")
EXPORT: Final = Kind("an export", "export.json", frozenset({"stmmr", "target"}), ".*")
"""A folder with an export. All in it is ours."""


class Writer(NamedTuple):
    """What writes the files of an export."""

    module: str
    function: str


WRITERS: Final[dict[str, Writer]] = {
    "xenium-explorer": Writer("names", "write_xenium_explorer"),
    "loupe": Writer("names", "write_loupe"),
    "qupath": Writer("geojson", "write_qupath"),
    "geojson": Writer("geojson", "write_geojson"),
    "napari": Writer("stores", "write_napari"),
    "vitessce": Writer("stores", "write_vitessce"),
    "csv": Writer("tables", "write_tables"),
}


@shows_options(ExportOptions)
@checked
def export(adata: AnnData, path: str | Path, *, to: Target, **options: Any) -> Path:
    """Write domains for another tool.

    Parameters
    ----------
    adata
        With coordinates and domains.
    path
        Folder to write. It appears once it is complete.
    to
        The tool or format:

        "xenium-explorer"
            ``cell_groups.csv`` with ``cell_id``, ``group`` and ``color``.
        "loupe"
            ``categories.csv`` for Loupe Browser, with barcodes of 10x.
        "qupath"
            ``domains.geojson`` and ``spots.geojson`` in pixels of the full-resolution image.
        "geojson"
            ``domains.geojson``, the outlines of `stmmr.tl.domain_outlines` in the coordinates of ``obsm["spatial"]``.
        "napari"
            ``data.zarr``, a SpatialData store with outlines of domains (shapes) and centres of spots (points), for
            napari-spatialdata (extra ``spatialdata``).
        "vitessce"
            ``data.zarr``, an AnnData store, the view ``vitessce.json`` and ``index.html``, which shows it.
        "csv"
            Tables of spots, domains, embedding and raw counts, with a script that makes a Seurat object and a
            SpatialExperiment of them.

    Returns
    -------
    The folder. Its ``README.txt`` tells how to open the files. Several sections get a file each, with their name.

    Raises
    ------
    InputError
        If there are no domains, the target does not fit the data, the scale of the image is needed and unknown, or the
        folder exists.
    """
    require_choice(to, get_args(Target), name="the target `to`")
    chosen = with_changes(ExportOptions, None, options, function="export")
    content = Content(adata=adata, domain_key=chosen.domain_key, um_per_pixel=chosen.um_per_pixel)
    _ = content.domains  # checked before anything is written
    write = getattr(importlib.import_module(f"stmmr.exports.{WRITERS[to].module}"), WRITERS[to].function)
    target = Path(path).expanduser()
    with publish_folder(target, EXPORT, overwrite=chosen.overwrite) as folder:
        how = write(content, folder)
        (folder / "README.txt").write_text("\n".join([*how, ""]), encoding="utf-8")
        facts = {"stmmr": VERSION, "target": to, "domain_key": chosen.domain_key, "n_obs": adata.n_obs}
        (folder / EXPORT.marker).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    logger.info("%s: %s", target, " ".join(how))
    return target


def export_result(result: Path, output: Path | None, to: Target, options: ExportOptions) -> None:
    """Write the domains of a result folder, or of any other data, to a folder: by default beside it."""
    from stmmr.io import read

    chosen = {name: getattr(options, name) for name in option_names(ExportOptions)}
    data = result
    if (result / "run.json").is_file():
        data = next((path for name in ("result.h5ad", "result.zarr") if (path := result / name).exists()), result)
        facts = read_json(result / "run.json", expected="the run.json of a result")
        if options.domain_key == keys.DOMAIN:
            chosen["domain_key"] = str(facts.get("domain_key", keys.DOMAIN))  # of the last analyses
    folder = output or result.absolute().with_name(f"{result.absolute().name}_{to}")
    export(read(data), folder, to=to, **chosen)
