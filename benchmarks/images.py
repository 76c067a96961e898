"""Memory and time of reading large images: `python -m benchmarks.images` writes the last table of docs/images.md."""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from anndata import AnnData

from benchmarks._process import measured
from benchmarks._slides import spots_on, write_slide
from benchmarks._table import DATA, ROOT, write_tables

N_SPOTS = 10_000
WIDTH, HEIGHT = 100_000, 80_000


def main() -> None:
    draw_registration()
    rows = [["image", "pixels", "above the baseline", "seconds in total", "seconds per 1,000 patches", "one thread"]]
    with tempfile.TemporaryDirectory() as folder:
        slide = write_slide(Path(folder) / "slide.ome.tif", width=WIDTH, height=HEIGHT)
        for name, path in (("JPEG", DATA / "st_her2_C2_he.jpg"), ("OME-TIFF", slide)):
            both = [_measured(path, threads) for threads in (2, 1)]
            height, width = both[0]["size"]
            seconds, alone = (row["seconds"] for row in both)
            per = [f"{1000 * s / (3 * N_SPOTS):.2f}" for s in (seconds, alone)]
            rows.append([name, f"{width:,} × {height:,}", f"{both[0]['above_mb']:.0f} MB", f"{seconds:.1f}", *per])
    write_tables("images", rows)


def draw_registration() -> None:
    """Draw the check of the registration: a corner of a simulated tissue, and the same with its image mirrored."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    import stmmr

    mpl.use("Agg")
    whole = stmmr.datasets.simulated_tissue()
    library = whole.uns["spatial"]["simulated"]
    scale, image = library["scalefactors"]["tissue_hires_scalef"], library["images"]["hires"].copy()
    height, width = image.shape[:2]
    image[: height // 3, : width // 2] = image[0, 0]
    image[:, 3 * width // 4 :] = image[0, 0]
    x, y = whole.obsm["spatial"].T * scale
    shown_here = (x < 3 * width / 4) & ((x > width / 2) | (y > height / 3))
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    for ax, shown in zip(axes, (image, image[:, ::-1]), strict=True):
        adata = whole[shown_here].copy()
        images = {"hires": image} if shown is image else {}
        adata.uns["spatial"] = {"simulated": library | {"images": images}}
        stmmr.pp.histology(adata, image=np.ascontiguousarray(shown), image_scale=scale, progress=False)
        if shown is not image:
            adata.uns["stmmr"]["histology"]["image_is_stored"] = False  # to draw the shape of its tissue
        stmmr.pl.registration(adata, ax=ax)
    figure.savefig(ROOT / "docs" / "images" / "registration.png", dpi=110)


def _measured(path: Path, threads: int) -> dict:
    row = measured([sys.executable, "-m", "benchmarks.images", path, threads], at_most_s=900)
    if row["failed"]:
        raise RuntimeError(row["failed"])
    return json.loads(row["output"])


def read(path: Path, threads: int, n: int = N_SPOTS) -> dict:
    """Encode the image around spots that are drawn on the tissue; measure time and memory."""
    import joblib
    import scipy.ndimage  # noqa: F401 - part of the baseline
    import skimage.color  # noqa: F401

    from stmmr.image.slide import open_slide
    from stmmr.pp import histology

    is_slide = path.suffix == ".tif"
    um_per_px = 0.25 if is_slide else 0.689
    if is_slide:
        xy = spots_on(WIDTH, HEIGHT, n)
    else:
        xy = np.random.default_rng(0).uniform(0.3, 0.7, size=(n, 2)) * [9274, 9911]  # the middle of the tissue
    adata = AnnData(np.zeros((n, 1), dtype=np.float32), obsm={"spatial": xy})
    before, start = _peak_mb(), time.perf_counter()
    with joblib.parallel_config(n_jobs=threads):
        histology(adata, image=path, um_per_pixel=um_per_px, progress=False)
    seconds, above = time.perf_counter() - start, _peak_mb() - before
    return {"seconds": seconds, "above_mb": above, "size": open_slide(path).size}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="?", type=Path, help="measure the reading of this image only")
    parser.add_argument("threads", nargs="?", type=int, default=1)
    parser.add_argument("spots", nargs="?", type=int, default=N_SPOTS)
    options = parser.parse_args()
    if options.image:
        print(json.dumps(read(options.image, options.threads, options.spots)))
    else:
        main()
