"""`paper` against the dense reference: the same weights give the same Z, loss terms and gradients."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from stmmr.nn import Batch, Features, Graph, Network, Shape, SparseRows, Target, pairs
from stmmr.nn import decoder as decoder_module
from stmmr.settings import settings_of

_spec = importlib.util.spec_from_file_location("dense", Path(__file__).with_name("dense.py"))
dense = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dense)


SHAPES = [Shape("expression", 19, 19, "zinb", 20.0), Shape("histology", 9)]


def random_case(seed, *, n, n_genes, n_image, dtype):
    rng = np.random.default_rng(seed)
    graph = sparse.random(n, n, density=0.2, random_state=rng, format="csr") + 2 * sparse.eye(n)
    graph = sparse.csr_matrix(sparse.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph)
    x = torch.tensor(np.log1p(rng.poisson(0.6, (n, n_genes))), dtype=dtype)
    image = torch.tensor(rng.normal(size=(n, n_image)), dtype=dtype)
    full = torch.tensor(graph.toarray(), dtype=dtype)
    return x, image, full


def batch_of(x, image, full):
    twice = full @ full
    ones = torch.ones(len(x), 1, dtype=x.dtype)
    target = SparseRows.of(sparse.csr_matrix(x.numpy()), dtype=x.dtype)
    graph = Graph.of(sparse.csr_matrix(full.numpy()), dtype=x.dtype)
    return Batch(Features((twice @ x, twice @ image)), (Target(target, ones),), len(x), graph)


def compared(network, z, terms):
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(sum(terms.values()), list(parameters.values()))
    named = {f"gradient of {name}": g for name, g in zip(parameters, gradients, strict=True)}
    return {"z": z.detach()} | {name: term.detach() for name, term in terms.items()} | named


def both_ways(network, x, image, full):
    batch = batch_of(x, image, full)
    return compared(network, network.encode(batch.features)[0], network(batch))


def dense_way(network, x, image, full):
    return compared(network, *dense.forward(network, x, [x, image], full))


@pytest.mark.parametrize("contrast", ["similarity", "mutual_information"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("latent", [7, 24])  # narrower and wider than the histology features
@pytest.mark.parametrize("blocks", [61, 10])  # rows of the likelihood at once: all, or blocks of 10 and a last of 1
def test_paper_equals_the_dense_form(contrast, seed, latent, blocks, monkeypatch):
    monkeypatch.setattr(pairs, "TILE_BYTES", 2000)  # many tiles, and a last one that is shorter
    monkeypatch.setattr(decoder_module, "BLOCK_ENTRIES", 19 * blocks)
    torch.manual_seed(seed)
    case64 = random_case(seed, n=61, n_genes=19, n_image=9, dtype=torch.float64)
    case = [t.float() for t in case64]
    changes = {"hidden": 13, "latent": latent, "decoder_hidden": 11, "contrast": contrast, "dropout": 0.0}
    single = Network(SHAPES, settings=settings_of("paper", **changes))
    double = copy.deepcopy(single).double()

    exact = dense_way(double, *case64)
    rounded = dense_way(single, *case)  # what float32 costs the dense form itself
    for (name, truth), mine64, mine, theirs in zip(
        exact.items(),
        both_ways(double, *case64).values(),
        both_ways(single, *case).values(),
        rounded.values(),
        strict=True,
    ):
        scale = truth.abs().max().clamp(min=1.0 if name.startswith("gradient") else 1e-6)
        assert (mine64 - truth).abs().max() < 1e-9 * scale, name
        round_off = (theirs.double() - truth).abs().max()
        assert (mine.double() - truth).abs().max() < 10 * round_off + 1e-5 * scale, name


@pytest.mark.parametrize("contrast", ["similarity", "mutual_information"])
@pytest.mark.parametrize("likelihood", ["nb", "bernoulli", "gaussian"])
def test_three_blocks_equal_the_dense_form(contrast, likelihood, monkeypatch):
    monkeypatch.setattr(pairs, "TILE_BYTES", 2000)
    monkeypatch.setattr(decoder_module, "BLOCK_ENTRIES", 60)
    torch.manual_seed(0)
    x, image, full = random_case(0, n=61, n_genes=19, n_image=9, dtype=torch.float64)
    rng = np.random.default_rng(0)
    protein = torch.from_numpy(rng.normal(size=(61, 6)))
    size = torch.from_numpy(rng.gamma(5, 0.2, (61, 1)))
    values = torch.from_numpy(np.minimum(rng.poisson(2, (61, 6)), 1 if likelihood == "bernoulli" else np.inf))
    shapes = [*SHAPES, Shape("protein", 6, 6, likelihood, 3.0)]
    changes = {"hidden": 13, "latent": 7, "decoder_hidden": 11, "contrast": contrast, "dropout": 0.0}
    network = Network(shapes, settings=settings_of("paper", **changes)).double()
    network.train()

    def of_protein(z):
        decoder = network.decoders[1]
        (raw,) = dense.heads(decoder, z).values()
        if likelihood == "gaussian":
            return ((raw - values) ** 2).mean()
        if likelihood == "bernoulli":
            p = torch.sigmoid(raw + torch.log(size))
            return -torch.where(values > 0, p, 1 - p).log().mean()
        r, mu = torch.exp(decoder.log_dispersion), torch.exp(raw) * size
        nb = torch.distributions.NegativeBinomial(r.expand_as(mu), logits=torch.log(mu / r), validate_args=False)
        return -nb.log_prob(values).mean()

    batch = batch_of(x, image, full)
    sparse_values = SparseRows.of(sparse.csr_matrix(values.numpy()), dtype=torch.float64)
    target = Target(values if likelihood == "gaussian" else sparse_values, size)
    features = Features((*batch.features.blocks, full @ full @ protein))
    batch = batch._replace(features=features, targets=(*batch.targets, target))
    mine = compared(network, network.encode(features)[0], network(batch))
    others = {"protein": of_protein}
    form = dense.forward(network, x, [x, image, protein], full, weights=(20, 1, 3), others=others)
    truth = compared(network, *form)
    assert mine.keys() == truth.keys()
    for name, expected in truth.items():
        scale = expected.abs().max().clamp(min=1.0 if name.startswith("gradient") else 1e-6)
        assert (mine[name] - expected).abs().max() < 1e-9 * scale, name


def test_no_matrix_over_all_pairs_is_formed(monkeypatch):
    monkeypatch.setattr(pairs, "TILE_BYTES", 4 * 500 * 10)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else (out,):
                if isinstance(each, torch.Tensor) and each.layout == torch.strided:
                    largest = max(largest, each.numel())
            return out

    x, image, full = random_case(0, n=500, n_genes=19, n_image=9, dtype=torch.float32)
    batch = batch_of(x, image, full)
    network = Network(SHAPES, settings=settings_of("paper", hidden=13, latent=12, decoder_hidden=11))
    with Watch():
        sum(network(batch).values()).backward()
    assert largest < 500 * 500 / 4
