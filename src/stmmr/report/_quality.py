"""Checks of a run: each with its result, and the threshold above which it warns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.record import recorded
from stmmr._core.sections import graph_sections
from stmmr._core.space import rows_called
from stmmr.image.registered import ON_TISSUE_AT_LEAST
from stmmr.report._layers import numbers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

FEW_COUNTS: Final = 0.1
"""Share of the median library size below which a spot has few counts."""
FEW_COUNTS_AT_MOST: Final = 0.05
SMALL_LIBRARY: Final = 100
OFF_TISSUE_AT_MOST: Final = 1 - ON_TISSUE_AT_LEAST
UNSURE_BELOW: Final = 0.5
UNSURE_AT_MOST: Final = 0.2
AGREEMENT_AT_LEAST: Final = 0.65
SMALL_DOMAIN: Final = 0.01
SHARE_OF_SECTION: Final = 0.01
CHANGED_AT_MOST: Final = 0.1


@dataclass(frozen=True)
class Check:
    """One check."""

    state: Literal["ok", "warning"]
    title: str
    result: str
    note: str
    """Threshold of the warning, and what it may mean."""


def checks_of(adata: AnnData) -> list[Check]:
    """Run every check that applies; warnings come first."""
    every: list[Callable[[AnnData], Iterator[Check]]] = [
        _counts,
        _image,
        _confidence,
        _number,
        _bandwidth,
        _domains,
        _sections,
        _skipped,
        _refined,
        _training,
    ]
    checks = [check for run in every for check in run(adata)]
    return sorted(checks, key=lambda check: check.state == "ok")


def _check(title: str, result: str, note: str, *, bad: bool) -> Check:
    return Check("warning" if bad else "ok", title, result, note)


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"  # so that no line ends between them


def _named(domains: list[str]) -> str:
    return f"domain{'s' if len(domains) > 1 else ''} {', '.join(domains)}" if domains else "none"


def _counts(adata: AnnData) -> Iterator[Check]:
    if keys.LIBRARY_SIZE not in adata.obs:
        return
    size, spots = numbers_of(adata, keys.LIBRARY_SIZE), rows_called(adata)
    if not (size > 0).any():
        return
    median = float(np.median(size[size > 0]))
    yield _check(
        f"Counts per {spots[:-1]}",
        f"median {median:,.0f}",
        f"Warns below {SMALL_LIBRARY}: single genes are then uncertain, and domains rest on many genes together.",
        bad=median < SMALL_LIBRARY,
    )
    few, empty = float(np.mean(size < FEW_COUNTS * median)), int((size == 0).sum())
    yield _check(
        f"{spots.capitalize()} with few counts",
        f"{_percent(few)}" + (f", {empty:,} of them without any" if empty else ""),
        f"Fewer counts than {_percent(FEW_COUNTS, 0)} of the median. Warns above {_percent(FEW_COUNTS_AT_MOST, 0)}: "
        "their domain comes from their neighbours. Remove them if they are in holes or outside of the tissue.",
        bad=few > FEW_COUNTS_AT_MOST,
    )


def _image(adata: AnnData) -> Iterator[Check]:
    step = recorded(adata).get("histology")
    if step is not None:
        share, lowest = float(step["on_tissue"]), ""
        if "on_tissue_by_section" in step:
            share, section = min(zip(np.ravel(step["on_tissue_by_section"]), np.ravel(step["sections"]), strict=True))
            lowest = f" in section {section}, the lowest of all"
        yield _check(
            f"{rows_called(adata).capitalize()} on tissue in the image",
            f"{_percent(share)}{lowest}",
            f"Warns below {_percent(ON_TISSUE_AT_LEAST, 0)}: the image may be shifted, turned or of another section.",
            bad=share < ON_TISSUE_AT_LEAST,
        )
    if keys.PATCH in adata.obs:
        shares = adata.obs[keys.PATCH].value_counts(normalize=True)
        poor = {str(name): share for name, share in shares.items() if name != "tissue" and share > 0}
        yield _check(
            "Patches without sharp tissue",
            ", ".join(f"{name} {_percent(share)}" for name, share in poor.items()) or "none",
            f"Blurred, background or outside of the image. Warns above {_percent(OFF_TISSUE_AT_MOST, 0)} in all: the "
            "image has no information there.",
            bad=sum(poor.values()) > OFF_TISSUE_AT_MOST,
        )


def _confidence(adata: AnnData) -> Iterator[Check]:
    step = recorded(adata).get("consensus", {})
    agreement, other = step.get("agreement"), step.get("alternative")
    if agreement is not None:
        yield _check(
            "Agreement of partitions",
            f"{agreement:.2f}",
            "Mean adjusted Rand index between the partitions and their consensus. Warns below "
            f"{AGREEMENT_AT_LEAST:.2f}: other partitions explain the data almost equally well.",
            bad=agreement < AGREEMENT_AT_LEAST,
        )
    if other is not None and other["key_added"] in adata.obs:
        yield _check(
            "Second answer",
            f"{_percent(other['support'], 0)} of the votes",
            f"They agree on other domains (adjusted Rand index {other['similarity']:.2f} with those shown), which have "
            f"a map here and are obs[{other['key_added']!r}] of the data; {_percent(step['support'], 0)} agree on the "
            "domains, and the others are in between. Both fit the data: choose with biology.",
            bad=False,
        )
    if keys.CONFIDENCE in adata.obs:
        values = numbers_of(adata, keys.CONFIDENCE)
        unsure, missing = float(np.mean(values < UNSURE_BELOW)), float(np.mean(~np.isfinite(values)))
        yield _check(
            f"{rows_called(adata).capitalize()} with an uncertain domain",
            f"{_percent(unsure)}" + (f", confidence missing for {_percent(missing)}" if missing else ""),
            f"Confidence below {UNSURE_BELOW:g}. Warns above {_percent(UNSURE_AT_MOST, 0)}: see where they are. They "
            "are usual at borders, but not in whole areas.",
            bad=unsure + missing > UNSURE_AT_MOST,
        )


def _number(adata: AnnData) -> Iterator[Check]:
    step = recorded(adata).get("number_of_domains")
    if step is None:
        return
    chosen, low, high = (int(step[name]) for name in ("chosen", "lowest", "highest"))
    largest = int(np.max(step["tried"]))
    yield _check(
        "Number of domains",
        f"{chosen} is best" + (f", {low}–{high} fit almost equally well" if low < high else ""),
        f"Warns at 1 and at the largest number tried ({largest}), as there may be more.",
        bad=chosen in (1, largest),
    )


def _bandwidth(adata: AnnData) -> Iterator[Check]:
    graph = recorded(adata).get("spatial_graph", {})
    if "bandwidths_tried" not in graph:
        return
    tried, chosen = np.asarray(graph["bandwidths_tried"]), float(graph["bandwidth"])
    inside = bool(tried.min() < chosen < tried.max())
    where = "inside the range tried" if inside else f"the {'smallest' if chosen <= tried.min() else 'largest'} tried"
    yield _check(
        "Bandwidth of the graph",
        f"{chosen / graph['nearest_neighbour_distance']:.2f} distances between {rows_called(adata)}, {where}",
        "Warns at the end of the range: the best bandwidth may be beyond.",
        bad=not inside,
    )


def _domains(adata: AnnData) -> Iterator[Check]:
    domains, spots = categories(adata, keys.DOMAIN), rows_called(adata)
    n = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    small = [str(name) for name in domains.categories[(n > 0) & (n < SMALL_DOMAIN * adata.n_obs)]]
    missing = float(np.mean(domains.codes < 0))
    yield _check(
        "Small domains",
        _named(small) + (f"; {_percent(missing)} of the {spots} have no domain" if missing else ""),
        f"Fewer than {_percent(SMALL_DOMAIN, 0)} of the {spots}: a thin layer, or outliers. See them on the map.",
        bad=bool(small) or missing > 0,
    )
    if (n > 0).sum() == 1:
        yield Check("warning", "One domain", f"all {spots} are in one", "No different domains were found.")


def _sections(adata: AnnData) -> Iterator[Check]:
    sections = graph_sections(adata)
    if sections is None:
        return
    domains = categories(adata, keys.DOMAIN)
    table = np.zeros((len(domains.categories), len(sections.categories)))
    known = domains.codes >= 0
    np.add.at(table, (domains.codes[known], sections.codes[known]), 1)
    present = table >= np.maximum(SHARE_OF_SECTION * table.sum(axis=0), 1)
    single = [str(name) for name, n in zip(domains.categories, present.sum(axis=1), strict=True) if n == 1]
    yield _check(
        "Domains in one section only",
        _named(single),
        f"With {_percent(SHARE_OF_SECTION, 0)} or more of the {rows_called(adata)} of only one of "
        f"{len(sections.categories)} sections: a tissue that the others lack, or a technical difference.",
        bad=bool(single) and len(sections.categories) > 1,
    )


def _skipped(adata: AnnData) -> Iterator[Check]:
    if skipped := recorded(adata).get("skipped"):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        yield _check("Sections left out", f"{len(skipped)}", reasons, bad=True)


def _refined(adata: AnnData) -> Iterator[Check]:
    step = recorded(adata).get("refine", {}).get(keys.DOMAIN_REFINED)
    if step is not None:
        changed = float(step["changed"])
        yield _check(
            "Changed by the vote of neighbours",
            f"{_percent(changed)}",
            f"Warns above {_percent(CHANGED_AT_MOST, 0)}: domains are scattered instead of continuous areas.",
            bad=changed > CHANGED_AT_MOST,
        )


def _training(adata: AnnData) -> Iterator[Check]:
    loss = recorded(adata).get("history", {}).get("loss", [])
    if len(loss):
        first, last = float(loss[0]), float(loss[-1])
        result = f"loss {first:.3g} to {last:.3g}"
        yield _check("Training", result, "Warns if the loss did not decrease.", bad=not last < first)
