"""Several inputs at the command line are the sections of one run."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stmmr
from helpers import run_main
from stmmr import InputError
from stmmr._core import keys
from stmmr.pipeline.options import RunOptions
from stmmr.pipeline.sources import align, join_sections, named_inputs


def section(seed, **options):
    return stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=30, n_domains=3, random_state=seed, **options)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two sections with pictures of different size."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, seed in (("upper", 0), ("lower", 1)):
        section(seed).write_h5ad(folder / f"{name}.h5ad")
    return folder / "upper.h5ad", folder / "lower.h5ad"


@pytest.fixture(scope="module")
def result(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "out"
    pytest.importorskip("ot")
    options = ("--n-domains", 3, "--align", 20, "--label-key", "ground_truth", "--no-progress")
    assert run_main("run", *inputs, "-o", out, *options) == 0
    return out


def test_a_run_of_two_files(result, inputs):
    adata = ad.read_h5ad(result / "result.h5ad")
    assert list(adata.obs["section"].cat.categories) == ["upper", "lower"]
    facts = json.loads((result / "run.json").read_text())
    assert facts["input"] == {"upper": str(inputs[0]), "lower": str(inputs[1])}
    assert facts["stmmr"]["spatial_graph"]["section_key"] == "section"
    assert facts["stmmr"]["model"]["use_histology"]
    assert facts["stmmr"]["histology"]["sections"] == ["upper", "lower"]
    table = pd.read_csv(result / "domains.csv", index_col="spot")
    assert list(table)[:2] == ["section", "domain"]
    assert list(table["section"]) == list(adata.obs["section"])
    assert {"composition.csv", "domains.png"} <= {path.name for path in result.iterdir()}


def test_its_pictures_are_those_of_the_sections(result, inputs):
    adata = ad.read_h5ad(result / "result.h5ad")
    for name, path in zip(("upper", "lower"), inputs, strict=True):
        alone = stmmr.pp.histology(stmmr.read(path), progress=False, copy=True)
        own = adata[adata.obs["section"] == name].obsm[keys.HISTOLOGY]
        np.testing.assert_allclose(own, alone.obsm[keys.HISTOLOGY], rtol=1e-5, atol=1e-6)


def test_aligned_sections_have_neighbours_above_and_below(result):
    adata = ad.read_h5ad(result / "result.h5ad")
    assert sorted(set(adata.obsm["spatial_3d"][:, 2])) == [0, 20]
    upper = (adata.obs["section"] == "upper").to_numpy()
    assert adata.obsp[keys.GRAPH][upper][:, ~upper].nnz
    assert adata.uns["stmmr"]["spatial_graph"]["use"] == "spatial_3d"
    assert list(adata.uns["stmmr"]["align_sections"]["order"]) == ["upper", "lower"]


def test_report_names_both(result):
    page = (result / "report.html").read_text(encoding="utf-8")
    assert "Spatial domains of upper, lower" in page
    assert "upper (upper.h5ad), lower (lower.h5ad)" in page
    assert "The H&amp;E image of each section was described" in page


def refused(capsys, tmp_path, *arguments):
    """Run the command and return its one line."""
    assert run_main("run", *arguments, "-o", tmp_path / "out", "--no-progress") == 1
    assert not (tmp_path / "out").exists()
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--section-key", "slide"], "Expected no --section-key with several inputs, found 'slide'. Leave it out"),
        (["--image", "he.jpg"], "Expected the images of several inputs in the inputs themselves, found --image"),
        (["--registration", "a.csv"], "in the inputs themselves, found --registration"),
        (["--align", "-5"], "Expected --align (µm) to be a positive number, found -5.0."),
        (["--align", "20", "--preset", "paper"], "Expected the default preset with --align, found 'paper'"),
    ],
)
def test_options_that_do_not_go_with_several_inputs(options, message, inputs, capsys, tmp_path):
    assert message in refused(capsys, tmp_path, *inputs, *options)


def test_inputs_that_cannot_be_put_together(inputs, capsys, tmp_path):
    first, _ = inputs
    assert "Expected each section once, found" in refused(capsys, tmp_path, first, first)
    assert "Expected several sections for --align, found one input" in refused(capsys, tmp_path, first, "--align", 20)
    other = section(2)
    other.var_names = "x" + other.var_names
    other.write_h5ad(tmp_path / "other.h5ad")
    error = refused(capsys, tmp_path, first, tmp_path / "other.h5ad")
    assert "Expected genes that all sections have, found none that 'other'" in error


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a.h5ad", "b.h5ad"], ["a", "b"]),
        (["S1/outs", "S2/outs/"], ["S1", "S2"]),
        (["S1/outs/filtered_feature_bc_matrix.h5", "S2/outs"], ["S1", "S2"]),
        (["S1/outs/binned_outputs/square_008um", "x.v2.csv.gz"], ["S1", "x.v2"]),
        (["one/result.h5ad", "two/result.h5ad"], ["one", "two"]),
        (["p1/s.h5ad", "p2/s.h5ad", "t.h5ad"], ["p1 s", "p2 s", "t"]),
        (["p/s.h5ad", "p/s.zarr"], ["p s", "p s 2"]),
    ],
)
def test_names_of_inputs(paths, names, tmp_path):
    named = named_inputs([tmp_path / path for path in paths])
    assert list(named) == names
    assert list(named.values()) == [tmp_path / path for path in paths]


def test_a_column_of_the_users_stays(caplog):
    parts = {name: section(seed) for seed, name in enumerate("ab")}
    parts["a"].obs["section"] = parts["b"].obs["section"] = "of the user"
    with pytest.raises(InputError):
        stmmr.pp.concat_sections(parts)
    options = RunOptions(n_domains=3)
    adata, joint = join_sections({name: (part, options) for name, part in parts.items()}, options)
    assert joint == RunOptions(n_domains=3, section_key="stmmr_section")
    assert list(adata.obs["stmmr_section"].cat.categories) == ["a", "b"]
    assert set(adata.obs["section"]) == {"of the user"}


def test_alignment_replaces_no_frame_in_silence(caplog):
    pytest.importorskip("ot")
    adata = stmmr.pp.concat_sections({name: section(seed) for seed, name in enumerate("ab")})
    adata.obsm["spatial_3d"] = np.zeros((adata.n_obs, 3))
    before = set(adata.layers) | set(adata.obs) | set(adata.var)
    assert align(adata, 5, RunOptions(section_key="section", progress=False)).in_3d
    assert "obsm['spatial_3d'] is replaced by the alignment" in caplog.text
    assert set(adata.layers) | set(adata.obs) | set(adata.var) == before
