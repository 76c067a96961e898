"""The page: its parts put together and written as one file."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmmr._core import keys
from stmmr._core.checks import listed, require_extra, require_key
from stmmr._core.files import atomic_write
from stmmr._core.version import VERSION
from stmmr.report._curves import curves_of, trends_of
from stmmr.report._figures import map_and_umap
from stmmr.report._findings import findings_of
from stmmr.report._genes import genes_to_show, values_of
from stmmr.report._layers import Layer, gene_layer, layers_of, packed, palette_of
from stmmr.report._methods import methods_of
from stmmr.report._quality import checks_of
from stmmr.report._scene import CIRCLES_AT_MOST, scene_of
from stmmr.report._tables import domain_rows, evaluation_table, settings_groups, shown, versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData

    from stmmr._core.types import Floats
    from stmmr.report._scene import Frame, Scene

HERE = Path(__file__).parent
GENE_BYTES = 6_000_000
"""Size of the genes on the page, at most; those that come later are left out."""


def write(
    adata: AnnData,
    path: str | Path,
    *,
    genes: Iterable[str] | None = None,
    title: str | None = None,
    run_facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a page about a run that opens in any browser, without a network: one HTML file to send to others.

    It has a map of the tissue to move, zoom and point at, and the UMAP linked with it; the domains, how sure they are
    and, after `stmmr.tl.domain_genes`, their genes; what other analyses found, where they ran (pseudotime and its
    branches, genes along it, spatially variable genes, gene sets, the make-up of sections); what to check before the
    domains are believed; the curves behind what was chosen from the data; the scores, where labels were evaluated;
    settings, versions, and the methods with references, to paste. Many spots are drawn as pixels until few are in
    view; of more than 100,000 the map is of pixels throughout.

    Parameters
    ----------
    adata
        After `stmmr.run`, or after `stmmr.tl.consensus`.
    path
        HTML file to write; replaced as a whole where it exists.
    genes
        Genes that the map offers; None: those of the tables and curves of the page, otherwise 48 highly variable ones
        with the largest share of their variance between domains. At most 6 MB of them are kept.
    title
        Heading; the name of the input if None.
    run_facts
        What run.json holds besides: "input", "options", "seconds_in_all", "peak_memory_mb".

    Raises
    ------
    InputError
        If there are no domains or no coordinates, or a gene is not there.
    ImportError
        If bokeh is not installed.
    """
    require_extra("bokeh", extra="report")
    require_key(adata.obs.columns, keys.DOMAIN, where="obs", hint="Run stmmr.run(adata) first.")
    facts = dict(run_facts or {})
    page = _template().render(**_parts(adata, facts, title, genes))
    with atomic_write(Path(path)) as new:
        new.write_text(page, encoding="utf-8")


def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(HERE)
    found = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return found.get_template("page.html")


def _read_from(given: Any) -> tuple[str, str]:
    """Name what was read, for the heading and in full; its folder is nobody else's business."""
    if isinstance(given, dict):
        names = [f"{name} ({Path(str(path)).name})" for name, path in given.items()]
        return listed(given, at_most=4), ", ".join(names)
    return Path(str(given)).stem, Path(str(given)).name


def _parts(adata: AnnData, facts: dict[str, Any], title: str | None, genes: Iterable[str] | None) -> dict[str, Any]:
    """Gather everything that the template fills in."""
    scene, layers = scene_of(adata), layers_of(adata)
    names, chosen_how = genes_to_show(adata, genes)
    data = _data(adata, scene, layers, names)
    methods, cited = methods_of(adata)
    source, read = _read_from(facts.get("input", ""))
    n_sections = 1 if scene.sections is None else len(scene.sections.categories)
    unnamed = f"{n_sections} sections" if n_sections > 1 else "a section"
    return _figures(adata, scene, layers[0]) | {
        "title": title or f"Spatial domains of {source or unnamed}",
        "input": read,
        "version": VERSION,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "adata": adata,
        "facts": facts,
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("figures.js", "page.js")),
        "data": _json(data),
        "layers": layers,
        "genes": [name for name in names if f"gene:{name}" in data["layers"]],
        "chosen_how": chosen_how,
        "scene": scene,
        "domains": domain_rows(adata),
        "findings": findings_of(adata),
        "checks": checks_of(adata),
        "evaluation": evaluation_table(adata),
        "methods": methods,
        "works": [work for _, work in cited.works],
        "bibtex": "\n\n".join(work.bibtex(key) for key, work in cited.works),
        "settings": settings_groups(adata, facts),
        "versions": facts.get("versions", {}) | versions(),
        "shown": shown,
    }


def _figures(adata: AnnData, scene: Scene, first: Layer) -> dict[str, Any]:
    """Draw everything: map and UMAP by bokeh, the curves by matplotlib."""
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
    """Pack what the map shows; genes until their room is used up."""
    found = {layer.key: _packed(layer, scene) for layer in layers}
    columns = values_of(adata, genes) if genes else None
    room = GENE_BYTES
    for at, name in enumerate(genes):
        assert columns is not None  # noqa: S101 - there are genes
        layer = gene_layer(name, columns[:, at].toarray().ravel())
        one = _packed(layer, scene)
        room -= sum(len(one[part]) for part in ("points", "pixels") if part in one)
        if room < 0:
            break
        found[layer.key] = one
    first = next((layer for layer in layers if layer.names is None), None)
    return {
        "layers": found,
        "first": layers[0].key,
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
    """Say where the pixels lie that were made beforehand."""
    grid = scene.grid
    if grid is None:
        return None
    (x, y), w, h = grid.low.tolist(), grid.width * grid.side, grid.height * grid.side
    return {"x": x, "y": y, "w": w, "h": h, "width": grid.width, "height": grid.height}


def _packed(layer: Layer, scene: Scene) -> dict[str, Any]:
    found = layer.description() | {"points": packed(layer.codes(layer.values[scene.points]))}
    if scene.grid is not None and scene.nearest is not None:
        found["pixels"] = packed(layer.pixels(scene.grid, scene.nearest))
    return found


def _json(data: dict[str, Any]) -> str:
    """Write as JSON that may stand in a script of an HTML page."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
