"""GeoJSON: outlines of domains and areas of spots, for QuPath and programs of geography."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core.space import units
from stmmr.tl import domain_outlines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from stmmr._core.types import Numbers
    from stmmr.exports.content import Content

DECIMALS: Final = 2
"""Decimals of coordinates in pixels."""
IDS: Final = uuid.UUID("6f4cbb8e-6e0f-4d5c-9b0c-2f6f0f6a2b51")
"""Namespace of the identifiers of QuPath's objects: the same object has the same one in each export."""


def write_geojson(content: Content, folder: Path) -> list[str]:
    """Write the outlines of the domains in the coordinates of ``obsm["spatial"]``."""
    outlines = domain_outlines(content.adata, domain_key=content.domain_key)
    facts = outlines.drop(columns="outline").assign(color=outlines["domain"].map(content.colors))
    names = list(map(str, facts.columns))
    rows = [dict(zip(names, row, strict=True)) for row in facts.itertuples(index=False)]
    known = [{name: value for name, value in row.items() if not pd.isna(value)} for row in rows]
    _write(folder / "domains.geojson", outlines["outline"].to_numpy(), known)
    return [f"Coordinates are those of obsm['spatial'], in {units(content.adata)[0]}, y downwards."]


def write_qupath(content: Content, folder: Path) -> list[str]:
    """Write the outlines of the domains as annotations and the spots as detections, in pixels of the image.

    Raises InputError if the scale of the image is unknown.
    """
    import shapely

    outlines = domain_outlines(content.adata, domain_key=content.domain_key)
    for section, end, spots in content.sections():
        scale = content.pixels_per_unit(section)
        own = outlines[outlines["section"] == section] if section else outlines
        annotations = [_annotation(content, name, section) for name in own["domain"]]
        scaled = [shapely.transform(outline, lambda points: points * scale) for outline in own["outline"]]  # noqa: B023
        _write(folder / f"domains{end}.geojson", _rounded(scaled), annotations)
        names = content.original_names(section, spots)
        detections = [
            _detection(content, name, domain, section) for name, domain in zip(names, content.texts[spots], strict=True)
        ]
        areas = shapely.transform(content.areas(spots), lambda points: points * scale)  # noqa: B023
        _write(folder / f"{content.rows}{end}.geojson", _rounded(areas), detections)
    each = " of each section" if len(content.section_names) > 1 else ""
    return [
        f"In QuPath, open the full-resolution image{each}, then drag domains.geojson (annotations) and "
        f"{content.rows}.geojson (detections) onto it. Coordinates are pixels of that image."
    ]


def _label(domain: str) -> str:
    """Name a domain beside the classes of the user; a number alone says little."""
    return f"Domain {domain}" if domain.isdecimal() else domain


def _classification(content: Content, domain: str) -> dict[str, Any]:
    color = content.colors[domain].removeprefix("#")
    return {"name": _label(domain), "color": [int(color[i : i + 2], 16) for i in (0, 2, 4)]}


def _annotation(content: Content, domain: str, section: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(IDS, f"domain/{section}/{domain}")),
        "objectType": "annotation",
        "name": _label(domain),
        "classification": _classification(content, domain),
        "isLocked": True,
    }


def _detection(content: Content, name: str, domain: str, section: str) -> dict[str, Any]:
    known = {"classification": _classification(content, domain)} if domain else {}
    return {"id": str(uuid.uuid5(IDS, f"spot/{section}/{name}")), "objectType": "detection", "name": name} | known


def _rounded(shapes: Iterable[Any]) -> Numbers:
    """Round coordinates, and keep shapes valid."""
    import shapely

    return np.asarray(shapely.set_precision(np.asarray(list(shapes), dtype=object), 10.0**-DECIMALS))


def _write(path: Path, shapes: Numbers, properties: list[dict[str, Any]]) -> None:
    """Write a collection of features, each on a line; the entry "id" becomes that of the feature."""
    import shapely

    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, (shape, values) in enumerate(zip(shapely.to_geojson(shapes), properties, strict=True)):
            rest = {name: value for name, value in values.items() if name != "id"}
            identity = f'"id": {json.dumps(values["id"])}, ' if "id" in values else ""
            feature = f'{{"type": "Feature", {identity}"geometry": {shape}, "properties": {json.dumps(rest)}}}'
            file.write(f"{',' if number else ''}\n{feature}")
        file.write("\n]}\n")
