"""What the model reads of a block in ``obsm``: its features, and what its likelihood is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmmr._core.checks import InputError, representation, require_key
from stmmr._core.pca import SPOTS_PER_COMPONENT
from stmmr._core.sections import centred, graph_sections, plane_coordinates
from stmmr.linear.noise import expression_features, principal_components, with_equal_noise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.settings import Block

SCALE: Final = 1e4
"""Of TF-IDF."""


def check_blocks(adata: AnnData, blocks: Mapping[str, Block]) -> None:
    """Check that blocks are there and fit their likelihoods.

    Raises
    ------
    InputError
        If a key is missing, values are not finite or not what the likelihood is of, or a block is the same everywhere.
    """
    for name, block in blocks.items():
        values: Any = block_values(adata, block)
        if not (values.max(axis=0) != values.min(axis=0)).sum():
            raise InputError(
                f"Expected a block {name!r} that varies, found the same values at every place in obsm[{block.key!r}]. "
                "Leave it out."
            )


def block_values(adata: AnnData, block: Block) -> NDArray[np.float32] | sparse.csr_matrix[Any]:
    """Get the values of a block, checked, shape (N, P): CSR of counts, otherwise an array."""
    if block.likelihood in (None, "gaussian"):
        return representation(adata, block.key)
    require_key(adata.obsm, block.key, where="obsm")
    found: Any = adata.obsm[block.key]
    as_it_is: Any = found if sparse.issparse(found) else np.asarray(found)
    values: sparse.csr_matrix[Any] = sparse.csr_matrix(as_it_is, dtype=np.float32)
    where = f"obsm[{block.key!r}]"
    if values.shape[1] == 0:
        raise InputError(f"Expected {where} with one row per place, found shape {values.shape}.")
    if not np.isfinite(values.data).all():
        entries = np.flatnonzero(~np.isfinite(values.data))
        bad = len(np.unique(np.searchsorted(values.indptr, entries, side="right")))
        raise InputError(f"Expected finite values in {where}, found NaN or infinite ones at {bad} places.")
    if values.data.min(initial=0) < 0:
        raise InputError(
            f"Expected values ≥ 0 in {where} for the likelihood {block.likelihood!r}, found negative ones. "
            "Name the raw counts, or give likelihood='gaussian'."
        )
    if block.likelihood == "nb" and (values.data % 1).any():
        raise InputError(
            f"Expected whole counts in {where} for the likelihood 'nb', found fractions. "
            "Name the raw counts, or give likelihood='gaussian'."
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
    """Get the principal components of a block, shape (N, F), the mean of each section taken off.

    Of centred log ratios for "nb" and "zinb", of TF-IDF for "bernoulli", and of standardised values otherwise.
    """
    values, sections = block_values(adata, block), graph_sections(adata)
    if isinstance(values, np.ndarray):
        return principal_components(standardised(centred(values, sections)), n_components)
    if block.likelihood == "bernoulli":
        return centred(latent_semantics(tf_idf(values), n_components), sections)
    return principal_components(centred(log_ratios(values).toarray(), sections), n_components)


def block_target(adata: AnnData, block: Block) -> tuple[NDArray[np.float32] | sparse.csr_matrix[Any], NDArray[Any]]:
    """Get what the likelihood of a block is of, shape (N, P), and what was counted at each place in all, (N,).

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
    """Bring every column to mean 0 and variance 1; one that does not vary becomes 0."""
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 1e-6, spread, 1))


def log_ratios(counts: sparse.csr_matrix[Any]) -> sparse.csr_matrix[Any]:
    """Take centred log ratios at each place, shape (N, P): log(1 + x/g), where log g is the mean of log(1 + x).

    The form for antibody tags, where zeros stay zeros (Stoeckius et al., Nature Methods 2017, doi:10.1038/nmeth.4380).
    """
    mean = np.exp(np.asarray(counts.log1p().sum(axis=1)).ravel() / counts.shape[1])
    return sparse.csr_matrix(sparse.diags((1 / mean).astype(np.float32)) @ counts).log1p()


def tf_idf(peaks: sparse.csr_matrix[Any]) -> sparse.csr_matrix[Any]:
    """Weigh what is there by how rare it is, log(1 + 10⁴·TF·IDF), shape (N, P).

    TF is its share of what is there at the place, IDF the number of places over those that have it (Stuart, Butler et
    al., Cell 2019, doi:10.1016/j.cell.2019.05.031).
    """
    there = (peaks > 0).astype(np.float32)
    in_all = np.maximum(np.asarray(there.sum(axis=1)).ravel(), 1)
    places = np.maximum(np.asarray(there.sum(axis=0)).ravel(), 1)
    scaled = sparse.diags(SCALE / in_all) @ there @ sparse.diags(there.shape[0] / places)
    return sparse.csr_matrix(scaled, dtype=np.float32).log1p()


def latent_semantics(values: sparse.csr_matrix[Any], n: int) -> NDArray[np.float32]:
    """Project on the leading singular vectors but the first, which follows the depth; shape (N, ≤ n)."""
    from sklearn.decomposition import TruncatedSVD

    if min(values.shape) < 3:  # too few to leave one out
        return principal_components(values.toarray(), n)
    n = max(1, min(n, values.shape[0] // SPOTS_PER_COMPONENT, min(values.shape) - 2))
    scores = TruncatedSVD(n + 1, algorithm="arpack", random_state=0).fit_transform(values)[:, 1:]
    spread = scores.std(axis=0)
    return np.asarray(scores[:, spread >= 1e-4 * spread.max()], dtype=np.float32)
