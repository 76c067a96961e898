"""The map and the UMAP, by bokeh; the page's own script names what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.checks import require_extra
from stmmr.pl.layout import FADED
from stmmr.report._layers import CLEAR, palette_of

if TYPE_CHECKING:
    from stmmr.report._layers import Layer
    from stmmr.report._scene import Frame, Scene

STYLE: Final = "white-space: pre-line; font: 13px/1.45 system-ui, sans-serif; color: #1b1d20"
"""Of what is said at the pointer, which the styles of the page do not reach."""
TIP: Final = f'<div class="tip" style="{STYLE}">$index{{custom}}</div>'
INK, CARD = "rgb(27, 29, 32)", "rgb(255, 255, 255)"
"""Colours of the page by day, written as browsers do: set again to the same, nothing is drawn anew."""


def map_and_umap(scene: Scene, first: Layer) -> dict[str, Any]:
    """Make the figures that show the spots; the page fills in which of them, once it knows what is in view.

    Parameters
    ----------
    scene
        Where the spots lie.
    first
        What is shown first.

    Returns
    -------
    Figures by name: "map" and, where there is a UMAP, "umap".
    """
    models = require_extra("bokeh.models", extra="report")
    mapper = models.LinearColorMapper(palette=palette_of(first), low=-0.5, high=255.5, name="colors")
    ring = models.ColumnDataSource({"x": [], "y": [], "u": [], "v": []}, name="pointer")
    figures = {"map": _map(models, scene, mapper, ring)}
    if scene.layout is not None:
        figures["umap"] = _umap(scene, mapper, ring)
    return figures


def _map(models: Any, scene: Scene, mapper: Any, ring: Any) -> Any:
    plot = _figure("map", scene.frame, down=True)
    if scene.picture is not None:
        spot = {name: [scene.picture[name]] for name in ("url", "x", "y", "w", "h")}
        plot.image_url(
            url="url",
            x="x",
            y="y",
            w="w",
            h="h",
            source=models.ColumnDataSource(spot),
            anchor="top_left",
            alpha=FADED,
            name="picture",
        )
    _add_places(plot, mapper, radius=scene.radius)
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


def _umap(scene: Scene, mapper: Any, ring: Any) -> Any:
    assert scene.layout is not None  # noqa: S101 - asked by the caller
    plot = _figure("umap", scene.layout, down=False)
    _add_places(plot, mapper, size=scene.dot)
    plot.scatter("u", "v", source=ring, size=16, **_ring())
    return plot


def _add_places(plot: Any, mapper: Any, *, radius: float | None = None, size: float | None = None) -> None:
    """Add what the page fills: pixels, and circles of a radius in the tissue or a size on the screen."""
    models = require_extra("bokeh.models", extra="report")
    nothing = {"image": [np.zeros((1, 1), dtype=np.uint32)], **{name: [0.0] for name in ("x", "y", "dw", "dh")}}
    pixels = plot.image_rgba(
        image="image", x="x", y="y", dw="dw", dh="dh", source=models.ColumnDataSource(nothing), name="pixels"
    )
    empty = {name: np.zeros(0, dtype=np.float32) for name in ("x", "y", "value", "alpha", "at")}
    source = models.ColumnDataSource(empty, name=f"spots of {plot.name}")
    look = {
        "source": source,
        "fill_color": {"field": "value", "transform": mapper},
        "fill_alpha": "alpha",
        "line_color": None,
        "name": "circles",
    }
    if radius is not None:
        circles = plot.circle("x", "y", radius=radius, **look)
    else:
        circles = plot.scatter("x", "y", size=size, **look)
    _add_hover(plot, models, [circles, pixels])


def _figure(name: str, frame: Frame, *, down: bool) -> Any:
    """Make a figure without axes, of the width of what it is put in; `down` where y points downwards."""
    models = require_extra("bokeh.models", extra="report")
    (left, bottom), (right, top) = frame.low, frame.high
    plot = require_extra("bokeh.plotting", extra="report").figure(
        name=name,
        x_range=models.Range1d(float(left), float(right)),
        y_range=models.Range1d(*((float(top), float(bottom)) if down else (float(bottom), float(top)))),
        aspect_ratio=frame.aspect,
        # by the processor, a canvas is drawn several times as fast as WebGL
        output_backend="canvas",
        lod_threshold=None,
        tools="pan,wheel_zoom",
        active_scroll=None,
        toolbar_location=None,
        sizing_mode="stretch_width",
        min_border=0,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    plot.add_tools(models.LassoSelectTool(renderers=[]))
    plot.js_on_event("selectiongeometry", models.CustomJS(code=f"window.stmmr.lasso({name!r}, cb_obj)"))
    plot.axis.visible = False
    plot.grid.visible = False
    return plot


def _add_hover(plot: Any, models: Any, renderers: list[Any]) -> None:
    """Say what is below the pointer, and mark it in both figures."""
    name = plot.name
    say = models.CustomJSHover(code=f"return window.stmmr.describe({name!r}, special_vars)")
    there = models.CustomJS(code=f"return window.stmmr.found({name!r}, cb_data.vars)")
    plot.add_tools(
        models.HoverTool(
            renderers=renderers,
            tooltips=TIP,
            formatters={"$index": say},
            filters={"$index": there},
            callback=models.CustomJS(code=f"window.stmmr.mark({name!r}, cb_data)"),
            point_policy="snap_to_data",
            limit=1,
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
