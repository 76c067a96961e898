"""Options of a run, a mapping and a result folder: one declaration for Python, the command line and run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from stmmr._core.checks import require_choice
from stmmr._core.options import Checked
from stmmr.settings import Block, Mode, Preset

Method = Literal["consensus", "gaussian_mixture", "kmeans", "leiden", "agglomerative"]
"""Ways to cluster the embedding into domains."""
ReportImage = Literal["page", "full"]
"""Resolutions of the H&E image in the report."""
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = str | Path | NDArray[np.uint8] | Mapping[str, Any]
    Registration = str | Path | NDArray[np.float64] | Mapping[str, Any]
else:  # the command line resolves types, and its help must not wait for numpy
    Image = Registration = Any


@dataclass(frozen=True, kw_only=True)
class InputOptions(Checked):
    """Options that say what is read of a section."""

    image: Image | None = None
    """H&E image. Its pixels are the units of the coordinates unless `registration` is given. Also the name of an image
    of a SpatialData object. For several sections: a mapping from section names to images. Default: the image that comes
    with the data, if any."""
    registration: Registration | None = None
    """Affine map from coordinates to pixels of the image: a 3 × 3 matrix, as a CSV file or the imagealignment.csv of
    Xenium Explorer."""
    um_per_pixel: float | None = None
    """µm per unit of the coordinates, where the data do not tell."""
    cache: Path | None = None
    """Folder that keeps the image features for other runs."""
    layer: str | None = None
    """Layer with the raw counts, where X does not hold them."""
    size_key: str | None = None
    """Column of obs with the library size, where the data hold only part of the measured genes."""
    section_key: str | None = None
    """Column of obs with the section of each spot, where there are several sections; "auto" finds it."""
    label_key: str | None = None
    """Column of obs with expert labels. They are compared with the domains at the end and influence nothing."""
    table: str | None = None
    """Name of the table of a SpatialData object, where there are several."""
    coordinate_system: str | None = None
    """Coordinate system of a SpatialData object to take coordinates from."""
    skip_broken: bool = False
    """Of several inputs, leave out those that cannot be used, and go on with the others. The report lists them."""
    threads: int | None = None
    """Largest number of threads; by default one for each available core."""
    scheduler: str | Path | None = None
    """Address of a Dask scheduler, or its scheduler file: its workers read the counts and propagate (extra ``dask``).
    Default: the variable DASK_SCHEDULER_ADDRESS, otherwise this process alone."""
    progress: bool = True
    """Show progress bars."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        if self.cache is not None:
            object.__setattr__(self, "cache", Path(self.cache))


@dataclass(frozen=True, kw_only=True)
class RunOptions(InputOptions):
    """Options of `stmmr.run` and ``stmmr run``.

    Raises
    ------
    InputError
        If a value is out of its range or not among its choices.
    """

    n_domains: int | Literal["auto"] = "auto"
    """Number of domains. "auto" chooses it by `stmmr.tl.number_of_domains`."""
    method: Method = "consensus"
    """Clustering of the embedding into domains: "consensus" of many Gaussian mixtures, with a confidence for each spot,
    or one of `stmmr.tl.domains`: "gaussian_mixture", "kmeans", "leiden" (extra ``leiden``) or "agglomerative"."""
    preset: Preset = "default"
    """"default", or "paper" for the published model (extra ``torch``)."""
    histology: bool = True
    """Use the H&E image, where there is one."""
    encoder: Any = "he"
    """Image encoder: "he" needs no weights; otherwise a network by name or folder (`stmmr.pp.encoders` lists them)."""
    stain: Literal["macenko"] | None = None
    """"macenko" normalises the stain of the image first."""
    use_rep: str | None = None
    """Key of obsm to use instead of counts, such as X_pca or X_scVI."""
    blocks: Mapping[str, Block] | list[str] | None = None
    """Further modalities, such as protein: each a name, a key of obsm and a likelihood ("nb", "zinb", "bernoulli" or
    "gaussian"; none for image features)."""
    in_3d: bool = False
    """Connect spots with those of the sections above and below as well, by obsm["spatial_3d"]
    (`stmmr.pp.align_sections` writes it). Not with the preset "paper"."""
    random_state: int = 0
    """Random seed."""
    checkpoint: Path | None = None
    """Folder that keeps finished steps. After a kill, the same call on the same data continues from there and ends with
    the same result. The caller removes it."""
    save_model: Path | None = None
    """Folder to save the model to, for `stmmr.StMMR.load` and `stmmr.map`. An earlier model there is replaced."""
    devices: int = 1
    """Processes that train together on this machine, each with a GPU of its own if on GPUs. More than one need the
    extra ``distributed``."""
    num_nodes: int = 1
    """Machines that train together. Start the same command on each by torchrun or SLURM."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """"cuda", "cpu", or "auto" for a GPU where there is one. With "cuda", the GPU also propagates and assigns spots to
    domains, in single precision; otherwise NumPy does, whose results are the same on every machine."""
    precision: Literal["bf16-mixed"] | None = None
    """"bf16-mixed" multiplies matrices in bfloat16."""

    def __post_init__(self) -> None:
        """Check ranges and choices."""
        super().__post_init__()
        for name in ("checkpoint", "save_model"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path))
        require_choice(self.preset, get_args(Preset), name="preset")
        require_choice(self.method, get_args(Method), name="method")


@dataclass(frozen=True, kw_only=True)
class MapOptions(InputOptions):
    """Options of `stmmr.map` and ``stmmr map``."""

    encoder: Any = None
    """Image encoder, where the one that the model was fitted with cannot be found by its name."""


@dataclass(frozen=True, kw_only=True)
class FolderOptions(Checked):
    """Options of the commands that read files and write a result folder."""

    output: Path
    """Folder to write the results to."""
    overwrite: bool = False
    """Replace an output folder of an earlier run."""
    bin_size: int | None = None
    """Side of the bins: Visium HD in µm, Stereo-seq in spots of the chip."""
    keep_off_tissue: bool = False
    """Keep the spots that are off the tissue (in_tissue is 0), which are dropped otherwise."""
    boundaries: bool = False
    """Read the outlines of cells as well (Xenium, CosMx, MERSCOPE, cells of Visium HD), for exports."""
    mode: Mode = "auto"
    """Keep counts in "memory" or read them from "disk" in chunks (.h5ad and .zarr); "auto" chooses by their size and
    the free memory."""
    figure_format: tuple[Literal["png", "svg", "pdf"], ...] = ("png",)
    """Format of the figures: png (300 dpi), svg or pdf. Repeat it for several."""
    figure_width: Literal["single", "double"] | float | None = None
    """Width of the figures: a "single" (89 mm) or "double" (183 mm) column, or mm. Default: what they need."""
    report: bool = True
    """Write report.html, one page about the result to share."""
    report_image: ReportImage = "page"
    """"full" writes the H&E image at its full resolution beside the report, in report_tiles; "page" keeps at most 1,600
    pixels of it in the report."""


@dataclass(frozen=True, kw_only=True)
class RewriteOptions(Checked):
    """Options of the commands that change a result."""

    report: bool = True
    """Write report.html again."""
    report_image: ReportImage | None = None
    """"full" writes the H&E image at its full resolution beside the report, "page" keeps at most 1,600 pixels of it in
    the report. Default: as the earlier command."""
    threads: int | None = None
    """Largest number of threads; by default one for each available core."""
    progress: bool = True
    """Show progress bars."""


@dataclass(frozen=True, kw_only=True)
class RunFolderOptions(FolderOptions):
    """Options of ``stmmr run`` about its inputs and its result folder."""

    align: float | None = None
    """Distance between neighbouring sections in µm. Aligns and stacks the sections in their order, so that spots have
    neighbours in the sections above and below as well (extra ``integration``)."""
    spatialdata: bool = False
    """Write spatialdata.zarr as well, for squidpy, spatialdata-plot and napari-spatialdata (extra ``spatialdata``)."""


NOT_RESULTS: Final = frozenset(
    {"label_key", "checkpoint", "save_model", "cache", "accelerator", "devices", "num_nodes", "progress", "threads"}
    | {"skip_broken", "scheduler"}
)
"""Options of a run that its results do not depend on."""
