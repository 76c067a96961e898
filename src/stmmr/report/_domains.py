"""Domains of the page: each in numbers and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.borders import contacts
from stmmr._core.categories import categories, hex_colors, notes_of_domains
from stmmr._core.sections import graph_sections, section_codes, tissue_coordinates
from stmmr.report._annotations import Part, annotation_keys, like_of, parts_of
from stmmr.report._genes import TOP, top_genes
from stmmr.report._layers import numbers_of

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Ints

MARKERS: Final = 10
"""Number of genes of a domain in its table."""
CONTACTS: Final = 6
"""Nearest neighbours of a spot, one ring on a hexagonal array."""
BORDER_FROM: Final = 0.1
"""Share of the contacts of a domain with other domains from which one is named."""


class Marker(NamedTuple):
    """A gene of a domain, compared with the rest of the tissue."""

    gene: str
    log2_fold_change: float
    share: float
    share_other: float
    auc: float


class Domain(NamedTuple):
    """A domain with spots."""

    code: int
    name: str
    color: str
    n: int
    share: float
    confidence: float | None
    """Mean over its spots."""
    sections: int | None
    """Number of sections with spots of it."""
    like: str
    """Label that most of its spots have; empty if an annotation does not support one."""
    genes: list[str]
    markers: list[Marker]
    note: str
    borders: list[Part]
    """Other domains that it touches, by the share of its contacts."""
    labels: list[tuple[str, list[Part]]]
    """Composition by each annotation."""

    def text(self, spots: str) -> str:
        """Describe the domain in a paragraph."""
        n = f"{self.n:,} {spots if self.n > 1 else spots[:-1]}"
        sure = "" if self.confidence is None else f", with a mean confidence of {self.confidence:.2f}"
        sentences = [f"Domain {self.name} has {n}, {100 * self.share:.1f}\N{NO-BREAK SPACE}% of all{sure}."]
        for key, parts in self.labels:
            shares = [f"{percent(part.share)} {part.name}" for part in parts[:3]]
            sentences.append(f"By {key} it is {listed_plainly(shares)}.")
        if self.markers:
            first, *others = self.markers
            effect = f"log2 fold change {first.log2_fold_change:.1f}, in {percent(first.share)} of its {spots}"
            effect += f" and {percent(first.share_other)} of the others"
            more = listed_plainly([marker.gene for marker in others[:4]])
            sentences.append(f"Its leading gene is {first.gene} ({effect}){f', followed by {more}' if more else ''}.")
        if self.borders:
            shares = [f"{part.name} ({percent(part.share)})" for part in self.borders]
            sentences.append(f"Its contacts with other domains are with {listed_plainly(shares)}.")
        return " ".join(sentences)


def percent(share: float) -> str:
    """Write a share so that no line ends before the sign."""
    return f"{100 * share:.{1 if 0 < share < 0.0995 else 0}f}\N{NO-BREAK SPACE}%"


def listed_plainly(names: list[str]) -> str:
    """Join names by commas and "and"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def domains_of(adata: AnnData) -> list[Domain]:
    """Describe each domain with spots, in the order of the categories."""
    domains = categories(adata, keys.DOMAIN)
    names = [str(name) for name in domains.categories]
    colors = hex_colors(adata, keys.DOMAIN, domains.categories)
    confidence = numbers_of(adata, keys.CONFIDENCE) if keys.CONFIDENCE in adata.obs else np.full(adata.n_obs, np.nan)
    sections, genes, touching = graph_sections(adata), top_genes(adata, MARKERS), _contacts(adata, domains)
    notes = notes_of_domains(adata)
    labels = {key: categories(adata, key).remove_unused_categories() for key in annotation_keys(adata)}
    described = []
    for code, name in enumerate(names):
        inside = domains.codes == code
        if not inside.any():
            continue
        known = confidence[inside & np.isfinite(confidence)]
        described.append(
            Domain(
                code=code,
                name=name,
                color=colors[code],
                n=int(inside.sum()),
                share=float(inside.mean()),
                confidence=float(known.mean()) if len(known) else None,
                sections=None if sections is None else len(np.unique(sections.codes[inside])),
                like=next(filter(None, (like_of(inside, column) for column in labels.values())), ""),
                genes=genes.get(name, [])[:TOP],
                markers=_markers(adata, name, genes.get(name, [])),
                note=notes.get(name, ""),
                borders=_borders(touching[code], code, names, colors),
                labels=[(key, parts_of(adata, key, inside, column)) for key, column in labels.items()],
            )
        )
    return described


def _markers(adata: AnnData, name: str, genes: list[str]) -> list[Marker]:
    """Get the effects of genes of a domain against the rest."""
    table = adata.uns.get(keys.DOMAIN_GENES)
    if not genes or not isinstance(table, pd.DataFrame) or not {"gene", *Marker._fields} <= set(table.columns):
        return []
    rows = table[(table["domain"].astype(str) == name) & (table["against"].astype(str) == "rest")]
    effects = rows.set_index(rows["gene"].astype(str))[list(Marker._fields[1:])].loc[genes].to_numpy(np.float64)
    return [Marker(gene, *effect.tolist()) for gene, effect in zip(genes, effects, strict=True)]


def _contacts(adata: AnnData, domains: pd.Categorical) -> Ints:
    """Count, among the nearest neighbours of the spots of each domain (row), the spots of each domain (column)."""
    sections, codes = graph_sections(adata), domains.codes.astype(np.intp)
    section = section_codes(sections, adata.n_obs)
    n_domains = len(domains.categories)
    if adata.n_obs < 2:
        return np.zeros((n_domains, n_domains), dtype=np.intp)
    return contacts(tissue_coordinates(adata), codes, section, n_domains=n_domains, n_neighbors=CONTACTS)


def _borders(touching: Ints, own: int, names: list[str], colors: list[str]) -> list[Part]:
    """Get the domains that one touches most."""
    shares = np.where(np.arange(len(touching)) == own, 0, touching) / max(touching.sum() - touching[own], 1)
    order = [code for code in np.argsort(-shares, kind="stable") if shares[code] >= BORDER_FROM]
    return [Part(names[code], float(shares[code]), colors[code]) for code in order]
