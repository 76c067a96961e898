"""Killed at any point, a run goes on and ends with the same result."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import sparse

import stmmr
from stmmr._core import fingerprints, keys
from stmmr._core.checks import InputError
from stmmr._core.record import recorded
from stmmr._core.untrusted import open_hdf5
from stmmr.io import read_h5ad
from stmmr.io._tables import write_h5ad
from stmmr.pipeline import resume
from stmmr.pipeline import run as _run
from stmmr.pipeline.resume import KeptSteps, data_fingerprint
from stmmr.pp import _graph

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs signals")


@pytest.fixture(scope="module")
def tissue():
    return stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_domains=4, n_genes=100)


def command(source, out, *options):
    line = [sys.executable, "-m", "stmmr.cli", "run", source, "-o", out, "--mode", "disk", "--no-progress", *options]
    return subprocess.Popen(list(map(str, line)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.nightly
@pytest.mark.slow
def test_killed_at_random_moments(tissue, tmp_path):
    tissue.write_h5ad(tmp_path / "in.h5ad")
    start = time.monotonic()
    whole = command(tmp_path / "in.h5ad", tmp_path / "whole")
    assert whole.wait() == 0, whole.stderr.read()
    whole.stderr.close()
    lasts = time.monotonic() - start
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    for moment in rng.uniform(0.3, 1.0, size=3) * lasts:
        run = command(tmp_path / "in.h5ad", tmp_path / "out", "--overwrite")
        time.sleep(moment)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    run = command(tmp_path / "in.h5ad", tmp_path / "out", "--overwrite")
    _, said = run.communicate()
    assert run.returncode == 0, said
    assert (tmp_path / "out/domains.csv").read_bytes() == (tmp_path / "whole/domains.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "out", "whole"]


STEPS = ["expression", "spatial graph", "histology", "embedding", "number of domains", "domains"]


def test_every_step_that_is_kept_is_known_as_ours():
    assert [step.name for step in _run.STEPS] == list(resume.STEPS) == STEPS
    assert all(resume.KEPT.owns(f"{name}.h5") for name in STEPS)
    assert not any(resume.KEPT.owns(name) for name in ("mine.h5", "notes.txt", "deep/embedding.h5", "model/notes.txt"))


class Interrupted(BaseException):
    """As by Ctrl-C."""


@pytest.mark.parametrize(
    "after",
    [step if step == "domains" else pytest.param(step, marks=pytest.mark.nightly) for step in STEPS],
)
def test_steps_that_are_done_are_not_done_again(tissue, tmp_path, monkeypatch, caplog, after):
    tissue.write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.setattr(_graph, "WRITTEN_AT_MOST", 0)

    def run(folder):
        adata = stmmr.read(tmp_path / "in.h5ad", backed=True)
        stmmr.run(adata, checkpoint=folder, progress=False)
        return adata

    def interrupted(name, *arguments, **options):
        take(name, *arguments, **options)
        if name == after:
            raise Interrupted

    reference = run(tmp_path / "a")
    take = _run.take
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(_run, "take", interrupted)
        run(tmp_path / "b")
    with caplog.at_level("INFO", logger="stmmr"):
        again = run(tmp_path / "b")
    assert caplog.text.count("finished before") == STEPS.index(after) + 1
    for key in (keys.DOMAIN, keys.CONFIDENCE, keys.DOMAIN_REFINED, keys.LIBRARY_SIZE):
        assert (again.obs[key] == reference.obs[key]).all()
    for key in (keys.COMPONENTS, keys.HISTOLOGY, keys.EMBEDDING):
        np.testing.assert_array_equal(again.obsm[key], reference.obsm[key])
    assert set(again.uns["stmmr"]) == set(reference.uns["stmmr"])
    assert again.obs[keys.DOMAIN].dtype == reference.obs[keys.DOMAIN].dtype


def test_other_data_or_options_begin_anew(tissue, tmp_path, caplog):
    adata = tissue.copy()
    options = {"n_domains": 3, "random_state": 0}
    KeptSteps(tmp_path / "p", adata, options).keep("embedding", adata, {})
    assert KeptSteps(tmp_path / "p", adata, options).restore("embedding", adata.copy())
    assert not KeptSteps(tmp_path / "p", adata, options | {"random_state": 1}).restore("embedding", adata)
    KeptSteps(tmp_path / "p", adata, options).keep("embedding", adata, {})
    adata.X.data[0] += 1
    assert not KeptSteps(tmp_path / "p", adata, options).restore("embedding", adata)


@pytest.mark.parametrize(
    "change", ["X", "indptr", "obs", "columns", "obsm", "var", "sections", "frame", "unit", "pixel", "dtype", "dask"]
)
def test_fingerprint_tells_data_apart(tissue, change):
    tissue = tissue.copy()
    tissue.obs["section"] = pd.Categorical(["a", "b"] * (tissue.n_obs // 2))
    tissue.obsm["frame"] = tissue.obs[["array_row", "array_col"]]
    if change == "dask":
        pytest.importorskip("dask")
    other = tissue.copy()
    if change == "sections":  # the order in which they are stacked
        other.obs["section"] = other.obs["section"].cat.reorder_categories(["b", "a"])
    elif change == "frame":
        other.obsm["frame"] = other.obsm["frame"].set_axis(["array_col", "array_row"], axis=1)
    elif change == "unit":
        other.uns["resolution"] = 500
    elif change == "pixel":
        (library,) = other.uns["spatial"].values()
        library["images"]["hires"] = library["images"]["hires"].copy()
        library["images"]["hires"][100, 100] += 1
    elif change == "dtype":
        other.obs["array_row"] = other.obs["array_row"].astype(float)
    elif change == "dask":
        tissue.X, other.X = (as_dask(matrix) for matrix in (tissue.X, tissue.X + sparse.eye(*tissue.shape)))
    elif change == "X":
        other.X.indices[:2] = other.X.indices[:2][::-1]
    elif change == "indptr":
        first = int(np.flatnonzero(np.diff(other.X.indptr) > 1)[0])
        other.X.indptr[first + 1] -= 1
    elif change == "columns":
        other.obs = other.obs.rename(columns={"array_row": "array_col", "array_col": "array_row"})
    elif change == "obs":
        other.obs["array_row"] += 1
    elif change == "obsm":
        other.obsm["spatial"] = other.obsm["spatial"] + 1
    else:
        other.var_names = [*other.var_names[1:], "new"]
    assert data_fingerprint(other) != data_fingerprint(tissue)
    assert data_fingerprint(tissue.copy()) == data_fingerprint(tissue)


def as_dask(matrix):
    import dask.array as da

    dense = matrix.toarray()
    return da.from_array(dense, chunks=(100, dense.shape[1]), name="same")


def replaced(path, content):
    """Write a file of the same size, at the same time."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change", ["nothing", "image", pytest.param("array", marks=pytest.mark.nightly), "registration"]
)
def test_changed_inputs_beside_the_data_begin_anew(tissue, tmp_path, caplog, change):
    image, registration = tmp_path / "he.tif", tmp_path / "affine.csv"
    (library,) = tissue.uns["spatial"].values()
    pixels, scale = library["images"]["hires"].copy(), library["scalefactors"]["tissue_hires_scalef"]
    tifffile.imwrite(image, pixels)
    registration.write_text(f"{scale},0,0\n0,{scale},0\n0,0,1\n")
    options = {"image": pixels if change == "array" else image, "registration": registration}

    def run():
        adata = tissue.copy()
        del adata.uns["spatial"]
        stmmr.run(adata, n_domains=3, um_per_pixel=1.0, checkpoint=tmp_path / "kept", progress=False, **options)

    run()
    if change == "array":
        pixels[pixels.shape[0] // 2, :9] //= 2
    elif change == "image":
        other = image.read_bytes()
        middle = len(other) // 2
        replaced(image, other[:middle] + bytes(99) + other[middle + 99 :])
    elif change == "registration":
        replaced(registration, registration.read_bytes().replace(b",0,0", b",0,3"))
    with caplog.at_level("INFO", logger="stmmr"):
        run()
    assert ("embedding: finished before" in caplog.text) == (change == "nothing")


def test_a_replaced_file_of_counts_begins_anew(tissue, tmp_path, monkeypatch):
    path = tmp_path / "in.h5ad"
    tissue.write_h5ad(path)
    assert data_fingerprint(stmmr.read(path, backed=True)) == data_fingerprint(stmmr.read(path, backed=True))
    for limit in (fingerprints.HASHED_AT_MOST, 0):  # the content of a small file is hashed; of a large one, see inode
        monkeypatch.setattr(fingerprints, "HASHED_AT_MOST", limit)
        content = bytearray(path.read_bytes())
        content[content.index(b"array_row")] ^= 1
        new = tmp_path / "new.h5ad"
        new.write_bytes(content)
        os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        assert fingerprints.file_fingerprint(new) != fingerprints.file_fingerprint(path)


def test_steps_in_memory_leave_matrices_and_are_done_again(tissue, tmp_path, caplog):
    adata = tissue.copy()
    stmmr.run(adata, n_domains=4, checkpoint=tmp_path / "p", progress=False)
    again = tissue.copy()
    with caplog.at_level("INFO", logger="stmmr"):
        stmmr.run(again, n_domains=4, checkpoint=tmp_path / "p", progress=False)
    assert "expression: finished before" not in caplog.text
    assert "domains: finished before" in caplog.text
    assert keys.LOGNORM in again.layers
    assert keys.GRAPH in again.obsp
    np.testing.assert_array_equal(again.obsm[keys.EMBEDDING], adata.obsm[keys.EMBEDDING])


def test_names_with_a_slash(tissue, tmp_path, monkeypatch, caplog):
    """From kept steps and from a result file, a user gets the names that were given."""
    sections = {"P/1": tissue[: tissue.n_obs // 2].copy(), "P/2": tissue[tissue.n_obs // 2 :].copy()}
    both = stmmr.pp.concat_sections(sections)
    both.obs["T/NK"] = both.obs["ground_truth"].to_numpy()
    done = both.copy()
    stmmr.run(done, n_domains=4, section_key="section", label_key="T/NK", progress=False)

    take = _run.take

    def interrupted(name, *arguments, **options):
        take(name, *arguments, **options)
        if name == "embedding":
            raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(_run, "take", interrupted)
        stmmr.run(both.copy(), n_domains=4, section_key="section", checkpoint=tmp_path / "kept", progress=False)
    with caplog.at_level("INFO", logger="stmmr"):
        stmmr.run(both, n_domains=4, section_key="section", checkpoint=tmp_path / "kept", progress=False)
    assert "Finished steps: embedding, histology" in caplog.text

    write_h5ad(done, tmp_path / "result.h5ad")
    for adata in (done, both, read_h5ad(tmp_path / "result.h5ad")):
        assert list(adata.uns[keys.SPATIAL]) == list(adata.obs["section"].cat.categories) == ["P/1", "P/2"]
        assert "T/NK" in adata.obs
        np.testing.assert_array_equal(adata.obs[keys.DOMAIN], done.obs[keys.DOMAIN])
        assert recorded(adata)["histology"].keys() == recorded(done)["histology"].keys()
        stmmr.pl.domains(adata, library_id="P/2")


def test_images_of_the_input_are_kept_nowhere(tissue, tmp_path, monkeypatch):
    """The image of the input is in no file of steps, and what a step adds is in one."""
    adata, sizes = tissue.copy(), {}
    (library,) = adata.uns[keys.SPATIAL].values()
    library["images"]["hires"] = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    library["images"]["own"] = np.zeros((5, 5), dtype=np.uint8)
    keep = KeptSteps.keep

    def measured(self, step, *arguments):
        keep(self, step, *arguments)
        sizes.update({path.stem: path.stat().st_size for path in self.folder.glob("*.h5")})
        if step == "domains":
            raise KeyboardInterrupt

    monkeypatch.setattr(KeptSteps, "keep", measured)
    with pytest.raises(KeyboardInterrupt):
        stmmr.run(done := adata.copy(), n_domains=3, checkpoint=tmp_path / "kept", progress=False)
    assert set(sizes) >= {"histology", "embedding", "domains"}
    assert max(sizes.values()) < library["images"]["hires"].nbytes
    with open_hdf5(tmp_path / "kept/domains.h5") as file:
        assert file[f"uns/spatial/{next(iter(adata.uns[keys.SPATIAL]))}/images/tissue_mask"].ndim == 0
    monkeypatch.undo()
    stmmr.run(again := adata.copy(), n_domains=3, checkpoint=tmp_path / "kept", progress=False)
    (now,), (before,) = again.uns[keys.SPATIAL].values(), done.uns[keys.SPATIAL].values()
    assert now["images"].keys() == before["images"].keys() >= {"hires", "own", "tissue_mask"}
    for name, image in before["images"].items():
        np.testing.assert_array_equal(now["images"][name], image)
    assert now["scalefactors"] == before["scalefactors"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 3}', "[" * 100_000])
def test_a_folder_with_damaged_facts_is_not_taken_for_ours(tissue, tmp_path, content):
    adata = tissue.copy()
    KeptSteps(tmp_path, adata, {}).keep("expression", adata, {})
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match="delete the folder yourself"):
        KeptSteps(tmp_path, adata, {})


@pytest.mark.parametrize(
    "damage", [lambda step: step[:2000], lambda step: b"", lambda step: step.replace(b"obsm", b"obsx")]
)
def test_damaged_steps_are_carried_out_again(tissue, tmp_path, caplog, damage):
    adata = tissue.copy()
    kept = KeptSteps(tmp_path, adata, {})
    kept.keep("expression", adata, {})
    (step,) = tmp_path.glob("*.h5")
    assert kept.restore("expression", adata)
    step.write_bytes(damage(step.read_bytes()))
    assert not kept.restore("expression", adata)
    assert "carried out again" in caplog.text
