"""The terms of the objective against SciPy, and their estimates from drawn spots against all spots."""

import numpy as np
import pytest
import torch
from scipy import sparse, stats

from stmmr.model.batches import draw_neighbors
from stmmr.nn import Batch, Features, Graph, Network, Partners, Shape, SparseRows, Target, losses
from stmmr.nn import decoder as decoder_module
from stmmr.settings import settings_of


def counts(rng, n, g):
    return sparse.csr_matrix(rng.poisson(0.3, (n, g)) * rng.integers(1, 40, (n, g)))


def test_nb_is_scipys():
    rng = np.random.default_rng(0)
    x = counts(rng, 30, 17)
    mean, dispersion = rng.gamma(1, 2, (30, 17)), rng.gamma(2, 1, 17)
    expected = -stats.nbinom.logpmf(x.toarray(), dispersion, dispersion / (dispersion + mean)).sum()
    rows = SparseRows.of(x, dtype=torch.float64)
    found = losses.nb(rows, mean=torch.from_numpy(mean), dispersion=torch.from_numpy(dispersion))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_bernoulli_is_scipys():
    rng = np.random.default_rng(0)
    x = (counts(rng, 30, 17) > 0).astype(float)
    logit = rng.normal(0, 3, (30, 17))
    expected = -stats.bernoulli.logpmf(x.toarray(), 1 / (1 + np.exp(-logit))).sum()
    found = losses.bernoulli(SparseRows.of(x, dtype=torch.float64), logit=torch.from_numpy(logit))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_stored_zeros_and_entries_stored_twice_change_nothing():
    plain = sparse.csr_matrix(np.array([[0.0, 3.0, 0.0], [1.0, 0.0, 2.0]]))
    odd = sparse.csr_matrix((np.array([1.0, 2.0, 0.0, 2.0, 1.0]), np.array([1, 1, 0, 2, 0]), np.array([0, 3, 5])))
    before = odd.data.copy()
    for mine, other in zip(SparseRows.of(odd), SparseRows.of(plain), strict=True):
        assert np.array_equal(mine, other)
    np.testing.assert_array_equal(odd.data, before)


@pytest.mark.parametrize("likelihood", ["nb", "zinb", "bernoulli", "gaussian"])
def test_blocks_of_rows_give_the_same_loss_and_gradient(likelihood, monkeypatch):
    rng = np.random.default_rng(0)
    settings = settings_of("default", latent=4, decoder_hidden=6, train_encoders=True)
    torch.manual_seed(0)
    network = Network([Shape("expression", 5, 17, likelihood)], settings=settings).double()
    x = counts(rng, 31, 17)
    target = torch.from_numpy(x.toarray() / 10) if likelihood == "gaussian" else SparseRows.of(x, dtype=torch.float64)
    features = Features((torch.from_numpy(rng.normal(size=(31, 5))),))
    batch = Batch(features, (Target(target, torch.from_numpy(rng.gamma(5, 0.2, (31, 1)))),), 31, None)

    def found():
        loss = network(batch)["likelihood"]
        return [loss, *torch.autograd.grad(loss, network.parameters())]

    whole = found()
    monkeypatch.setattr(decoder_module, "BLOCK_ENTRIES", 4 * 17)
    for mine, other in zip(found(), whole, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


def weights(rng, n):
    graph = sparse.random(n, n, density=0.05, random_state=rng, format="csr") + 0.5 * sparse.eye(n)
    return sparse.csr_matrix(sparse.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph)


def mean_and_error(values):
    return np.mean(values, axis=0), np.std(values, axis=0) / np.sqrt(len(values))


def test_partners_are_drawn_by_their_weights():
    rng = np.random.default_rng(0)
    graph = weights(rng, 20)
    drawn = np.zeros((20, 20))
    for _ in range(4000):
        drawn[np.arange(20), draw_neighbors(graph, rng=rng)] += 1 / 4000
    assert (drawn[graph.toarray() == 0] == 0).all()
    np.testing.assert_allclose(drawn, graph.toarray(), atol=5 * 0.5 / np.sqrt(4000))


def test_graph_reconstruction_is_estimated_without_bias():
    rng = np.random.default_rng(0)
    n, size = 60, 12
    graph = weights(rng, n)
    z = torch.from_numpy(rng.normal(size=(n, 5)) + 0.5).requires_grad_()
    full = losses.graph_reconstruction(z, Graph.of(graph, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(full, z)
    squares = torch.tensor(graph.power(2).sum() / n)
    values, gradients = [], []
    for _ in range(4000):
        index = rng.permutation(n)[:size]
        partners = draw_neighbors(graph[index], rng=rng)
        drawn = Partners(torch.from_numpy(partners == index), squares, n)
        value = losses.sampled_graph_reconstruction(z[index], z[partners], drawn)
        values.append(value.item())
        gradients.append(torch.autograd.grad(value, z)[0].numpy())
    mean, error = mean_and_error(values)
    assert abs(mean - full.item()) < 4 * error
    assert error < 0.01 * full.item()
    mean, error = mean_and_error(gradients)
    off = (mean - gradient.numpy()) / error
    assert np.abs(off).max() < 5
    assert off.std() < 1.3


def test_similarity_is_estimated_without_bias_but_for_the_centring():
    rng = np.random.default_rng(0)
    n, size = 300, 60
    first, second = (torch.from_numpy(np.maximum(rng.normal(size=(n, 6)) + 0.3, 0)) for _ in range(2))
    full = losses.similarity_contrast(first, second).item()
    values = []
    for _ in range(2000):
        index = rng.permutation(n)[:size]
        values.append(losses.similarity_contrast(first[index], second[index], n_obs=n).item())
    mean, error = mean_and_error(values)
    assert abs(mean - full) < 4 * error + full / size
    assert error < 0.002 * full


def test_attention_by_torch_is_that_in_tiles():
    from stmmr.nn.pairs import attention, attention_by_torch

    rng = np.random.default_rng(0)
    query, key = (torch.from_numpy(rng.normal(size=(n, 7))) for n in (23, 40))
    torch.testing.assert_close(attention_by_torch(query, key), attention(query, key))
    torch.testing.assert_close(attention(query, key), torch.softmax(query @ key.T, dim=1) @ key)


def test_a_key_of_size_three_is_three_keys():
    from stmmr.nn.pairs import attention

    rng = np.random.default_rng(0)
    query, key = (torch.from_numpy(rng.normal(size=(n, 7))).requires_grad_() for n in (23, 4))
    often = torch.tensor([3, 1, 1, 2])
    few = attention(query, key, log_size=often.double().log())
    many = attention(query, key.repeat_interleave(often, dim=0))
    torch.testing.assert_close(few, many)
    ahead = torch.from_numpy(rng.normal(size=few.shape))
    for mine, other in zip(
        torch.autograd.grad(few, (query, key), ahead), torch.autograd.grad(many, (query, key), ahead), strict=True
    ):
        torch.testing.assert_close(mine, other)


def dropped_attention(query, key, seed=0, dropout=0.3):
    from stmmr.nn.pairs import attention

    torch.manual_seed(seed)
    return attention(query, key, dropout=dropout)


@pytest.mark.parametrize("tile_bytes", [2**25, 7 * 8 * 5])
def test_attention_weights_are_dropped_each_by_itself(tile_bytes, monkeypatch):
    """With equal weights and one-hot keys, the output shows each weight: 0, or 1/M over the share that is kept."""
    monkeypatch.setattr("stmmr.nn.pairs.TILE_BYTES", tile_bytes)
    seen = dropped_attention(torch.zeros(400, 50, dtype=torch.float64), torch.eye(50, dtype=torch.float64))
    shown = seen.unique()
    torch.testing.assert_close(shown, torch.tensor([0, 1 / (50 * 0.7)], dtype=torch.float64))
    assert abs(float((seen == 0).double().mean()) - 0.3) < 4 * (0.3 * 0.7 / seen.numel()) ** 0.5
    assert not torch.equal(seen, dropped_attention(torch.zeros(400, 50).double(), torch.eye(50).double(), seed=1))


@pytest.mark.parametrize("tile_bytes", [2**25, 7 * 8 * 5])
def test_gradient_of_dropped_attention(tile_bytes, monkeypatch):
    monkeypatch.setattr("stmmr.nn.pairs.TILE_BYTES", tile_bytes)
    rng = np.random.default_rng(0)
    query, key = (torch.from_numpy(rng.normal(size=(n, 3))).requires_grad_() for n in (9, 7))
    assert torch.autograd.gradcheck(dropped_attention, (query, key))
