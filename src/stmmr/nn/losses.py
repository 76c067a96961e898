"""The terms of the objective, each without an N × N matrix; N places, G genes, d widths."""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.nn import functional

from stmmr.nn.pairs import Graph, graph_mismatch


def zinb(x: Tensor, *, mean: Tensor, dispersion: Tensor, dropout: Tensor, ridge: float = 1.0) -> Tensor:
    """Mean negative log-likelihood of the zero-inflated negative binomial, plus a ridge on the dropout.

    Parameters
    ----------
    x
        Values, shape (N, G), ≥ 0; need not be whole numbers.
    mean, dispersion, dropout
        μ, θ and π, shape (N, G).
    ridge
        Factor of π².

    Notes
    -----
    NB(x) = Γ(x+θ)/(Γ(θ)·x!) · (θ/(θ+μ))^θ · (μ/(θ+μ))^x; ZINB(0) = π + (1−π)·NB(0), ZINB(x) = (1−π)·NB(x).
    """
    tiny = torch.finfo(x.dtype).tiny
    keep = torch.log1p(-dropout.clamp(max=1 - torch.finfo(x.dtype).eps / 2))
    zero = keep - dispersion * torch.log1p(mean / dispersion)  # log (1−π)·NB(0)
    at_zero = torch.logaddexp(dropout.clamp(min=tiny).log(), zero)
    positive = x.nonzero(as_tuple=True)
    at, mu, theta = x[positive], mean[positive], dispersion[positive]
    beyond = torch.lgamma(at + theta) - torch.lgamma(theta) - torch.lgamma(at + 1)
    beyond = beyond + at * (mu.log() - (theta + mu).log())
    total = at_zero.sum() + (zero[positive] - at_zero[positive] + beyond).sum()
    return ridge * dropout.square().mean() - total / x.numel()


def nb(x: Tensor, *, mean: Tensor, dispersion: Tensor) -> Tensor:
    """Mean negative log-likelihood of the negative binomial.

    Shapes
    ------
    x, mean : (N, G), counts and their means
    dispersion : (G,)
    returns : ()
    """
    place, gene = x.nonzero(as_tuple=True)  # the sums of the gamma function are over these only
    # each entry is met once, so that the gradient is added up in one order and a seed gives one result bit by bit
    at, mu, theta = x[place, gene], mean[place, gene], dispersion.expand_as(mean)[place, gene]
    beyond = torch.lgamma(at + theta) - torch.lgamma(theta) - torch.lgamma(at + 1)
    beyond = beyond + at * (mu.log() - (theta + mu).log())
    zero = torch.log1p(mean / dispersion) @ dispersion  # (N,), −log NB(0) summed over genes
    return (zero.sum() - beyond.sum()) / x.numel()


def gaussian(x: Tensor, *, mean: Tensor) -> Tensor:
    """Mean squared error, the Gaussian likelihood at unit variance; (N, G) both."""
    return functional.mse_loss(mean, x)


def similarity_contrast(first: Tensor, second: Tensor) -> Tensor:
    """Mean over all pairs (Q̂₁Q̂₁ᵀ − Q̂₂Q̂₂ᵀ)², of centred columns and rows of length one.

    Exact in O(N d²): ‖Q̂₁ᵀQ̂₁‖² + ‖Q̂₂ᵀQ̂₂‖² − 2‖Q̂₁ᵀQ̂₂‖².

    Shapes
    ------
    first, second : (N, d)
    returns : ()
    """
    a = functional.normalize(first - first.mean(dim=0))
    b = functional.normalize(second - second.mean(dim=0))
    pairs = (a.T @ a).square().sum() + (b.T @ b).square().sum() - 2 * (a.T @ b).square().sum()
    return pairs / len(a) ** 2


def mutual_information_contrast(first: Tensor, second: Tensor, *, balance: float = 9.0) -> Tensor:
    """Cross-view mutual-information loss on the joint k × k matrix.

    Lin et al., CVPR 2021, doi:10.1109/CVPR46437.2021.01102.

    Shapes
    ------
    first, second : (N, k), ≥ 0
    returns : ()
    """
    joint = first.T @ second  # (k, k)
    joint = (joint + joint.T) / 2
    joint = (joint / joint.sum().clamp(min=sys.float_info.epsilon)).clamp(min=sys.float_info.epsilon)
    log_marginal = joint.sum(dim=1).log()
    return (joint * ((balance + 1) * (log_marginal[:, None] + log_marginal[None, :]) - joint.log())).sum()


def graph_reconstruction(z: Tensor, graph: Graph) -> Tensor:
    """Mean over all pairs (σ(C) − A)², with C the cosines of the embeddings and zeros on its diagonal.

    Shapes
    ------
    z : (N, d)
    graph : (N, N)
    returns : ()
    """
    return graph_mismatch(functional.normalize(z), graph) / len(z) ** 2
