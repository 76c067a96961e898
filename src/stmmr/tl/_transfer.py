"""Domain names from another section or another partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, representation, require_key
from stmmr._core.colors import colors_by_name, set_colors
from stmmr._core.depends import clears_outdated
from stmmr._core.options import checked
from stmmr.tl._domains import describe_domains

if TYPE_CHECKING:
    from anndata import AnnData


@checked
@clears_outdated
def transfer_domains(
    adata: AnnData,
    reference: AnnData,
    *,
    domain_key: str = keys.DOMAIN,
    use_rep: str = keys.EMBEDDING,
    key_added: str = keys.DOMAIN,
) -> None:
    """Assign the domains of a reference section to another one in the same embedding.

    Linear discriminant analysis: each domain of the reference is a normal distribution in the embedding, all with one
    covariance, as in the mixtures of `stmmr.tl.consensus`.

    Parameters
    ----------
    adata
        After `stmmr.StMMR.transform`, or another section in the same embedding.
    reference
        The section with the domains.
    domain_key
        Column of ``obs`` of `reference` with the domains.
    use_rep
        Key of ``obsm`` in both.
    key_added
        Column of ``obs`` for the domains.

    Returns
    -------
    None. Sets ``obs[key_added]``, categorical with all domains of the reference; ``obs["stmmr_confidence"]``, the
    probability of the domain; ``uns[f"{key_added}_colors"]``, the colours of the reference; and
    ``uns["stmmr"]["transfer"]``.

    Raises
    ------
    InputError
        If there are no domains or no such embedding, the embeddings differ in width, or there is only one domain.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    known = categories(reference, domain_key)
    source, target = representation(reference, use_rep), representation(adata, use_rep)
    if source.shape[1] != target.shape[1]:
        raise InputError(
            f"Expected the same embedding in both sections, found obsm[{use_rep!r}] of width {target.shape[1]}, and "
            f"{source.shape[1]} in the reference. Embed this section with its model: model.transform(adata)."
        )
    if len(known.categories) < 2:
        raise InputError(f"Expected two domains or more in obs[{domain_key!r}] of the reference, found one.")
    named = known.codes >= 0
    fitted = LinearDiscriminantAnalysis().fit(source[named], known.codes[named])
    probability = fitted.predict_proba(target)
    codes = fitted.classes_[probability.argmax(axis=1)]
    adata.obs[key_added] = pd.Categorical.from_codes(codes, categories=known.categories)
    adata.obs[keys.CONFIDENCE] = probability.max(axis=1)
    step = {"domain_key": domain_key, "use_rep": use_rep, "key_added": key_added, "confidence_key": keys.CONFIDENCE}
    describe_domains(adata, "transfer", step, known_colors=colors_by_name(reference, domain_key))


@checked
@clears_outdated
def match_domains(
    adata: AnnData, reference_key: str, *, domain_key: str = keys.DOMAIN, key_added: str | None = None
) -> None:
    """Give domains the names of the domains of another partition of the same spots that they overlap most.

    The matching has the most spots in common (Hungarian method). A domain without a match keeps a name of its own.

    Parameters
    ----------
    adata
        With both partitions in ``obs``.
    reference_key
        Column with the names to use, e.g. the domains of an earlier run.
    domain_key
        Column with the domains.
    key_added
        Column for the renamed domains; None replaces `domain_key`.

    Returns
    -------
    None. Sets ``obs[key_added]``, categorical, and ``uns[f"{key_added}_colors"]``, with the colours of the reference if
    there are some for all domains.

    Raises
    ------
    InputError
        If a column does not exist or has no values.
    """
    from scipy.optimize import linear_sum_assignment

    require_key(adata.obs.columns, reference_key, where="obs")
    domains, reference = categories(adata, domain_key), categories(adata, reference_key)
    shared = np.zeros((len(domains.categories), len(reference.categories)), dtype=int)
    known = (domains.codes >= 0) & (reference.codes >= 0)
    np.add.at(shared, (domains.codes[known], reference.codes[known]), 1)
    rows, columns = linear_sum_assignment(-shared)
    names = [f"{name}*" for name in domains.categories.astype(str)]
    for row, column in zip(rows, columns, strict=True):
        if shared[row, column]:
            names[row] = str(reference.categories[int(column)])
    position = {str(name): i for i, name in enumerate(reference.categories)}
    order = sorted(range(len(names)), key=lambda i: (position.get(names[i], len(position)), names[i]))
    rank = np.append(np.argsort(order), -1)  # spots without a domain stay so
    renamed = pd.Categorical.from_codes(rank[domains.codes], categories=pd.Index([names[i] for i in order]))
    key = domain_key if key_added is None else key_added
    colors = colors_by_name(adata, reference_key)
    adata.obs[key] = renamed
    set_colors(adata, key, known=colors)
