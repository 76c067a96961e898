"""Denoised expression: the decoder's mean, corrected by the counts of the spot itself."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
import pandas as pd
from scipy import special

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_choice, require_step, shown_bytes
from stmmr._core.counts import gene_rows
from stmmr._core.depends import depends
from stmmr._core.genes import require_genes
from stmmr._core.options import checked
from stmmr._core.raw import raw_counts
from stmmr._core.record import record
from stmmr._core.rows import is_dask, is_on_disk, slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.model import StMMR

AT_MOST: Final = 2e9
"""Bytes that are written when no genes are named."""
FITTED_AT_MOST: Final = 5_000
"""Number of spots from which dispersions are estimated; there is one dispersion for each gene."""
ROWS: Final = 2_048
DISPERSIONS: Final = np.geomspace(0.02, 500, 24)
"""Candidates for the dispersion θ of a gene; from one to the next, the weight of a spot's own counts changes little."""

Scale = Literal["median", "own"]


@checked
def enhance(
    model: StMMR,
    *,
    genes: Sequence[str] | None = None,
    scale: Scale | Literal["place"] = "median",
    key_added: str = keys.ENHANCED,
    random_state: int = 0,
    progress: bool = True,
) -> None:
    """Write denoised expression: the decoder's mean μ, corrected by the counts of each spot (a spot, cell or bin).

    The decoder computes μ from the embedding, in which a spot shares signal with its neighbours. What is specific to a
    spot is in its own counts x. If counts are negative binomial around μ with dispersion θ, the best estimate of the
    rate from both is the posterior mean of a gamma distribution,

    μ · (x + θ) / (μ + θ),

    near μ where θ is large and near x where θ is small. θ of each gene is the likeliest of 24 values given μ, so the
    data decide between μ and x, without labels. The decoder's mean alone is ``model.denoise()``. docs/denoising.md
    measures how well both predict held-out counts. The first call fits the decoder; this needs the extra ``torch``.

    Parameters
    ----------
    model
        Model fitted to counts (likelihood "nb", as in the default preset); the result goes to its ``adata``.
    genes
        Names of genes that the model uses; None: all of them.
    scale
        "median": as counts of a spot with the median library size, so library sizes do not matter; "own": as counts
        with the library size of each spot.
    key_added
        Key of the result in ``layers`` or ``obsm``.
    random_state
        Seed of the sample of 5,000 spots from which dispersions are estimated, if there are more.
    progress
        Whether to show a progress bar while the decoder is fitted.

    Returns
    -------
    None. Sets in ``model.adata``, float32:

    ``layers[key_added]``
        without `genes`, shape (n_obs, n_vars); NaN for genes that the model does not use.
    ``obsm[key_added]``
        with `genes`, a DataFrame with a column for each gene.
    ``uns["stmmr"]["enhance"]``
        the parameters, and ``"dispersion"``, θ of each of the ``"genes"``.

    Raises
    ------
    InputError
        If the model is not fitted or not a model of counts, does not use a gene, or `genes` is None and the result is
        larger than 2 GB or the counts stay on disk.
    ImportError
        If the decoder is not fitted and PyTorch is not installed.

    References
    ----------
    Huang et al. 2018, doi:10.1038/s41592-018-0033-z (SAVER); there, the mean is a regression on other genes.
    """
    if scale == "place":
        warnings.warn("scale='place' is now scale='own'.", FutureWarning, stacklevel=3)
        scale = "own"
    require_choice(scale, get_args(Scale), name="scale")
    adata, known = model.adata, model.inputs.gene_names
    _check(model)
    if list(adata.var_names[adata.var[keys.HIGHLY_VARIABLE].to_numpy()]) != known:
        raise InputError(
            f"Expected the {len(known)} genes of the model in var['stmmr_highly_variable'], in their order, found "
            "others: genes were removed or reordered since. Fit a model to the data as they are now."
        )
    chosen = known if genes is None else _chosen(adata, genes, known)
    step = require_step(adata, "expression", by="stmmr.pp.expression")
    require_small(adata, layer=str(step["layer"]) or None, n_genes=None if genes is None else len(chosen))
    size = model.inputs.put_back(np.asarray(model.inputs.blocks[0].library_size)).astype(np.float64)  # (N, 1)
    mean = model.denoise(genes=chosen, progress=progress)
    columns = np.array([known.index(name) for name in chosen])
    rows = gene_rows(adata, np.arange(adata.n_obs), normalised=False)
    sample = model.inputs.order[np.random.default_rng(random_state).permutation(adata.n_obs)[:FITTED_AT_MOST]]
    theta = dispersions(rows.take(sample)[:, columns].toarray(), mean[sample].astype(np.float64))
    for spots in slices(adata.n_obs, ROWS):
        counts = rows.take(np.arange(spots.start, spots.stop))[:, columns].toarray()
        mean[spots] = posterior_mean(counts, mean[spots], theta) / (size[spots] if scale == "median" else 1)
    if genes is None:
        layer = np.full(adata.shape, np.nan, dtype=np.float32)
        layer[:, np.flatnonzero(adata.var[keys.HIGHLY_VARIABLE].to_numpy())] = mean
        adata.layers[key_added] = layer
    else:
        adata.obsm[key_added] = pd.DataFrame(mean, index=adata.obs_names, columns=pd.Index(chosen))
    parameters = {"scale": scale, "key_added": key_added, "genes": np.array(chosen), "dispersion": theta}
    record(adata, enhance=parameters | {"random_state": random_state})
    written = f"{'layers' if genes is None else 'obsm'}:{key_added}"
    depends(adata, "enhance", on=[f"obsm:{keys.EMBEDDING}"], writes=[written, "notes:enhance"])


def posterior_mean(
    counts: NDArray[np.number], mean: NDArray[np.floating], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute μ · (x + θ) / (μ + θ); counts and means of shape (n, G), θ of shape (G,)."""
    mean = mean.astype(np.float64)
    return np.asarray(mean * (counts + theta) / (mean + theta))


def dispersions(counts: NDArray[np.number], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Get the likeliest θ of each gene, shape (G,), given its counts and their means, both of shape (n, G)."""
    best = np.full(mean.shape[1], -np.inf)
    likeliest = np.full(mean.shape[1], DISPERSIONS[0])
    spot, gene = np.nonzero(counts)
    x, mu = counts[spot, gene].astype(np.float64), mean[spot, gene]
    for theta in DISPERSIONS:
        beyond = special.gammaln(x + theta) - special.gammaln(theta) + x * np.log(mu / (mu + theta))
        likelihood = np.bincount(gene, beyond, minlength=len(best)) - theta * np.log1p(mean / theta).sum(axis=0)
        likeliest = np.where(likelihood > best, theta, likeliest)
        best = np.maximum(best, likelihood)
    return likeliest


def _check(model: StMMR) -> None:
    """Check that the model is fitted, to counts."""
    if not model.fitted:
        raise InputError("Expected a fitted model, found one that is not. Run model.fit() first.")
    if model.settings.likelihood != "nb" or not model.inputs.gene_names:
        raise InputError(
            f"Expected a model of counts (likelihood 'nb'), found likelihood {model.settings.likelihood!r}"
            f"{f' of obsm[{model.use_rep!r}]' if model.use_rep else ''}. Use model.denoise() for its mean."
        )


def _chosen(adata: AnnData, genes: Sequence[str], known: list[str]) -> list[str]:
    """Get the names of genes, checked, without duplicates."""
    names = require_genes(adata, genes)
    unknown = [gene for gene in names if gene not in set(known)]
    if unknown:
        raise InputError(
            f"Expected genes that the model uses (var['stmmr_highly_variable']), found {listed(unknown)}, which are "
            f"not among its {len(known)}. Use a larger n_top_genes in stmmr.pp.expression."
        )
    return names


def require_small(adata: AnnData, *, layer: str | None, n_genes: int | None) -> int:
    """Check that the result is small, or that genes are named; get its size in bytes.

    Parameters
    ----------
    adata
        Annotated data that the result is written to.
    layer
        Layer with the raw counts, as in `stmmr.pp.expression`.
    n_genes
        Number of named genes; None if no genes are named.

    Raises InputError if the result is larger than 2 GB, or the counts stay on disk and no genes are named.
    """
    width = adata.n_vars if n_genes is None else n_genes
    n_bytes = 4 * int(adata.n_obs) * int(width)
    _, counts = raw_counts(adata, layer)
    elsewhere = n_genes is None and (is_on_disk(counts) or is_dask(counts))
    if n_bytes > AT_MOST or elsewhere:
        why = "counts that stay on disk" if elsewhere else "more than 2 GB"
        raise InputError(
            f"Expected names of genes for {why}: all {adata.n_obs} × {width} values would take {shown_bytes(n_bytes)}. "
            "Name fewer genes, genes=[…] (--enhance-gene …)."
        )
    return n_bytes
