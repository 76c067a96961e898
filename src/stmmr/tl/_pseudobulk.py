"""Domain genes with sections as replicates: pseudobulk counts in a negative-binomial model."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import pandas as pd
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_extra, unique_names
from stmmr._core.depends import depends
from stmmr._core.genes import gene_columns
from stmmr._core.options import Checked, checked, shows_options
from stmmr._core.record import record, recorded
from stmmr._core.rows import map_rows
from stmmr._core.sections import sections_of
from stmmr.tl._genes import COMPARISONS, tested_domains

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.types import CountRows, Csr, Float64, Ints

Name = TypeVar("Name")
FEWEST_SECTIONS: Final = 2
"""Fewest sections with a domain for a test."""
STUCK, START = 100, 0.1
"""Multiple of the smallest dispersion below which DESeq2 leaves genes out of its trend and their fit is repeated; and
the dispersion that it starts from."""
_DESEQ_COLUMNS: Final = {
    "baseMean": "base_mean",
    "log2FoldChange": "log2_fold_change",
    "lfcSE": "standard_error",
    "stat": "z",
    "pvalue": "pval",
    "padj": "pval_adj",
}


@dataclass(frozen=True, kw_only=True)
class PseudobulkOptions(Checked):
    """Thresholds of samples, tested genes and specific genes.

    Attributes
    ----------
    min_spots
        Fewest spots of a domain in a section; smaller ones are left out.
    min_counts
        Fewest counts of a gene that is tested, in all samples.
    max_pval_adj
        Largest adjusted p-value of a specific gene.
    min_fold_change
        Smallest fold change of a specific gene.
    """

    min_spots: int = 10
    min_counts: int = 10
    max_pval_adj: float = 0.05
    min_fold_change: float = 1.5


@checked
@shows_options(PseudobulkOptions)
def domain_genes_pseudobulk(
    adata: AnnData,
    *,
    section_key: str,
    domain_key: str = keys.DOMAIN,
    layer: str | None = None,
    key_added: str = keys.DOMAIN_GENES_PSEUDOBULK,
    progress: bool = False,
    **options: Any,
) -> None:
    """Compare every gene in every domain with the other domains, with sections as replicates (pseudobulk).

    Raw counts are summed over the spots of each domain in each section. The negative-binomial model of DESeq2 is fitted
    to the sums with effects of section and domain, and each domain is compared with the mean of the others (Wald test).
    Differences are judged against the variation between sections, not between spots, so p-values are more reliable than
    those of :func:`stmmr.tl.domain_genes`; but domains were still found from the same genes. Needs the extra ``deseq``.

    Parameters
    ----------
    adata
        Annotated data with domains and raw counts of several sections.
    domain_key
        Column of ``obs`` with the domains. Spots without one are left out.
    layer
        Layer with the raw counts, as in :func:`stmmr.tl.domain_genes`.
    key_added
        Key of ``uns`` to write.

    Returns
    -------
    None. Sets:

    ``uns[key_added]``
        DataFrame with a row for each domain and gene, highest ``z`` first, to be read by
        :func:`stmmr.tl.domain_genes_table`. Columns: ``domain``, ``against`` ("rest") and ``gene`` (categories);
        ``base_mean``, mean of the counts scaled to the same depth; ``log2_fold_change`` and its ``standard_error``;
        ``z``; ``pval``; ``pval_adj`` (Benjamini and Hochberg, over the tested genes); ``specific``. NaN below
        `min_counts`, and for genes with an outlier by DESeq2. Domains in fewer than two sections have no rows.
    ``uns["stmmr"]["domain_genes_pseudobulk"][key_added]``
        Parameters; ``"sections"``, the number of sections with each of ``"domains"``.

    Raises
    ------
    InputError
        If there are fewer than two sections or two domains in them, a spot has no section, there are too few samples
        for the model, no gene has enough counts, or there are no raw counts.
    ImportError
        If PyDESeq2 is not installed.

    References
    ----------
    Love, Huber and Anders (2014), DESeq2, doi:10.1186/s13059-014-0550-8; Muzellec et al. (2023), PyDESeq2,
    doi:10.1093/bioinformatics/btad547. Summed by layer and section as in Maynard et al. (2021),
    doi:10.1038/s41593-020-00787-0.
    """
    chosen = PseudobulkOptions(**options)
    require_extra("pydeseq2.dds", extra="deseq")
    unique_names(adata)
    sections = sections_of(adata, section_key)
    if sections is None or len(sections.categories) < FEWEST_SECTIONS:
        raise InputError(
            f"Expected at least {FEWEST_SECTIONS} sections as replicates in obs[{section_key!r}], found "
            f"{0 if sections is None else len(sections.categories)}. For one section use stmmr.tl.domain_genes."
        )
    domains = tested_domains(adata, domain_key)
    columns = gene_columns(adata, layer, progress=progress)
    sums, samples = _summed(columns.counts, sections, domains, min_spots=chosen.min_spots, progress=progress)
    n_sections = np.bincount(samples["domain"], minlength=len(domains.categories))
    design = _design(samples, domain_key=domain_key)
    names, genes = pd.Index(domains.categories.astype(str)), adata.var_names.astype(str)
    tested = sums.sum(axis=0) >= chosen.min_counts
    if not tested.any():
        raise InputError(
            f"Expected genes with {chosen.min_counts} counts in all, found at most {int(sums.sum(axis=0).max())}."
        )
    codes = [code for code in np.unique(samples["domain"]) if n_sections[code] >= FEWEST_SECTIONS]
    _warn_left_out(names, codes)
    results = _fitted(pd.DataFrame(sums[:, tested], index=design.index, columns=genes[tested]), design, codes)
    table = pd.concat([_rows(results[code].reindex(genes), names[code], names) for code in codes], ignore_index=True)
    differs = table["log2_fold_change"] > np.log2(chosen.min_fold_change)
    table["specific"] = (table["pval_adj"] < chosen.max_pval_adj) & differs
    table.index = table.index.astype(str)
    adata.uns[key_added] = table
    step = {
        "section_key": section_key,
        "domain_key": domain_key,
        "layer": layer or "",
        **asdict(chosen),
        "domains": names.to_numpy(dtype=object),
        "sections": n_sections,
        "n_tested": int(tested.sum()),
    }
    record(adata, domain_genes_pseudobulk={**recorded(adata).get("domain_genes_pseudobulk", {}), key_added: step})
    sources = [f"obs:{domain_key}", f"obs:{section_key}"]
    writes = [f"uns:{key_added}", f"notes:domain_genes_pseudobulk:{key_added}"]
    depends(adata, f"domain_genes_pseudobulk:{key_added}", on=sources, writes=writes)


def _summed(
    counts: CountRows, sections: pd.Categorical, domains: pd.Categorical, *, min_spots: int, progress: bool
) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Sum counts over the spots of each domain in each section, (n_samples, G); get section and domain of each sum."""
    n_domains = len(domains.categories)
    sample = np.where(domains.codes < 0, -1, sections.codes.astype(np.intp) * n_domains + domains.codes)
    sizes = np.bincount(sample[sample >= 0], minlength=len(sections.categories) * n_domains)
    kept = np.flatnonzero(sizes >= min_spots)
    number = np.full(len(sizes) + 1, -1)
    number[kept] = np.arange(len(kept))
    add = partial(_part_sums, sample=number[sample], n_samples=len(kept))
    total = np.zeros((len(kept), counts.shape[1]))
    for part in map_rows(add, counts, task="summing counts", progress=progress):
        total += part
    return np.rint(total).astype(np.int64), pd.DataFrame({"section": kept // n_domains, "domain": kept % n_domains})


def _part_sums(counts: Csr, rows: slice, *, sample: Ints, n_samples: int) -> Float64:
    own = sample[rows]
    inside = np.flatnonzero(own >= 0)
    shape = (n_samples, counts.shape[0])
    members = sparse.csr_matrix((np.ones(len(inside)), (own[inside], inside)), shape=shape)
    return np.asarray((members @ counts).toarray(), dtype=np.float64)


def _design(samples: pd.DataFrame, *, domain_key: str) -> pd.DataFrame:
    """Build the design matrix of the samples: an intercept, and each section and domain but the first; checked."""
    sizes = samples["domain"].value_counts()
    if len(sizes) < 2 or (sizes >= FEWEST_SECTIONS).sum() < 1:
        raise InputError(
            f"Expected at least two domains in obs[{domain_key!r}], one of them in {FEWEST_SECTIONS} sections with "
            f"min_spots or more, found {len(sizes)} domains in {samples['section'].nunique()} sections. Lower "
            "min_spots, or use stmmr.tl.domain_genes."
        )
    effects = {
        f"{name}{code}": (samples[name] == code).astype(np.float64)
        for name in ("section", "domain")
        for code in np.unique(samples[name])[1:]
    }
    design = pd.DataFrame({"intercept": 1.0, **effects})
    design.index = pd.Index([f"sample{i}" for i in range(len(design))])
    if np.linalg.matrix_rank(design) < design.shape[1] or len(design) <= design.shape[1]:
        raise InputError(
            f"Expected domains that sections share, found {len(design)} samples (a domain in a section) for "
            f"{design.shape[1]} effects of sections and domains. Sections have too few domains in common."
        )
    return design


def _fitted(counts: pd.DataFrame, design: pd.DataFrame, domains: list[int]) -> dict[int, pd.DataFrame]:
    """Fit the model of DESeq2, and compare each domain with the mean of the others."""
    is_domain = np.array([str(name).startswith("domain") for name in design])
    # the first domain has no column: its effect is 0, and the others are as many as the columns
    mean_of_others = np.where(is_domain, -1 / is_domain.sum(), 0.0)
    contrasts = {code: np.where(design.columns == f"domain{code}", 1.0, mean_of_others) for code in domains}
    return wald_tests(counts, design, design, contrasts)


def wald_tests(
    counts: pd.DataFrame, metadata: pd.DataFrame, design: str | pd.DataFrame, contrasts: Mapping[Name, Any]
) -> dict[Name, pd.DataFrame]:
    """Fit the negative-binomial model of DESeq2 to samples × genes, and test each contrast; a row for each gene."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    class Model(DeseqDataSet):  # type: ignore[misc]
        def fit_genewise_dispersions(self, vst: bool = False) -> None:  # noqa: FBT001, FBT002 - of PyDESeq2
            super().fit_genewise_dispersions(vst)
            if not vst:
                _refit_dispersions(self)

    results = {}
    with warnings.catch_warnings():
        # about fallbacks of single genes, which become NaN
        warnings.simplefilter("ignore")
        model = Model(
            counts=counts, metadata=metadata, design=design, size_factors_fit_type="poscounts", n_cpus=1, quiet=True
        )
        model.deseq2()
        for name, contrast in contrasts.items():
            stats = DeseqStats(model, contrast=contrast, independent_filter=False, quiet=True, n_cpus=1)
            stats.run_wald_test()
            stats.summary()
            results[name] = stats.results_df.rename(columns=_DESEQ_COLUMNS)[list(_DESEQ_COLUMNS.values())]
    return results


def _refit_dispersions(model: Any) -> None:
    """Maximise the likelihood again for genes without dispersion, from a larger start.

    PyDESeq2 starts at a rough estimate. Where this is the smallest dispersion, as for many genes if samples differ in
    depth, the slope of the likelihood along the logarithm is 0 and the search ends there. The trend is fitted to the
    other genes, lies too high, and p-values are too large (docs/sections.md).
    """
    stuck = (model.var["genewise_dispersions"] < STUCK * model.min_disp).to_numpy()
    if stuck.any():
        dispersions, _ = model.inference.alpha_mle(
            counts=model.X[:, stuck],
            design_matrix=model.obsm["design_matrix"].to_numpy(),
            mu=model.layers["_mu_hat"][:, stuck],
            alpha_hat=np.full(stuck.sum(), START),
            min_disp=model.min_disp,
            max_disp=model.max_disp,
        )
        model.var.loc[stuck, "genewise_dispersions"] = np.clip(dispersions, model.min_disp, model.max_disp)


def _rows(results: pd.DataFrame, domain: str, domains: pd.Index) -> pd.DataFrame:
    """Arrange the results of one domain, best genes first."""
    results = results.sort_values("z", ascending=False, na_position="last", kind="stable")
    n = len(results)
    rows = pd.DataFrame(
        {
            "domain": pd.Categorical([domain] * n, categories=domains),
            "against": pd.Categorical(["rest"] * n, categories=list(COMPARISONS)),
        },
        index=results.index,
    )
    # the same categories for every domain, so that rows can be concatenated
    rows["gene"] = pd.Categorical(results.index, categories=np.sort(results.index.to_numpy()))
    return pd.concat([rows, results], axis=1).reset_index(drop=True)


def _warn_left_out(names: pd.Index, tested: list[int]) -> None:
    """Warn of domains that are not tested."""
    left_out = [str(name) for code, name in enumerate(names) if code not in tested]
    if left_out:
        logger.warning(
            "Not tested, as they are in fewer than %d sections: domains %s.", FEWEST_SECTIONS, listed(left_out)
        )
