"""The page: its parts assembled and written as one file."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.depends import drop_outdated
from stmmr._core.files import atomic_write
from stmmr._core.options import checked
from stmmr._core.shown import domains_shown
from stmmr._core.space import rows_called
from stmmr._core.version import PACKAGES, VERSION, versions
from stmmr.report._curves import curves_of, trends_of
from stmmr.report._figures import map_and_umap
from stmmr.report._findings import findings_of, further_sections
from stmmr.report._genes import genes_to_show, values_of
from stmmr.report._layers import Layer, gene_layer, layers_of, packed, palette_of
from stmmr.report._methods import methods_of
from stmmr.report._quality import checks_of
from stmmr.report._scene import CIRCLES_AT_MOST, scene_of
from stmmr.report._tables import domain_rows, evaluation_table, settings_groups, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData

    from stmmr._core.types import Floats
    from stmmr.report._scene import Frame, Scene

HERE = Path(__file__).parent
GENE_BYTES = 6_000_000
"""Largest size of the genes on the page; later genes are left out."""


@checked
def write(
    adata: AnnData,
    path: str | Path,
    *,
    genes: Iterable[str] | None = None,
    title: str | None = None,
    domain_key: str = keys.DOMAIN,
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
        Genes that the map offers, up to 6 MB. None: those of the tables and curves of the page, otherwise 48 highly
        variable ones with the largest share of their variance between domains.
    title
        Heading; None: the name of the input.
    domain_key
        Column of ``obs`` with the domains to report, such as clusters of scanpy or the annotation of an expert. Results
        of other domains are left out.
    run_facts
        Entries of run.json: "input", "options", "versions", "seconds_in_all", "peak_memory_mb".

    Raises
    ------
    InputError
        If there are no domains or coordinates, or a gene is not in the data.
    """
    require_key(adata.obs.columns, domain_key, where="obs", hint="Run stmmr.run(adata) first.")
    drop_outdated(adata)
    facts, path = dict(run_facts or {}), Path(path)
    if path.is_dir() or not path.parent.is_dir():
        reason = "a folder" if path.is_dir() else "no such folder"
        raise InputError(f"Expected a file name for the report in an existing folder, found {reason}: {path}.")
    with domains_shown(adata, domain_key) as shown_data:
        page = _template().render(**_parts(shown_data, facts, title, genes))
    with atomic_write(path) as new:
        new.write_text(page, encoding="utf-8")


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


def _parts(adata: AnnData, facts: dict[str, Any], title: str | None, genes: Iterable[str] | None) -> dict[str, Any]:
    """Collect the variables of the template."""
    scene, layers = scene_of(adata), layers_of(adata)
    names, how_chosen = genes_to_show(adata, genes)
    data = _data(adata, scene, layers, names)
    methods, cited = methods_of(adata)
    source, full_source = _input_names(facts.get("input", ""))
    n_sections = 1 if scene.sections is None else len(scene.sections.categories)
    unnamed = f"{n_sections} sections" if n_sections > 1 else "a section"
    return _figures(adata, scene, layers[0]) | {
        "title": title or f"Spatial domains of {source or unnamed}",
        "input": full_source,
        "version": VERSION,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "adata": adata,
        "spots": rows_called(adata),
        "facts": facts,
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("figures.js", "page.js")),
        "data": _json(data),
        "layers": layers,
        "genes": [name for name in names if f"gene:{name}" in data["layers"]],
        "how_chosen": how_chosen,
        "scene": scene,
        "domains": domain_rows(adata),
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
    }


def _figures(adata: AnnData, scene: Scene, first: Layer) -> dict[str, Any]:
    """Draw map and UMAP by bokeh, and the curves by matplotlib."""
    from bokeh.embed import components
    from bokeh.resources import Resources

    figures = map_and_umap(scene, first)
    script, divs = components(list(figures.values()))
    return {
        "bokeh": "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw),
        "figures": script,
        "map": divs[0],
        "umap": divs[1] if "umap" in figures else None,
        "curves": curves_of(adata),
        "trends": trends_of(adata),
    }


def _data(adata: AnnData, scene: Scene, layers: list[Layer], genes: list[str]) -> dict[str, Any]:
    """Pack the data of the map, with genes as long as their size is within the limit."""
    packed_layers = {layer.key: _packed(layer, scene) for layer in layers}
    columns = values_of(adata, genes) if genes else None
    remaining = GENE_BYTES
    for i, name in enumerate(genes):
        assert columns is not None  # noqa: S101 - there are genes
        layer = gene_layer(name, columns[:, i].toarray().ravel())
        packed_layer = _packed(layer, scene)
        remaining -= sum(len(packed_layer[part]) for part in ("points", "pixels") if part in packed_layer)
        if remaining < 0:
            break
        packed_layers[layer.key] = packed_layer
    first = next((layer for layer in layers if layer.names is None), None)
    return {
        "layers": packed_layers,
        "first": layers[0].key,
        "spots": rows_called(adata),
        "names": packed("\n".join(map(str, adata.obs_names[scene.points]))),
        "scale": palette_of(first) if first is not None else [],
        "map": _placed(scene.frame, scene.xy[scene.points]) | {"fixed": _fixed(scene)},
        "umap": None if scene.layout is None or scene.umap is None else _placed(scene.layout, scene.umap),
        "radius": scene.radius,
        "size": scene.dot,
        "few": CIRCLES_AT_MOST,
    }


def _placed(frame: Frame, positions: Floats) -> dict[str, Any]:
    x, y = frame.steps(positions)
    return {"x": packed(x), "y": packed(y), "low": frame.low.tolist(), "high": frame.high.tolist()}


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
