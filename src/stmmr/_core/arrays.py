"""Large matrix products, in NumPy or, on a GPU, in torch: the one place that chooses between them."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stmmr._core.checks import require_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stmmr._core.types import Csr, Float32, Float64, Floats, Ints, Numbers

Device = Literal["numpy", "cpu", "cuda"]
"""NumPy, or a device of torch; "cpu" carries out the code of the GPU without one."""
_device: ContextVar[Device] = ContextVar("device", default="numpy")


def device() -> Device:
    """Get what computes large products here. Tasks in threads are told, as they do not see it."""
    return _device.get()


@contextmanager
def computing_on(chosen: Device) -> Iterator[None]:
    """Compute large products on a device in a block."""
    before = _device.set(chosen)
    try:
        yield
    finally:
        _device.reset(before)


def propagated(weights: Csr, features: Numbers, rows: Ints, *, device: Device) -> Float32:
    """Compute some rows of A(A·F) by torch; A has shape (n, n), F (n, f). `stmmr._core.means` does it without A."""
    dense = _tensor(features, device)
    return _array(_sparse(weights[rows], device) @ (_sparse(weights, device) @ dense))


def likeliest(points: Floats, slopes: Float64, offsets: Float64, *, n_mixtures: int, device: Device) -> Ints:
    """Find the group with the largest linear score in each of M mixtures, shape (M, n).

    Parameters
    ----------
    points
        Shape (n, d).
    slopes, offsets
        Of the groups of all mixtures side by side, shapes (d, M K) and (M K,).
    n_mixtures
        M.
    device
        Where to compute: in double precision by NumPy, in single precision by torch.
    """
    if device == "numpy":
        scores: Any = points.astype(np.float64) @ slopes + offsets
        return np.asarray(scores.reshape(len(points), n_mixtures, -1).argmax(axis=2).T)
    scores = _tensor(points, device) @ _tensor(slopes, device) + _tensor(offsets, device)
    return _array(scores.reshape(len(points), n_mixtures, -1).argmax(dim=2).T)


def _tensor(values: Numbers, device: Device) -> Any:
    """Copy an array to a device, in single precision."""
    return require_extra("torch", extra="torch").tensor(np.asarray(values, dtype=np.float32), device=device)


def _sparse(matrix: Csr, device: Device) -> Any:
    """Copy a matrix to a device, by coordinates: torch warns of its CSR."""
    torch = require_extra("torch", extra="torch")
    parts = matrix.tocoo()
    index = torch.tensor(np.vstack([parts.row, parts.col]).astype(np.int64), device=device)
    values = _tensor(parts.data, device)
    return torch.sparse_coo_tensor(index, values, parts.shape, is_coalesced=True, check_invariants=False)


def _array(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values.cpu().numpy())
