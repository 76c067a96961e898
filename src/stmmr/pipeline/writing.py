"""The results of a run or a mapping, published step by step: the domains, the data, then figures and report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stmmr._core import keys
from stmmr._core.checks import InputError
from stmmr._core.shown import domains_shown
from stmmr._core.sources import unchanged
from stmmr._core.version import versions
from stmmr.pipeline import folder as results
from stmmr.pipeline.analyse import carry_out, facts_of
from stmmr.pipeline.steps import attempt, peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Collection

    from anndata import AnnData

    from stmmr._core.files import Unchanged
    from stmmr._core.folders import Draft
    from stmmr.model import StMMR
    from stmmr.pipeline.analyses import AnalysisOptions
    from stmmr.pipeline.options import RewriteOptions


class Report(NamedTuple):
    """What writes the report and the image beside it; the command passes it, as the report builds on this room."""

    page: Callable[..., None]
    """Writes report.html from the data, its path and `run_facts`, what run.json holds."""
    tiles: Callable[..., None]
    """Writes an image at full resolution from the data, the path of the page, the image and its registration."""


@dataclass
class Writing:
    """What the steps of writing a result share."""

    draft: Draft
    adata: AnnData
    facts: dict[str, Any]
    """First entries of run.json."""
    failed: dict[str, Exception]
    """Errors of what is optional, by name."""
    read: Unchanged
    """Files that were read until the end."""
    start: float
    """Time at which the command began."""
    image: dict[str, Any] | None = None
    """The image that the report shows at full resolution, with its registration."""
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Entries of run.json for the analyses."""

    def domains(self) -> None:
        """Write the domains, and publish them if no earlier result would give way."""
        self.read.check()
        results.write_domains(self.adata, self.draft.folder)
        if not self.draft.replaces:
            self._show("analyses", "data", "figures", "report")

    def analyses(self, options: AnalysisOptions, *, model: Callable[[], StMMR] | None, progress: bool) -> None:
        """Carry out the analyses, and lay out the spots."""
        from stmmr import tl

        if options.domain_key != keys.DOMAIN:
            self.facts = self.facts | {"domain_key": options.domain_key}
        outcomes = carry_out(self.adata, options, model=model, progress=progress)
        self.failed |= {name: error for name, error in outcomes.items() if error is not None}
        self.done = facts_of(self.adata, options, outcomes)
        with attempt("UMAP", self.failed):
            tl.umap(self.adata)

    def rest(self, *, source: Path | None, report: Report | None, spatialdata: bool = False) -> None:
        """Write and publish tables and data, whose counts are in `source` where they stayed on disk; then all else."""
        adata, folder = self.adata, self.draft.folder
        key = str(self.facts.get("domain_key", keys.DOMAIN))
        results.write_domains(adata, folder, domain_key=key)
        with domains_shown(adata, key) as shown:
            self.failed |= results.write_tables(shown, folder)
        results.write_data(adata, folder, source=source)
        try:
            self.read.check()
        except InputError:
            if not self.draft.replaces:
                self.draft.withdraw()
            raise
        self._show("figures", "report")
        if spatialdata:
            with attempt("spatialdata.zarr", self.failed):
                results.write_spatialdata(adata, folder / "spatialdata.zarr")
        facts = self._facts()
        with domains_shown(adata, key) as shown, unchanged(shown):
            self.failed |= results.write_figures(shown, folder, options=self.facts["options"])
            if report is not None and self.image is not None:
                write_tiles(shown, folder, self.image, self.failed, report)
            if report is not None:
                write_report(shown, folder, facts, self.failed, report)
        self.read.check()
        results.write_facts(facts | self._failures(), folder)
        self.draft.publish()

    def _show(self, *missing: str) -> None:
        """Publish what there is, and note what is still missing."""
        results.write_facts(self._facts() | self._failures() | {results.UNFINISHED: list(missing)}, self.draft.folder)
        self.draft.show()

    def _facts(self) -> dict[str, Any]:
        return self.facts | {
            "n_obs": self.adata.n_obs,
            "n_vars": self.adata.n_vars,
            "analyses": self.done,
            "stmmr": results.notes_of(self.adata),
            "versions": versions(),
            "seconds_in_all": round(time.perf_counter() - self.start, 3),
            "peak_memory_mb": peak_memory_mb(),
        }

    def _failures(self) -> dict[str, Any]:
        return {"failed": results.failures(self.failed)} if self.failed else {}


def write_again(
    draft: Draft,
    adata: AnnData,
    facts: dict[str, Any],
    failed: dict[str, Exception],
    *,
    counts: Path | None,
    report: Report | None,
    only: Collection[str] = results.CONTENTS.keys(),
    finished: Collection[str] = (),
) -> None:
    """Write and publish a changed result: domains, tables, data, figures, report and run.json.

    Parameters
    ----------
    draft
        The folder, with the files that stay.
    adata
        The data.
    facts
        Entries of run.json.
    failed
        Errors of what is optional; those of this function are added.
    counts
        File of the counts, if they stay on disk.
    report
        Writes the report.
    only
        Figures to draw.
    finished
        Parts that this command has carried out; of others, earlier failures are kept.
    """
    key = str(facts.get("domain_key", keys.DOMAIN))
    results.write_domains(adata, draft.folder, domain_key=key)
    with domains_shown(adata, key) as shown:
        failed |= results.write_tables(shown, draft.folder)
        failed |= results.write_figures(shown, draft.folder, options=facts.get("options"), only=only)
    results.write_data(adata, draft.folder, source=counts)
    if (draft.target / "spatialdata.zarr").exists():
        with attempt("spatialdata.zarr", failed):
            results.write_spatialdata(adata, draft.folder / "spatialdata.zarr")
    facts |= {"stmmr": results.notes_of(adata)}
    with domains_shown(adata, key) as shown:
        if report is not None:
            if wants_tiles(facts) and not (draft.folder / results.TILES).exists():
                image = {name: facts["options"].get(name) for name in ("image", "registration", "um_per_pixel")}
                write_tiles(shown, draft.folder, image | {"image": image["image"] or "full"}, failed, report)
            write_report(shown, draft.folder, facts, failed, report)
    earlier = _still_failed(facts.pop("failed", []), draft.folder, {*finished, *failed})
    if missing := earlier + results.failures(failed):
        facts["failed"] = missing
    results.write_facts(facts, draft.folder)
    draft.publish()


def _still_failed(earlier: list[dict[str, str]], folder: Path, parts: set[str]) -> list[dict[str, str]]:
    """Get the parts that failed in an earlier command, are not among those of this one, and are missing still."""
    return [part for part in earlier if part["part"] not in parts and not (folder / part["part"]).exists()]


def note_report_image(facts: dict[str, Any], options: RewriteOptions) -> None:
    """Note the resolution of the image in the report: as the options say, or else as the earlier command."""
    earlier = facts.get("options", {})
    wanted = options.report_image or earlier.get("report_image", "page")
    others = {name: value for name, value in earlier.items() if name != "report_image"}
    facts["options"] = others | ({"report_image": wanted} if wanted != "page" else {})


def wants_tiles(facts: dict[str, Any]) -> bool:
    """Tell whether the report has its image at full resolution."""
    return bool(facts.get("options", {}).get("report_image") == "full")


def write_tiles(
    adata: AnnData, folder: Path, image: dict[str, Any], failed: dict[str, Exception], report: Report
) -> None:
    """Write an H&E image at full resolution, for the report beside it."""
    with attempt(results.TILES, failed):
        report.tiles(adata, folder / "report.html", **image)


def write_report(
    adata: AnnData, folder: Path, facts: dict[str, Any], failed: dict[str, Exception], report: Report
) -> None:
    """Write report.html."""
    with attempt("report.html", failed):
        report.page(adata, folder / "report.html", run_facts=facts)
