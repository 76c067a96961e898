"""The model in one process and in several: the same embedding, and what is said when one of them ends."""

import importlib
import json
import os
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import pytest
import torch

import stmmr
from stmmr._core import keys
from stmmr.model import checkpoint
from stmmr.model.processes import Devices, RankError, train_and_embed


@pytest.fixture(scope="module")
def prepared():
    adata = stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_domains=4, n_genes=100)
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    return adata


@pytest.fixture
def tissue(prepared):
    return prepared.copy()


EVERYTHING = {
    "attention": True,
    "aligned_weight": 1.0,
    "graph_loss": 1.0,
    "dropout": 0.1,
    "train_encoders": True,
    "batch_size": 64,
    "steps": 20,
}


def small(adata, **settings):
    return stmmr.StMMR(adata, use_histology=False, **{"batch_size": 64, "steps": 20} | settings)


def weights_of(model):
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def test_two_processes_embed_as_one(tissue, capfd, monkeypatch):
    alone = small(tissue).fit(progress=False)
    embedding = tissue.obsm[keys.EMBEDDING].copy()
    environment = dict(os.environ)
    both = small(tissue).fit(progress=False, devices=2)
    assert os.environ == environment
    np.testing.assert_allclose(tissue.obsm[keys.EMBEDDING], embedding, atol=1e-5)
    assert len(both.history["loss"]) == 10
    assert len(alone.history["loss"]) == 20
    assert np.mean(both.history["loss"][-3:]) < np.mean(both.history["loss"][:3])
    assert tissue.uns["stmmr"]["history"]["loss"].tolist() == both.history["loss"]
    np.testing.assert_allclose(both.embed(), embedding, atol=1e-5)
    assert capfd.readouterr().err == ""


def test_two_processes_go_on_with_the_same_bits(tissue, tmp_path, monkeypatch):
    settings = EVERYTHING | {"steps": 30}
    whole = small(tissue, **settings).fit(progress=False, devices=2)
    embedding = tissue.obsm[keys.EMBEDDING].copy()
    hooks(tmp_path, monkeypatch)
    stopped = small(tissue, **settings)
    options = {"random_state": 0, "progress": False, "checkpoint": tmp_path / "state.safetensors"}
    with pytest.raises(RankError, match="process"):
        train_and_embed(stopped.network, stopped.inputs, Devices("cpu", 2), **options, on_step=hook("die_late"))
    assert options["checkpoint"].exists()
    resumed = small(tissue, **settings).fit(progress=False, devices=2, checkpoint=options["checkpoint"])
    assert resumed.history == whole.history
    for name, value in weights_of(whole).items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    np.testing.assert_array_equal(tissue.obsm[keys.EMBEDDING], embedding)
    with pytest.raises(stmmr.InputError, match="other number of processes"):
        small(tissue, **settings).fit(progress=False, checkpoint=options["checkpoint"])


HOOKS = """
import os, signal, time
import torch
from stmmr.model import checkpoint

checkpoint.SECONDS = -1


def die(step):
    if step == 5 and torch.distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def die_late(step):
    if step == 13 and torch.distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def sleep(step):
    if step == 5 and torch.distributed.get_rank() == 1:
        time.sleep(60)
"""


def hooks(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 60.0)  # put back what the hooks change
    (folder / "hooks_of_the_test.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(folder)  # started processes get the path


def hook(name):
    return getattr(importlib.import_module("hooks_of_the_test"), name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("die", "process 1 ended by SIGKILL"),
        ("sleep", r"(one that ended or did not answer|process 0 ended by .*Timed out)"),
    ],
)
def test_a_process_that_ends_or_does_not_answer_is_one_sentence(name, message, tissue, tmp_path, monkeypatch):
    hooks(tmp_path, monkeypatch)
    model = small(tissue)
    start = time.monotonic()
    with pytest.raises(
        RankError, match=rf"^Expected 2 processes to train to the end, found {message}.* Start again\.$"
    ):
        train_and_embed(
            model.network,
            model.inputs,
            Devices("cpu", 2),
            random_state=0,
            progress=False,
            timeout=timedelta(seconds=5),
            on_step=hook(name),
        )
    assert time.monotonic() - start < 50
    assert issubclass(RankError, OSError)  # what the command line turns into a sentence


def test_errors_of_started_processes_keep_their_kind(tissue):
    model = small(tissue, learning_rate=1e30, train_encoders=True)
    with pytest.raises(FloatingPointError, match=r"likelihood = nan.*Lower learning_rate"):
        model.fit(progress=False, devices=2)


SCRIPT = """
import os, sys, signal
import anndata, numpy, stmmr
from stmmr.model import loop

adata = anndata.read_h5ad(sys.argv[1])
rank = int(os.environ["RANK"])
if len(sys.argv) > 3:
    before = loop.training_step
    def dies(*args, **options):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(*args, **options)
    loop.training_step = dies
try:
    model = stmmr.StMMR(adata, use_histology=False, batch_size=64, steps=20).fit(progress=False, devices=2)
except ChildProcessError as error:
    print("said:", error, flush=True)
    raise SystemExit(3)
assert len(model.history["loss"]) == 10
numpy.save(sys.argv[2] + f"/{rank}.npy", adata.obsm["X_stmmr"])
"""


def torchrun(folder, *more):
    (folder / "script.py").write_text(SCRIPT)
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    line += [folder / "script.py", folder / "in.h5ad", folder, *more]
    return subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_processes_that_torchrun_started(tissue, tmp_path):
    tissue.write_h5ad(tmp_path / "in.h5ad")
    out = torchrun(tmp_path)
    assert out.returncode == 0, out.stderr
    small(tissue).fit(progress=False)
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), tissue.obsm[keys.EMBEDDING], atol=1e-5)
    assert torchrun(tmp_path, "die").returncode != 0


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"batch_size": 0}, {"devices": 2}, "Expected batch_size between 1 and"),
        ({"batch_size": 10_000}, {"devices": 2}, "Expected batch_size between 1 and"),
        ({}, {"devices": 0}, "Expected devices ≥ 1, found 0"),
        ({}, {"accelerator": "tpu"}, "Expected accelerator to be one of auto, cpu, cuda, found 'tpu'"),
        ({}, {"precision": "16"}, "Expected precision to be one of bf16-mixed"),
        ({}, {"strategy": "fsdp"}, "Expected strategy to be one of"),
        ({}, {"accelerator": "cuda", "devices": 99}, "Expected 99 GPUs, found"),
    ],
)
def test_bad_devices(settings, options, message, tissue):
    model = small(tissue, **settings)
    with pytest.raises(stmmr.InputError, match=message):
        model.fit(progress=False, **options)
    assert keys.EMBEDDING not in tissue.obsm


def test_one_process_needs_no_fabric():
    code = (
        "import sys, stmmr; a = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=40)\n"
        "stmmr.pp.expression(a); stmmr.pp.spatial_graph(a)\n"
        "stmmr.StMMR(a, use_histology=False, steps=2).fit(progress=False, accelerator='cpu')\n"
        "print('lightning_fabric' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_resumed_fit_is_the_undisturbed_one(tissue, tmp_path):
    model = small(tissue, **EVERYTHING).fit(progress=False, checkpoint=tmp_path / "state.safetensors")
    embedding = tissue.obsm[keys.EMBEDDING].copy()
    again = small(tissue, **EVERYTHING).fit(progress=False, checkpoint=tmp_path / "state.safetensors")
    assert again.history == model.history
    np.testing.assert_array_equal(tissue.obsm[keys.EMBEDDING], embedding)


def test_a_model_saved_before_there_were_landmarks_is_read(tissue, tmp_path):
    model = small(tissue).fit(progress=False)
    model.save(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    saved = json.loads(path.read_text())
    del saved["settings"]["landmarks"]
    path.write_text(json.dumps(saved))
    assert stmmr.StMMR.load(tmp_path / "model", tissue).settings == model.settings


def test_bfloat16_is_near_float32(tissue):
    single = small(tissue, **EVERYTHING).fit(progress=False, accelerator="cpu")
    half = small(tissue, **EVERYTHING).fit(progress=False, accelerator="cpu", precision="bf16-mixed")
    assert half.history["loss"] != single.history["loss"]
    np.testing.assert_allclose(half.history["loss"], single.history["loss"], rtol=0.02)
    assert all(value.dtype == torch.float32 for value in half.network.parameters())


def test_denoised_in_blocks_is_the_same(tissue, monkeypatch):
    model = small(tissue).fit(progress=False)
    whole = model.denoise()
    assert whole.shape == (tissue.n_obs, len(model.inputs.gene_names))
    monkeypatch.setattr("stmmr.nn.decoder.BLOCK_ENTRIES", 1000)
    np.testing.assert_allclose(model.denoise(), whole, rtol=1e-5)


def test_no_dense_matrix_of_places_and_genes(tissue):
    """Of a batch of 64 places out of all, no tensor is as large as the places times the genes, in training."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else (out,):
                if isinstance(each, torch.Tensor):
                    largest = max(largest, each.numel())
            return out

    model = small(tissue)
    n_genes = len(model.inputs.gene_names)
    with Watch():
        model.fit(progress=False, accelerator="cpu")
    assert largest <= max(64 * n_genes, tissue.n_obs * model.inputs.shapes[0].n_features)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", [None, "bf16-mixed"])
def test_gpu_is_near_the_processor(tissue, precision):
    single = small(tissue, **EVERYTHING | {"dropout": 0.0}).fit(progress=False, accelerator="cpu")
    embedding = tissue.obsm[keys.EMBEDDING].copy()
    on_gpu = small(tissue, **EVERYTHING | {"dropout": 0.0}).fit(progress=False, accelerator="cuda", precision=precision)
    np.testing.assert_allclose(on_gpu.history["loss"], single.history["loss"], rtol=0.02)
    np.testing.assert_allclose(tissue.obsm[keys.EMBEDDING], embedding, atol=0.05 * np.abs(embedding).max())
    assert on_gpu.denoise().shape == (tissue.n_obs, len(on_gpu.inputs.gene_names))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_resumed_on_a_gpu_is_near_the_undisturbed(tissue, tmp_path):
    model = small(tissue, **EVERYTHING).fit(progress=False, accelerator="cuda", checkpoint=tmp_path / "a.safetensors")
    again = small(tissue, **EVERYTHING).fit(progress=False, accelerator="cuda", checkpoint=tmp_path / "a.safetensors")
    assert again.history == model.history
