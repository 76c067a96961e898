"""Find the files of a recipe in a copy of the authors' record, and read its sections."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.files import existing, parsing, visible
from stmmr._core.space import rows_called
from stmmr.reproduce._labels import LabelSource
from stmmr.reproduce._recipes import SIZE_KEY, Recipe

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Float32

FEATURES: Final = "X_vit"
"""``obsm``: the authors' image features."""
STORED_FEATURES: Final = ("im_re", FEATURES)
"""Keys of ``obsm`` of an .h5ad that may hold these features."""
SECTION: Final = "section"
"""``obs``: the section of each spot, if several sections are in one table."""


class Section(NamedTuple):
    """One section, or several in one table, without the labels."""

    name: str
    n_domains: int
    adata: AnnData
    labels: list[LabelSource]
    """One source for each section that has labels."""
    size_key: str | None
    notes: tuple[str, ...]

    @property
    def section_key(self) -> str | None:
        """Column of ``obs`` with the section; None if there is only one."""
        return SECTION if SECTION in self.adata.obs else None

    def truth(self) -> pd.Series | None:
        """Read the labels of all spots; None without labels. Call it after the domains are written."""
        if not self.labels:
            return None
        several = self.section_key is not None
        sections = self.adata.obs[SECTION].unique() if several else []
        parts = [source.read() for source in self.labels]
        if several:
            parts = [part.rename(f"{{}}_{name}".format) for part, name in zip(parts, sections, strict=True)]
        labels: pd.Series = pd.concat(parts).reindex(self.adata.obs_names)
        return labels


class Files:
    """The files of one recipe, in the layout of the authors or as .h5ad files.

    Parameters
    ----------
    recipe
        The recipe.
    data
        The unpacked record: its ``Data`` folder, the folder above, or one inside; or a folder with .h5ad files.

    Raises InputError if there are no files of the recipe.
    """

    def __init__(self, recipe: Recipe, data: str | Path) -> None:
        self.recipe, self.data = recipe, existing(data)
        self.root = next((root for root in self._roots() if self._has(root)), None)
        if self.root is None and not any(self.h5ad(section) for section in recipe.sections):
            expected = recipe.folder.format(section="SECTION")
            names = [f"{name.format(section=recipe.default_sections[0])}.h5ad" for name in recipe.h5ad]
            raise InputError(
                f"Expected Data/{expected}/{recipe.counts[0].format(section='SECTION')} as in the authors' record, or "
                f"one of {listed(names)}, in {self.data}, found {listed(visible(self.data))}. Name the folder "
                "that contains Data."
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
        """Get the folder of a section in the authors' layout, if it exists."""
        if self.root is None:
            return None
        folder = self.root / self.recipe.folder.format(section=section)
        return folder if folder.is_dir() else None

    def h5ad(self, section: str) -> Path | None:
        """Get the .h5ad file of a section, if there is one."""
        names = [f"{name.format(section=section)}.h5ad" for name in self.recipe.h5ad]
        candidates = (folder / name for folder in (self.data, self.data / "Data") for name in names)
        return next((path for path in candidates if path.is_file()), None)

    @property
    def available(self) -> list[str]:
        """Sections of the recipe that have files."""
        if self._whole is not None:
            fields = set(self._whole.obs["fov"].astype(str))
            return [section for section in self.recipe.sections if section in fields]
        return [name for name in self.recipe.sections if self.folder(name) or self.h5ad(name)]

    def state(self, section: str) -> list[tuple[str, int, int]]:
        """List the files of a section except those of labels: name, size and time of modification."""
        folder = self.folder(section) or self.h5ad(section)
        if folder is None:
            return []
        labels = self.recipe.labels
        label_files = {name.format(section=section) for name in labels.files} if labels else set()
        files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
        return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.name not in label_files]

    @cached_property
    def _whole(self) -> AnnData | None:
        """Table with all fields of view of a CosMx recipe; None for other recipes."""
        from stmmr.io import read_cosmx, read_h5ad

        if self.recipe.layout != "cosmx":
            return None
        folder, file = self.folder(self.recipe.sections[0]), self.h5ad("")
        if folder is None:
            assert file is not None  # noqa: S101 - one of both exists
            adata = read_h5ad(file)
            if "fov" not in adata.obs:
                raise InputError(f"Expected a column fov in obs of {file}, found {listed(adata.obs)}. Add it.")
            return adata
        self._require_counts(folder, self.recipe.sections[0])
        return read_cosmx(folder)

    def read(self, section: str) -> Section:
        """Read one section.

        Raises InputError if a file is missing, damaged, or belongs to other spots.
        """
        folder, file = self.folder(section), self.h5ad(section)
        if folder is None and file is None:
            raise InputError(
                f"Expected the section {section!r} as {self.recipe.folder.format(section=section)} or "
                f"{self.recipe.h5ad[0].format(section=section)}.h5ad in {self.data}, found the sections "
                f"{listed(self.available)}. Name one of them."
            )
        adata, notes = self._read_data(folder, file, section)
        sources = self._labels(adata, folder, section)
        if not sources:
            notes.append("no labels")
        for source in sources:
            source.check()
        size_key = SIZE_KEY if SIZE_KEY in adata.obs else None
        if size_key is not None:
            notes.append(f"only some of the genes: library size from obs[{size_key!r}]")
        return Section(section, self.recipe.number(section), adata, sources, size_key, tuple(notes))

    def _read_data(self, folder: Path | None, file: Path | None, section: str) -> tuple[AnnData, list[str]]:
        """Read counts, positions and image features; get notes for the table as well."""
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
        stored = next((key for key in STORED_FEATURES if key in adata.obsm), None)
        path = folder and self._first(folder, self.recipe.features, section)
        if path:
            adata.obsm[FEATURES], more = _image_features(path, adata, by_order=self.recipe.layout == "cosmx")
            notes += more
        elif stored is not None:
            adata.obsm[FEATURES] = np.asarray(adata.obsm.pop(stored), dtype=np.float32)
        return adata, notes

    def _labels(self, adata: AnnData, folder: Path | None, section: str) -> list[LabelSource]:
        """Find the labels; a column of labels is removed from the data."""
        if self.recipe.labels is None:
            return []
        for name in self.recipe.labels.columns:
            if name in adata.obs:
                return [LabelSource(self.recipe.labels, adata.obs_names, stored=adata.obs.pop(name))]
        path = folder and self._first(folder, self.recipe.labels.files, section)
        return [LabelSource(self.recipe.labels, adata.obs_names, path=path)] if path else []

    def _first(self, folder: Path, names: tuple[str, ...], section: str) -> Path | None:
        paths = (folder / name.format(section=section) for name in names)
        return next((path for path in paths if path.is_file()), None)

    def _require_counts(self, folder: Path, section: str) -> Path:
        """Find the file with the counts, or raise an error that lists expected and existing files."""
        from stmmr.io._visium import find_matrix

        path = self._first(folder, self.recipe.counts, section)
        if path is None and self.recipe.layout == "visium":
            path = find_matrix(folder)
        if path is None and self.recipe.layout == "cosmx":
            from stmmr.io._cosmx import find_cosmx

            path = (find_cosmx(folder) or (None,))[0]
        if path is None:
            names = " or ".join(name.format(section=section) for name in self.recipe.counts)
            raise InputError(
                f"Expected the counts of section {section} as {names} in {folder}, found {listed(visible(folder))}. "
                "Complete the folder as in the authors' record."
            )
        return path


def _field(whole: AnnData, section: str) -> AnnData:
    """Copy one field of view, with positions within it."""
    adata = whole[whole.obs["fov"].astype(str) == section].copy()
    local = ["CenterX_local_px", "CenterY_local_px"]
    if set(local) <= set(adata.obs.columns):
        adata.obsm[keys.SPATIAL] = adata.obs[local].to_numpy(np.float64)
    return adata


def _read_spots(file: Path) -> tuple[AnnData, list[str]]:
    """Read a table of genes × spots, and the positions in ``spatial_location.csv`` beside it."""
    from anndata import AnnData

    from stmmr.io._flat import read_counts_table, read_frame

    positions_file = file.with_name("spatial_location.csv")
    if not positions_file.is_file():
        raise InputError(
            f"Expected the positions of the spots as {positions_file.name} beside {file}, found "
            f"{listed(visible(file.parent))}. Complete the folder as in the authors' record."
        )
    counts, positions = read_counts_table(file), read_frame(positions_file)
    positions = positions.set_index(positions.columns[0])
    spots, notes = pd.Index(counts.columns), []
    if not {"x", "y"} <= set(positions.columns) or len(positions) != len(spots):
        raise InputError(
            f"Expected columns x and y for the {len(spots)} spots of {file.name} in {positions_file}, found "
            f"{len(positions)} rows of {listed(positions.columns)}. Use both files of the same section."
        )
    if set(spots) == set(positions.index):
        positions = positions.loc[spots]
    else:
        notes.append("spots have other names in counts and positions: matched by their order, as the authors did")
    genes = pd.Index(counts.ids.iloc[:, 0].to_numpy())
    adata = AnnData(counts.values.T.tocsr(), pd.DataFrame(index=positions.index), pd.DataFrame(index=genes))
    adata.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]] = positions[["x", "y"]].to_numpy()
    adata.obsm[keys.SPATIAL] = positions[["x", "y"]].to_numpy(np.float64)
    return adata, notes


def _image_features(path: Path, adata: AnnData, *, by_order: bool) -> tuple[Float32, list[str]]:
    """Read image features by name or, for the cells of a field of view, by their sorted order."""
    with parsing(path, expected="a table of image features"):
        table = pd.read_csv(path, index_col=0)
        features = table.to_numpy(np.float32)
    names, table_names = adata.obs_names, pd.Index(table.index.astype(str))
    positions = table_names.get_indexer(names) if table_names.is_unique else np.full(len(names), -1)
    if (positions >= 0).all():
        return features[positions], []
    if by_order and len(table) == len(names):
        order, cells = np.argsort(table.index.to_numpy(), kind="stable"), [int(name.split("_")[0]) for name in names]
        matched = np.empty_like(features)
        matched[np.argsort(cells, kind="stable")] = features[order]
        return matched, ["image features matched by the order of the cells, as the authors did"]
    raise InputError(
        f"Expected image features for all {len(names)} {rows_called(adata)} (such as {names[0]}) in {path}, found them "
        f"for {int((positions >= 0).sum())}; names in the file are {listed(table_names[:2])}. Use the file of the same "
        "section, or remove it."
    )


def joined(sections: list[Section], n_domains: int) -> Section:
    """Put several sections into one table with the genes of all; genes that a section lacks are zero there."""
    import anndata as ad

    labelled = [section for section in sections if section.labels]
    if labelled and len(labelled) < len(sections):
        logger.warning("Only %d of %d sections have labels. They are not read.", len(labelled), len(sections))
    tables = {section.name: section.adata for section in sections}
    widths = [table.obsm[FEATURES].shape[1] if FEATURES in table.obsm else 0 for table in tables.values()]
    notes = list(dict.fromkeys(note for section in sections for note in section.notes))
    if len(set(widths)) > 1:
        notes.append("image features left out: some sections lack them, or their number differs")
        tables = {name: _without(table, FEATURES) for name, table in tables.items()}
    adata = ad.concat(tables, join="outer", label=SECTION, index_unique="_", fill_value=0)
    size_key = sections[0].size_key if len({section.size_key for section in sections}) == 1 else None
    labels = [source for section in labelled for source in section.labels] if len(labelled) == len(sections) else []
    return Section("+".join(tables), n_domains, adata, labels, size_key, tuple(notes))


def _without(adata: AnnData, key: str) -> AnnData:
    adata.obsm.pop(key, None)
    return adata
