"""The published model as its table reads, with every N × N matrix written out: the reference for `nn`."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = torch.finfo(torch.float64).tiny


def convolve(graph: Tensor, features: Tensor, encoder: nn.Module) -> Tensor:
    """E = A(A·F·W₁ + b₁)W₂ + b₂."""
    w1, w2 = encoder.weights
    b1, b2 = encoder.biases
    return graph @ (graph @ features @ w1 + b1) @ w2 + b2


def attend(e: Tensor) -> Tensor:
    """softmax(E·Eᵀ/√d)·E."""
    return torch.softmax(e @ e.T / e.shape[1] ** 0.5, dim=1) @ e


def zinb(x: Tensor, mu: Tensor, theta: Tensor, pi: Tensor) -> Tensor:
    """Mean of −log ZINB(x) + π², branch by branch."""
    log_nb = (
        torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
        + theta * torch.log(theta / (theta + mu))
        + x * torch.log(mu / (theta + mu))
    )
    nb = torch.exp(log_nb)
    log_likelihood = torch.where(x == 0, torch.log(pi + (1 - pi) * nb + EPS), torch.log(1 - pi + EPS) + log_nb)
    return (pi**2 - log_likelihood).mean()


def similarity(q1: Tensor, q2: Tensor) -> Tensor:
    """Mean over N² of (Q̂₁Q̂₁ᵀ − Q̂₂Q̂₂ᵀ)²."""
    unit = [q - q.mean(0) for q in (q1, q2)]
    unit = [q / q.norm(dim=1, keepdim=True).clamp(min=1e-12) for q in unit]
    return ((unit[0] @ unit[0].T - unit[1] @ unit[1].T) ** 2).mean()


def mutual_information(q1: Tensor, q2: Tensor, balance: float = 9.0) -> Tensor:
    """Cross-view mutual information on the joint k × k matrix, entry by entry."""
    joint = sum(torch.outer(a, b) for a, b in zip(q1, q2, strict=True))
    joint = (joint + joint.T) / 2
    joint = (joint / joint.sum()).clamp(min=2.220446049250313e-16)
    p1, p2 = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    return -(joint * (joint.log() - (balance + 1) * p1.log() - (balance + 1) * p2.log())).sum()


def reconstruction(z: Tensor, graph: Tensor) -> Tensor:
    """Mean over N² of (σ(C) − A)², C the cosines with a zero diagonal."""
    unit = z / z.norm(dim=1, keepdim=True).clamp(min=1e-12)
    cosine = unit @ unit.T
    cosine = cosine - torch.diag(torch.diag(cosine))
    return ((torch.sigmoid(cosine) - graph) ** 2).mean()


def forward(
    network: nn.Module,
    x: Tensor,
    features: list[Tensor],
    graph: Tensor,
    *,
    weights: Sequence[float] = (20, 1),
    others: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({}),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Z and the weighted loss terms, dropout off, from the weights of a `Network`, whose first likelihood is of x."""
    s = network.settings
    e = [convolve(graph, f, encoder) for f, encoder in zip(features, network.encoders, strict=True)]
    q = [functional.relu(functional.linear(each, network.align.weight, network.align.bias)) for each in e]
    fused = functional.linear(torch.cat(q, 1), network.fuse.weight, network.fuse.bias)
    z = 10 * fused + sum(weight * attend(each) for weight, each in zip(weights, e, strict=True))
    contrast = similarity if s.contrast == "similarity" else mutual_information
    terms = {"likelihood": 10 * zinb(x, **decode(network.decoders[0], z))}
    for name, value in others.items():
        terms[f"likelihood of {name}"] = 10 * value(z)
    if len(q) > 1:
        terms["contrast"] = sum(1 * contrast(*pair) for pair in combinations(q, 2))
    return z, terms | {"graph": 10 * reconstruction(z, graph)}


def decode(decoder: nn.Module, z: Tensor) -> dict[str, Tensor]:
    """Parameters of the ZINB."""
    raw = heads(decoder, z)
    return {
        "mu": torch.clamp(torch.exp(raw["mean"]), 1e-5, 1e6),
        "theta": torch.clamp(functional.softplus(raw["dispersion"]), 1e-4, 1e4),
        "pi": torch.sigmoid(raw["dropout"]),
    }


def heads(decoder: nn.Module, z: Tensor) -> dict[str, Tensor]:
    """Head(relu(BN(Z·W + b))) of each head."""
    h = functional.linear(z, decoder.hidden.weight, decoder.hidden.bias)
    h = (h - h.mean(0)) / torch.sqrt(h.var(0, unbiased=False) + decoder.norm.eps)
    h = functional.relu(h * decoder.norm.weight + decoder.norm.bias)
    return {name: functional.linear(h, head.weight, head.bias) for name, head in decoder.heads.items()}
