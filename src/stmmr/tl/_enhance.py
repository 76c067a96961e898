"""Denoised expression: what the decoder expects, and what was counted at the place, each as far as it is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd
from scipy import special

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_choice, require_step
from stmmr._core.counts import gene_rows, raw_counts
from stmmr._core.genes import require_gene
from stmmr._core.record import record
from stmmr._core.rows import is_dask, is_on_disk, slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.model import StMMR

AT_MOST: Final = 2e9
"""Bytes that are written without being asked for by name."""
FITTED_AT_MOST: Final = 5_000
"""Places by which dispersions are found: there is one number for each gene."""
ROWS: Final = 2_048
DISPERSIONS: Final = np.geomspace(0.02, 500, 24)
"""θ among which each gene's is chosen; from one to the next, the weight of the place's own counts changes little."""

Scale = Literal["median", "place"]


def enhance(
    model: StMMR,
    *,
    genes: Sequence[str] | None = None,
    scale: Scale = "median",
    key_added: str = keys.ENHANCED,
    random_state: int = 0,
) -> None:
    """Write denoised expression: the decoder's mean μ, corrected by what was counted at the place itself.

    The decoder knows a place by its embedding, in which neighbours share what they have in common; what only this place
    has is in its own counts x. With counts that are negative binomial around μ with dispersion θ, the rate that both
    tell is the mean of the gamma distribution that is left after seeing x,

    μ · (x + θ) / (μ + θ),

    near μ where θ is large and near x where it is small. θ of a gene is the likeliest of 24 values given μ, so that the
    data say which of both to trust, without labels. The decoder's mean alone is ``model.denoise()``. How well both
    predict counts held out is measured in docs/denoising.md.

    Parameters
    ----------
    model
        Fitted to counts (likelihood "nb", as the default preset has it); its ``adata`` is written to.
    genes
        Names of genes that the model reads; None: all of them.
    scale
        "median": free of the library size, as counts at a place of the median library size; "place": as counts at the
        place as it is.
    key_added
        Where the expression goes.
    random_state
        Seed of the 5,000 places by which dispersions are found, where there are more.

    Returns
    -------
    None. Sets in ``model.adata``, float32:

    ``layers[key_added]``
        without `genes`, shape (n_obs, n_vars); NaN for genes that the model does not read.
    ``obsm[key_added]``
        with `genes`, a DataFrame with a column for each.
    ``uns["stmmr"]["enhance"]``
        the parameters, and ``"dispersion"``, θ of each of the ``"genes"``.

    Raises
    ------
    InputError
        If the model is not fitted or not one of counts, does not read a gene, or more than 2 GB would be written or the
        counts lie on disk and no genes are given.

    References
    ----------
    Huang et al. 2018, doi:10.1038/s41592-018-0033-z (SAVER), there around a mean regressed on other genes.
    """
    require_choice(scale, ("median", "place"), name="scale")
    adata, read = model.adata, model.inputs.gene_names
    _check(model)
    chosen = read if genes is None else _chosen(adata, genes, read)
    step = require_step(adata, "expression", by="stmmr.pp.expression")
    require_small(adata, layer=str(step["layer"]) or None, n_genes=None if genes is None else len(chosen))
    size = np.asarray(model.inputs.blocks[0].library_size, dtype=np.float64)  # (N, 1)
    mean = model.denoise(genes=chosen)
    at: Any = slice(None) if genes is None else [read.index(name) for name in chosen]
    rows = gene_rows(adata, normalised=False)
    some = np.sort(np.random.default_rng(random_state).permutation(adata.n_obs)[:FITTED_AT_MOST])
    theta = dispersions(rows.take(some)[:, at].toarray(), mean[some].astype(np.float64))
    for places in slices(adata.n_obs, ROWS):
        counts = rows.take(np.arange(places.start, places.stop))[:, at].toarray()
        mean[places] = posterior_mean(counts, mean[places], theta) / (size[places] if scale == "median" else 1)
    if genes is None:
        layer = np.full(adata.shape, np.nan, dtype=np.float32)
        layer[:, np.flatnonzero(adata.var[keys.HIGHLY_VARIABLE].to_numpy())] = mean
        adata.layers[key_added] = layer
    else:
        adata.obsm[key_added] = pd.DataFrame(mean, index=adata.obs_names, columns=pd.Index(chosen))
    noted = {"scale": scale, "key_added": key_added, "genes": np.array(chosen), "dispersion": theta}
    record(adata, enhance=noted | {"random_state": random_state})


def posterior_mean(
    counts: NDArray[Any], mean: NDArray[np.floating[Any]], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Take μ · (x + θ) / (μ + θ); counts and means of shape (n, G), θ of shape (G,)."""
    mean = mean.astype(np.float64)
    return np.asarray(mean * (counts + theta) / (mean + theta))


def dispersions(counts: NDArray[Any], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find θ of each gene, shape (G,), under which its counts around the means, both of shape (n, G), are likeliest."""
    best = np.full(mean.shape[1], -np.inf)
    found = np.full(mean.shape[1], DISPERSIONS[0])
    place, gene = np.nonzero(counts)
    x, mu = counts[place, gene].astype(np.float64), mean[place, gene]
    for theta in DISPERSIONS:
        beyond = special.gammaln(x + theta) - special.gammaln(theta) + x * np.log(mu / (mu + theta))
        likelihood = np.bincount(gene, beyond, minlength=len(best)) - theta * np.log1p(mean / theta).sum(axis=0)
        found = np.where(likelihood > best, theta, found)
        best = np.maximum(best, likelihood)
    return found


def _check(model: StMMR) -> None:
    """Check that there is a fitted model of counts."""
    if not model.history:
        raise InputError("Expected a fitted model, found one that is not trained. Run model.fit() first.")
    if model.settings.likelihood != "nb" or not model.inputs.gene_names:
        raise InputError(
            f"Expected a model of counts (likelihood 'nb'), found likelihood {model.settings.likelihood!r}"
            f"{f' of obsm[{model.use_rep!r}]' if model.use_rep else ''}. Its mean is model.denoise()."
        )


def _chosen(adata: AnnData, genes: Sequence[str], read: list[str]) -> list[str]:
    """Get the names of genes, each once, checked."""
    if isinstance(genes, str) or not len(genes):
        raise InputError(f"Expected a list of names of genes, found {genes!r}.")
    for gene in genes:
        require_gene(adata, gene)
    unread = [gene for gene in genes if gene not in set(read)]
    if unread:
        raise InputError(
            f"Expected genes that the model reads (var['stmmr_highly_variable']), found {listed(unread)}, which are "
            f"not among its {len(read)}. Prepare with a larger n_top_genes in stmmr.pp.expression."
        )
    return list(dict.fromkeys(genes))


def require_small(adata: AnnData, *, layer: str | None, n_genes: int | None) -> int:
    """Check that what is written fits, or was asked for gene by gene; get its size in bytes.

    Parameters
    ----------
    adata
        What it is written to.
    layer
        Layer with the raw counts, as in `stmmr.pp.expression`.
    n_genes
        How many genes were named; None where none was.

    Raises
    ------
    InputError
        If it is more than 2 GB, or the counts lie on disk and no genes are named.
    """
    width = adata.n_vars if n_genes is None else n_genes
    n_bytes = 4 * int(adata.n_obs) * int(width)
    _, counts = raw_counts(adata, layer)
    elsewhere = n_genes is None and (is_on_disk(counts) or is_dask(counts))
    if n_bytes > AT_MOST or elsewhere:
        why = "counts that stay on disk" if elsewhere else "more than 2 GB"
        raise InputError(
            f"Expected names of genes for {why}: all {adata.n_obs} × {width} values would take {n_bytes / 1e9:.2g} GB. "
            "Give fewer, as genes=[…]."
        )
    return n_bytes
