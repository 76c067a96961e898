"""The page: its parts assembled and written as one file."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stmmr._core import keys
from stmmr._core.categories import categories, notes_of_domains
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.depends import drop_outdated
from stmmr._core.exits import reason_of
from stmmr._core.files import atomic_write
from stmmr._core.genes import require_genes
from stmmr._core.options import checked
from stmmr._core.shown import domains_shown
from stmmr._core.space import rows_called
from stmmr._core.version import PACKAGES, VERSION, versions
from stmmr.report._alternatives import alternatives_of, panels_of
from stmmr.report._annotations import annotation_keys
from stmmr.report._curves import curves_of, drawn, trends_of
from stmmr.report._domains import domains_of, percent
from stmmr.report._figures import map_and_umap, panels_in_rows, small_maps
from stmmr.report._findings import findings_of, further_sections
from stmmr.report._genes import genes_in_tables
from stmmr.report._layers import Layer, layers_of, packed, scale_colors
from stmmr.report._methods import methods_of
from stmmr.report._packed import pack, source_of
from stmmr.report._quality import checks_of
from stmmr.report._scene import CIRCLES_AT_MOST, number_positions, scene_of
from stmmr.report._summaries import summaries_of
from stmmr.report._tables import evaluation_table, settings_groups, shown
from stmmr.report.tiles import tiles_written, write_tiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData
    from numpy.typing import ArrayLike

    from stmmr._core.types import Floats
    from stmmr.image.slide import ImageSource
    from stmmr.report._figures import Panels
    from stmmr.report._packed import PackedGenes
    from stmmr.report._scene import Frame, Scene

HERE = Path(__file__).parent
SCRIPTS = (
    "core", "figures", "layers", "genes", "markers", "selection", "names", "panels", "save",
    "view", "tiles", "page"
)  # fmt: skip


@checked
def write(
    adata: AnnData,
    path: str | Path,
    *,
    genes: Iterable[str] | None = None,
    title: str | None = None,
    domain_key: str = keys.DOMAIN,
    image: ImageSource | Literal["full"] | None = None,
    registration: str | Path | ArrayLike | None = None,
    run_facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a report of a run: one HTML file that opens in any browser, without internet, to share with others.

    It has an interactive map of the tissue, linked with the UMAP; the domains with their confidence and genes; results
    of other analyses that ran (pseudotime and branches, genes over pseudotime, spatially variable genes, gene sets,
    composition of sections); checks of the result; the curves behind choices; scores, if labels were evaluated;
    settings, versions, and a text on the methods with references. Many spots are drawn as pixels until few are in view;
    more than 100,000 are always drawn as pixels. Results whose domains or embedding have changed since are removed from
    `adata` first, with a warning.

    Parameters
    ----------
    adata
        After `stmmr.run`, or after `stmmr.tl.consensus`.
    path
        HTML file to write; an existing one is replaced.
    genes
        Genes that the search of the map finds. None: all with counts, up to 21 MB: of more, those of the tables and
        then the most variable ones.
    title
        Heading; None: the name of the input.
    domain_key
        Column of ``obs`` with the domains to report, such as clusters of scanpy or the annotation of an expert. Results
        of other domains are left out.
    image
        H&E image to show at its full resolution, as `stmmr.pp.histology` takes it, or "full" for the largest one in
        ``uns["spatial"]``. It is written as JPEG tiles into a folder beside the page, such as ``report_tiles``, and the
        page loads those in view. None: the page holds the image, at most 1,600 pixels along its longer side.
    registration
        Affine map from coordinates to pixels of `image`, as of `stmmr.pp.histology`.
    run_facts
        Entries of run.json: "input", "options", "versions", "seconds_in_all", "peak_memory_mb".

    Raises
    ------
    InputError
        If there are no domains or coordinates, or a gene is not in the data.
    RuntimeError
        If a figure could not be drawn; the page is written without it.
    """
    require_key(adata.obs.columns, domain_key, where="obs", hint="Run stmmr.run(adata) first.")
    drop_outdated(adata)
    facts, path = dict(run_facts or {}), Path(path)
    if path.is_dir() or not path.parent.is_dir():
        reason = "a folder" if path.is_dir() else "no such folder"
        raise InputError(f"Expected a file name for the report in an existing folder, found {reason}: {path}.")
    with domains_shown(adata, domain_key) as shown_data:
        if image is not None:
            write_tiles(shown_data, path, image, registration=registration)
        wanted = image is not None or facts.get("options", {}).get("report_image") == "full"
        tiles = tiles_written(path) if wanted else None
        parts, failed = _parts(shown_data, facts, title, genes, domain_key, tiles)
        page = _template().render(**parts)
    with atomic_write(path) as new:
        new.write_text(page, encoding="utf-8")
    if failed:
        raise RuntimeError(f"written without {len(failed)} of its figures ({reason_of(failed[0])})") from failed[0]


def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html")


def _input_names(source: object) -> tuple[str, str]:
    """Get the names of the input for the heading and in full, without their folder, which is private."""
    if isinstance(source, dict):
        names = [f"{name} ({Path(str(path)).name})" for name, path in source.items()]
        return listed(source, at_most=4), ", ".join(names)
    return Path(str(source)).stem, Path(str(source)).name


def _parts(
    adata: AnnData,
    facts: dict[str, Any],
    title: str | None,
    genes: Iterable[str] | None,
    domain_key: str,
    tiles: dict[str, Any] | None,
) -> tuple[dict[str, Any], list[Exception]]:
    """Collect the variables of the template, and the errors of figures that could not be drawn."""
    scene, layers = scene_of(adata), layers_of(adata)
    found, genes_told = _genes(adata, scene, genes)
    alternatives = alternatives_of(adata)
    if alternatives is not None and alternatives.leaves.key not in {layer.key for layer in layers}:
        layers.append(alternatives.leaves)
    shown_beside = panels_of(adata, alternatives)
    panels = panels_in_rows(max(len(shown_beside), 1), scene.frame)
    data = _data(adata, scene, layers, found) | {
        "domain_key": domain_key,
        "tiles": tiles,
        "alternatives": None if alternatives is None else alternatives.description(),
        "panels": {"shown": shown_beside, "left": panels.left, "top": panels.top, "frame": _corners(panels.frame)},
    }
    methods, cited = methods_of(adata)
    source, full_source = _input_names(facts.get("input", ""))
    n_sections = 1 if scene.sections is None else len(scene.sections.categories)
    unnamed = f"{n_sections} sections" if n_sections > 1 else "a section"
    figures, failed = _figures(adata, scene, layers[0], (shown_beside, panels))
    parts = figures | {
        "title": title or f"Spatial domains of {source or unnamed}",
        "input": full_source,
        "version": VERSION,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "adata": adata,
        "spots": rows_called(adata),
        "facts": facts,
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": _script(),
        "data": _json(data),
        "layers": layers,
        "alternatives": alternatives,
        "genes": set() if found is None else set(found.names),
        "genes_called": "" if found is None else f"search {len(found.names):,}",
        "genes_told": genes_told,
        "blocks": [] if found is None else found.blocks,
        "scene": scene,
        "tiles": tiles,
        "domains": domains_of(adata),
        "findings": findings_of(adata),
        "further": further_sections(adata),
        "checks": checks_of(adata),
        "evaluation": evaluation_table(adata),
        "methods": methods,
        "works": cited.works,
        "bibtex": "\n\n".join(work.bibtex for work in cited.works),
        "settings": settings_groups(adata, facts),
        "versions": facts.get("versions", {}) | versions((*PACKAGES, "bokeh", "umap-learn")),
        "shown": shown,
        "percent": percent,
    }
    return parts, failed


def _script() -> str:
    """Join the scripts of the page in one scope, of which bokeh sees a few functions."""
    parts = "\n".join((HERE / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    shown = "return { describe, isDescribed, lasso, mark, show };"
    return f'window.stmmr = (() => {{\n"use strict";\n{parts}\n{shown}\n}})();'


def _figures(
    adata: AnnData, scene: Scene, first: Layer, beside: tuple[list[tuple[str, str]], Panels]
) -> tuple[dict[str, Any], list[Exception]]:
    """Draw map and UMAP by bokeh, and the curves by matplotlib; get the errors of those that could not be drawn."""
    from bokeh.embed import components
    from bokeh.resources import Resources

    failed: list[Exception] = []
    figures = map_and_umap(scene, first, number_positions(scene, categories(adata, keys.DOMAIN).codes))
    shown_beside, panels = beside
    if shown_beside:
        width = float(scene.frame.high[0] - scene.frame.low[0])
        figures["panels"] = small_maps([title for _, title in shown_beside], panels, width)
    script, divs = components(figures)
    parts = {
        "bokeh": "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw),
        "figures": script,
        "map": divs["map"],
        "umap": divs.get("umap"),
        "panels": divs.get("panels"),
        "shape": f"{scene.frame.shape:.3f}",
        "panels_shape": f"{panels.frame.shape:.3f}",
        "beside": shown_beside,
        "summaries": summaries_of(adata, failed),
        "curves": curves_of(adata, failed),
        "trends": next(iter(drawn(adata, [trends_of], failed)), None),
    }
    return parts, failed


def _data(adata: AnnData, scene: Scene, layers: list[Layer], genes: PackedGenes | None) -> dict[str, Any]:
    """Pack the data of the map."""
    return {
        "layers": {layer.key: _packed(layer, scene) for layer in layers},
        "first": layers[0].key,
        "annotations": annotation_keys(adata),
        **_identity(adata),
        "spots": rows_called(adata),
        "names": packed("\n".join(map(str, adata.obs_names[scene.points]))),
        "scale": scale_colors(),
        "map": _placed(scene.frame, scene.xy[scene.points]) | {"fixed": _fixed(scene)},
        "umap": None if scene.layout is None or scene.umap is None else _placed(scene.layout, scene.umap),
        "radius": scene.radius,
        "spacing": scene.spacing,
        "size": scene.dot,
        "few": CIRCLES_AT_MOST,
        "genes": None if genes is None else genes.description(scene.order) | {"order": _ordered(scene)},
    }


def _identity(adata: AnnData) -> dict[str, Any]:
    """Get the number of spots of each domain, and a hash of the domains, by which the browser keeps their names."""
    domains = categories(adata, keys.DOMAIN)
    names = [str(name) for name in domains.categories]
    sizes = np.bincount(domains.codes[domains.codes >= 0], minlength=len(names))
    digest = hashlib.sha256("\n".join(names).encode() + domains.codes.tobytes()).hexdigest()[:16]
    return {"id": digest, "notes": notes_of_domains(adata), "sizes": dict(zip(names, sizes.tolist(), strict=True))}


def _genes(adata: AnnData, scene: Scene, genes: Iterable[str] | None) -> tuple[PackedGenes | None, str]:
    """Pack genes, and tell which these are; None without any."""
    wanted = None if genes is None else require_genes(adata, genes, may_be_empty=True)
    source = source_of(adata) if wanted is None or wanted else None
    if source is None:
        return None, ""
    n = int((source.statistics.seen > 0).sum())
    found = pack(adata, source, genes_in_tables(adata), scene.order, only=wanted)
    if wanted is not None:
        return found, "Genes of the search are those that were named."
    if len(found.names) < n:
        return (
            found,
            f"Search finds the {len(found.names):,} most variable of {n:,} genes: more do not fit on the page.",
        )
    return found, f"Search finds all {n:,} genes with counts."


def _ordered(scene: Scene) -> dict[str, str] | None:
    """Get the pixel of each spot: the spots of the points, the number of spots of each pixel, and the nearest pixel."""
    if scene.grid is None or scene.nearest is None:
        return None
    place = np.empty(len(scene.order), dtype="<u4")
    place[scene.order] = np.arange(len(scene.order))
    return {
        "points": packed(place[scene.points]),
        "counts": packed(np.bincount(scene.grid.pixel).astype("<u4")),
        "nearest": packed(np.diff(scene.nearest.ravel(), prepend=0).astype("<i4")),
    }


def _placed(frame: Frame, positions: Floats) -> dict[str, Any]:
    x, y = frame.steps(positions)
    return {"x": packed(x), "y": packed(y), **_corners(frame)}


def _corners(frame: Frame) -> dict[str, list[float]]:
    return {"low": frame.low.tolist(), "high": frame.high.tolist()}


def _fixed(scene: Scene) -> dict[str, float] | None:
    """Get the position of pixels that are drawn beforehand."""
    grid = scene.grid
    if grid is None:
        return None
    (x, y), w, h = grid.low.tolist(), grid.width * grid.side, grid.height * grid.side
    return {"x": x, "y": y, "w": w, "h": h, "width": grid.width, "height": grid.height}


def _packed(layer: Layer, scene: Scene) -> dict[str, Any]:
    entries = layer.description() | {"points": packed(layer.codes(layer.values[scene.points]))}
    if scene.grid is not None and scene.nearest is not None:
        entries["pixels"] = packed(layer.pixels(scene.grid, scene.nearest))
    return entries


def _json(data: dict[str, Any]) -> str:
    """Encode as JSON that is safe in a script of an HTML page."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
