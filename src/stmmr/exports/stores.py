"""Stores for viewers: SpatialData for napari, and AnnData with a configuration for Vitessce."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError
from stmmr._core.compat import write_escaped
from stmmr._core.genes import gene_columns
from stmmr._core.sections import graph_sections
from stmmr.io import to_spatialdata
from stmmr.io._elements import import_spatialdata, quietly
from stmmr.pl.layout import in_rows
from stmmr.tl import domain_outlines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData

    from stmmr.exports.content import Content

RADIUS: Final = 180.0
"""Radius of a spot in Vitessce, in pixels of the screen, times the square root of their number."""
STORE: Final = "data.zarr"
NAPARI: Final = f"""\
from napari_spatialdata import Interactive
from spatialdata import read_zarr

Interactive(read_zarr("{STORE}"))"""
PAGE: Final = """\
<!doctype html>
<meta charset="utf-8">
<title>stmmr in Vitessce</title>
<style>html, body, #root { height: 100%; margin: 0; }</style>
<div id="root"></div>
<script type="importmap">
{"imports": {
  "react": "https://esm.sh/react@18.2.0",
  "react-dom": "https://esm.sh/react-dom@18.2.0",
  "react-dom/client": "https://esm.sh/react-dom@18.2.0/client",
  "vitessce": "https://unpkg.com/vitessce@3"
}}
</script>
<script type="module">
import React from "react";
import { createRoot } from "react-dom/client";
import { Vitessce } from "vitessce";
const config = await (await fetch("vitessce.json")).json();
for (const dataset of config.datasets)
  for (const file of dataset.files) file.url = new URL(file.url, location.href).href;
const view = React.createElement(Vitessce, { config, height: innerHeight, theme: "light" });
createRoot(document.getElementById("root")).render(view);
</script>
"""
"""Page that shows the view with Vitessce from the internet."""


def write_napari(content: Content, folder: Path) -> list[str]:
    """Write a SpatialData store: table, circles and images, outlines of the domains, and centres of the spots."""
    import_spatialdata()
    from geopandas import GeoDataFrame
    from spatialdata.models import PointsModel, ShapesModel
    from spatialdata.transformations import get_transformation

    adata, sdata = content.adata, to_spatialdata(content.adata)
    outlines = domain_outlines(adata, domain_key=content.domain_key)
    outlines["color"] = outlines["domain"].map(content.colors)
    elements = sdata.tables["table"].obs[keys.REGION].to_numpy()
    for section, end, spots in content.sections():
        own = outlines[outlines["section"] == section] if section else outlines
        systems = get_transformation(sdata.shapes[elements[spots][0]], get_all=True)
        frame = GeoDataFrame(own.drop(columns="outline"), geometry=own["outline"].to_numpy()).reset_index(drop=True)
        sdata.shapes[f"domains{end}"] = ShapesModel.parse(frame, transformations=systems)
        domains = pd.DataFrame({"domain": pd.Categorical(content.texts[spots])})
        sdata.points[f"centres{end}"] = PointsModel.parse(
            content.xy[spots], annotation=domains, transformations=systems
        )
    with quietly():
        sdata.write(folder / STORE)
    return ["Install napari-spatialdata (pip install 'napari-spatialdata[all]'), and run in this folder:", "", NAPARI]


def write_vitessce(content: Content, folder: Path) -> list[str]:
    """Write an AnnData store, the configuration of a view on it, and a page that shows it."""
    import anndata as ad
    import zarr

    adata, sections = content.adata, graph_sections(content.adata)
    shown = ad.AnnData(
        _lognormalised(adata),
        obs=pd.DataFrame({"domain": content.domains.rename_categories(str)}, index=adata.obs_names.astype(str)),
        var=pd.DataFrame(index=adata.var_names.astype(str)),
    )
    xy = content.xy if sections is None else in_rows(content.xy, sections)
    shown.obsm["tissue"] = np.asarray(xy * [1, -1], dtype=np.float32)  # scatter plots of Vitessce have y upwards
    embeddings = {"Tissue": "tissue"}
    if keys.UMAP in adata.obsm and np.isfinite(adata.obsm[keys.UMAP]).all():
        shown.obsm["umap"] = np.asarray(adata.obsm[keys.UMAP], dtype=np.float32)
        embeddings["UMAP"] = "umap"
    write_escaped(zarr.open_group(folder / STORE, mode="w", zarr_format=2), "/", shown)
    configuration = _configuration(content, embeddings, has_genes=shown.X is not None)
    (folder / "vitessce.json").write_text(json.dumps(configuration, indent=1) + "\n", encoding="utf-8")
    (folder / "index.html").write_text(PAGE, encoding="utf-8")
    return ["Run `python -m http.server 8000` in this folder.", "Then open http://localhost:8000 in a browser."]


def _lognormalised(adata: AnnData) -> Any:
    """Get log-normalised values by columns, as viewers read them gene by gene; None without counts."""
    from scipy import sparse

    try:
        genes = gene_columns(adata)
    except InputError:
        return None
    return sparse.csc_matrix(sparse.hstack([block for _, block in genes.lognormalised()], dtype=np.float32))


def _configuration(content: Content, embeddings: Mapping[str, str], *, has_genes: bool) -> dict[str, Any]:
    """Describe data and views as Vitessce reads them."""
    domains = {name: [int(color[i : i + 2], 16) for i in (1, 3, 5)] for name, color in content.colors.items()}
    options: dict[str, Any] = {
        "obsEmbedding": [
            {"path": f"obsm/{path}", "dims": [0, 1], "embeddingType": name} for name, path in embeddings.items()
        ],
        "obsSets": [{"name": "Domain", "path": "obs/domain"}],
    }
    if has_genes:
        options["obsFeatureMatrix"] = {"path": "X"}
    shared = {"dataset": "A", "obsSetSelection": "A", "obsSetColor": "A", "obsColorEncoding": "A"}
    shared |= {"featureSelection": "A"} if has_genes else {}
    views: list[tuple[str, dict[str, str], tuple[int, int, int, int]]] = [
        (
            "scatterplot",
            {"embeddingType": name, "embeddingObsRadiusMode": "A", "embeddingObsRadius": "A"},
            (0 if name == "Tissue" else 6, 0, 6 if name == "Tissue" else 3, 12),
        )
        for name in embeddings
    ]
    views.append(("obsSets", {}, (9, 0, 3, 6)))
    views.append(("featureList", {}, (9, 6, 3, 6)) if has_genes else ("obsSetSizes", {}, (9, 6, 3, 6)))
    return {
        "version": "1.0.16",
        "name": "stmmr",
        "description": f"Spatial domains of {content.adata.n_obs:,} {content.rows}",
        "datasets": [
            {"uid": "A", "name": "stmmr", "files": [{"fileType": "anndata.zarr", "url": STORE, "options": options}]}
        ],
        "coordinationSpace": {
            "dataset": {"A": "A"},
            "embeddingType": {name: name for name in embeddings},
            "obsColorEncoding": {"A": "cellSetSelection"},
            "obsSetSelection": {"A": [["Domain", name] for name in domains]},
            "obsSetColor": {"A": [{"path": ["Domain", name], "color": color} for name, color in domains.items()]},
            "featureSelection": {"A": None},
            "embeddingObsRadiusMode": {"A": "manual"},
            "embeddingObsRadius": {"A": min(max(RADIUS / content.adata.n_obs**0.5, 1.0), 4.0)},
        },
        "layout": [
            {"component": component, "coordinationScopes": shared | own, "x": x, "y": y, "w": w, "h": h}
            for component, own, (x, y, w, h) in views
        ],
        "initStrategy": "auto",
    }
