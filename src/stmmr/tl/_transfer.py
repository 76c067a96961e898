"""Domains of one section for another: named by a trained one, or matched to the names of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, representation, require_key
from stmmr._core.record import record

if TYPE_CHECKING:
    from anndata import AnnData


def transfer_domains(
    adata: AnnData,
    reference: AnnData,
    *,
    domain_key: str = keys.DOMAIN,
    use_rep: str = keys.EMBEDDING,
    key_added: str = keys.DOMAIN,
) -> None:
    """Name the domains of a section by those of another in the same embedding.

    Linear discriminant analysis: each domain of the reference is a normal distribution of the embedding, all of one
    covariance, as the mixtures of `stmmr.tl.consensus` have it.

    Parameters
    ----------
    adata
        After `stmmr.StMMR.transform`, or another section in the same embedding.
    reference
        The section with the domains.
    domain_key
        Column of its ``obs`` with the domains.
    use_rep
        Key of ``obsm`` of both.
    key_added
        Column of ``obs`` for the domains.

    Returns
    -------
    None. Sets ``obs[key_added]``, categorical with all domains of the reference, ``obs["stmmr_confidence"]``, the
    probability of the domain, and ``uns["stmmr"]["transfer"]``.

    Raises
    ------
    InputError
        If there are no domains or no such embedding, the embeddings differ in width, or there is one domain only.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    known = categories(reference, domain_key)
    before, here = representation(reference, use_rep), representation(adata, use_rep)
    if before.shape[1] != here.shape[1]:
        raise InputError(
            f"Expected one embedding for both sections, found obsm[{use_rep!r}] of width {here.shape[1]} and, in the "
            f"reference, {before.shape[1]}. Embed this one by the model of the reference: model.transform(adata)."
        )
    if len(known.categories) < 2:
        raise InputError(f"Expected two domains or more in obs[{domain_key!r}] of the reference, found one.")
    named = known.codes >= 0
    fitted = LinearDiscriminantAnalysis().fit(before[named], known.codes[named])
    shares = fitted.predict_proba(here)
    codes = fitted.classes_[shares.argmax(axis=1)]
    adata.obs[key_added] = pd.Categorical.from_codes(codes, categories=known.categories)
    adata.obs[keys.CONFIDENCE] = shares.max(axis=1)
    record(adata, transfer={"domain_key": domain_key, "use_rep": use_rep, "key_added": key_added})


def match_domains(
    adata: AnnData, reference_key: str, *, domain_key: str = keys.DOMAIN, key_added: str | None = None
) -> None:
    """Name domains after the reference partition of the same places that they overlap most.

    The matching of most places in common (Hungarian method). A domain that is left over keeps a name of its own.

    Parameters
    ----------
    adata
        With both partitions in ``obs``.
    reference_key
        Column with the names to take over, e.g. the domains of an earlier run.
    domain_key
        Column with the domains.
    key_added
        Column for the renamed domains; ``None`` renames in place.

    Returns
    -------
    None. Sets ``obs[key_added]``, categorical.

    Raises
    ------
    InputError
        If a column is not there or has no values.
    """
    from scipy.optimize import linear_sum_assignment

    require_key(adata.obs.columns, reference_key, where="obs")
    found, wanted = categories(adata, domain_key), categories(adata, reference_key)
    shared = np.zeros((len(found.categories), len(wanted.categories)), dtype=int)
    known = (found.codes >= 0) & (wanted.codes >= 0)
    np.add.at(shared, (found.codes[known], wanted.codes[known]), 1)
    rows, columns = linear_sum_assignment(-shared)
    names = [f"{name}*" for name in found.categories.astype(str)]
    for row, column in zip(rows, columns, strict=True):
        if shared[row, column]:
            names[row] = str(wanted.categories[int(column)])
    place = {str(name): at for at, name in enumerate(wanted.categories)}
    order = sorted(range(len(names)), key=lambda at: (place.get(names[at], len(place)), names[at]))
    rank = np.append(np.argsort(order), -1)  # places without a domain stay without
    renamed = pd.Categorical.from_codes(rank[found.codes], categories=pd.Index([names[at] for at in order]))
    adata.obs[domain_key if key_added is None else key_added] = renamed
