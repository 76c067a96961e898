"""A new section on a trained model: embedded and its domains named without training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, require_key, unique_names
from stmmr._core.record import record, recorded
from stmmr._core.sections import graph_sections, sections_of
from stmmr._core.space import coordinates
from stmmr.pipeline.analyses import carry_out, named_rows, raise_first, with_genes
from stmmr.pipeline.asked import Analyses, Before, check
from stmmr.pipeline.folder import MODEL, plain, say_contents, write_account, write_results
from stmmr.pipeline.output import kept_model, opened, stays_on_disk
from stmmr.pipeline.reanalyse import data_in, facts_in
from stmmr.pipeline.run import evaluate_domains, take

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.model import StMMR
    from stmmr.settings import Mode


def map_section(
    adata: AnnData,
    model: StMMR,
    *,
    image: str | Path | NDArray[np.uint8] | None = None,
    registration: str | Path | NDArray[np.float64] | None = None,
    um_per_pixel: float | None = None,
    encoder: str | Path | None = None,
    cache: Path | None = None,
    layer: str | None = None,
    size_key: str | None = None,
    section_key: str | None = None,
    label_key: str | None = None,
    table: str | None = None,
    coordinate_system: str | None = None,
    progress: bool = True,
) -> None:
    """Embed a new section by a trained model, and name its domains by those of the section that it was trained on.

    Parameters
    ----------
    adata
        The new section.
    model
        Trained on the other one, whose domains are known.
    image
        H&E picture, where the model reads one; otherwise the picture in the data.
    registration
        Affine map from coordinates to pixels of the picture, as for the run.
    um_per_pixel
        µm per unit of the coordinates, where the data do not tell.
    encoder
        What describes the picture, where it is not to be found by the name that the training noted.
    cache
        Folder that keeps the features of the picture for other runs.
    layer
        Layer with the raw counts, where X does not hold them.
    size_key
        Column of obs with the library size, where the genes at hand are only part of what was counted.
    section_key
        Column of obs with the section of each place, where there are several.
    label_key
        Column of obs with expert labels to compare with, after everything is decided.
    table
        Name of the table of a SpatialData store, where there are several.
    coordinate_system
        Where its places lie.
    progress
        Whether to show progress bars.

    Raises
    ------
    InputError
        If the section lacks what the model reads; checked before the first long step.
    """
    from stmmr import tl

    trained, sees = model.adata, model.use_histology
    require_key(trained.obs.columns, keys.DOMAIN, where="obs of the section that the model was trained on")
    coordinates(adata)
    sections_of(adata, section_key)
    if label_key is not None:
        require_key(adata.obs.columns, label_key, where="obs")
    unique_names(adata)
    picture = {
        "image": image,
        "registration": registration,
        "um_per_pixel": um_per_pixel,
        "section_key": section_key,
    }
    if sees:
        see = _picture_step(adata, trained, picture, encoder=encoder, cache=cache, progress=progress)

    def embed() -> None:
        where = {"layer": layer, "size_key": size_key, "section_key": section_key}
        model.transform(adata, progress=progress, **where)
        record(adata, mapped={"layer": layer or "", "size_key": size_key or "", "section_key": section_key or ""})

    def domains() -> None:
        tl.transfer_domains(adata, trained)
        tl.refine(adata)

    steps: dict[str, Callable[[], None]] = {"histology": see} if sees else {}
    steps |= {"embedding": embed, "domains": domains}
    for at, (name, step) in enumerate(steps.items(), start=1):
        take(name, step, adata, done=None, at=f"{at}/{len(steps)}")
    if label_key is not None:
        evaluate_domains(adata, label_key)


def _picture_step(
    adata: AnnData,
    trained: AnnData,
    picture: dict[str, Any],
    *,
    encoder: str | Path | None,
    cache: Path | None,
    progress: bool,
) -> Callable[[], None]:
    """Check the picture and the encoder, and get the step that describes it as in the training."""
    from stmmr import pp
    from stmmr.image.sections import registered_images

    before = recorded(trained)["histology"]
    if picture["image"] is None and not pp.has_image(adata):
        raise InputError("Expected a picture, which the model reads, found none. Give image='…' (--image).")
    sees = pp.encoder_of(str(before["encoder"]) if encoder is None else encoder)
    found = registered_images(adata, picture["image"], **{k: v for k, v in picture.items() if k != "image"})
    stain: Literal["macenko"] | None = "macenko" if before["stain"] else None
    how = {"section_key": picture["section_key"], "stain": stain, "cache": cache, "progress": progress}
    return lambda: pp.histology(adata, image=found, encoder=sees, **how)


def map_to_folder(
    source: Path,
    output: Path,
    *,
    result: Path,
    overwrite: bool,
    options: dict[str, Any],
    analyses: Analyses | None = None,
    bin_size: int | None = None,
    mode: Mode = "auto",
    report: bool = True,
) -> None:
    """Read a section, map it and write; the output folder appears whole at the end, or not at all.

    Parameters
    ----------
    source
        What `stmmr.read` takes.
    output
        Folder to make.
    result
        Folder that `stmmr run` wrote for another section.
    overwrite
        Whether an earlier result may be replaced.
    options
        Keyword arguments of `map_section`.
    analyses
        What is asked of the domains; their genes where None.
    bin_size
        Side of Visium HD bins in µm.
    mode
        Where the counts are, as in `run_to_folder`.
    report
        Write report.html, where bokeh is installed.
    """
    from stmmr._core.files import publish_folder
    from stmmr.io._tables import counts_at

    start, given, asked = time.perf_counter(), options, analyses or Analyses()
    progress = options.get("progress", True)
    before = facts_in(result)
    with publish_folder(output, overwrite=overwrite) as folder:
        backed = stays_on_disk(source, mode, table=options.get("table"))
        adata, options = opened(source, options, bin_size=bin_size, backed=backed)
        options.pop("blocks", None)  # of a MuData: what the model reads are expression and pictures
        trained, _ = data_in(result, before)
        domains = [str(name) for name in trained.obs[keys.DOMAIN].cat.categories]
        check(adata, asked, Before.of_run(options)._replace(domains=domains))
        map_section(adata, kept_model(result / MODEL, trained), **options)
        record(adata, mode="disk" if backed else "memory")
        asked = with_genes(adata, asked)
        ended = carry_out(adata, asked, model=None, progress=progress)
        _count(adata, trained, names=(source.stem, _said(before)))
        ended |= write_results(adata, folder, source=counts_at(source, given.get("table")) if backed else None)
        said = {"input": str(source), "model": str(result), "options": plain(given)}
        write_account(adata, folder, said, asked=asked, ended=ended, start=start, report=report)
    say_contents(output)
    raise_first(ended, f"All other results are in {output}; add this one by: stmmr analyse {output} …")


def _said(before: dict[str, Any]) -> str:
    """Name the input of a run, or its inputs."""
    given = before.get("input", "trained")
    return " + ".join(given) if isinstance(given, dict) else Path(str(given)).stem


def _count(adata: AnnData, trained: AnnData, *, names: tuple[str, str]) -> None:
    """Count the domains of the new section beside those of the one that the model was trained on."""
    from anndata import AnnData

    from stmmr import tl

    if names[0] == names[1]:
        names = names[0], f"{names[1]} (trained)"
    both = [_named_places(one, name) for one, name in zip((adata, trained), names, strict=True)]
    light = AnnData(obs=pd.concat(both).set_axis(np.arange(sum(map(len, both))).astype(str)))
    adata.uns[keys.COMPOSITION] = named_rows(tl.composition(light, "section"))


def _named_places(adata: AnnData, name: str) -> pd.DataFrame:
    """Get section and domain of each place."""
    sections = graph_sections(adata)
    section = [name] * adata.n_obs if sections is None else [f"{name} {each}" for each in sections]
    return pd.DataFrame({"section": section, keys.DOMAIN: adata.obs[keys.DOMAIN].array})
