"""The analyses of the stMMR paper as recipes, the published model beside the default and the linear baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmmr._core.checks import InputError, listed, logger
from stmmr.pipeline.options import shows_options, with_changes
from stmmr.reproduce._options import ReproduceOptions
from stmmr.reproduce._recipes import Recipe, recipe_of

if TYPE_CHECKING:
    import pandas as pd

    from stmmr.reproduce._layout import Files, Section
    from stmmr.reproduce._methods import Asked
    from stmmr.reproduce._table import Rows

__all__ = ["ReproduceOptions", "reproduce"]


@shows_options(ReproduceOptions)
def reproduce(
    dataset: str,
    data: str | Path,
    output: str | Path,
    options: ReproduceOptions | None = None,
    **changes: Any,
) -> pd.DataFrame:
    """Run an analysis of the stMMR paper: the authors' settings, the default and the linear baseline in one table.

    Each run is kept as soon as it is finished, and the same call continues where it was stopped. Labels are read only
    when the domains of a run are written, to compare them. The authors' code kept the epoch that agreed best with the
    labels; that is not reproduced: "paper" is the model after its last epoch.

    Parameters
    ----------
    dataset
        dlpfc, breast-cancer, chicken-heart, mouse-brain, pdac, cosmx-lung or visium-hd.
    data
        The authors' record (10.5281/zenodo.13866898), unpacked, with the folder Data in it; or a folder with an .h5ad
        for each section, such as 151673.h5ad.
    output
        Folder for the table (table.csv, table.md), a row for each run (rows.csv) and the domains of each.
    options
        Options of the reproduction.
    **changes
        Single options by name, such as ``n_seeds=3``: any attribute of `stmmr.reproduce.ReproduceOptions`.

    Returns
    -------
    One row per section and preset: domains, ARI and NMI with the labels (median over seeds, standard deviation), how
    well seeds agree with each other and with "default" (median ARI of pairs of partitions), seconds, the peak memory of
    the process, and notes. For several sections, their mean and median as well.

    Raises
    ------
    InputError
        If there is no such recipe or section, a file is missing or of other spots, or the output holds the table of
        another data set; before the first run.
    TypeError
        If there is no option of a name.
    """
    from stmmr.reproduce._layout import Files
    from stmmr.reproduce._table import Rows, state_of

    options = with_changes(ReproduceOptions, options, changes, function="reproduce")
    recipe, output = recipe_of(dataset), Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"Expected a folder as output, found the file {output}. Choose another --output.")
    files = Files(recipe, data)
    chosen = _chosen(recipe, files, tuple(options.sections), together=options.together)
    groups = [chosen] if options.together else [(name,) for name in chosen]
    states = {"+".join(names): state_of([f for name in names for f in files.state(name)]) for names in groups}
    rows = Rows(output, dataset, states)
    for names in groups:  # so that a damaged section is reported before the first long run
        _read(files, names)
    runs = _runs(recipe, options)
    for names in groups:
        section = _read(files, names)
        for each in runs:
            _take(rows, section, each, state=states[section.name])
    return rows.write()


def _chosen(recipe: Recipe, files: Files, sections: tuple[str, ...], *, together: bool) -> tuple[str, ...]:
    """Settle which sections are run."""
    if together and recipe.together is None:
        raise InputError(f"Expected dlpfc for several sections together, found {recipe.title}. Leave together out.")
    unknown = [name for name in sections if name not in recipe.sections]
    if unknown:
        raise InputError(f"Expected sections among {listed(recipe.sections, at_most=20)}, found {listed(unknown)}.")
    there = files.available
    missing = [name for name in sections if name not in there]
    if missing:
        files.read(missing[0])  # says where it should be
    if sections:
        return tuple(dict.fromkeys(sections))
    wanted = recipe.four if together else recipe.taken
    chosen = tuple(name for name in wanted if name in there)
    if left := [name for name in wanted if name not in chosen]:
        logger.warning("Not there, and left out: %s.", listed(left, at_most=20))
    if not chosen:
        raise InputError(f"Expected one of the sections {listed(wanted)}, found {listed(there)}. Name one (--section).")
    return chosen


def _read(files: Files, names: tuple[str, ...]) -> Section:
    from stmmr.reproduce._layout import joined

    read = [files.read(name) for name in names]
    return read[0] if len(read) == 1 else joined(read, max(section.n_domains for section in read))


def _runs(recipe: Recipe, options: ReproduceOptions) -> list[Asked]:
    """List the runs of a section."""
    from stmmr.reproduce._methods import Asked, reduced

    published, note = (recipe.together if options.together else None) or recipe.paper, ""
    if "paper" in options.presets:
        published, note = reduced(published, epochs=options.epochs, width=options.width)
    return [
        Asked(
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


def _take(rows: Rows, section: Section, asked: Asked, *, state: str) -> None:
    """Run one preset on one section, unless that is done, and keep what came of it."""
    from stmmr.reproduce._methods import measured

    is_paper = asked.preset == "paper"
    key = {
        "section": section.name,
        "preset": asked.preset,
        "epochs": asked.published.epochs if is_paper else 0,
        "width": asked.published.width if is_paper else 0,
        "root": (asked.root_domain or "") if asked.preset != "baseline" else "",
        "seed": asked.random_state,
    }
    if rows.done(key):
        if section.name not in rows.truth:
            rows.truth[section.name] = section.truth()
    else:
        logger.info("%s, %s, seed %d:", section.name, asked.preset, asked.random_state)
        unfinished = rows.folder / ".unfinished"
        unfinished.mkdir(exist_ok=True)
        checkpoint = unfinished / f"{rows.domains_at(key).stem}_{state}.safetensors"
        figure = rows.folder / "figures" / f"{rows.domains_at(key).stem}.png"
        facts, domains = measured(section, asked, checkpoint=checkpoint, figure=figure)
        asked_for = "auto" if asked.preset == "auto" else str(section.n_domains)
        row = key | {"dataset": rows.dataset, "domains_asked": asked_for, "state": state} | facts
        rows.add(row, domains, truth=section.truth)
        checkpoint.unlink(missing_ok=True)
        if not any(unfinished.iterdir()):
            unfinished.rmdir()
