"""Training: which rows a step reads, resuming after an interruption, several processes, landmarks of the attention."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

import stmmr
from stmmr._core.kernel import kernel_of
from stmmr.linear.start import Affine
from stmmr.model import batches, checkpoint
from stmmr.model import landmarks as _landmarks
from stmmr.model.batches import dealt, drawn
from stmmr.model.embed import embedded
from stmmr.model.inputs import BlockInputs, ModelInputs, RowsInMemory, model_inputs
from stmmr.model.landmarks import keys_of, landmarks
from stmmr.model.loop import Options, train
from stmmr.nn import Keys, Network, Shape, SparseRows
from stmmr.nn.layers import PropagatedEncoder
from stmmr.settings import Block, settings_of

SMALL = {"n_components": 6, "latent": 4, "decoder_hidden": 8, "batch_size": 16, "steps": 12}
EVERYTHING = SMALL | {
    "attention": True,
    "aligned_weight": 1.0,
    "contrast_loss": 1.0,
    "graph_loss": 1.0,
    "dropout": 0.2,
    "train_encoders": True,
}


ONE = [Shape("expression", 5, 3, "nb")]


class Watched(RowsInMemory):
    """Counts the rows that are read."""

    def __init__(self, matrix):
        super().__init__(matrix)
        self.read = []

    def take(self, index):
        assert (np.diff(index) > 0).all()
        self.read.append(len(index))
        return super().take(index)


def inputs_of(n=70, n_genes=11, *, seed=0):
    """Expression, an image, and protein counts."""
    rng = np.random.default_rng(seed)

    def normal(width):
        return rng.normal(size=(n, width)).astype("float32")

    def counted(width):
        counts = Watched(sparse.csr_matrix(rng.poisson(0.4, (n, width))))
        return counts, rng.gamma(5, 0.2, (n, 1)).astype("float32")

    further = BlockInputs("histology", normal(3)), BlockInputs("protein", normal(4), *counted(5), "nb", 0.5)
    graph = sparse.random(n, n, density=0.1, random_state=rng, format="csr") + sparse.eye(n)
    return ModelInputs(
        blocks=(BlockInputs("expression", normal(6), *counted(n_genes), "nb"), *further),
        graph=sparse.csr_matrix(sparse.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph),
        start=None,
        order=np.arange(n),
        gene_names=[f"g{i}" for i in range(n_genes)],
    )


def network_of(inputs, **settings):
    torch.manual_seed(0)
    return Network(inputs.shapes, settings=settings_of("default", **settings))


def prepared(inputs, **settings):
    settings = settings_of("default", **settings)
    inputs = replace(inputs, keys=keys_of(inputs, settings), graph=inputs.graph if settings.graph_loss else None)
    torch.manual_seed(0)
    return Network(inputs.shapes, settings=settings), inputs


@pytest.mark.parametrize("ahead", [1, 40, 10_000])
def test_rows_read_ahead_give_the_batches_drawn(ahead, monkeypatch):
    monkeypatch.setattr(batches, "ROWS_AHEAD", ahead)
    inputs = inputs_of()
    draws = drawn(70, 16, generator=torch.Generator().manual_seed(3))
    for batch, index in zip(dealt(inputs, 16, random_state=3, numbers=range(20)), draws, strict=False):
        for target, block in zip(batch.targets, inputs.decoded, strict=True):
            expected = SparseRows.of(block.target.matrix[index])
            for mine, other in zip(target.values, expected, strict=True):
                assert np.array_equal(mine, other)
            assert np.array_equal(target.library_size, block.library_size[index])
        for mine, block in zip(batch.features.blocks, inputs.blocks, strict=True):
            assert np.array_equal(mine[:16], block.features[index])
    for block in inputs.decoded:
        assert max(block.target.read) <= max(ahead, 16)
        if ahead == 10_000:
            assert len(block.target.read) == 1


def test_each_spot_once_before_any_is_drawn_again():
    draws = drawn(70, 16, generator=torch.Generator().manual_seed(0))
    epoch = np.concatenate([next(draws) for _ in range(4)])
    assert len(np.unique(epoch)) == 64


def test_dealt_batches_are_those_of_one_process():
    inputs = inputs_of()
    alone = list(dealt(inputs, 16, random_state=0, numbers=range(9)))
    for rank in range(2):
        for mine, other in zip(
            dealt(inputs, 16, random_state=0, numbers=range(rank, 9, 2)), alone[rank::2], strict=True
        ):
            for some, others in zip(mine.features.blocks, other.features.blocks, strict=True):
                assert torch.equal(some, others)  # the partners, too
            assert torch.equal(mine.graph.own, other.graph.own)


def test_a_full_batch_reads_the_rows_once():
    network, inputs = prepared(inputs_of(), **EVERYTHING | {"batch_size": 0})
    train(network, inputs, Options(0))
    assert [block.target.read for block in inputs.decoded] == [[70], [70]]


class Stop(Exception):  # noqa: N818 - no error
    """Ends a training."""


def stop_at(last):
    def hook(step):
        if step == last:
            raise Stop

    return hook


@pytest.mark.parametrize("settings", [SMALL, EVERYTHING, EVERYTHING | {"batch_size": 0}])
def test_resumed_training_ends_with_the_same_bits(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", -1)
    undisturbed, inputs = prepared(inputs_of(), **settings)
    history = train(undisturbed, inputs, Options(1))
    first, _ = prepared(inputs_of(), **settings)
    file = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        train(first, inputs, Options(1, checkpoint=file, on_step=stop_at(7)))
    second, _ = prepared(inputs_of(), **settings)
    steps = []
    found = train(second, inputs, Options(1, checkpoint=file, on_step=steps.append))
    assert steps == [8, 9, 10, 11, 12]
    assert found == history
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    third, _ = prepared(inputs_of(), **settings)
    assert train(third, inputs, Options(1, checkpoint=file, on_step=stop_at(1))) == history
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_checkpoint_of_another_training_is_refused(tmp_path):
    file = tmp_path / "state.safetensors"

    def go(seed=0, data=0, **settings):
        network, inputs = prepared(inputs_of(seed=data), **SMALL | settings)
        train(network, inputs, Options(seed, checkpoint=file))

    go()
    for other, name in (({"seed": 1}, "random_state"), ({"data": 1}, "data"), ({"steps": 5}, "settings")):
        with pytest.raises(stmmr.InputError, match=rf"with other {name}\. .*delete"):
            go(**other)
    file.write_bytes(b"something")
    with pytest.raises(stmmr.InputError, match="Expected a checkpoint written by stmmr"):
        go()
    file = tmp_path / "nowhere" / "state.safetensors"
    with pytest.raises(stmmr.InputError, match="Create it first"):
        go()


def test_interrupted_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", -1)
    file = tmp_path / "state.safetensors"
    network, inputs = prepared(inputs_of(), **SMALL)
    with pytest.raises(Stop):
        train(network, inputs, Options(0, checkpoint=file, on_step=stop_at(3)))
    before = file.read_bytes()

    def half(path, _):
        with path.open("wb") as new:
            new.write(b"half")
        raise Stop

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(Stop):
        train(network, inputs, Options(0, checkpoint=file))
    assert file.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_objective_that_is_not_finite():
    network, inputs = prepared(inputs_of(), **SMALL | {"learning_rate": 1e30, "train_encoders": True})
    with pytest.raises(FloatingPointError, match=r"likelihood = nan.*Lower learning_rate"):
        train(network, inputs, Options(0))


def test_all_keys_are_attention_among_all_spots():
    network, inputs = prepared(inputs_of(), **EVERYTHING)
    network.eval()
    whole = embedded(network, inputs)
    parts = [embedded(network, inputs, rows) for rows in np.array_split(np.arange(70), 3)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-6)


def test_blocks_of_rows_are_embedded_alike(monkeypatch):
    network, inputs = prepared(inputs_of(), **EVERYTHING)
    network.eval()
    whole = embedded(network, inputs)
    monkeypatch.setattr("stmmr.model.embed.ROWS", 16)
    np.testing.assert_allclose(embedded(network, inputs), whole, rtol=1e-5, atol=1e-6)


def cloud(n):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, 5)) * [3, 2, 1, 1, 0.5])


def affine(rng, width):
    return Affine(rng.normal(size=(5, width)) / 4, rng.normal(size=width))


@pytest.mark.parametrize("width", [3, 5, 20])  # 20: kept as a product of rows and weight
def test_clusters_as_normal_distributions(width):
    """Attention to one normal cloud has a closed form: its mean, shifted by the covariance times the query."""
    features = cloud(400)
    keys = landmarks(features, 1, affine(np.random.default_rng(0), 5))
    assert len(keys.features) == 1
    encoder = PropagatedEncoder(5, hidden=0, latent=width).double()
    weight, bias = encoder.weights[0], encoder.biases[0]
    query = features[:7] @ weight + bias
    covariance = torch.cov(features.T, correction=0)
    expected = features.mean(0) @ weight + bias + query @ (weight.T @ covariance @ weight) / width**0.5
    settings = settings_of("default", **EVERYTHING | {"latent": width, "dropout": 0.0})
    network = Network(ONE, settings=settings).double()
    _, found = network._encode_block(encoder, features[:7], keys)
    torch.testing.assert_close(found, expected)


def test_repeated_spots_are_exact():
    rng = np.random.default_rng(0)
    once = torch.from_numpy(rng.normal(size=(30, 5)))
    many = once.repeat_interleave(torch.from_numpy(rng.integers(1, 5, 30)), dim=0)
    keys = landmarks(many, 30, None)
    settings = settings_of("default", **EVERYTHING)
    network = Network(ONE, settings=settings).double().eval()
    by_landmarks = network._encode_block(network.encoders[0], once, keys)[1]
    exact = network._encode_block(network.encoders[0], once, Keys(many))[1]
    tolerance = 1e-3 if len(keys.features) < 30 else 1e-9  # k-means may leave two together
    assert (by_landmarks - exact).norm() < tolerance * exact.norm()


def test_landmarks_of_equal_spots():
    keys = landmarks(torch.ones(40, 5, dtype=torch.float64), 3, None)
    torch.testing.assert_close(keys.features, torch.ones(1, 5, dtype=torch.float64))
    assert keys.landmarks.variance.shape == (1, 0)


@pytest.mark.parametrize("start", [None, 4])
def test_landmarks_stand_for_all_spots(start):
    start = None if start is None else affine(np.random.default_rng(1), start)
    features = cloud(500)
    keys, again = (landmarks(features, 40, start) for _ in range(2))
    size = keys.landmarks.log_size.exp()
    assert len(size) <= 40
    assert size.sum().item() == pytest.approx(500)
    torch.testing.assert_close((size[:, None] * keys.features).sum(0) / 500, features.mean(0))
    within = (size[:, None] * keys.landmarks.variance).sum(0) / 500
    assert (within < features.var(0).max()).all()
    for mine, other in zip(keys.landmarks, again.landmarks, strict=True):
        assert torch.equal(mine, other)


def test_more_landmarks_are_nearer_to_exact():
    features, start = cloud(2000), affine(np.random.default_rng(0), 4)
    network = Network(ONE, settings=settings_of("default", **EVERYTHING | {"dropout": 0.0})).double()
    network.start_from([tuple(map(torch.from_numpy, start))])
    exact = network._encode_block(network.encoders[0], features, Keys(features))[1]
    errors = []
    for n_landmarks in (20, 100, 500):
        found = network._encode_block(network.encoders[0], features, landmarks(features, n_landmarks, start))[1]
        errors.append(((found - exact).norm() / exact.norm()).item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_landmarks_only_where_there_are_many_spots(monkeypatch):
    inputs, settings = inputs_of(70), settings_of("default", **EVERYTHING | {"landmarks": 20})
    assert keys_of(inputs, settings)[0].landmarks is None
    monkeypatch.setattr(_landmarks, "EXACT_AT_MOST", 50)
    assert all(len(keys.features) <= 20 and keys.landmarks for keys in keys_of(inputs, settings))
    assert keys_of(inputs, settings.but(landmarks=0))[0].landmarks is None
    assert keys_of(inputs, settings.but(attention=False)) is None
    network, inputs = prepared(inputs, **EVERYTHING | {"landmarks": 20})
    train(network, inputs, Options(0))
    whole = embedded(network, inputs)
    parts = [embedded(network, inputs, rows) for rows in np.array_split(np.arange(70), 3)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-6)


def test_cost_per_step_does_not_grow_with_the_spots():
    """No tensor of a step has a size that depends on N (exact keys aside)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else (out,):
                if isinstance(each, torch.Tensor):
                    largest[n] = max(largest.get(n, 0), each.numel())
            return out

    for n in (200, 800):
        network, inputs = prepared(inputs_of(n), **EVERYTHING | {"attention": False})
        (batch,) = dealt(inputs, 16, random_state=0, numbers=range(1))
        with Watch():
            sum(network(batch).values()).backward()
    assert largest[200] == largest[800]


def test_paper_reads_image_features_as_they_are():
    """The encoder gets A²F of the features in obsm, neither standardised nor rotated."""
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=2, n_genes=60)
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata, use="array", bandwidth=2.0)
    adata.obsm["vit"] = np.random.default_rng(0).normal(3, [1, 10, 100], size=(adata.n_obs, 3)).astype(np.float32)
    inputs = model_inputs(adata, settings_of("paper"), use_rep=None, blocks={"image": Block("vit")})
    a = kernel_of(adata).weights().toarray()
    np.testing.assert_allclose(inputs.put_back(inputs.blocks[1].features), a @ a @ adata.obsm["vit"], rtol=1e-3)
