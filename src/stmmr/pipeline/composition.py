"""Composition of sections by domains, in the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.depends import depends
from stmmr._core.record import record, recorded
from stmmr._core.sections import graph_sections, section_key_of

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr.pipeline.analysis import Work


def compose(work: Work) -> None:
    """Count the domains of every section, and compare their shares between groups of sections."""
    from stmmr import tl

    adata, key, group_key = work.adata, work.section_key, work.options.group_key
    adata.uns[keys.COMPOSITION] = _named_rows(tl.composition(adata, key))
    if group_key is not None:
        adata.uns[keys.COMPOSITION_TESTS] = _named_rows(tl.compare_composition(adata, key, group_key=group_key))
    record(adata, composition={"section_key": key, "group_key": group_key or ""})
    _note_sources(adata, key, group_key)


def compose_mapped(adata: AnnData, trained: AnnData, *, names: tuple[str, str]) -> None:
    """Count the domains of a mapped section beside those of the section that the model was fitted on.

    Sets ``uns["stmmr_composition"]``.
    """
    from anndata import AnnData

    from stmmr import tl

    if names[0] == names[1]:
        names = names[0], f"{names[1]} (trained)"
    both = [_domains_by_section(part, name) for part, name in zip((adata, trained), names, strict=True)]
    light = AnnData(obs=pd.concat(both).set_axis(np.arange(sum(map(len, both))).astype(str)))
    adata.uns[keys.COMPOSITION] = _named_rows(tl.composition(light, "section"))
    _note_sources(adata, section_key_of(adata), recorded(adata).get("composition", {}).get("group_key"))


def _domains_by_section(adata: AnnData, name: str) -> pd.DataFrame:
    """Get section and domain of each spot."""
    sections = graph_sections(adata)
    section = [name] * adata.n_obs if sections is None else [f"{name} {each}" for each in sections]
    return pd.DataFrame({"section": section, keys.DOMAIN: adata.obs[keys.DOMAIN].array})


def _note_sources(adata: AnnData, section_key: str | None, group_key: str | None) -> None:
    sources = [f"obs:{name}" for name in (keys.DOMAIN, section_key, group_key) if name]
    written = [f"uns:{keys.COMPOSITION}", f"uns:{keys.COMPOSITION_TESTS}", "notes:composition"]
    depends(adata, "composition", on=sources, writes=written)


def _named_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Name rows by texts, as files hold them."""
    return table.set_axis(table.index.astype(str))
