"""The map and the UMAP, by bokeh; the page's own script names what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._validate import require_extra
from stmmr.pl._tissue import ALONE, FADED, ON_PICTURE
from stmmr.report._layers import CLEAR, palette_of

if TYPE_CHECKING:
    from stmmr.report._layers import Layer
    from stmmr.report._scene import Scene

STYLE: Final = "white-space: pre-line; font: 13px/1.45 system-ui, sans-serif; color: #1b1d20"
"""Of what is said at the pointer, which the styles of the page do not reach."""
TIP: Final = f'<div class="tip" style="{STYLE}">$index{{custom}}</div>'
OF_PIXEL: Final = f'<div class="tip" style="{STYLE}">@image{{custom}}</div>'
INK, CARD = "rgb(27, 29, 32)", "rgb(255, 255, 255)"
"""Colours of the page by day, written as browsers do: set again to the same, nothing is drawn anew."""
DIMMED: Final = 0.08
"""Opacity of places beside the selected ones."""


def map_and_umap(scene: Scene, first: Layer) -> dict[str, Any]:
    """Make the figures that show the places, with shared data, so that both show what is selected in one.

    Parameters
    ----------
    scene
        Where the places lie.
    first
        What is shown first.

    Returns
    -------
    Figures by name: "map" and, where there is a UMAP, "umap".
    """
    models = require_extra("bokeh.models", extra="report")
    source = models.ColumnDataSource(_columns(scene, first), name="places")
    mapper = models.LinearColorMapper(palette=palette_of(first), low=-0.5, high=255.5, name="colors")
    ring = models.ColumnDataSource({"x": [], "y": [], "u": [], "v": []}, name="pointer")
    figures = {"map": _map(models, scene, first, source, mapper, ring)}
    if scene.umap is not None and np.isfinite(scene.umap).all(axis=1).any():
        figures["umap"] = _umap(models, scene, source, mapper, ring)
    return figures


def _columns(scene: Scene, first: Layer) -> dict[str, Any]:
    points = scene.points
    columns = {
        "x": scene.xy[points, 0].astype(np.float32),
        "y": scene.xy[points, 1].astype(np.float32),
        "value": first.codes(first.values[points]),
    }
    if scene.umap is not None:
        columns |= {"u": scene.umap[:, 0], "v": scene.umap[:, 1]}
    return columns


def _map(models: Any, scene: Scene, first: Layer, source: Any, mapper: Any, ring: Any) -> Any:
    plot = _figure(
        "map",
        x_range=models.Range1d(float(scene.low[0]), float(scene.high[0])),
        y_range=models.Range1d(float(scene.high[1]), float(scene.low[1])),
        aspect_ratio=scene.aspect,
    )
    if scene.picture is not None:
        place = {name: [scene.picture[name]] for name in ("url", "x", "y", "w", "h")}
        plot.image_url(
            url="url",
            x="x",
            y="y",
            w="w",
            h="h",
            source=models.ColumnDataSource(place),
            anchor="top_left",
            alpha=FADED,
            name="picture",
        )
    if scene.grid is not None:
        _add_pixels(plot, models, scene, first, mapper)
    share = ALONE if scene.picture is None else ON_PICTURE
    circles = _add_places(plot, models, source, mapper, radius=share * scene.spacing / 2, hidden=scene.grid is not None)
    _add_hover(plot, models, [circles], TIP, visible=scene.grid is None)
    plot.scatter("x", "y", source=ring, size=16, **_ring())
    if scene.sections is not None:
        _name_sections(plot, models, scene)
    if scene.in_um:
        bar = models.ScaleBar(
            range=plot.x_range,
            unit="µm",
            dimensional=models.MetricLength(ticks=[1, 2, 5, 10, 20, 50, 100, 200, 500], include=["µm", "mm"]),
            location="bottom_left",
            background_fill_alpha=0.7,
            background_fill_color=CARD,
            bar_line_color=INK,
            label_text_color=INK,
            border_line_color=None,
            bar_length=0.2,
        )
        plot.add_layout(bar)
    return plot


def _add_pixels(plot: Any, models: Any, scene: Scene, first: Layer, mapper: Any) -> None:
    """Show many places as pixels."""
    grid, nearest = scene.grid, scene.nearest
    assert grid is not None  # noqa: S101 - asked by the caller
    assert nearest is not None  # noqa: S101
    low, side = grid.low, grid.side
    pixels = plot.image(
        image=[first.pixels(grid, nearest)],
        x=low[0],
        y=low[1],
        dw=grid.width * side,
        dh=grid.height * side,
        color_mapper=mapper,
        name="pixels",
    )
    _add_hover(plot, models, [pixels], OF_PIXEL, visible=True)


def _add_places(plot: Any, models: Any, source: Any, mapper: Any, *, radius: float, hidden: bool) -> Any:
    """Show places as circles of their size in the tissue; in place of pixels only where some are selected."""
    fill = {"field": "value", "transform": mapper}
    circles = plot.circle("x", "y", radius=radius, source=source, line_color=None, fill_color=fill, name="circles")
    circles.visible = not hidden
    circles.glyph.fill_alpha = 0 if hidden else 0.9
    circles.selection_glyph = models.Circle(radius=radius, line_color=None, fill_color=fill)
    circles.nonselection_glyph = models.Circle(
        radius=radius, line_color=None, fill_color=fill, fill_alpha=0 if hidden else DIMMED
    )
    return circles


def _umap(models: Any, scene: Scene, source: Any, mapper: Any, ring: Any) -> Any:
    umap = scene.umap
    assert umap is not None  # noqa: S101 - asked by the caller
    low, high = np.nanmin(umap, axis=0), np.nanmax(umap, axis=0)
    room = 0.55 * float((high - low).max()) or 1.0
    centre = (low + high) / 2
    plot = _figure(
        "umap",
        x_range=models.Range1d(float(centre[0] - room), float(centre[0] + room)),
        y_range=models.Range1d(float(centre[1] - room), float(centre[1] + room)),
        aspect_ratio=1,
    )
    n = int(np.isfinite(umap).all(axis=1).sum())
    dots = plot.scatter(
        "u",
        "v",
        size=float(np.clip(250 / n**0.5, 2, 7)),
        source=source,
        line_color=None,
        fill_color={"field": "value", "transform": mapper},
        fill_alpha=0.9,
        nonselection_fill_alpha=DIMMED,
        name="dots",
    )
    _add_hover(plot, models, [dots], TIP, visible=True)
    plot.scatter("u", "v", source=ring, size=16, **_ring())
    return plot


def _figure(name: str, **options: Any) -> Any:
    """Make a figure without axes, of the width of what it is put in."""
    figure = require_extra("bokeh.plotting", extra="report").figure
    plot = figure(
        name=name,
        output_backend="webgl",
        tools="pan,wheel_zoom,lasso_select",
        active_scroll=None,
        toolbar_location=None,
        sizing_mode="stretch_width",
        min_border=0,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **options,
    )
    plot.axis.visible = False
    plot.grid.visible = False
    return plot


def _add_hover(plot: Any, models: Any, renderers: list[Any], text: str, *, visible: bool) -> None:
    """Say what is below the pointer, and mark it in both figures."""
    say = models.CustomJSHover(code="return window.stmmr.describe(value, special_vars)")
    mark = models.CustomJS(code="window.stmmr.mark(cb_data.index.indices)")
    if visible:
        plot.add_tools(
            models.HoverTool(
                renderers=renderers,
                tooltips=text,
                formatters={"$index": say, "@image": say},
                callback=mark,
                point_policy="snap_to_data",
            )
        )


def _name_sections(plot: Any, models: Any, scene: Scene) -> None:
    """Write the name of each section above it."""
    sections = scene.sections
    assert sections is not None  # noqa: S101 - asked by the caller
    own = [scene.xy[sections.codes == code] for code in range(len(sections.categories))]
    plot.add_layout(
        models.LabelSet(
            x="x",
            y="y",
            text="text",
            text_align="center",
            text_font_size="12px",
            text_color=INK,
            y_offset=4,
            name="sections",
            source=models.ColumnDataSource(
                {
                    "x": [float(xy[:, 0].min() + xy[:, 0].max()) / 2 for xy in own],
                    "y": [float(xy[:, 1].min()) for xy in own],
                    "text": [str(name) for name in sections.categories],
                }
            ),
        )
    )


def _ring() -> dict[str, Any]:
    return {"fill_color": CLEAR, "line_color": "#E6007E", "line_width": 3, "name": "ring"}
