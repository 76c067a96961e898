"""The terms of the loss, each without an N × N matrix; N spots, G genes, d the width of the embedding."""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.nn import functional

from stmmr.nn.pairs import Graph, Partners, graph_mismatch
from stmmr.nn.sparse import SparseRows


def zinb(x: SparseRows, *, mean: Tensor, dispersion: Tensor, dropout: Tensor, ridge: float = 1.0) -> Tensor:
    """Sum the negative log-likelihood of the zero-inflated negative binomial, plus a ridge penalty on the dropout.

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
    entry = x.rows, x.columns
    beyond = _beyond_zero(x.values, mean=mean[entry], dispersion=dispersion[entry])  # (nnz,)
    total = at_zero.sum() + (zero[entry] - at_zero[entry] + beyond).sum()
    return ridge * dropout.square().sum() - total


def nb(x: SparseRows, *, mean: Tensor, dispersion: Tensor) -> Tensor:
    """Sum the negative log-likelihood of the negative binomial.

    Shapes
    ------
    x, mean : (N, G), counts and their means
    dispersion : (G,)
    returns : ()
    """
    entry = x.rows, x.columns
    # expanded before it is indexed: each element then receives one gradient, so the order of sums is fixed and a seed
    # reproduces every bit
    beyond = _beyond_zero(x.values, mean=mean[entry], dispersion=dispersion.expand_as(mean)[entry])  # (nnz,)
    zero = torch.log1p(mean / dispersion) @ dispersion  # (N,), −log NB(0) summed over genes
    return zero.sum() - beyond.sum()


def _beyond_zero(x: Tensor, *, mean: Tensor, dispersion: Tensor) -> Tensor:
    """Compute log NB(x) − log NB(0) where x is not zero, the only entries that need a gamma function; (nnz,) each."""
    gamma = torch.lgamma(x + dispersion) - torch.lgamma(dispersion) - torch.lgamma(x + 1)
    return gamma + x * (mean.log() - (dispersion + mean).log())


def bernoulli(x: SparseRows, *, logit: Tensor) -> Tensor:
    """Sum the negative log-likelihood of presence or absence.

    Shapes
    ------
    x, logit : (N, G), 0 or 1, and the log odds of 1
    returns : ()
    """
    return functional.softplus(logit).sum() - (x.values * logit[x.rows, x.columns]).sum()


def gaussian(x: Tensor, *, mean: Tensor) -> Tensor:
    """Sum the squared errors, the Gaussian negative log-likelihood at unit variance (times 2); both (N, G)."""
    return functional.mse_loss(mean, x, reduction="sum")


def similarity_contrast(first: Tensor, second: Tensor, *, n_obs: int | None = None) -> Tensor:
    """Average (Q̂₁Q̂₁ᵀ − Q̂₂Q̂₂ᵀ)² over all pairs, with centred columns and rows of length one.

    Exact in O(n d²): ‖Q̂₁ᵀQ̂₁‖² + ‖Q̂₂ᵀQ̂₂‖² − 2‖Q̂₁ᵀQ̂₂‖². From n spots drawn out of N, the mean over all N² pairs is
    estimated: the diagonal is 0, so the mean over the other pairs is n²/n(n − 1) times that of the batch, and it counts
    for N(N − 1) of N² pairs. The estimate is unbiased except for the columns, which are centred by the mean of the
    batch instead of that of all spots (an error of order 1/n).

    Shapes
    ------
    first, second : (n, d)
    n_obs : N, n if None
    returns : ()
    """
    a = functional.normalize(first - first.mean(dim=0))
    b = functional.normalize(second - second.mean(dim=0))
    pairs = (a.T @ a).square().sum() + (b.T @ b).square().sum() - 2 * (a.T @ b).square().sum()
    n = len(a)
    total = n_obs or n
    return pairs / n**2 * (pair_factor(n, total) if total > n else 1)


def pair_factor(n: int, n_obs: int) -> float:
    """Get the factor from the mean over n² pairs with zero diagonal to the estimated mean over all N² such pairs."""
    return n / max(n - 1, 1) * (n_obs - 1) / n_obs


def mutual_information_contrast(first: Tensor, second: Tensor, *, balance: float = 9.0) -> Tensor:
    """Compute the cross-view mutual-information loss on the joint k × k matrix.

    Lin et al., CVPR 2021, doi:10.1109/CVPR46437.2021.01102. With spots drawn out of all, it is the loss of the batch:
    the joint matrix is estimated without bias up to its scale, which cancels, but the loss is not linear in it.

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
    """Average (σ(C) − A)² over all pairs, with C the cosines of the embeddings and zeros on its diagonal.

    Shapes
    ------
    z : (N, d)
    graph : (N, N)
    returns : ()
    """
    return graph_mismatch(functional.normalize(z), graph) / len(z) ** 2


def sampled_graph_reconstruction(z: Tensor, partner: Tensor, drawn: Partners) -> Tensor:
    """Estimate `graph_reconstruction` of N spots from n of them, without bias.

    Σ(σ(C) − A)² = Σσ(C)² − 2ΣA·σ(C) + ΣA². The first sum is estimated from the pairs of the batch, plus N/4 on the
    diagonal, where C is 0. The rows of A sum to 1, so Σⱼ Aᵢⱼ·σ(Cᵢⱼ) is the mean of σ(Cᵢⱼ) over partners j drawn from
    row i of A. The third sum is known.

    Shapes
    ------
    z, partner : (n, d), embeddings of the batch and of the partner of each of its spots
    returns : ()
    """
    unit, other = functional.normalize(z), functional.normalize(partner)
    n, n_obs = len(z), drawn.n_obs
    pairs = (graph_mismatch(unit, None) - n / 4) / n**2 * pair_factor(n, n_obs)  # off the diagonal, over N²
    cosine = (unit * other).sum(dim=1).masked_fill(drawn.own, 0)  # (n,)
    return pairs + (0.25 - 2 * cosine.sigmoid().mean() + drawn.squares) / n_obs
