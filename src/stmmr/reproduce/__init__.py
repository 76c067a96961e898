"""The analyses of the stMMR paper as recipes: the published model, the default and the linear baseline in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmmr._core.checks import InputError, listed, logger
from stmmr._core.locks import locked
from stmmr._core.options import shows_options, with_changes
from stmmr.reproduce._options import ReproduceOptions
from stmmr.reproduce._recipes import Recipe, recipe_of

if TYPE_CHECKING:
    import pandas as pd

    from stmmr.reproduce._layout import Files, Section
    from stmmr.reproduce._methods import RunSpec
    from stmmr.reproduce._table import Rows

__all__ = ["ReproduceOptions", "reproduce"]


@shows_options(ReproduceOptions)
def reproduce(
    dataset: str, data: str | Path, output: str | Path, options: ReproduceOptions | None = None, **changes: Any
) -> pd.DataFrame:
    """Run an analysis of the stMMR paper: the authors' settings, the default and the linear baseline in one table.

    Every run is saved when it finishes, and the same call continues after an interruption. If a run fails, the others
    still finish before its error is raised. Labels are read only after the domains of a run are written, to compare
    them. The authors' code kept the epoch that agreed best with the labels. This is not reproduced: "paper" is the
    model after its last epoch.

    Parameters
    ----------
    dataset
        dlpfc, breast-cancer, chicken-heart, mouse-brain, pdac, cosmx-lung or visium-hd.
    data
        The authors' record (10.5281/zenodo.13866898), unpacked, with the folder Data in it; or a folder with one .h5ad
        for each section, such as 151673.h5ad.
    output
        Folder for the table (table.csv, table.md), the runs (rows.csv, one row for each) and the domains of each run.
    options
        Options of the reproduction.
    **changes
        Single options by name, such as ``n_seeds=3``: any attribute of `stmmr.reproduce.ReproduceOptions`.

    Returns
    -------
    One row per section and preset: domains, ARI and NMI with the labels (median over seeds, standard deviation),
    agreement between seeds and with "default" (median ARI of pairs of partitions), seconds, the peak memory of the
    process, and notes. For several sections, their mean and median as well.

    Raises
    ------
    InputError
        If there is no such recipe or section, a file is missing or belongs to other spots, or the output holds the
        table of another data set, or another process writes there. All of this is checked before the first run.
    TypeError
        If there is no option of a name.
    """
    from stmmr.pipeline.analyse import raise_first

    options = with_changes(ReproduceOptions, options, changes, function="reproduce")
    table, failed = reproduced(dataset, data, output, options)
    raise_first(failed)
    return table


def reproduced(
    dataset: str, data: str | Path, output: str | Path, options: ReproduceOptions
) -> tuple[pd.DataFrame, dict[str, Exception]]:
    """Run an analysis as `reproduce` does; get the errors of the runs that failed as well, unless all did."""
    from stmmr.pipeline.analyse import raise_first
    from stmmr.pipeline.steps import attempt
    from stmmr.reproduce._layout import Files
    from stmmr.reproduce._table import Rows, state_of

    recipe, output = recipe_of(dataset), Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"Expected a folder as output, found the file {output}. Choose another --output.")
    files = Files(recipe, data)
    sections = _sections_to_run(recipe, files, tuple(options.sections), together=options.together)
    groups = [sections] if options.together else [(name,) for name in sections]
    states = {"+".join(names): state_of([f for name in names for f in files.state(name)]) for names in groups}
    failed: dict[str, Exception] = {}
    with locked(output):
        rows = Rows(output, dataset, states)
        for names in groups:  # so that a damaged section is reported before the first long run
            _read(files, names)
        specs = _run_specs(recipe, options)
        for names in groups:
            section = _read(files, names)
            for spec in specs:
                with attempt(f"{section.name} with {spec.preset}, seed {spec.random_state}", failed):
                    _run_unless_done(rows, section, spec, state=states[section.name])
        if not rows.rows:
            raise_first(failed)
        return rows.write(), failed


def _sections_to_run(recipe: Recipe, files: Files, sections: tuple[str, ...], *, together: bool) -> tuple[str, ...]:
    """Get the sections that the options name, or the available ones of those that the paper shows."""
    if together and recipe.together is None:
        raise InputError(
            f"Expected dlpfc for several sections in one model, found {recipe.title}. Leave together (--together) out."
        )
    unknown = [name for name in sections if name not in recipe.sections]
    if unknown:
        raise InputError(f"Expected sections among {listed(recipe.sections, at_most=20)}, found {listed(unknown)}.")
    available = files.available
    missing = [name for name in sections if name not in available]
    if missing:
        files.read(missing[0])  # raises an error that says where the section should be
    if sections:
        return tuple(dict.fromkeys(sections))
    shown = recipe.joint_sections if together else recipe.default_sections
    chosen = tuple(name for name in shown if name in available)
    if left_out := [name for name in shown if name not in chosen]:
        logger.warning("Sections without files are left out: %s.", listed(left_out, at_most=20))
    if not chosen:
        raise InputError(
            f"Expected one of the sections {listed(shown)}, found {listed(available)}. Name another one "
            '(sections=["…"], --section …).'
        )
    return chosen


def _read(files: Files, names: tuple[str, ...]) -> Section:
    """Read a section, or several into one table."""
    from stmmr.reproduce._layout import joined

    sections = [files.read(name) for name in names]
    return sections[0] if len(sections) == 1 else joined(sections, max(section.n_domains for section in sections))


def _run_specs(recipe: Recipe, options: ReproduceOptions) -> list[RunSpec]:
    """List the runs of a section: every preset with every seed."""
    from stmmr.reproduce._methods import RunSpec, reduced

    published, note = (recipe.together if options.together else None) or recipe.paper, ""
    if "paper" in options.presets:
        published, note = reduced(published, epochs=options.epochs, width=options.width)
    return [
        RunSpec(
            preset=preset,
            seed=seed,
            published=published,
            pseudotime=recipe.pseudotime,
            root_domain=options.root_domain if recipe.pseudotime else None,
            reduced=note,
            progress=options.progress,
        )
        for preset in options.presets
        for seed in range(options.n_seeds)
    ]


def _run_unless_done(rows: Rows, section: Section, spec: RunSpec, *, state: str) -> None:
    """Run one preset on one section and save the results, unless this is done already."""
    from stmmr.reproduce._methods import run_preset

    is_paper = spec.preset == "paper"
    key = {
        "section": section.name,
        "preset": spec.preset,
        "epochs": spec.published.epochs if is_paper else 0,
        "width": spec.published.width if is_paper else 0,
        "root": (spec.root_domain or "") if spec.preset != "baseline" else "",
        "seed": spec.random_state,
    }
    if rows.is_done(key):
        if section.name not in rows.truth:
            rows.truth[section.name] = section.truth()
        return
    logger.info("%s, %s, seed %d:", section.name, spec.preset, spec.random_state)
    unfinished = rows.folder / ".unfinished"
    unfinished.mkdir(exist_ok=True)
    checkpoint = unfinished / f"{rows.domains_path(key).stem}_{state}.safetensors"
    figure = rows.folder / "figures" / f"{rows.domains_path(key).stem}.png"
    facts, domains = run_preset(section, spec, checkpoint=checkpoint, figure=figure)
    expected = "auto" if spec.preset == "auto" else str(section.n_domains)
    row = key | {"dataset": rows.dataset, "domains_expected": expected, "state": state} | facts
    rows.add(row, domains, truth=section.truth)
    checkpoint.unlink(missing_ok=True)
    if not any(unfinished.iterdir()):
        unfinished.rmdir()
