"""Alignment of serial sections: `python -m benchmarks.alignment` writes a table of docs/sections.md.

Olfactory bulbs: 14 landmarks that others set in the images of two sections. Heart and synovium: the registration of the
authors. Neither is read by the alignment.
"""

import logging
import os
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

import stmmr
from benchmarks._table import DATA, ROOT, no_options, write_tables

SYMBOLS = (
    Path(os.environ.get("STMMR_SHARED", ROOT.parent / "shared"))
    / "fixtures/visium_cytassist_whole/filtered_feature_bc_matrix/features.tsv.gz"
)
"""Ensembl identifiers and symbols of mouse genes: one section of the bulb names genes by either."""
SPOT = 200.0
"""µm between the spots of ST v1."""


def main() -> None:
    no_options(__doc__)
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    header = ["sections", "measure", "before", "transport only", "aligned", "best rigid map", "seconds"]
    rows = [header, _bulbs(), *_registered("st_human_heart_9sections"), *_registered("st_synovium_RA2")]
    write_tables("alignment", rows)


def _aligned(adata: AnnData, key: str, z: dict[str, float]) -> tuple[np.ndarray, np.ndarray, float]:
    """Align; get x, y in spots by transport only and by the whole method, and the seconds of the latter."""
    from stmmr.pp import _align

    start = time.perf_counter()
    stmmr.pp.align_sections(adata, key, z=z, um_per_unit=1.0)
    seconds, whole = time.perf_counter() - start, adata.obsm["spatial_3d"][:, :2]
    rounds, _align.ROUNDS = _align.ROUNDS, 0
    stmmr.pp.align_sections(adata, key, z=z, um_per_unit=1.0)
    _align.ROUNDS = rounds
    return adata.obsm["spatial_3d"][:, :2] / SPOT, whole / SPOT, seconds


def _bulbs() -> list[str]:
    """Measure the median distance of the same landmarks in two sections, in spots."""
    symbols = pd.read_csv(SYMBOLS, sep="\t", header=None, index_col=0)[1]
    symbols = symbols[~symbols.duplicated(keep=False)]
    first, second = (stmmr.read(DATA / f"st_mob{number}_img.h5ad") for number in (1, 4))
    second = second[:, second.var_names.isin(symbols.index)].copy()
    second.var_names = symbols[second.var_names].to_numpy()
    marks = []
    for section in (first, second):
        array = section.obs[["array_col", "array_row"]].to_numpy(float)
        map_of_array = np.linalg.lstsq(_with_one(array), section.obsm["spatial"])[0][:2]
        unit = np.sqrt(abs(np.linalg.det(map_of_array))) / SPOT  # pixels per µm
        section.obsm["spatial"] = section.obsm["spatial"] / unit
        del section.uns["spatial"]  # its scale factors are of pixels
        marks.append(np.asarray(section.uns["landmarks"], float) / unit / SPOT)
    both = stmmr.pp.concat_sections({"1": first, "4": second})
    stmmr.pp.expression(both, section_key="section")
    of_second = (both.obs["section"] == "4").to_numpy()
    source = both.obsm["spatial"][of_second] / SPOT
    *moved, seconds = _aligned(both, "section", {"1": 0.0, "4": 10.0})
    distances = [_median(marks[1], marks[0])]
    for xy in moved:  # landmarks move with the spots of their section
        map_of_section = np.linalg.lstsq(_with_one(source), xy[of_second])[0]
        distances.append(_median(_with_one(marks[1]) @ map_of_section, marks[0]))
    distances.append(_median(_fitted(marks[1], marks[0]), marks[0]))
    return ["olfactory bulbs 1, 4", "landmarks, spots", *(f"{value:.2f}" for value in distances), f"{seconds:.1f}"]


def _registered(name: str) -> list[list[str]]:
    """Compare consecutive sections with a registration by others: distance of spots, and error of the rotation."""
    adata = stmmr.read(DATA / f"{name}.h5ad")
    adata.obs["section"] = adata.obs["image"].astype(str).astype("category")
    stmmr.pp.expression(adata, section_key="section")
    theirs = np.asarray(adata.obsm["spatial_3d"], float)
    adata.obsm["spatial"] = SPOT * adata.obs[["array_col", "array_row"]].to_numpy(float)
    names, sections = list(adata.obs["section"].cat.categories), adata.obs["section"].to_numpy()
    z = {section: float(theirs[sections == section, 2].mean()) for section in names}
    raw = adata.obsm["spatial"] / SPOT
    side = -1 if _is_turned_over(theirs, raw, sections, names) else 1
    theirs = theirs[:, :2] * [1, side]
    *moved, seconds = _aligned(adata, "section", z)
    order = sorted(names, key=z.__getitem__)
    distance, turn = [], []
    for xy in (raw, *moved):
        pairs = [np.isin(sections, pair) for pair in pairwise(order)]
        distance.append(np.median([_median(_fitted(theirs[pair], xy[pair], stretch=True), xy[pair]) for pair in pairs]))
        angles = np.array([_angle(theirs[sections == section], xy[sections == section]) for section in order])
        turn.append(np.median(np.abs((np.diff(angles) + 180) % 360 - 180)))
    title = f"{name.removeprefix('st_')}, {len(names)} sections"
    return [
        [title, "registered by the authors, spots", *(f"{value:.2f}" for value in distance), "–", f"{seconds:.1f}"],
        [title, "rotation, degrees", *(f"{value:.0f}" for value in turn), "–", f"{seconds:.1f}"],
    ]


def _is_turned_over(theirs: np.ndarray, raw: np.ndarray, sections: np.ndarray, names: list[str]) -> bool:
    """Tell whether a registration shows the other side of the array: the same in every section."""
    signs = []
    for name in names:
        source, target = (xy[sections == name][:, :2] for xy in (theirs, raw))
        signs.append(np.linalg.det((source - source.mean(0)).T @ (target - target.mean(0))))
    return bool(np.median(np.sign(signs)) < 0)


def _with_one(xy: np.ndarray) -> np.ndarray:
    return np.column_stack([xy, np.ones(len(xy))])


def _median(source: np.ndarray, target: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(source - target, axis=1)))


def _turned(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Find the rotation of centred points that fits best, and the factor by which they would be stretched."""
    u, strength, vt = np.linalg.svd((source - source.mean(0)).T @ (target - target.mean(0)))
    flip = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    return u @ np.diag(flip) @ vt, float((strength * flip).sum() / np.square(source - source.mean(0)).sum())


def _fitted(source: np.ndarray, target: np.ndarray, *, stretch: bool = False) -> np.ndarray:
    """Move points by the rotation and shift, and with `stretch` the factor, that fit best."""
    rotation, factor = _turned(source, target)
    return (factor if stretch else 1.0) * (source - source.mean(0)) @ rotation + target.mean(0)


def _angle(source: np.ndarray, target: np.ndarray) -> float:
    rotation, _ = _turned(source, target)
    return float(np.degrees(np.arctan2(rotation[0, 1], rotation[0, 0])))


if __name__ == "__main__":
    main()
