"""Where files are searched, messages about missing files, resuming after a kill, and when labels are read."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stmmr import InputError, cli
from stmmr._core.locks import locked
from stmmr.reproduce import _labels, _methods, reproduce
from stmmr.reproduce._recipes import RECIPES

_spec = importlib.util.spec_from_file_location("layout", Path(__file__).with_name("layout.py"))
layout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layout)

QUICK = {"presets": ("baseline",), "progress": False}
DEFAULT = {"presets": ("default",), "progress": False}
VIT = "image_representation/ViT_pca_representation.csv"


@pytest.fixture
def record(tmp_path):
    """The record with one section of DLPFC."""
    layout.dlpfc(tmp_path / "record/Data")
    return tmp_path / "record"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.mark.parametrize("level", ["", "Data", "Data/DLPFC", "Data/DLPFC/151673"])
def test_any_level_of_the_record_will_do(record, out, level):
    table = reproduce("dlpfc", record / level, out, **QUICK)
    assert table["section"].tolist() == ["151673"]


def test_h5ad_named_by_section_will_do(tmp_path, out):
    adata = layout.as_anndata()
    adata.obs["sum_umi_full"] = 3 * np.asarray(adata.X.sum(axis=1)).ravel()
    adata.write_h5ad(tmp_path / "visium_dlpfc_151673.h5ad")
    table = reproduce("dlpfc", tmp_path, out, **DEFAULT)
    assert table["ari"].iloc[0] > 0.9
    assert "library size from obs['sum_umi_full']" in table["notes"].iloc[0]


def test_fields_of_view_in_one_h5ad(tmp_path, out):
    adata = layout.as_anndata()
    adata.obs["fov"] = np.repeat([10, 11], 32)
    del adata.obs["ground_truth"]
    adata.write_h5ad(tmp_path / "cosmx_lung9.h5ad")
    table = reproduce("cosmx-lung", tmp_path, out, **QUICK)
    assert table["section"].tolist() == ["10", "11", "mean of sections (2)", "median of sections (2)"]


def test_spots_of_other_names_are_matched_by_order(tmp_path, out):
    layout.pdac(tmp_path)
    positions = pd.read_csv(tmp_path / "PDAC/spatial_location.csv", index_col=0)
    for name in ("spatial_location.csv", "layer_manual_PDAC.csv", VIT):
        table = pd.read_csv(tmp_path / "PDAC" / name, index_col=0)
        table.set_axis([f"X{i}" for i in positions.index]).to_csv(tmp_path / "PDAC" / name)
    table = reproduce("pdac", tmp_path, out, **DEFAULT)
    assert table["ari"].iloc[0] > 0.9
    assert "matched by their order" in table["notes"].iloc[0]


def test_features_of_cells_follow_their_numbers(tmp_path):
    layout.lung(tmp_path, fields=(1,))
    path = tmp_path / layout.LUNG / "image_representation/fov1.csv"
    features = pd.read_csv(path, index_col=0)
    features.iloc[::-1].to_csv(path)
    from stmmr.reproduce._layout import FEATURES, Files

    section = Files(RECIPES["cosmx-lung"], tmp_path).read("1")
    np.testing.assert_allclose(section.adata.obsm[FEATURES], features.to_numpy(), rtol=1e-6)
    assert section.adata.obs_names[:2].tolist() == ["1_1", "2_1"]


def test_counts_of_pdac_are_those_of_the_layer(tmp_path, out, monkeypatch):
    adata = layout.as_anndata()
    counts = adata.X.toarray()
    adata.layers["counts"], adata.X = adata.X, np.log1p(counts)  # as scanpy leaves them, and dense
    adata.write_h5ad(tmp_path / "PDAC.h5ad")
    trained = {}

    class Untrained:
        def __init__(self, adata, **_):
            trained.update(adata=adata)

        def fit(self, **_):
            pass

    monkeypatch.setattr("stmmr.model.StMMR", Untrained)
    with pytest.raises(InputError):  # without an embedding
        reproduce("pdac", tmp_path, out, presets=("paper",), progress=False)
    expected = counts / counts.sum(axis=1, keepdims=True) * 1e4
    np.testing.assert_allclose(trained["adata"].obsm["X_scaled"], expected, rtol=1e-5)


def test_coordinates_in_three_dimensions(tmp_path, out):
    adata = layout.as_anndata()
    adata.obsm["spatial"] = np.column_stack([adata.obsm["spatial"], np.zeros(adata.n_obs)])
    adata.write_h5ad(tmp_path / "D4.h5ad")
    options = {"presets": ("paper",), "epochs": 2, "width": 8, "progress": False}
    table = reproduce("chicken-heart", tmp_path, out, **options)
    assert table["preset"].tolist() == ["paper"]


def test_unknown_data_set_names_the_closest(tmp_path, out):
    with pytest.raises(InputError, match=r"found 'dlpcf'\. Did you mean 'dlpfc'"):
        reproduce("dlpcf", tmp_path, out)


def test_unknown_section_and_preset(record, out):
    with pytest.raises(InputError, match=r"Expected sections among 151507, .* found 999"):
        reproduce("dlpfc", record, out, sections=("999",))
    with pytest.raises(InputError, match="Expected preset to be one of baseline, default, auto, paper, found 'best'"):
        reproduce("dlpfc", record, out, presets=("best",))
    with pytest.raises(InputError, match="Expected presets among baseline, default, auto, paper, found none"):
        reproduce("dlpfc", record, out, presets=())
    with pytest.raises(InputError, match="Expected a folder as output, found the file"):
        reproduce("dlpfc", record, layout.__file__)
    with pytest.raises(InputError, match=r"Expected the section '151507' as DLPFC/151507 .* found the sections 151673"):
        reproduce("dlpfc", record, out, sections=("151507",))
    with pytest.raises(InputError, match="Expected dlpfc for several sections in one model"):
        layout.pdac(record / "Data")
        reproduce("pdac", record, out, together=True)


def test_no_files_of_the_recipe(record, out):
    with pytest.raises(InputError, match=r"Expected Data/PDAC/GSM3036911.* or one of PDAC\.h5ad, .* found Data\."):
        reproduce("pdac", record, out)


@pytest.mark.parametrize(
    ("dataset", "removed", "message"),
    [
        ("dlpfc", "DLPFC/151673/151673_filtered_feature_bc_matrix.h5", "as 151673_filtered.* or filtered.* found"),
        ("dlpfc", "DLPFC/151673/spatial/tissue_positions_list.csv", "Expected the positions of the (places|barcodes)"),
        ("pdac", "PDAC/GSM3036911_PDAC-A-ST1-filtered.txt", "counts of section PDAC as GSM3036911.* found image_re"),
        ("pdac", "PDAC/spatial_location.csv", "positions of the spots as spatial_location.csv beside"),
        ("cosmx-lung", f"{layout.LUNG}/Lung9_Rep1_exprMat_file.csv", "as Lung9_Rep1_exprMat_file.csv in"),
        ("visium-hd", "HD/filtered_HD.h5ad", "counts of section HD as filtered_HD.h5ad in .*, found nothing"),
    ],
)
def test_missing_file_is_named(tmp_path, out, dataset, removed, message):
    layout.WRITERS[dataset](tmp_path)
    (tmp_path / removed).unlink()
    with pytest.raises(InputError, match=message):
        reproduce(dataset, tmp_path, out, **QUICK)


def test_labels_and_features_of_other_spots(record, out):
    folder = record / "Data/DLPFC/151673"
    labels = folder / "cluster_labels_151673.csv"
    text = labels.read_text()
    labels.write_text("barcode,ground_truth\nTTTT-1,1\n")
    with pytest.raises(
        InputError, match=r"labels for the spots of this section .*0000ACGT-1.*found other names \(TTTT-1\)"
    ):
        reproduce("dlpfc", record, out, **QUICK)
    labels.write_text(text.replace("ground_truth", "layers"))
    with pytest.raises(InputError, match=r"a column ground_truth or layer_guess_reordered .* found , layers"):
        reproduce("dlpfc", record, out, **QUICK)
    labels.write_text(text)
    features = pd.read_csv(folder / VIT, index_col=0)
    features.iloc[:-3].to_csv(folder / VIT)
    with pytest.raises(InputError, match=r"image features for all 64 spots .* found them for 61"):
        reproduce("dlpfc", record, out, **QUICK)


def test_output_of_another_data_set_is_left_alone(record, out):
    reproduce("dlpfc", record, out, **QUICK)
    layout.pdac(record / "Data")
    with pytest.raises(InputError, match=r"Expected results of pdac in .*, found those of dlpfc"):
        reproduce("pdac", record, out, **QUICK)


def test_finished_rows_are_not_run_again(record, out, monkeypatch):
    layout.dlpfc(record / "Data", sections=("151674",))
    runs, run_preset = [], _methods.run_preset

    def counted(section, spec, **files):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append((section.name, spec.preset, spec.random_state))
        return run_preset(section, spec, **files)

    monkeypatch.setattr(_methods, "run_preset", counted)
    options = QUICK | {"sections": ("151673", "151674"), "n_seeds": 2}
    with pytest.raises(KeyboardInterrupt):
        reproduce("dlpfc", record, out, **options)
    assert pd.read_csv(out / "rows.csv")["seed"].tolist() == [110, 111]
    first = runs.copy()
    runs.clear()
    table = reproduce("dlpfc", record, out, **options)
    assert runs == [("151674", "baseline", 110), ("151674", "baseline", 111)]
    assert not set(first) & set(runs)
    assert table["seeds"].tolist() == [2, 2, 2, 2]
    runs.clear()
    pd.testing.assert_frame_equal(reproduce("dlpfc", record, out, **options), table)
    assert not runs
    path = record / "Data/DLPFC/151674/spatial/tissue_positions_list.csv"
    path.write_text(path.read_text() + "\n")  # other data
    reproduce("dlpfc", record, out, **options)
    assert [name for name, *_ in runs] == ["151674", "151674"]


def test_labels_change_the_scores_only(record, tmp_path):
    options = {"presets": ("default", "paper"), "epochs": 2, "width": 8, "progress": False}
    before = reproduce("dlpfc", record, tmp_path / "before", **options)
    labels = record / "Data/DLPFC/151673/cluster_labels_151673.csv"
    table = pd.read_csv(labels, index_col=0)
    table["ground_truth"] = np.random.default_rng(0).permutation(table["ground_truth"])
    table.to_csv(labels)
    after = reproduce("dlpfc", record, tmp_path / "after", **options)
    assert abs(after["ari"] - before["ari"]).max() > 0.5
    differ = {"ari", "ari_sd", "nmi", "seconds", "peak_memory_mb"}
    same = [name for name in before if name not in differ]
    pd.testing.assert_frame_equal(before[same], after[same])
    for file in (tmp_path / "before/domains").iterdir():
        assert file.read_text() == (tmp_path / "after/domains" / file.name).read_text()


def test_labels_are_read_when_domains_are_written(record, out, monkeypatch):
    read = _labels.LabelSource.read

    def late(self):
        assert list((out / "domains").iterdir())
        return read(self)

    monkeypatch.setattr(_labels.LabelSource, "read", late)
    assert reproduce("dlpfc", record, out, **QUICK)["ari"].notna().all()


def test_command(record, out, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(
            ["reproduce", "dlpfc", "--data", str(record), "-o", str(out), "--section", "151673", "--preset", "baseline"]
        )
    assert end.value.code == 0
    assert "| 151673 | baseline | 2 |" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        cli.main(["reproduce", "dlpcf", "--data", str(record), "-o", str(out)])
    assert end.value.code == 1
    assert "Did you mean 'dlpfc'" in capsys.readouterr().err


def test_killed_training_resumes(record, tmp_path, monkeypatch):
    options = {"presets": ("paper",), "epochs": 2, "width": 8, "progress": False}
    whole = reproduce("dlpfc", record, tmp_path / "whole", **options)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("stmmr.tl.domains", killed)
        reproduce("dlpfc", record, tmp_path / "out", **options)
    assert list((tmp_path / "out/.unfinished").iterdir())
    table = reproduce("dlpfc", record, tmp_path / "out", **options)
    assert "resumed after an interruption" in table["notes"].iloc[0]
    assert table["ari"].tolist() == whole["ari"].tolist()
    assert not (tmp_path / "out/.unfinished").exists()


def test_a_run_that_fails_costs_only_itself(record, out, monkeypatch, capsys):
    run_preset = _methods.run_preset

    def failing(section, spec, **files):
        if spec.preset == "default":
            raise FloatingPointError("the loss is not finite")
        return run_preset(section, spec, **files)

    monkeypatch.setattr(_methods, "run_preset", failing)
    options = ("--section", "151673", "--preset", "default", "--preset", "baseline", "--no-progress", "-q")
    arguments = ["reproduce", "dlpfc", "--data", str(record), "-o", str(out), *options]
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    printed = capsys.readouterr()
    assert end.value.code == 3
    assert "| 151673 | baseline |" in printed.out and "| 151673 | default |" not in printed.out
    sentence = printed.err.splitlines()[-1]
    assert "151673 with default, seed 110 failed (the loss is not finite)" in sentence and "same command" in sentence
    with pytest.raises(FloatingPointError, match="the loss is not finite"):
        reproduce("dlpfc", record, out, **QUICK | {"presets": ("default", "baseline")})
    monkeypatch.undo()
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 0
    assert set(pd.read_csv(out / "rows.csv")["preset"]) == {"default", "baseline"}


def test_nothing_is_written_if_all_runs_fail(record, out, monkeypatch):
    def failing(*_, **__):
        raise InputError("there is nothing")

    monkeypatch.setattr(_methods, "run_preset", failing)
    with pytest.raises(InputError, match="there is nothing"):
        reproduce("dlpfc", record, out, **QUICK)
    assert not (out / "rows.csv").exists()


def test_two_reproductions_of_one_folder(record, out):
    with locked(out), ThreadPoolExecutor(1) as other:
        second = other.submit(reproduce, "dlpfc", record, out, **QUICK)
        assert isinstance(second.exception(), InputError)
        assert "Expected no other command that writes to" in str(second.exception())
    assert not out.exists()
