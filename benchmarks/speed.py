"""One epoch of `paper` against the dense form: `python -m benchmarks.speed` writes its part of docs/performance.md.

It also times the whole command on one Visium section, from cold start to files written.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import stmmr
from benchmarks._table import DATA, ROOT, no_options, write_tables
from stmmr._core import keys
from stmmr.linear.blocks import block_features
from stmmr.model.batches import whole_batch
from stmmr.settings import Block

EPOCHS = 3
NAME = "visium_dlpfc_151673"


def dense_module():
    """Load the dense form, which is the reference of the tests."""
    spec = importlib.util.spec_from_file_location("dense", ROOT / "tests" / "nn" / "dense.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def epochs() -> tuple[float, float]:
    """Measure the median seconds of an epoch of `paper` and of the dense form."""
    adata = stmmr.read(DATA / f"{NAME}.h5ad")
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata, use="array", bandwidth=2.0)
    stmmr.pp.histology(adata)
    model = stmmr.StMMR(adata, preset="paper")
    batch = whole_batch(model.inputs)
    values = torch.from_numpy(adata[:, model.inputs.gene_names].layers[keys.LOGNORM].toarray())
    graph = torch.from_numpy(adata.obsp[keys.GRAPH].toarray())
    image = block_features(adata, Block(keys.HISTOLOGY), n_components=model.settings.n_components)
    features = [values, torch.from_numpy(image)]
    dense = dense_module()
    network = model.network.train()
    optimizer = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=1e-4)

    def ours() -> dict[str, torch.Tensor]:
        return network(batch)

    def theirs() -> dict[str, torch.Tensor]:
        return dense.forward(network, values, features, graph)[1]

    seconds: dict[str, list[float]] = {"ours": [], "dense": []}
    for _ in range(EPOCHS):
        for name, terms in (("ours", ours), ("dense", theirs)):
            start = time.perf_counter()
            optimizer.zero_grad()
            sum(terms().values()).backward()
            optimizer.step()
            seconds[name].append(time.perf_counter() - start)
            print(name, round(seconds[name][-1], 2), flush=True)
    return sorted(seconds["ours"])[EPOCHS // 2], sorted(seconds["dense"])[EPOCHS // 2]


def whole_command() -> tuple[float, float]:
    """Measure seconds and peak MB of `stmmr run`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            sys.executable,
            "-m",
            "stmmr.cli",
            "run",
            str(DATA / f"{NAME}.h5ad"),
            "-o",
            str(out),
            "--n-domains",
            "7",
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start, json.loads((out / "run.json").read_text())["peak_memory_mb"]


def main() -> None:
    no_options(__doc__)
    wall, memory = whole_command()
    print(wall, memory)
    ours, dense = epochs()
    table = [
        ["measured", "seconds", "note"],
        ["an epoch of `paper`", f"{ours:.1f}", f"{dense / ours:.2f} times as fast as the dense form"],
        ["an epoch of the dense form", f"{dense:.1f}", "every N × N matrix written out"],
        ["`stmmr run`, default", f"{wall:.1f}", f"{memory:.0f} MB at its peak"],
    ]
    write_tables("speed", table)


if __name__ == "__main__":
    main()
