"""Finding the files of a recipe in a copy of the authors' record, and reading its sections."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.files import existing, parsing, visible
from stmmr.reproduce._labels import LabelSource
from stmmr.reproduce._recipes import SIZE_KEY, Recipe

if TYPE_CHECKING:
    from anndata import AnnData

FEATURES: Final = "X_vit"
"""``obsm``: the authors' features of the picture."""
GIVEN_FEATURES: Final = ("im_re", FEATURES)
"""Keys of ``obsm`` of an .h5ad that may hold them."""
SECTION: Final = "section"
"""``obs``: where several sections are in one table."""


class Section(NamedTuple):
    """One section, or several in one table, with everything but the labels."""

    name: str
    n_domains: int
    adata: AnnData
    labels: list[LabelSource]
    """One for each section that has labels."""
    size_key: str | None
    notes: tuple[str, ...]

    @property
    def section_key(self) -> str | None:
        """Column of ``obs`` with the section, where there are several."""
        return SECTION if SECTION in self.adata.obs else None

    def truth(self) -> pd.Series | None:
        """Read the labels of all places; None where there are none. Nothing that is still to be decided sees them."""
        if not self.labels:
            return None
        several = self.section_key is not None
        sections = self.adata.obs[SECTION].unique() if several else []
        parts = [source.read() for source in self.labels]
        if several:
            parts = [part.rename(f"{{}}_{name}".format) for part, name in zip(parts, sections, strict=True)]
        found: pd.Series = pd.concat(parts).reindex(self.adata.obs_names)
        return found


class Files:
    """The files of one recipe, in whichever way they are there.

    Parameters
    ----------
    recipe
        What is looked for.
    data
        The record as it was unpacked: its ``Data`` folder, the folder above, or one inside; or a folder with .h5ad
        files.

    Raises
    ------
    InputError
        If nothing of the recipe is there.
    """

    def __init__(self, recipe: Recipe, data: str | Path) -> None:
        self.recipe, self.data = recipe, existing(data)
        self.root = next((root for root in self._roots() if self._has(root)), None)
        if self.root is None and not any(self.h5ad(section) for section in recipe.sections):
            expected = recipe.folder.format(section="SECTION")
            names = [f"{name.format(section=recipe.taken[0])}.h5ad" for name in recipe.h5ad]
            raise InputError(
                f"Expected Data/{expected}/{recipe.counts[0].format(section='SECTION')} as in the authors' record, or "
                f"one of {listed(names)}, in {self.data}, found {listed(visible(self.data))}. Give the folder that "
                "Data lies in."
            )

    def _roots(self) -> list[Path]:
        """List the folders that may be ``Data``."""
        above = [folder for folder in self.data.parents[:2] if self._leads_to(folder)]
        return [self.data / "Data", self.data, *above]

    def _leads_to(self, root: Path) -> bool:
        folders = [root / self.recipe.folder.format(section=name) for name in self.recipe.sections]
        return any(self.data == folder or self.data in folder.parents for folder in folders)

    def _has(self, root: Path) -> bool:
        return any((root / self.recipe.folder.format(section=name)).is_dir() for name in self.recipe.sections)

    def folder(self, section: str) -> Path | None:
        """Get the folder of a section in the authors' layout, if it is there."""
        if self.root is None:
            return None
        folder = self.root / self.recipe.folder.format(section=section)
        return folder if folder.is_dir() else None

    def h5ad(self, section: str) -> Path | None:
        """Get the .h5ad that stands for it, if there is one."""
        names = [f"{name.format(section=section)}.h5ad" for name in self.recipe.h5ad]
        at = (folder / name for folder in (self.data, self.data / "Data") for name in names)
        return next((path for path in at if path.is_file()), None)

    @property
    def available(self) -> list[str]:
        """The sections of the recipe that are there."""
        if self._whole is not None:
            fields = set(self._whole.obs["fov"].astype(str))
            return [section for section in self.recipe.sections if section in fields]
        return [name for name in self.recipe.sections if self.folder(name) or self.h5ad(name)]

    def state(self, section: str) -> list[tuple[str, int, int]]:
        """List the files that a section is read from, with size and time, without those of the labels."""
        folder = self.folder(section) or self.h5ad(section)
        if folder is None:
            return []
        labels = self.recipe.labels
        left_out = {name.format(section=section) for name in labels.files} if labels else set()
        files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
        return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.name not in left_out]

    @cached_property
    def _whole(self) -> AnnData | None:
        """The one table that all fields of view are in; None for other recipes."""
        from stmmr.io import read_cosmx, read_h5ad

        if self.recipe.layout != "cosmx":
            return None
        folder, file = self.folder(self.recipe.sections[0]), self.h5ad("")
        if folder is None:
            assert file is not None  # noqa: S101 - one of both was found
            adata = read_h5ad(file)
            if "fov" not in adata.obs:
                raise InputError(f"Expected a column fov in obs of {file}, found {listed(adata.obs)}. Add it.")
            return adata
        self._require_counts(folder, self.recipe.sections[0])
        return read_cosmx(folder)

    def read(self, section: str) -> Section:
        """Read one section.

        Raises
        ------
        InputError
            If a file is missing, damaged, or of other places.
        """
        folder, file = self.folder(section), self.h5ad(section)
        if folder is None and file is None:
            raise InputError(
                f"Expected the section {section!r} as {self.recipe.folder.format(section=section)} or "
                f"{self.recipe.h5ad[0].format(section=section)}.h5ad in {self.data}, found the sections "
                f"{listed(self.available)}. Name one of them."
            )
        adata, notes = self._places(folder, file, section)
        sources = self._labels(adata, folder, section)
        if not sources:
            notes.append("no labels")
        for source in sources:
            source.check()
        size_key = SIZE_KEY if SIZE_KEY in adata.obs else None
        if size_key is not None:
            notes.append(f"part of the genes: library size from obs[{size_key!r}]")
        return Section(section, self.recipe.number(section), adata, sources, size_key, tuple(notes))

    def _places(self, folder: Path | None, file: Path | None, section: str) -> tuple[AnnData, list[str]]:
        """Read counts, positions and features of the picture."""
        from stmmr.io import read_h5ad, read_visium

        notes: list[str] = []
        if self._whole is not None:
            adata = _field(self._whole, section)
        elif folder is None or self.recipe.layout == "h5ad":
            adata = read_h5ad(file if folder is None and file else self._require_counts(folder or self.data, section))
        elif self.recipe.layout == "table":
            adata, notes = _read_spots(self._require_counts(folder, section))
        else:
            adata = read_visium(self._require_counts(folder, section))
        given = next((key for key in GIVEN_FEATURES if key in adata.obsm), None)
        path = folder and self._first(folder, self.recipe.features, section)
        if path:
            adata.obsm[FEATURES], said = _features(path, adata.obs_names, by_order=self.recipe.layout == "cosmx")
            notes += said
        elif given is not None:
            adata.obsm[FEATURES] = np.asarray(adata.obsm.pop(given), dtype=np.float32)
        return adata, notes

    def _labels(self, adata: AnnData, folder: Path | None, section: str) -> list[LabelSource]:
        """Find the labels; those that came with the data are taken out of them."""
        if self.recipe.labels is None:
            return []
        for name in self.recipe.labels.columns:
            if name in adata.obs:
                return [LabelSource(self.recipe.labels, adata.obs_names, kept=adata.obs.pop(name))]
        path = folder and self._first(folder, self.recipe.labels.files, section)
        return [LabelSource(self.recipe.labels, adata.obs_names, path=path)] if path else []

    def _first(self, folder: Path, names: tuple[str, ...], section: str) -> Path | None:
        paths = (folder / name.format(section=section) for name in names)
        return next((path for path in paths if path.is_file()), None)

    def _require_counts(self, folder: Path, section: str) -> Path:
        """Find the counts, or say which files were expected and which are there."""
        from stmmr.io._visium import find_matrix

        found = self._first(folder, self.recipe.counts, section)
        if found is None and self.recipe.layout == "visium":
            found = find_matrix(folder)
        if found is None and self.recipe.layout == "cosmx":
            from stmmr.io._cosmx import find_cosmx

            found = (find_cosmx(folder) or (None,))[0]
        if found is None:
            names = " or ".join(name.format(section=section) for name in self.recipe.counts)
            raise InputError(
                f"Expected the counts of section {section} as {names} in {folder}, found {listed(visible(folder))}. "
                "Complete the folder as in the authors' record."
            )
        return found


def _field(whole: AnnData, section: str) -> AnnData:
    """Take one field of view, with positions within it."""
    adata = whole[whole.obs["fov"].astype(str) == section].copy()
    local = ["CenterX_local_px", "CenterY_local_px"]
    if set(local) <= set(adata.obs.columns):
        adata.obsm[keys.SPATIAL] = adata.obs[local].to_numpy(np.float64)
    return adata


def _read_spots(file: Path) -> tuple[AnnData, list[str]]:
    """Read a table of genes × spots and the positions beside it, in ``spatial_location.csv``."""
    from anndata import AnnData

    from stmmr.io._flat import read_counts_table, read_frame

    at = file.with_name("spatial_location.csv")
    if not at.is_file():
        raise InputError(
            f"Expected the positions of the spots as {at.name} beside {file}, found {listed(visible(file.parent))}. "
            "Complete the folder as in the authors' record."
        )
    counts, positions = read_counts_table(file), read_frame(at)
    positions = positions.set_index(positions.columns[0])
    spots, notes = pd.Index(counts.columns), []
    if not {"x", "y"} <= set(positions.columns) or len(positions) != len(spots):
        raise InputError(
            f"Expected columns x and y for the {len(spots)} spots of {file.name} in {at}, found {len(positions)} rows "
            f"of {listed(positions.columns)}. Take both files of the same section."
        )
    if set(spots) == set(positions.index):
        positions = positions.loc[spots]
    else:
        notes.append("spots are named otherwise in counts and positions: matched by their order, as the authors did")
    genes = pd.Index(counts.ids.iloc[:, 0].to_numpy())
    adata = AnnData(counts.values.T.tocsr(), pd.DataFrame(index=positions.index), pd.DataFrame(index=genes))
    adata.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]] = positions[["x", "y"]].to_numpy()
    adata.obsm[keys.SPATIAL] = positions[["x", "y"]].to_numpy(np.float64)
    return adata, notes


def _features(path: Path, names: pd.Index, *, by_order: bool) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Read features of the picture by name or, of the cells of a field of view, by their sorted order."""
    with parsing(path, expected="a table of features of the picture"):
        table = pd.read_csv(path, index_col=0)
        values = table.to_numpy(np.float32)
    named = pd.Index(table.index.astype(str))
    at = named.get_indexer(names) if named.is_unique else np.full(len(names), -1)
    if (at >= 0).all():
        return values[at], []
    if by_order and len(table) == len(names):
        order, cells = np.argsort(table.index.to_numpy(), kind="stable"), [int(name.split("_")[0]) for name in names]
        found = np.empty_like(values)
        found[np.argsort(cells, kind="stable")] = values[order]
        return found, ["features of the picture matched by the order of the cells, as the authors did"]
    raise InputError(
        f"Expected features of the picture for all {len(names)} places in {path} (such as {names[0]}), found them for "
        f"{int((at >= 0).sum())}; it is of {listed(named[:2])}. Take the file of the same section, or remove it."
    )


def joined(sections: list[Section], n_domains: int) -> Section:
    """Put several sections into one table: all genes of any of them, zeros where a section has none."""
    import anndata as ad

    labelled = [section for section in sections if section.labels]
    if labelled and len(labelled) < len(sections):
        logger.warning("Labels are there for %d of %d sections: not read.", len(labelled), len(sections))
    tables = {section.name: section.adata for section in sections}
    shapes = [table.obsm[FEATURES].shape[1] if FEATURES in table.obsm else 0 for table in tables.values()]
    notes = list(dict.fromkeys(note for section in sections for note in section.notes))
    if len(set(shapes)) > 1:
        notes.append("features of the picture left out: not of every section, or of different width")
        tables = {name: _without(table, FEATURES) for name, table in tables.items()}
    adata = ad.concat(tables, join="outer", label=SECTION, index_unique="_", fill_value=0)
    size_key = sections[0].size_key if len({section.size_key for section in sections}) == 1 else None
    labels = [source for section in labelled for source in section.labels] if len(labelled) == len(sections) else []
    return Section("+".join(tables), n_domains, adata, labels, size_key, tuple(notes))


def _without(adata: AnnData, key: str) -> AnnData:
    adata.obsm.pop(key, None)
    return adata
