"""Composition of a mapped section by domains, beside that of the section of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.record import recorded
from stmmr._core.sections import graph_sections, section_key_of

if TYPE_CHECKING:
    from anndata import AnnData


def compose_mapped(adata: AnnData, trained: AnnData, *, names: tuple[str, str]) -> None:
    """Count the domains of a mapped section beside those of the section that the model was fitted on.

    Sets ``uns["stmmr_composition"]``.
    """
    from anndata import AnnData

    from stmmr.tl._composition import composition, named_rows, note_composition

    both = [_domains_by_section(part, name) for part, name in zip((adata, trained), names, strict=True)]
    if set(both[0]["section"]) & set(both[1]["section"]):
        both[1]["section"] += " (trained)"
    light = AnnData(obs=pd.concat(both).set_axis(np.arange(sum(map(len, both))).astype(str)))
    adata.uns[keys.COMPOSITION] = named_rows(composition(light, "section"))
    group_key = recorded(adata).get("composition", {}).get("group_key")
    note_composition(adata, section_key_of(adata), group_key=group_key, trained=names[1])


def _domains_by_section(adata: AnnData, name: str) -> pd.DataFrame:
    """Get section and domain of each spot."""
    sections = graph_sections(adata)
    section = [name] * adata.n_obs if sections is None else [f"{name} {each}".strip() for each in sections]
    return pd.DataFrame({"section": section, keys.DOMAIN: adata.obs[keys.DOMAIN].array})
