"""Other numbers of domains, from the tree of domains, and the maps that are shown side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr import tl
from stmmr._core import keys
from stmmr._core.categories import categories, title_of
from stmmr._core.record import recorded
from stmmr._core.sources import partition_of
from stmmr.report._annotations import annotation_keys
from stmmr.report._layers import category_layer

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Ints
    from stmmr.report._layers import Layer

FEWEST, MOST = 3, 12
"""Numbers of domains that are shown."""
COLUMNS: Final = 3
"""Maps side by side."""


class Alternatives(NamedTuple):
    """Numbers of domains from a tree."""

    leaves: Layer
    """The domains that the tree joins."""
    merged: dict[int, list[int]]
    """For each number of domains, the code of the largest member of the domain that a leaf belongs to."""

    def description(self) -> dict[str, Any]:
        """Describe them for the page."""
        return {"leaves": self.leaves.key, "merged": {str(k): codes for k, codes in self.merged.items()}}


def alternatives_of(adata: AnnData) -> Alternatives | None:
    """Join domains along the tree of `stmmr.tl.domain_tree`, or else along one of the domains; None if they are few."""
    tree = _tree(adata)
    if tree is None:
        return None
    from scipy.cluster import hierarchy

    key = str(tree["domain_key"])
    column = categories(adata, key)
    codes = [[str(name) for name in column.categories].index(str(name)) for name in tree["domains"]]
    sizes = np.bincount(column.codes[column.codes >= 0], minlength=len(column.categories))
    merged = {}
    for k in range(FEWEST, min(MOST, len(codes)) + 1):
        group = hierarchy.cut_tree(np.asarray(tree["linkage"]), n_clusters=[k])[:, 0]
        into = np.arange(len(column.categories))
        into[codes] = [_largest(np.asarray(codes)[group == own], sizes) for own in group]
        merged[k] = into.tolist()
    return Alternatives(category_layer(adata, key), merged)


def _largest(codes: Ints, sizes: Ints) -> int:
    return int(codes[np.argmax(sizes[codes])])


def _tree(adata: AnnData) -> dict[str, Any] | None:
    """Get the tree that still describes its column, or compute one of the domains."""
    tree = recorded(adata).get("domain_tree")
    if tree is not None and len(tree["domains"]) >= FEWEST and tree["domain_key"] in adata.obs:
        key = str(tree["domain_key"])
        names = set(categories(adata, key).categories.astype(str))
        if set(map(str, tree["domains"])) <= names and tree.get("partition", "") in ("", partition_of(adata, key)):
            return dict(tree)
    domains = categories(adata, keys.DOMAIN).remove_unused_categories()
    if keys.EMBEDDING not in adata.obsm or len(domains.categories) <= FEWEST:
        return None
    import anndata as ad

    # in an object of its own, as a report adds nothing to the data
    own = ad.AnnData(obs=pd.DataFrame({keys.DOMAIN: domains}, index=adata.obs_names.astype(str)))
    own.obsm[keys.EMBEDDING] = np.asarray(adata.obsm[keys.EMBEDDING])
    own.obsm[keys.SPATIAL] = np.zeros((adata.n_obs, 2))
    tl.domain_tree(own)
    return dict(recorded(own)["domain_tree"])


def panels_of(adata: AnnData, alternatives: Alternatives | None) -> list[tuple[str, str]]:
    """List the maps that are shown side by side: key and title of their layers; none if there is only one."""
    shown = [(key, key) for key in annotation_keys(adata)]
    if keys.ALTERNATIVE in adata.obs:
        shown.append((keys.ALTERNATIVE, title_of(keys.ALTERNATIVE)))
    if alternatives is not None:
        shown += [(f"level:{k}", f"{k} domains") for k in alternatives.merged]
    elif shown:
        shown.append((keys.DOMAIN, "Domains"))
    return shown
