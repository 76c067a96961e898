"""The pictures of README.md and docs/gallery.md: `python -m benchmarks.gallery` draws docs/images/gallery/*.png.

Those of the gallery show simulated tissue. `docs/images/cortex.png` shows section 151673 of human cortex, without its
image, and is drawn where that data set is beside the project. `--only NAME` draws a part.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

import stmmr
from benchmarks._table import DATA, ROOT
from stmmr._core.categories import PALETTE, hex_colors
from stmmr.pl.canvas import WIDTHS, FigureOptions, off_screen, save_figure, styled

IMAGES = ROOT / "docs" / "images"
GENES = ["MOBP", "PCP4", "HPCAL1"]
"""Genes of white matter, of layer 5 and of layer 2."""
LABEL = "ground_truth"
WIDEST = 800
"""Width of a picture of the gallery in pixels, at most."""


def smaller(path, *, width=WIDEST):
    """Write an image again in fewer pixels and with a palette of 256 colours, as a page loads several."""
    image = Image.open(path).convert("RGB")
    image.thumbnail((width, image.height), Image.Resampling.LANCZOS)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def simulated():
    """Run all analyses on a simulated tissue; get it, and two sections in one table."""
    adata = stmmr.datasets.simulated_tissue()
    stmmr.run(adata, n_domains=5, progress=False)
    stmmr.tl.number_of_domains(adata)
    stmmr.tl.domain_tree(adata)
    stmmr.tl.umap(adata)
    with TemporaryDirectory() as folder:
        sets = Path(folder) / "markers.gmt"
        lines = [
            "\t".join([f"MARKERS_OF_DOMAIN_{name}", "simulated", *genes.index])
            for name, genes in adata.var.groupby("marker_of", observed=True)
            if len(genes) >= 5
        ]
        sets.write_text("\n".join(lines), encoding="utf-8")
        stmmr.analyse(adata, genes=True, trajectory=True, gene_sets=sets, progress=False)
    parts = [stmmr.datasets.simulated_tissue(random_state=seed, n_rows=30, n_cols=30) for seed in (0, 1, 2)]
    both = stmmr.pp.concat_sections({"donor A": parts[0], "donor B": parts[1], "donor C": parts[2]})
    stmmr.run(both, section_key="section", n_domains=5, histology=False, progress=False)
    stmmr.analyse(both, progress=False, genes=True)
    return adata, both


def gallery():
    """Draw one picture of each function of `stmmr.pl`."""
    adata, both = simulated()
    genes = stmmr.tl.domain_genes_table(adata, against="rest", n_genes=1)["gene"].astype(str).tolist()[:3]
    draw = {
        "domains": lambda **options: stmmr.pl.domains(adata, **options),
        "several_sections": lambda **options: stmmr.pl.domains(both, **options),
        "values": lambda **options: stmmr.pl.values(adata, genes, image=False, **options),
        "confidence": lambda **options: stmmr.pl.values(adata, "stmmr_confidence", vmin=0, vmax=1, **options),
        "registration": lambda **options: stmmr.pl.registration(adata, **options),
        "embedding": lambda **options: stmmr.pl.embedding(adata, **options),
        "domain_genes": lambda **options: stmmr.pl.domain_genes(adata, **options),
        "enrichment": lambda **options: stmmr.pl.enrichment(adata, **options),
        "trajectory": lambda **options: stmmr.pl.trajectory(adata, **options),
        "paga": lambda **options: stmmr.pl.paga(adata, **options),
        "gene_trends": lambda **options: stmmr.pl.gene_trends(adata, **options),
        "composition": lambda **options: stmmr.pl.composition(both, **options),
        "bandwidth": lambda **options: stmmr.pl.bandwidth(adata, **options),
        "number_of_domains": lambda **options: stmmr.pl.number_of_domains(adata, **options),
        "domain_tree": lambda **options: stmmr.pl.domain_tree(adata, **options),
    }
    folder = IMAGES / "gallery"
    folder.mkdir(exist_ok=True)
    for name, function in draw.items():
        path = folder / f"{name}.png"
        function(save=path)
        smaller(path, width=2 * WIDEST if name == "values" else WIDEST)
        print(path)


def colors_of_layers(adata):
    """Give each layer the colour of the domain that is mostly in it, and another one where no domain is."""
    shared = pd.crosstab(adata.obs[LABEL], adata.obs["stmmr_domain"])
    pairs = zip(*linear_sum_assignment(-shared.to_numpy()), strict=True)
    mostly = {layer: domain for layer, domain in pairs if shared.iloc[:, domain].idxmax() == shared.index[layer]}
    colors = hex_colors(adata, "stmmr_domain", shared.columns)
    others = iter([color for color in PALETTE if color.lower() not in colors])
    return [colors[mostly[layer]] if layer in mostly else next(others) for layer in range(len(shared))]


def cortex():
    """Draw the layers of the experts, the domains and genes of human cortex side by side."""
    path = DATA / "visium_dlpfc_151673.h5ad"
    if not path.exists():
        print(f"{path} is not there: docs/images/cortex.png stays as it is.")
        return
    adata = stmmr.read(path)
    stmmr.run(adata, size_key="sum_umi_full", progress=False)
    layers = adata.obs[LABEL].astype("category")
    adata.obs[LABEL] = layers.cat.rename_categories(lambda name: str(name).replace("Layer", "L").replace("_", ""))
    adata.uns[f"{LABEL}_colors"] = colors_of_layers(adata)
    with styled(FigureOptions(width="double"), new=True):
        figure = Figure(figsize=(WIDTHS["double"] / 25.4, 1.95), layout="constrained")
        panels = figure.subplots(1, 2 + len(GENES))
        stmmr.pl.domains(adata, domain_key=LABEL, image=False, ax=panels[0], labels=True)
        stmmr.pl.domains(adata, image=False, ax=panels[1], labels=True)
        for ax, gene in zip(panels[2:], GENES, strict=True):
            stmmr.pl.values(adata, gene, image=False, ax=ax)
            ax.child_axes[0].remove()
        for ax, title in zip(panels, ["Experts", "stmmr", *GENES], strict=True):
            if ax.get_legend() is not None:
                ax.get_legend().remove()
            ax.set_title(title, style="italic" if title in GENES else "normal", fontweight="bold")
        for ax in panels[1:]:
            ax.artists[0].remove()  # one scale bar is enough
        save_figure(figure, IMAGES / "cortex.png", exact=True)
    smaller(IMAGES / "cortex.png", width=2 * WIDEST)
    known = adata.obs[LABEL].notna()
    ari = adjusted_rand_score(adata.obs.loc[known, LABEL], adata.obs.loc[known, "stmmr_domain"])
    n_domains = adata.obs["stmmr_domain"].nunique()
    print(f"{IMAGES / 'cortex.png'}: adjusted Rand index {ari:.2f}, {n_domains} domains")


def main():
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["gallery", "cortex"])
    only = parser.parse_args().only
    with off_screen():
        for part in (gallery, cortex):
            if only in (None, part.__name__):
                part()


if __name__ == "__main__":
    main()
