"""Types of arrays and matrices, for annotations: import them under ``TYPE_CHECKING`` only."""

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse

    Floats: TypeAlias = NDArray[np.floating[Any]]
    Float32: TypeAlias = NDArray[np.float32]
    Float64: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.intp]
    Bools: TypeAlias = NDArray[np.bool_]
    Numbers: TypeAlias = NDArray[Any]
    Csr: TypeAlias = sparse.csr_matrix[Any]
    Csc: TypeAlias = sparse.csc_matrix[Any]


class CountRows(Protocol):
    """Counts as `stmmr._core.rows.by_rows` returns them: CSR in memory, `OnDisk`, or a dask array of whole rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_obs, n_vars)."""
