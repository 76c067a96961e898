"""The model: without torch, in one process and in several, and the error when one of several ends."""

import importlib
import json
import os
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
import torch

import processes
import stmmr
from stmmr._core import keys
from stmmr.model import checkpoint
from stmmr.model.devices import Devices, RankError
from stmmr.model.loop import Options
from stmmr.settings import settings_of

pytest.importorskip("lightning_fabric")  # imported now: it sets an environment variable


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


WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning_fabric"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())  # None in sys.modules would upset scipy

import anndata, numpy as np, stmmr, stmmr.model, stmmr.pp, stmmr.settings, stmmr.tl

stmmr.settings.verbosity = 2

fitted, new = (stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60) for _ in range(2))
for adata in (fitted, new):
    stmmr.pp.histology(adata, progress=False)
stmmr.pp.expression(fitted, progress=False)
stmmr.pp.spatial_graph(fitted)
stmmr.StMMR(fitted).fit(progress=False, devices=2).save(sys.argv[1])
embedding = fitted.obsm.pop("X_stmmr")
model = stmmr.StMMR.load(sys.argv[1], fitted)
assert (fitted.obsm["X_stmmr"] == embedding).all()
model.transform(new, progress=False)
np.testing.assert_allclose(new.obsm["X_stmmr"], embedding, atol=1e-4)
stmmr.tl.consensus(fitted, 3, progress=False)
stmmr.tl.transfer_domains(new, fitted)
assert not any(name.split(".")[0] == "torch" for name in sys.modules)
for needs_torch in (
    lambda: stmmr.StMMR(fitted, preset="paper"),
    lambda: stmmr.StMMR(fitted, train_encoders=True),
    lambda: model.denoise(progress=False),
    lambda: stmmr.tl.enhance(model, progress=False),
):
    try:
        needs_torch()
    except ImportError as error:
        print(error)
"""


def test_the_default_needs_no_torch(tmp_path):
    line = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "model")]
    out = subprocess.run(line, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    told = out.stdout.splitlines()
    assert len(told) == 4
    assert all(line.startswith("torch is not installed") and line.endswith("[torch]'") for line in told)
    assert out.stderr.count("The default preset needs no training: the embedding is linear.") == 1


def test_import_loads_no_torch():
    code = "import sys, stmmr.tl, stmmr.pp, stmmr.model; print({'torch', 'lightning_fabric'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@pytest.mark.parametrize("options", [{}, {"use_rep": keys.COMPONENTS}, {"n_components": 10, "latent": 3}])
def test_the_linear_embedding_is_that_of_the_network(options, tissue):
    model = stmmr.StMMR(tissue, **options).fit()
    assert not model.trains
    linear = tissue.obsm[keys.EMBEDDING]
    assert linear.dtype == np.float32
    with torch.no_grad():
        features = torch.from_numpy(model.inputs.put_back(model.inputs.blocks[0].features))
        (encoder,), (weight,) = model.network.encoders, model.network.weights
        expected = weight * (features @ encoder.weights[0] + encoder.biases[0])
    np.testing.assert_allclose(linear, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "linear"),
    [
        ({}, True),
        ({"decoder_hidden": 8, "steps": 3, "likelihood": "zinb", "latent": 5}, True),
        ({"train_encoders": True}, False),
        ({"aligned_weight": 1.0}, False),
        ({"contrast_loss": 1.0}, False),
        ({"graph_loss": 1.0}, False),
        ({"attention": True}, False),
        ({"hidden": 8, "latent": 4, "histology_weight": 1.0}, False),
        ({"features": "genes", "latent": 4, "histology_weight": 1.0}, False),
    ],
)
def test_what_needs_a_training(changes, linear):
    assert settings_of("default", **changes).is_linear is linear
    assert not settings_of("paper").is_linear


def test_a_saved_decoder_is_used_and_a_missing_one_is_fitted_alike(tissue, tmp_path):
    model = small(tissue).fit()
    model.save(tmp_path / "without")
    mean = model.denoise(progress=False)
    model.save(tmp_path / "with")
    with_decoder = stmmr.StMMR.load(tmp_path / "with", tissue)
    assert with_decoder.history == model.history
    assert tissue.uns["stmmr"]["history"]["loss"].tolist() == model.history["loss"]
    with_decoder.save(tmp_path / "again")  # before the network is needed
    assert (tmp_path / "again/weights.safetensors").read_bytes() == (tmp_path / "with/weights.safetensors").read_bytes()
    np.testing.assert_array_equal(with_decoder.denoise(progress=False), mean)
    without = stmmr.StMMR.load(tmp_path / "without", tissue)
    assert not without.history
    assert "history" not in tissue.uns["stmmr"]
    np.testing.assert_array_equal(without.denoise(progress=False), mean)


def test_files_of_format_2_are_read(tissue, tmp_path):
    """They always had a decoder."""
    model = small(tissue).fit().fit_decoder(progress=False)
    embedding, mean = tissue.obsm[keys.EMBEDDING], model.denoise()
    model.save(tmp_path / "model")
    path = tmp_path / "model/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    loaded = stmmr.StMMR.load(tmp_path / "model", tissue)
    np.testing.assert_array_equal(tissue.obsm[keys.EMBEDDING], embedding)
    np.testing.assert_array_equal(loaded.denoise(), mean)


@pytest.mark.parametrize("settings", [{}, {"attention": True, "steps": 2}])
def test_weights_that_do_not_fit_are_refused(settings, tissue, tmp_path):
    from safetensors.numpy import load_file, save_file

    small(tissue, **settings).fit(progress=False).save(tmp_path / "model")
    path = tmp_path / "model/weights.safetensors"
    whole = load_file(path)
    name = "encoders.0.biases.0"
    for other in ({name: np.zeros(99, np.float32)}, {}):
        save_file({n: v for n, v in whole.items() if n != name} | other, path)
        with pytest.raises(stmmr.InputError, match="Expected whole weights that fit in "):
            stmmr.StMMR.load(tmp_path / "model", tissue)


def test_a_model_that_is_not_fitted_has_no_denoised_expression(tissue):
    for settings in ({}, {"attention": True}):
        model = small(tissue, **settings)
        assert "not fitted" in repr(model)
        with pytest.raises(stmmr.InputError, match=r"Expected a fitted model, found one that is not\. Run model\.fit"):
            model.denoise()


def test_two_processes_embed_as_one(tissue, capfd):
    """Encoders are kept, so that the embedding does not depend on the steps, which are half as many each."""
    tissue.obsm["adt"] = np.random.default_rng(0).poisson(3, (tissue.n_obs, 8))
    settings = {"attention": True, "blocks": {"protein": stmmr.Block("adt", "nb")}}
    alone = small(tissue, **settings).fit(progress=False)
    embedding = tissue.obsm[keys.EMBEDDING].copy()
    environment = dict(os.environ)
    both = small(tissue, **settings).fit(progress=False, devices=2)
    assert os.environ == environment
    np.testing.assert_allclose(tissue.obsm[keys.EMBEDDING], embedding, atol=1e-5)
    assert len(both.history["loss"]) == 10
    assert len(alone.history["loss"]) == 20
    assert np.mean(both.history["loss"][-3:]) < np.mean(both.history["loss"][:3])
    assert tissue.uns["stmmr"]["history"]["loss"].tolist() == both.history["loss"]
    np.testing.assert_allclose(both.embed(), embedding, atol=1e-5)
    assert capfd.readouterr().err == ""


@pytest.mark.nightly
def test_two_processes_resume_with_the_same_bits(tissue, tmp_path, monkeypatch):
    settings = EVERYTHING | {"steps": 30}
    whole = small(tissue, **settings).fit(progress=False, devices=2)
    embedding = tissue.obsm[keys.EMBEDDING].copy()
    hooks(tmp_path, monkeypatch)
    file = tmp_path / "state.safetensors"
    with pytest.raises(RankError, match=r"process .* to resume from .*state\.safetensors"):
        in_two_processes(small(tissue, **settings), checkpoint=file, on_step=hook("die_late"))
    assert file.exists()
    resumed = small(tissue, **settings).fit(progress=False, devices=2, checkpoint=file)
    assert resumed.history == whole.history
    for name, value in weights_of(whole).items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    np.testing.assert_array_equal(tissue.obsm[keys.EMBEDDING], embedding)
    with pytest.raises(stmmr.InputError, match="other number of processes"):
        small(tissue, **settings).fit(progress=False, checkpoint=file)


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


def in_two_processes(model, *, timeout=timedelta(minutes=1), **options):
    from stmmr.model.processes import train_in_processes

    return train_in_processes(
        model.network, model.inputs, Devices("cpu", 2), options=Options(**options), timeout=timeout
    )


def hooks(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 60.0)  # put back what the hooks change
    (folder / "hooks_of_the_test.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(folder)  # started processes get the path


def hook(name):
    return getattr(importlib.import_module("hooks_of_the_test"), name)


@pytest.mark.parametrize(
    ("name", "seconds", "message"),
    [
        ("die", 60, "process 1 ended by SIGKILL"),
        pytest.param(
            "sleep",
            5,
            r"(one that ended or did not answer|process 0 ended by .*Timed out)",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_a_process_that_ends_or_does_not_answer_gives_one_sentence(
    name, seconds, message, tissue, tmp_path, monkeypatch
):
    hooks(tmp_path, monkeypatch)
    model = small(tissue)
    with pytest.raises(
        RankError, match=rf"^Expected 2 processes to train to the end, found {message}.* Start again\.$"
    ):
        in_two_processes(model, timeout=timedelta(seconds=seconds), on_step=hook(name))
    assert issubclass(RankError, OSError)  # what the command line turns into a sentence


@pytest.mark.nightly
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
    options = {"batch_size": 64, "steps": 20, "attention": True}
    model = stmmr.StMMR(adata, use_histology=False, **options).fit(progress=False, devices=2)
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


@pytest.mark.nightly
@pytest.mark.slow
def test_processes_that_torchrun_started(tissue, tmp_path):
    tissue.write_h5ad(tmp_path / "in.h5ad")
    out = torchrun(tmp_path)
    assert out.returncode == 0, out.stderr
    small(tissue, attention=True).fit(progress=False)
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), tissue.obsm[keys.EMBEDDING], atol=1e-5)
    assert torchrun(tmp_path, "die").returncode != 0


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"attention": True, "batch_size": 0}, {"devices": 2}, "Expected one process .*found 2"),
        ({"attention": True, "batch_size": 10_000}, {"devices": 2}, "Expected batch_size between 1 and"),
        ({}, {"devices": 0}, "Expected devices to be a positive whole number, found 0"),
        ({}, {"accelerator": "tpu"}, "Expected accelerator to be one of auto, cpu, cuda, found 'tpu'"),
        ({}, {"precision": "16"}, "Expected precision to be one of bf16-mixed"),
        ({}, {"strategy": "fsdp"}, "Expected strategy to be one of"),
        ({"attention": True}, {"accelerator": "cuda", "devices": 99}, "Expected 99 GPUs, found"),
    ],
)
def test_bad_devices(settings, options, message, tissue):
    model = small(tissue, **settings)
    with pytest.raises(stmmr.InputError, match=message):
        model.fit(progress=False, **options)
    assert keys.EMBEDDING not in tissue.obsm


def test_devices_matter_only_where_something_trains(tissue):
    devices = Devices("cuda", 99)
    devices.check(settings_of("default"), 900)
    with pytest.raises(stmmr.InputError, match="Expected 99 GPUs"):
        devices.check(settings_of("default"), 900, decoder=True)
    with pytest.raises(stmmr.InputError, match="Expected 99 GPUs"):
        devices.check(settings_of("paper"), 900)
    model = small(tissue).fit(accelerator="cuda", devices=99)
    if not torch.cuda.is_available():
        with pytest.raises(stmmr.InputError, match="Expected a GPU, found none"):
            model.denoise()


def test_one_process_needs_no_fabric():
    code = (
        "import sys, stmmr; a = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=40)\n"
        "stmmr.pp.expression(a); stmmr.pp.spatial_graph(a)\n"
        "stmmr.StMMR(a, use_histology=False, steps=2, attention=True).fit(progress=False, accelerator='cpu')\n"
        "print('lightning_fabric' in sys.modules)"
    )
    out = processes.run(code=code)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == "False"


def test_resumed_fit_is_the_uninterrupted_one(tissue, tmp_path):
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
    model = small(tissue).fit().fit_decoder(progress=False)
    whole = model.denoise()
    assert whole.shape == (tissue.n_obs, len(model.inputs.gene_names))
    monkeypatch.setattr("stmmr.nn.decoder.BLOCK_ENTRIES", 1000)
    np.testing.assert_allclose(model.denoise(), whole, rtol=1e-5)


def test_no_dense_matrix_of_spots_and_genes(tissue):
    """In a training by batches of 64 spots, no tensor is as large as all spots times the genes."""
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
        model.fit(accelerator="cpu").fit_decoder(progress=False)
    assert 64 * n_genes <= largest <= max(64 * n_genes, tissue.n_obs * model.inputs.shapes[0].n_features)


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
def test_resumed_on_a_gpu_is_near_the_uninterrupted_one(tissue, tmp_path):
    model = small(tissue, **EVERYTHING).fit(progress=False, accelerator="cuda", checkpoint=tmp_path / "a.safetensors")
    again = small(tissue, **EVERYTHING).fit(progress=False, accelerator="cuda", checkpoint=tmp_path / "a.safetensors")
    assert again.history == model.history
