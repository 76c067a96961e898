"""Map and UMAP by bokeh; the scripts of the page fill them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from stmmr.pl.layout import FADED
from stmmr.report._alternatives import COLUMNS
from stmmr.report._layers import CLEAR, palette_of
from stmmr.report._scene import Frame

if TYPE_CHECKING:
    from stmmr.report._layers import Layer
    from stmmr.report._scene import Scene

    Model = Any
    """A figure or a part of one; the types of bokeh miss many of their properties."""

TIP: Final = (
    '<div class="tip" style="white-space: pre-line; font: 13px/1.45 system-ui, sans-serif; color: #1b1d20">'
    "$index{custom}</div>"
)
"""Tooltip, with its style, as the styles of the page do not reach it."""
INK, CARD = "rgb(27, 29, 32)", "rgb(255, 255, 255)"
"""Colours of the light page, written as browsers do, so that setting them again redraws nothing."""
BETWEEN: Final = 0.08
"""Space between small maps, as a share of their longer side."""
SCALE_HEIGHT: Final = 30
"""Height of the scale bar below the map in pixels of the screen."""
BAR: Final = "#808080"
"""Colour of the scale bar, seen in light and in dark: bokeh does not change it later."""
RING: Final = {"fill_color": CLEAR, "line_color": "#E6007E", "line_width": 3, "size": 16, "name": "ring"}


def map_and_umap(scene: Scene, first: Layer, numbers: list[tuple[int, float, float]]) -> dict[str, Model]:
    """Create the figures "map" and, if there is a UMAP, "umap" without spots; the page adds those in view.

    They start with the colours of the `first` layer, and the map with the names of its categories at the positions of
    `numbers`: code, x, y.
    """
    from bokeh import models

    mapper = models.LinearColorMapper(palette=palette_of(first), low=-0.5, high=255.5, name="colors")
    pointer = models.ColumnDataSource({"x": [], "y": [], "u": [], "v": []}, name="pointer")
    figures = {"map": _map(scene, mapper, pointer)}
    _number_domains(figures["map"], first, numbers)
    if scene.layout is not None:
        figures["umap"] = _figure("umap", scene.layout, down=False)
        _add_spots(figures["umap"], mapper, size=scene.dot)
        figures["umap"].scatter("u", "v", source=pointer, **RING)
    return figures


def _map(scene: Scene, mapper: Model, pointer: Model) -> Model:
    from bokeh import models

    plot = _figure("map", scene.frame, down=True)
    if scene.images:
        names = ("url", "x", "y", "w", "h")
        source = models.ColumnDataSource({name: [image[name] for image in scene.images.values()] for name in names})
        geometry = {"url": "url", "x": "x", "y": "y", "w": "w", "h": "h", "anchor": "top_left"}
        plot.image_url(**geometry, source=source, alpha=FADED, name="image")
    _add_spots(plot, mapper, radius=scene.radius)
    plot.scatter("x", "y", source=pointer, **RING)
    if scene.sections is not None:
        _name_sections(plot, scene)
    if scene.in_um:
        bar = models.ScaleBar(
            range=plot.x_range,
            unit="µm",
            dimensional=models.MetricLength(ticks=[1, 2, 5, 10, 20, 50, 100, 200, 500], include=["µm", "mm"]),
            location="top_left",
            background_fill_alpha=0,
            bar_line_color=BAR,
            label_text_color=INK,
            border_line_color=None,
            bar_length=0.2,
            margin=4,
            padding=2,
        )
        plot.add_layout(bar, "below")  # beside the spots, not over them
        plot.min_border_bottom = SCALE_HEIGHT
    return plot


class Panels(NamedTuple):
    """Where small maps are drawn side by side, in the units of the map."""

    left: list[float]
    top: list[float]
    frame: Frame


def panels_in_rows(n: int, frame: Frame) -> Panels:
    """Arrange small maps in rows, with space for a title above each."""
    size = frame.high - frame.low
    gap = BETWEEN * float(size.max())
    row, column = np.divmod(np.arange(n), COLUMNS)
    left, top = frame.low[0] + column * (size[0] + gap), frame.low[1] + row * (size[1] + 2 * gap)
    high = np.array([left.max() + size[0], top.max() + size[1]])
    return Panels(left.tolist(), top.tolist(), Frame(frame.low - np.array([0, 2 * gap]), high))


def small_maps(titles: list[str], panels: Panels, width: float) -> Model:
    """Create the figure "panels" with titles; the page adds the maps, of a width."""
    from bokeh import models

    plot = _figure("panels", panels.frame, down=True)
    plot.tools = []
    no_pixels = {"image": [np.zeros((1, 1), dtype=np.uint32)], **{name: [0.0] for name in ("x", "y", "dw", "dh")}}
    source = models.ColumnDataSource(no_pixels)
    plot.image_rgba(image="image", x="x", y="y", dw="dw", dh="dh", source=source, name="small maps")
    gap = BETWEEN * width / 4
    names = {"x": [x + width / 2 for x in panels.left], "y": [y - gap for y in panels.top], "text": titles}
    font = {"text_align": "center", "text_font_size": "13px", "text_color": INK, "name": "titles"}
    plot.text("x", "y", text="text", source=models.ColumnDataSource(names), **font)
    return plot


def _add_spots(plot: Model, mapper: Model, *, radius: float | None = None, size: float | None = None) -> None:
    """Add empty pixels, and circles with a radius in the tissue or a size on the screen."""
    from bokeh import models

    no_pixels = {"image": [np.zeros((1, 1), dtype=np.uint32)], **{name: [0.0] for name in ("x", "y", "dw", "dh")}}
    pixels = plot.image_rgba(
        image="image", x="x", y="y", dw="dw", dh="dh", source=models.ColumnDataSource(no_pixels), name="pixels"
    )
    no_spots = {name: np.zeros(0, dtype=np.float32) for name in ("x", "y", "value", "alpha", "index")}
    look = {
        "source": models.ColumnDataSource(no_spots, name=f"spots of {plot.name}"),
        "fill_color": {"field": "value", "transform": mapper},
        "fill_alpha": "alpha",
        "line_color": None,
        "name": "circles",
    }
    if radius is not None:
        circles = plot.circle("x", "y", radius=radius, **look)
    else:
        circles = plot.scatter("x", "y", size=size, **look)
    _add_hover(plot, [circles, pixels])


def _figure(name: str, frame: Frame, *, down: bool) -> Model:
    """Create a figure without axes that fills its element of the page; with `down`, y points downwards."""
    from bokeh import models, plotting

    (left, bottom), (right, top) = frame.low, frame.high
    plot = plotting.figure(
        name=name,
        x_range=models.Range1d(float(left), float(right)),
        y_range=models.Range1d(*((float(top), float(bottom)) if down else (float(bottom), float(top)))),
        # without a graphics card, a canvas is several times as fast as WebGL
        output_backend="canvas",
        lod_threshold=None,
        tools="pan,wheel_zoom",
        active_scroll=None,
        toolbar_location=None,
        sizing_mode="stretch_both",
        min_border=0,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    plot.add_tools(models.LassoSelectTool(renderers=[]), models.BoxSelectTool(renderers=[]))
    plot.js_on_event("selectiongeometry", models.CustomJS(code=f"window.stmmr.lasso({name!r}, cb_obj)"))
    plot.axis.visible = False
    plot.grid.visible = False
    return plot


def _add_hover(plot: Model, renderers: list[Model]) -> None:
    """Describe the spot below the pointer in a tooltip, and mark it in both figures."""
    from bokeh import models

    plot.add_tools(
        models.HoverTool(
            renderers=renderers,
            tooltips=TIP,
            formatters={
                "$index": models.CustomJSHover(code=f"return window.stmmr.describe({plot.name!r}, special_vars)")
            },
            filters={"$index": models.CustomJS(code=f"return window.stmmr.isDescribed({plot.name!r}, cb_data.vars)")},
            callback=models.CustomJS(code=f"window.stmmr.mark({plot.name!r}, cb_data)"),
            point_policy="snap_to_data",
            limit=1,
        )
    )


def _number_domains(plot: Model, first: Layer, numbers: list[tuple[int, float, float]]) -> None:
    """Write the name of each domain on it."""
    from bokeh import models

    codes, x, y = (list(column) for column in zip(*numbers, strict=True)) if numbers else ([], [], [])
    names = first.names or []
    moved = {"dx": [0.0] * len(codes), "dy": [0.0] * len(codes)}
    source = models.ColumnDataSource({"x": x, "y": y, "code": codes, "text": [names[code] for code in codes], **moved})
    font = {
        "text_align": "center",
        "text_baseline": "middle",
        "text_font_size": "12px",
        "text_font_style": "bold",
        "x_offset": {"field": "dx"},
        "y_offset": {"field": "dy"},
    }
    back = {"background_fill_color": "#ffffff", "background_fill_alpha": 0.85, "border_radius": 7, "padding": 3}
    text = plot.text("x", "y", text="text", name="numbers", source=source, text_color="#1b1d20", **font, **back)
    text.visible = False  # until the page has placed the names


def _name_sections(plot: Model, scene: Scene) -> None:
    """Write the name of each section above it."""
    from bokeh import models

    sections = scene.sections
    assert sections is not None  # noqa: S101 - checked by the caller
    names = [str(name) for name in sections.categories]
    tops = [scene.images.get(name, {}).get("y", float("inf")) for name in names]
    inside = [scene.xy[sections.codes == code] for code in range(len(sections.categories))]
    labels = {
        "x": [float(xy[:, 0].min() + xy[:, 0].max()) / 2 for xy in inside],
        "y": [min(float(xy[:, 1].min()), top) for xy, top in zip(inside, tops, strict=True)],
        "text": names,
    }
    source = models.ColumnDataSource(labels)
    font = {"text_align": "center", "text_baseline": "bottom", "text_font_size": "12px", "text_color": INK}
    plot.text("x", "y", text="text", y_offset=-4, name="sections", source=source, **font)
