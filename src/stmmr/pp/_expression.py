"""Normalised expression and the genes the model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stmmr import _keys
from stmmr._record import record
from stmmr._validate import InputError, check_counts, logger, require_key, require_positive, unique_names
from stmmr.pp._components import principal_components
from stmmr.pp._sections import centred, sections_of

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def expression(
    adata: AnnData,
    *,
    layer: str | None = None,
    size_key: str | None = None,
    n_top_genes: int = 3000,
    min_places: int = 3,
    n_components: int = 50,
    section_key: str | None = None,
) -> None:
    """Normalise counts to the median library size, take log1p, mark highly variable genes and find their components.

    No place and no gene is dropped and ``X`` is left as it is. A place without counts gets zeros (its embedding comes
    from its neighbours); a gene seen in fewer than `min_places` places is kept but not read by the model.

    Parameters
    ----------
    adata
        Places × genes.
    layer
        Layer with the raw counts; ``None`` takes ``layers["counts"]`` where there is one, otherwise ``X``.
    size_key
        Column of ``obs`` with the library size, where the genes at hand are only part of what was counted.
    n_top_genes
        How many highly variable genes (``seurat_v3`` on the counts); all eligible genes where there are fewer.
    min_places
        Places in which a gene must be seen.
    n_components
        Principal components of the highly variable genes, at most one for every four places.
    section_key
        Column of ``obs`` that names the section of each place, where there are several: the mean of its section is then
        taken off each gene before the components, so that a shift between sections is no signal. Sections are taken to
        hold much the same tissue.

    Returns
    -------
    None. Sets:

    ``layers["counts"]``
        the raw counts (CSR), where they were taken from elsewhere.
    ``layers["stmmr_lognorm"]``
        float32 CSR.
    ``var["stmmr_highly_variable"]``
        bool.
    ``obs["stmmr_library_size"]``
        float64.
    ``obsm["X_stmmr_pca"]``
        principal components, float32.
    ``uns["stmmr"]["expression"]``
        the parameters.

    Raises
    ------
    InputError
        If there are no genes, values are no raw counts, or a key is not there.
    """
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputError(
            f"Expected places and genes, found {adata.n_obs} × {adata.n_vars}. For data without genes give use_rep='…'."
        )
    require_positive(n_top_genes, name="n_top_genes")
    require_positive(n_components, name="n_components")
    unique_names(adata)
    sections = sections_of(adata, section_key)
    if layer is None and _keys.COUNTS in adata.layers:
        layer = _keys.COUNTS
    if layer is not None:
        require_key(adata.layers, layer, where="layers")
    where = "X" if layer is None else f"layers[{layer!r}]"
    given = adata.X if layer is None else adata.layers[layer]
    if given is None:
        raise InputError(f"Expected raw counts in {where}, found nothing there. Name the layer that holds them.")
    counts = check_counts(given, where=where)
    size = library_size(adata, counts, size_key=size_key)
    adata.layers[_keys.LOGNORM] = lognorm(counts, size)
    if _keys.COUNTS not in adata.layers:
        adata.layers[_keys.COUNTS] = counts
    adata.obs[_keys.LIBRARY_SIZE] = size
    chosen = highly_variable(counts, n_top_genes=n_top_genes, min_places=min_places)
    adata.var[_keys.HIGHLY_VARIABLE] = chosen
    values = centred(adata.layers[_keys.LOGNORM][:, chosen].toarray(), sections)
    adata.obsm[_keys.COMPONENTS] = principal_components(values, n_components)
    parameters = {
        "counts": where,
        "size_key": size_key or "",
        "section_key": section_key or "",
        "n_top_genes": n_top_genes,
        "min_places": min_places,
        "n_genes_read": int(chosen.sum()),
        "n_empty_places": int((size == 0).sum()),
    }
    record(adata, expression=parameters)


def library_size(adata: AnnData, counts: sparse.csr_matrix[Any], *, size_key: str | None) -> NDArray[np.float64]:
    """Get the library sizes: the column, or the row sums."""
    if size_key is None:
        size = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    else:
        require_key(adata.obs.columns, size_key, where="obs")
        try:
            size = adata.obs[size_key].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"Expected numbers in obs[{size_key!r}], found {adata.obs[size_key].dtype}.") from error
        if not np.isfinite(size).all() or (size < 0).any():
            raise InputError(f"Expected library sizes ≥ 0 in obs[{size_key!r}], found NaN, infinite or negative ones.")
    if not (size > 0).any():
        raise InputError("Expected counts, found none at any place.")
    empty = int((size == 0).sum())
    if empty:
        logger.warning("%d places have no counts; they are kept, and take their embedding from neighbours.", empty)
    return size


def lognorm(counts: sparse.csr_matrix[Any], size: NDArray[np.float64]) -> sparse.csr_matrix[Any]:
    """Scale each place to the median library size and take log1p; places of size 0 become zeros."""
    factor = np.divide(np.median(size[size > 0]), size, out=np.zeros_like(size), where=size > 0)
    normalised = sparse.csr_matrix(sparse.diags(factor) @ counts, dtype=np.float32)
    np.log1p(normalised.data, out=normalised.data)
    return normalised


def highly_variable(counts: sparse.csr_matrix[Any], *, n_top_genes: int, min_places: int) -> NDArray[np.bool_]:
    """Mark the most variable genes by the variance of the counts against its trend (Stuart et al. 2019)."""
    import scanpy as sc
    from anndata import AnnData

    seen = np.asarray((counts > 0).sum(axis=0)).ravel() >= min_places
    if not seen.any():
        seen = np.asarray((counts > 0).sum(axis=0)).ravel() > 0
    if seen.sum() <= n_top_genes:
        return seen
    chosen = sc.pp.highly_variable_genes(
        AnnData(counts[:, seen]), flavor="seurat_v3", n_top_genes=n_top_genes, inplace=False, check_values=False
    )
    marked = np.zeros(counts.shape[1], dtype=bool)
    marked[np.flatnonzero(seen)] = chosen["highly_variable"].to_numpy()
    return marked
