"""The analyses of the stMMR paper as recipes, the published model beside the default and the linear baseline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from stmmr._core.checks import InputError, listed, logger, require_choice, require_positive
from stmmr.reproduce._methods import Preset
from stmmr.reproduce._recipes import Recipe, recipe_of

if TYPE_CHECKING:
    import pandas as pd

    from stmmr.reproduce._layout import Files, Section
    from stmmr.reproduce._methods import Asked
    from stmmr.reproduce._table import Rows

__all__ = ["reproduce"]


def reproduce(
    dataset: str,
    data: str | Path,
    output: str | Path,
    *,
    sections: tuple[str, ...] = (),
    together: bool = False,
    presets: tuple[Preset, ...] = ("line", "default", "auto", "paper"),
    n_seeds: int = 1,
    epochs: int | None = None,
    width: int | None = None,
    root_domain: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run an analysis of the stMMR paper, with its authors' settings and with the default, side by side in one table.

    Each run is kept as soon as it is done, and the same call goes on where it was stopped. Labels are read when the
    domains of a run are written, to compare them; the authors' code kept the epoch that agreed best with the labels,
    which is not reproduced: `paper` is the model after its last epoch.

    Parameters
    ----------
    dataset
        dlpfc, breast-cancer, chicken-heart, mouse-brain, pdac, cosmx-lung or visium-hd.
    data
        The authors' record (10.5281/zenodo.13866898) as it was unpacked, with the folder Data in it; or a folder with
        an .h5ad for each section, such as 151673.h5ad.
    output
        Folder for the table (table.csv, table.md), a row for each run (rows.csv) and the domains of each.
    sections
        Which sections, such as 151507 of dlpfc, D4 of chicken-heart or the number of a field of view of cosmx-lung;
        left out, those that the paper shows and that are there.
    together
        Whether several sections of dlpfc are put into one model, 151673 to 151676 where none are named, instead of one
        model for each.
    presets
        Which rows: "line", the linear baseline; "default", told the paper's number of domains; "auto", the default
        that finds that number as well; "paper", the published model with the authors' settings for this data set.
    n_seeds
        How often each is run, with the seeds 110 (the authors'), 111 and so on.
    epochs
        Epochs of `paper`, where those of the authors take too long; the table says how many they were.
    width
        Width of `paper`, likewise.
    root_domain
        Domain that the pseudotime of chicken-heart starts in; left out, or where a run has no such domain, by the rule
        of `stmmr.tl.trajectory`.
    progress
        Whether to show progress bars.

    Returns
    -------
    One row per section and preset: domains, ARI and NMI with the labels (median over seeds, standard deviation), how
    well seeds agree with each other and with `default` (median ARI of pairs of partitions), seconds, the largest memory
    of the process while it ran, and what is to be known. Of several sections, their mean and median as well.

    Raises
    ------
    InputError
        If there is no such recipe or section, a file is missing or of other places, or the output holds another data
        set's table; before the first run.
    """
    from stmmr.reproduce._layout import Files
    from stmmr.reproduce._table import Rows, state_of

    recipe, output = recipe_of(dataset), Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"Expected a folder as output, found the file {output}. Choose another --output.")
    if not presets:
        raise InputError(f"Expected presets among {listed(get_args(Preset))}, found none.")
    for preset in presets:
        require_choice(preset, get_args(Preset), name="preset")
    for name, number in {"n_seeds": n_seeds, "epochs": epochs, "width": width}.items():
        if number is not None:
            require_positive(number, name=name)
    files = Files(recipe, data)
    chosen = _chosen(recipe, files, sections, together=together)
    groups = [chosen] if together else [(name,) for name in chosen]
    states = {"+".join(names): state_of([f for name in names for f in files.state(name)]) for names in groups}
    rows = Rows(output, dataset, states)
    for names in groups:  # what is wrong with any of them is said before the first long run
        _read(files, names)
    published = (recipe.together if together else None) or recipe.paper
    asked = _asked(recipe, presets, n_seeds, published=published, epochs=epochs, width=width)
    for names in groups:
        section = _read(files, names)
        for each in asked:
            own = replace(each, root_domain=root_domain if recipe.pseudotime else None, progress=progress)
            _take(rows, section, own, state=states[section.name])
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


def _asked(
    recipe: Recipe, presets: tuple[Preset, ...], n_seeds: int, *, published: Any, epochs: int | None, width: int | None
) -> list[Asked]:
    """List the runs of a section."""
    from stmmr.reproduce._methods import Asked, reduced

    said = ""
    if "paper" in presets:
        published, said = reduced(published, epochs=epochs, width=width)
    return [
        Asked(preset=preset, seed=seed, published=published, pseudotime=recipe.pseudotime, reduced=said)
        for preset in presets
        for seed in range(n_seeds)
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
        "root": (asked.root_domain or "") if asked.preset != "line" else "",
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
