"""Other methods, each by its own documented recipe, as methods of `benchmarks.accuracy`.

They read the counts and the coordinates, with the number of domains given. Each has its own environment in the root of
the repository:

    python -m venv .peers/banksy
    .peers/banksy/bin/pip install torch '.[leiden]' pybanksy
    .peers/banksy/bin/python -m benchmarks.accuracy --methods banksy --seeds 3

Do the same for `cellcharter` (`pip install torch '.[leiden]' cellcharter scvi-tools`) and for `GraphST` (`pip install
torch '.[leiden]' graphst POT leidenalg`). All results are kept in the cache of `benchmarks.accuracy`, which writes them
from the default environment. `python -m benchmarks.peers` compares seconds and memory for growing numbers of cells
(`benchmarks.peers_scale`, each method in the environment above) and writes its part of docs/performance.md. BANKSY
(GPL) and GraphST (AGPL) are called here, and none of their code is copied.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from anndata import AnnData

from stmmr._core import keys
from stmmr._core.sections import tissue_coordinates


def counts_and_coordinates(adata: AnnData) -> AnnData:
    """Keep coordinates and counts of genes seen in three spots or more; rarer ones stop `seurat_v3` on st_pdac_A."""
    seen = adata.layers[keys.COUNTS].getnnz(axis=0) >= 3
    data = AnnData(adata.layers[keys.COUNTS][:, seen], obs=adata.obs[[]].copy(), var=adata.var.loc[seen, []].copy())
    data.obsm[keys.SPATIAL] = tissue_coordinates(adata)
    return data


def banksy(adata: AnnData, k: int, seed: int) -> None:
    """Run pybanksy: cells by its STARmap notebook, spots as its authors advise for Visium.

    Cells: all genes, lambda 0.8, 15 neighbours; spots: 2,000 variable genes, lambda 0.2, 18 neighbours
    (prabhakarlab/Banksy issues 28 and 35, Banksy_py issue 21). For both the azimuthal filter, 20 PCs and its own Leiden
    partition.
    """
    import scanpy as sc
    from banksy.embed_banksy import generate_banksy_matrix
    from banksy.initialize_banksy import initialize_banksy
    from banksy.main import LeidenPartition
    from banksy_utils.umap_pca import pca_umap

    spots = keys.ARRAY_ROW in adata.obs
    weight, neighbours = (0.2, 18) if spots else (0.8, 15)
    data = counts_and_coordinates(adata)
    if spots:
        sc.pp.highly_variable_genes(data, n_top_genes=2000, flavor="seurat_v3", subset=True)
    sc.pp.normalize_total(data)
    data.obs[["x", "y"]] = data.obsm[keys.SPATIAL]
    plots = dict.fromkeys(["plt_edge_hist", "plt_nbr_weights", "plt_theta"], False)
    with silence():
        np.random.seed(seed)  # noqa: NPY002 - the seed of its PCA
        steps = initialize_banksy(data, ("x", "y", keys.SPATIAL), neighbours, max_m=1, **plots)
        steps, _ = generate_banksy_matrix(data, steps, [weight], max_m=1)
        pca_umap(steps, pca_dims=[20], plt_remaining_var=False)
        scores = steps["scaled_gaussian"][weight]["adata"].obsm["reduced_pc_20"]
        partitioner = LeidenPartition(scores, num_nn=50)
        adata.obs[keys.DOMAIN] = searched(partitioner, k, seed).astype(str)


def searched(partitioner: object, k: int, seed: int) -> np.ndarray:
    """Bisect the resolution of BANKSY's partition until there are k domains; else take the closest number."""
    from leidenalg import RBConfigurationVertexPartition

    low, high = 0.01, 10.0
    partitions = {}
    for _ in range(20):
        resolution = (low * high) ** 0.5
        label, _ = partitioner.partition(resolution, RBConfigurationVertexPartition, n_iterations=-1, seed=seed)
        partitions[label.num_labels] = label.dense
        if label.num_labels == k:
            break
        low, high = (resolution, high) if label.num_labels < k else (low, resolution)
    return partitions[min(partitions, key=lambda number: abs(number - k))]


def cellcharter(adata: AnnData, k: int, seed: int) -> None:
    """Run CellCharter: cells by its CosMx tutorial, spots with the settings of its authors' analysis of Visium.

    Cells: all genes, 10 latent dimensions, three layers; spots: 5,000 variable genes, 5 dimensions, four layers
    (CSOgroup/cellcharter_analyses, individual.py). For both scVI, Delaunay neighbours and its own mixture.
    """
    import cellcharter as cc
    import scanpy as sc
    import scvi
    import squidpy as sq

    spots = keys.ARRAY_ROW in adata.obs
    n_latent, n_layers = (5, 4) if spots else (10, 3)
    data = counts_and_coordinates(adata)
    if spots:
        sc.pp.highly_variable_genes(data, n_top_genes=5000, flavor="seurat_v3", subset=True)
    data.layers[keys.COUNTS] = data.X.copy()
    with silence():
        scvi.settings.seed = seed
        scvi.model.SCVI.setup_anndata(data, layer=keys.COUNTS)
        model = scvi.model.SCVI(data, n_latent=n_latent)
        model.train(early_stopping=True, enable_progress_bar=False, accelerator="cpu")
        data.obsm["X_scVI"] = model.get_latent_representation(data).astype(np.float32)
        sq.gr.spatial_neighbors(data, coord_type="generic", delaunay=True)
        cc.gr.remove_long_links(data)
        cc.gr.aggregate_neighbors(data, n_layers=n_layers, use_rep="X_scVI", out_key="X_cellcharter")
        quiet = {"accelerator": "cpu", "enable_progress_bar": False}
        mixture = cc.tl.Cluster(k, random_state=seed, trainer_params=quiet)
        mixture.fit(data, use_rep="X_cellcharter")
        adata.obs[keys.DOMAIN] = np.asarray(mixture.predict(data, use_rep="X_cellcharter")).astype(str)


def graphst(adata: AnnData, k: int, seed: int) -> None:
    """Run GraphST as its tutorial does without R: 600 epochs, 20 PCs, Leiden at a resolution for k, no refinement."""
    import torch
    from GraphST.GraphST import GraphST
    from GraphST.utils import clustering

    with silence():
        model = GraphST(counts_and_coordinates(adata), device=torch.device("cpu"), epochs=600, random_seed=seed)
        data = model.train()
        clustering(data, k, method="leiden", start=0.1, end=2.0, increment=0.01)
    adata.obs[keys.DOMAIN] = data.obs["domain"].astype(str)


@contextmanager
def silence() -> Iterator[None]:
    """Suppress what the packages print and log, progress bars included."""
    for name in ("lightning.fabric", "lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


PEERS: dict[str, Callable[[AnnData, int, int], None]] = {
    "banksy": banksy,
    "cellcharter": cellcharter,
    "GraphST": graphst,
}


def missing(methods: list[str]) -> list[str]:
    """List the methods of other packages that are not installed."""
    return [method for method in methods if method in PEERS and find_spec(method) is None]


def main() -> None:
    """Compare seconds and memory."""
    from benchmarks import peers_scale

    peers_scale.main()


if __name__ == "__main__":
    main()
