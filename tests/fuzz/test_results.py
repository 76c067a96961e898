"""Damaged result folders and models end in a result or an InputError."""

import os
import warnings
from pathlib import Path

import pytest

import stmmr
from stmmr.model import StMMR
from stmmr.pipeline.commands import analyse_folder, run_to_folder
from stmmr.pipeline.options import RewriteOptions, RunFolderOptions

from . import damage, seeds
from .test_reading import in_time

pytestmark = pytest.mark.filterwarnings("ignore")  # how it ends is what counts
COUNT = int(os.environ.get("STMMR_FUZZ_RESULTS", "12"))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A result folder of stmmr run."""
    folder = tmp_path_factory.mktemp("fuzz")
    source = seeds.write_h5ad(folder)
    options = stmmr.RunOptions(n_domains=2, method="kmeans", histology=False, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_to_folder([source], RunFolderOptions(output=folder / "out"), options, stmmr.AnalysisOptions(genes=True))
    return folder / "out"


def analyse(folder: Path) -> None:
    analyse_folder(folder, stmmr.AnalysisOptions(trajectory=True), RewriteOptions(progress=False))


def map_onto(folder: Path) -> None:
    stmmr.map(seeds.section(), folder, progress=False)


def load(folder: Path) -> None:
    StMMR.load(folder / "model", stmmr.read(folder / "result.h5ad"))


@pytest.mark.parametrize("part", ["model/model.json", "model/weights.safetensors", "run.json", "result.h5ad"])
@pytest.mark.parametrize("use", [load, map_onto, analyse])
def test_damaged_results_are_used_or_refused(result, tmp_path, part, use):
    for seed in range(-(-COUNT // 12)):
        folder = damage.copied(result, tmp_path / "damaged")
        done = damage.damage(folder / part, seed)
        with warnings.catch_warnings(), in_time():
            warnings.simplefilter("ignore")
            try:
                use(folder)
            except stmmr.InputError as error:
                assert "weights_only" not in str(error)
            except Exception as error:
                raise AssertionError(f"{part} {seed} ({done}): {type(error).__name__}: {error}") from error


def test_an_intact_result_is_used(result, tmp_path):
    for use in (load, map_onto, analyse):
        use(damage.copied(result, tmp_path / "copy"))
