"""Features and likelihood targets of a block in ``obsm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmmr._core.checks import InputError, representation, require_key
from stmmr._core.pca import SPOTS_PER_COMPONENT
from stmmr._core.sections import centred, graph_sections, plane_coordinates
from stmmr._core.space import rows_called
from stmmr.linear.noise import expression_features, principal_components, with_equal_noise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.settings import Block

    CSR: TypeAlias = sparse.csr_matrix[Any]

SCALE: Final = 1e4
"""Factor of TF-IDF."""


def check_blocks(adata: AnnData, blocks: Mapping[str, Block]) -> None:
    """Check that blocks exist and fit their likelihoods.

    Raises InputError if a key is missing, values are not finite or do not fit the likelihood, or all spots have the
    same values.
    """
    for name, block in blocks.items():
        values: Any = block_values(adata, block)
        if not (values.max(axis=0) != values.min(axis=0)).sum():
            raise InputError(
                f"Expected a block {name!r} that varies, found the same values in all {rows_called(adata)} in "
                f"obsm[{block.key!r}]. "
                "Leave it out."
            )


def block_values(adata: AnnData, block: Block) -> NDArray[np.float32] | CSR:
    """Get the values of a block, checked, shape (N, P): CSR of counts, otherwise an array."""
    if block.likelihood in (None, "gaussian"):
        return representation(adata, block.key)
    require_key(adata.obsm, block.key, where="obsm")
    stored: Any = adata.obsm[block.key]
    if not sparse.issparse(stored):
        stored = np.asarray(stored)
    values: CSR = sparse.csr_matrix(stored, dtype=np.float32)
    where = f"obsm[{block.key!r}]"
    if values.shape[1] == 0:
        raise InputError(f"Expected at least one column in {where}, found shape {values.shape}.")
    if not np.isfinite(values.data).all():
        entries = np.flatnonzero(~np.isfinite(values.data))
        bad = len(np.unique(np.searchsorted(values.indptr, entries, side="right")))
        raise InputError(
            f"Expected finite values in {where}, found NaN or infinite ones in {bad} {rows_called(adata)}."
        )
    if values.data.min(initial=0) < 0:
        raise InputError(
            f"Expected values ≥ 0 in {where} for the likelihood {block.likelihood!r}, found negative ones. "
            "Name the raw counts, or use likelihood='gaussian'."
        )
    if block.likelihood == "nb" and (values.data % 1).any():
        raise InputError(
            f"Expected whole counts in {where} for the likelihood 'nb', found fractions. "
            "Name the raw counts, or use likelihood='gaussian'."
        )
    return values


def features_of(
    adata: AnnData, blocks: Sequence[Block], *, use_rep: str | None, n_components: int
) -> list[NDArray[np.float32]]:
    """Get the principal components of the expression, then those of further blocks; shape (N, F) each."""
    expression, sections = expression_features(adata, use_rep=use_rep, n_components=n_components), graph_sections(adata)
    if sections is not None and len(sections.categories) > 1:
        expression = with_equal_noise(expression, plane_coordinates(adata), sections.codes)
    return [expression, *(block_features(adata, block, n_components=n_components) for block in blocks)]


def block_features(adata: AnnData, block: Block, *, n_components: int) -> NDArray[np.float32]:
    """Get the principal components of a block, shape (N, F), centred in each section.

    They are computed from centred log ratios for "nb" and "zinb", TF-IDF for "bernoulli", and standardised values
    otherwise.
    """
    values, sections = block_values(adata, block), graph_sections(adata)
    if isinstance(values, np.ndarray):
        return principal_components(standardised(centred(values, sections)), n_components)
    if block.likelihood == "bernoulli":
        return centred(latent_semantics(tf_idf(values), n_components), sections)
    return principal_components(centred(log_ratios(values).toarray(), sections), n_components)


def block_target(adata: AnnData, block: Block) -> tuple[NDArray[np.float32] | CSR, NDArray[np.floating]]:
    """Get the values that the likelihood of a block describes, shape (N, P), and the library size, (N,).

    Counts for "nb", centred log ratios for "zinb", 1 or 0 for "bernoulli", standardised values for "gaussian".
    """
    values = block_values(adata, block)
    if isinstance(values, np.ndarray):
        return standardised(values), np.ones(len(values))
    if block.likelihood == "zinb":
        return log_ratios(values), np.ones(values.shape[0])
    if block.likelihood == "bernoulli":
        values = (values > 0).astype(np.float32)
    return values, np.asarray(values.sum(axis=1, dtype=np.float64)).ravel()


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale every column to mean 0 and variance 1; a constant column becomes 0."""
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 1e-6, spread, 1))


def log_ratios(counts: CSR) -> CSR:
    """Compute centred log ratios in each row, shape (N, P): log(1 + x/g), where log g is the mean of log(1 + x).

    The form used for antibody tags; zeros stay zeros (Stoeckius et al., Nature Methods 2017, doi:10.1038/nmeth.4380).
    """
    mean = np.exp(np.asarray(counts.log1p().sum(axis=1)).ravel() / counts.shape[1])
    return sparse.csr_matrix(sparse.diags((1 / mean).astype(np.float32)) @ counts).log1p()


def tf_idf(peaks: CSR) -> CSR:
    """Weight open peaks by how rare they are, log(1 + 10⁴·TF·IDF), shape (N, P).

    TF is the peak's share of the open peaks of a spot, IDF the number of spots over the number of spots where the peak
    is open (Stuart, Butler et al., Cell 2019, doi:10.1016/j.cell.2019.05.031).
    """
    is_open: CSR = (peaks > 0).astype(np.float32)
    per_spot = np.maximum(np.asarray(is_open.sum(axis=1)).ravel(), 1)
    per_peak = np.maximum(np.asarray(is_open.sum(axis=0)).ravel(), 1)
    scaled: Any = sparse.diags(SCALE / per_spot) @ is_open @ sparse.diags(is_open.shape[0] / per_peak)
    return sparse.csr_matrix(scaled, dtype=np.float32).log1p()


def latent_semantics(values: CSR, n: int) -> NDArray[np.float32]:
    """Project on the leading singular vectors without the first, which follows sequencing depth; shape (N, ≤ n)."""
    from sklearn.decomposition import TruncatedSVD

    if min(values.shape) < 3:  # too few to drop the first
        return principal_components(values.toarray(), n)
    n = max(1, min(n, values.shape[0] // SPOTS_PER_COMPONENT, min(values.shape) - 2))
    scores = TruncatedSVD(n + 1, algorithm="arpack", random_state=0).fit_transform(values)[:, 1:]
    spread = scores.std(axis=0)
    return np.asarray(scores[:, spread >= 1e-4 * spread.max()], dtype=np.float32)
