"""Figures of one and two columns with long names of genes, domains and sections: nothing is cut or written over."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import stmmr
from stmmr.pl.canvas import off_screen

NAMES = ["Superficial granular cortex (layer 2/3)", "Invasive carcinoma with lymphocytes", "Adipose"]


@pytest.fixture(scope="module")
def tissue():
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=3, n_genes=30)
    adata.var_names = [f"ENSG0000012{i:04d}.12" for i in range(adata.n_vars)]
    layers = adata.obs["ground_truth"].astype("category").cat.rename_categories(NAMES)
    adata.obs["stmmr_domain"] = layers.fillna(NAMES[2])
    adata.obs["section"] = np.where(np.arange(adata.n_obs) % 2, "Donor A, biopsy before treatment", "Donor B")
    stmmr.pp.expression(adata)
    stmmr.tl.domain_genes(adata)
    return adata


DRAW = {
    "domains": lambda adata, **options: stmmr.pl.domains(adata, **options),
    "gene": lambda adata, **options: stmmr.pl.values(adata, adata.var_names[0], **options),
    "genes": lambda adata, **options: stmmr.pl.values(adata, list(adata.var_names[:3]), image=False, **options)[0],
    "domain_genes": lambda adata, **options: stmmr.pl.domain_genes(adata, **options),
    "composition": lambda adata, **options: stmmr.pl.composition(adata, "section", **options),
}


@pytest.mark.parametrize("width", ["single", "double"])
@pytest.mark.parametrize("name", DRAW)
def test_all_names_are_inside_and_apart(tissue, name, width):
    with off_screen():
        figure = DRAW[name](tissue, width=width).get_figure(root=True)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    boxes = []
    for ax in figure.findobj(lambda part: hasattr(part, "get_xticklabels")):
        shown = [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        if ax.get_legend() is not None:
            shown += ax.get_legend().findobj(Text)
        if ax.axison:
            for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
                ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                shown += [label for place, label in ticks if low <= place <= high]
        boxes += [text.get_window_extent(renderer) for text in shown if text.get_text().strip()]
    assert len(boxes) > 3
    width, height = figure.bbox.size
    for box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
    for i, box in enumerate(boxes):
        for other in boxes[i + 1 :]:
            overlap = min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap) < 3
