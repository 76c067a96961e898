"""The terms of the objective, each without an N × N matrix; N places, G genes, d widths."""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.nn import functional

from stmmr.nn.pairs import Graph, Partners, graph_mismatch
from stmmr.nn.sparse import SparseRows


def zinb(x: SparseRows, *, mean: Tensor, dispersion: Tensor, dropout: Tensor, ridge: float = 1.0) -> Tensor:
    """Sum up the negative log-likelihood of the zero-inflated negative binomial, plus a ridge on the dropout.

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
    tiny = torch.finfo(mean.dtype).tiny
    keep = torch.log1p(-dropout.clamp(max=1 - torch.finfo(mean.dtype).eps / 2))
    zero = keep - dispersion * torch.log1p(mean / dispersion)  # log (1−π)·NB(0), (N, G)
    at_zero = torch.logaddexp(dropout.clamp(min=tiny).log(), zero)  # (N, G)
    at = x.places, x.genes
    beyond = _beyond_zero(x.values, mean=mean[at], dispersion=dispersion[at])  # (nnz,)
    total = at_zero.sum() + (zero[at] - at_zero[at] + beyond).sum()
    return ridge * dropout.square().sum() - total


def nb(x: SparseRows, *, mean: Tensor, dispersion: Tensor) -> Tensor:
    """Sum up the negative log-likelihood of the negative binomial.

    Shapes
    ------
    x, mean : (N, G), counts and their means
    dispersion : (G,)
    returns : ()
    """
    at = x.places, x.genes
    # each entry is met once, so that the gradient is added up in one order and a seed gives one result bit by bit
    beyond = _beyond_zero(x.values, mean=mean[at], dispersion=dispersion.expand_as(mean)[at])  # (nnz,)
    zero = torch.log1p(mean / dispersion) @ dispersion  # (N,), −log NB(0) summed over genes
    return zero.sum() - beyond.sum()


def _beyond_zero(x: Tensor, *, mean: Tensor, dispersion: Tensor) -> Tensor:
    """Compute log NB(x) − log NB(0) where x is not zero: only there is a gamma function needed; (nnz,) each."""
    gamma = torch.lgamma(x + dispersion) - torch.lgamma(dispersion) - torch.lgamma(x + 1)
    return gamma + x * (mean.log() - (dispersion + mean).log())


def bernoulli(x: SparseRows, *, logit: Tensor) -> Tensor:
    """Sum up the negative log-likelihood of what is there or not.

    Shapes
    ------
    x, logit : (N, G), 0 or 1, and the logarithm of the odds of 1
    returns : ()
    """
    return functional.softplus(logit).sum() - (x.values * logit[x.places, x.genes]).sum()


def gaussian(x: Tensor, *, mean: Tensor) -> Tensor:
    """Sum up the squared errors, the Gaussian likelihood at unit variance; (N, G) both."""
    return functional.mse_loss(mean, x, reduction="sum")


def similarity_contrast(first: Tensor, second: Tensor, *, n_places: int | None = None) -> Tensor:
    """Mean over all pairs (Q̂₁Q̂₁ᵀ − Q̂₂Q̂₂ᵀ)², of centred columns and rows of length one.

    Exact in O(n d²): ‖Q̂₁ᵀQ̂₁‖² + ‖Q̂₂ᵀQ̂₂‖² − 2‖Q̂₁ᵀQ̂₂‖². Of n places drawn from N, the mean over all N² pairs is
    estimated: the diagonal is 0, so that the mean over the other pairs is n²/n(n − 1) times that of the batch, and
    counts for N(N − 1) of N². This is unbiased but for the columns, which are centred by the mean of the batch instead
    of that of all places (an error of order 1/n).

    Shapes
    ------
    first, second : (n, d)
    n_places : N, n if None
    returns : ()
    """
    a = functional.normalize(first - first.mean(dim=0))
    b = functional.normalize(second - second.mean(dim=0))
    pairs = (a.T @ a).square().sum() + (b.T @ b).square().sum() - 2 * (a.T @ b).square().sum()
    n = len(a)
    of = n_places or n
    return pairs / n**2 * (pair_factor(n, of) if of > n else 1)


def pair_factor(n: int, n_places: int) -> float:
    """Factor from the mean over n² pairs with zero diagonal, drawn from N² of the same kind, to the mean over those."""
    return n / max(n - 1, 1) * (n_places - 1) / n_places


def mutual_information_contrast(first: Tensor, second: Tensor, *, balance: float = 9.0) -> Tensor:
    """Cross-view mutual-information loss on the joint k × k matrix.

    Lin et al., CVPR 2021, doi:10.1109/CVPR46437.2021.01102. Of places drawn from all it is that of the batch: the joint
    matrix is estimated without bias up to its scale, which is divided out, but the loss is not linear in it.

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


def sampled_graph_reconstruction(z: Tensor, partner: Tensor, drawn: Partners) -> Tensor:
    """Estimate `graph_reconstruction` of N places from n of them, without bias.

    Σ(σ(C) − A)² = Σσ(C)² − 2ΣA·σ(C) + ΣA². The first sum is that over the pairs of the batch, scaled up, and N/4 on the
    diagonal, where C is 0. The rows of A sum to 1, so that Σⱼ Aᵢⱼ·σ(Cᵢⱼ) is the mean of σ(Cᵢⱼ) over a partner j drawn
    from row i of A. The third is known.

    Shapes
    ------
    z, partner : (n, d), embeddings of the batch and of the partner of each of its places
    returns : ()
    """
    unit, other = functional.normalize(z), functional.normalize(partner)
    n, n_places = len(z), drawn.n_places
    pairs = (graph_mismatch(unit, None) - n / 4) / n**2 * pair_factor(n, n_places)  # off the diagonal, over N²
    cosine = (unit * other).sum(dim=1).masked_fill(drawn.own, 0)  # (n,)
    return pairs + (0.25 - 2 * cosine.sigmoid().mean() + drawn.squares) / n_places
