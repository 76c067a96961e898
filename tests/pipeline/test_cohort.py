"""Sample sheets, and sections that are joined on disk."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stmmr
from helpers import contents, run_main
from stmmr import InputError
from stmmr._core import kernel, keys, parallel, rows
from stmmr.pipeline import costs, sources
from stmmr.pipeline.cohort import read_cohort
from stmmr.pipeline.options import RunFolderOptions, RunOptions
from stmmr.pipeline.sheet import Entry, add_columns, inputs_named, is_sheet, read_sheet


def section(seed, *, image=False):
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=40, n_domains=3, random_state=seed)
    if not image:
        del adata.uns["spatial"]
    return adata


def write_sheet(folder, *lines):
    path = folder / "samples.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three sections of two donors, and their sheet."""
    folder = tmp_path_factory.mktemp("cohort")
    for seed, name in enumerate("abc"):
        section(seed).write_h5ad(folder / f"{name}.h5ad")
    lines = ["section;path;donor;condition;z", "A;a.h5ad;d1;x;0", "B;b.h5ad;d1;y;10.5", "C;c.h5ad;;y;20"]
    return write_sheet(folder, *lines)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 50)
    monkeypatch.setattr(kernel, "TILE", 100)


def test_a_sheet_is_read_by_its_content(cohort):
    inputs = read_sheet(cohort)
    assert list(inputs.entries) == ["A", "B", "C"]
    assert inputs.entries["B"].path == cohort.parent / "b.h5ad"
    assert inputs.entries["B"].obs == {"donor": "d1", "condition": "y", "z": "10.5"}
    assert not inputs.broken


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("path\nx.h5ad\n", True),
        ("\ufeffsample\tPath\tdonor\n", True),
        ("section,condition\n", True),
        ('"section","path","a, b"\n', True),
        ("barcode,GeneA,GeneB\n", False),
        ("section,x,y,condition,GeneA\n", False),
    ],
)
def test_sheets_are_told_from_tables_of_counts(text, known, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    assert is_sheet(path) == known


def test_in_python(cohort):
    adata = stmmr.run(str(cohort), n_domains=3, progress=False)
    assert list(adata.obs["section"].cat.categories) == ["A", "B", "C"]
    by_section = adata.obs.groupby("section", observed=True)[["donor", "condition", "z"]].first()
    assert by_section["condition"].tolist() == ["x", "y", "y"]
    assert by_section["z"].tolist() == [0, 10.5, 20]
    assert (adata.obs["donor"].isna() == (adata.obs["section"] == "C")).all()
    assert isinstance(adata.obs["donor"].dtype, pd.CategoricalDtype)
    assert {keys.DOMAIN, keys.CONFIDENCE} <= set(adata.obs)


def run(source, out, *options):
    sheet = [source] if not isinstance(source, list) else source
    return run_main("run", *sheet, "-o", out, "--n-domains", 3, "--no-progress", "--no-genes", *options)


@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def test_joined_on_disk_as_in_memory(cohort, tmp_path):
    sections = [ad.read_h5ad(cohort.parent / f"{name}.h5ad") for name in "abc"]
    sections[1] = sections[1][:, ::-1][:, 3:].copy()  # other order, fewer genes
    sections[2].obs["in_tissue"] = np.arange(sections[2].n_obs) > 3
    sections[0].layers["counts"], sections[0].X = sections[0].X, sections[0].X * 0.5
    for name, part in zip("ab", sections, strict=False):
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    sections[2].write_zarr(tmp_path / "c.zarr")
    inputs = [tmp_path / "a.h5ad", tmp_path / "b.h5ad", tmp_path / "c.zarr"]
    assert run(inputs, tmp_path / "disk", "--mode", "disk", "--no-report") == 0
    sections[0].X = sections[0].layers.pop("counts")
    sections[0].write_h5ad(tmp_path / "a.h5ad")
    assert run(inputs, tmp_path / "memory", "--mode", "memory", "--no-report") == 0
    tables = [(tmp_path / mode / "domains.csv").read_bytes() for mode in ("memory", "disk")]
    assert tables[0] == tables[1]
    written, joined = (ad.read_h5ad(tmp_path / mode / "result.h5ad") for mode in ("disk", "memory"))
    assert written.shape == (sum(part.n_obs for part in sections) - 4, 37)
    assert written.var_names.tolist() == joined.var_names.tolist()
    assert (written.X != joined.X).nnz == 0
    np.testing.assert_array_equal(written.obsm[keys.EMBEDDING], joined.obsm[keys.EMBEDDING])
    assert json.loads((tmp_path / "disk" / "run.json").read_text())["stmmr"]["mode"] == "disk"
    assert not list(tmp_path.glob(".*"))


def test_other_platforms_are_copied_to_disk(cohort, tmp_path, monkeypatch):
    adata = section(7)
    table = pd.DataFrame(adata.X.toarray().astype(int), index=adata.obs_names, columns=adata.var_names)
    x, y = adata.obsm["spatial"].T
    table.insert(0, "x", x)
    table.insert(1, "y", y)
    table.to_csv(tmp_path / "t.csv")
    inputs = [cohort.parent / "a.h5ad", tmp_path / "t.csv"]
    assert run(inputs, tmp_path / "memory", "--no-report") == 0
    monkeypatch.setattr(sources, "IN_MEMORY_AT_MOST", 400_000)
    assert run(inputs, tmp_path / "auto", "--no-report") == 0
    assert json.loads((tmp_path / "auto" / "run.json").read_text())["stmmr"]["mode"] == "disk"
    assert contents(tmp_path / "auto")["domains.csv"] == contents(tmp_path / "memory")["domains.csv"]


def test_workers_read_sections_of_vendors(cohort, tmp_path, caplog):
    """As with a Dask cluster, but in this process."""
    calls, results = [], []

    def one_by_one(function, tasks):
        for task in tasks:
            calls.append(getattr(function, "__name__", ""))
            yield function(*task)

    adata = section(7)
    table = pd.DataFrame(adata.X.toarray().astype(int), index=adata.obs_names, columns=adata.var_names)
    pd.DataFrame(adata.obsm["spatial"], adata.obs_names, ["x", "y"]).join(table).to_csv(tmp_path / "t.csv")
    (tmp_path / "bad.csv").write_text((tmp_path / "t.csv").read_text().replace(",0,", ",-1,"))
    sheet = write_sheet(tmp_path, "section,path", f"A,{cohort.parent / 'a.h5ad'}", "T,t.csv", "bad,bad.csv")
    for name, elsewhere in (("alone", None), ("helped", one_by_one)):
        token = parallel.elsewhere.set(elsewhere)
        caplog.clear()
        folder = RunFolderOptions(output=tmp_path / name, mode="disk")
        joined = read_cohort(inputs_named([sheet]), RunOptions(skip_broken=True), folder, store=tmp_path / f".{name}")
        parallel.elsewhere.reset(token)
        results.append((joined, [text for text in caplog.messages if text.startswith("Section")]))
    assert calls.count("copy") == 2
    (alone, told), (helped, told_again) = results
    assert list(helped.skipped) == ["bad"]
    assert helped.skipped == alone.skipped and "found negative values" in alone.skipped["bad"]
    assert set(told_again) == set(told)
    pd.testing.assert_frame_equal(helped.adata.obs, alone.adata.obs)
    assert (helped.adata.X[:] != alone.adata.X[:]).nnz == 0


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A sheet in which much is wrong, with two sections that are right."""
    folder = tmp_path_factory.mktemp("spoilt")
    for seed, name in enumerate(("fine", "good", "mouse", "genes", "nan", "bare", "scaled")):
        adata = section(seed, image=name != "bare")
        if name == "mouse":
            adata.var_names = [f"ENSMUSG{i:011d}" for i in range(adata.n_vars)]
        if name == "genes":
            adata.var_names = "other" + adata.var_names
        if name == "nan":
            adata.obsm["spatial"][5] = np.nan
        if name == "scaled":
            adata.X = adata.X.toarray() - 1.0
        adata.write_h5ad(folder / f"{name}.h5ad")
    section(0)[:0].copy().write_h5ad(folder / "empty.h5ad")
    names = ("fine", "good", "mouse", "genes", "nan", "bare", "scaled", "empty", "missing")
    lines = [f"{name},{name}.h5ad,x" for name in names]
    return write_sheet(folder, "section,path,condition", *lines, "fine,nan.h5ad,y", "twin,fine.h5ad,y", "short,a.h5ad")


EXPECTED = {
    "mouse": "found none that 'mouse' (40 genes, such as ENSMUSG00000000000",
    "genes": "found none that 'genes' (40 genes, such as other",
    "nan": "spots without",
    "bare": "Expected an image, as 2 other sections have one",
    "scaled": "found negative values",
    "empty": "found 0 spots and 40 genes",
    "missing": "found no path",
    "fine (line 11)": "found 'fine' twice",
    "twin (line 12)": "found the path of 'fine' again",
    "short (line 13)": "Expected 3 cells, as in the header, found 2",
}


@pytest.mark.parametrize("mode", ["auto", "disk"])
def test_all_problems_at_once(spoilt, tmp_path, capsys, mode):
    assert run(spoilt, tmp_path / "out", "--mode", mode) == 1
    error = capsys.readouterr().err
    lines = {line.strip().partition(": ")[0]: line for line in error.splitlines()}
    assert f"Expected 12 sections that can be run together, found problems in {len(EXPECTED)}" in error
    for name, problem in EXPECTED.items():
        assert problem in lines[name if not name.startswith("missing") else next(n for n in lines if "missing" in n)]
    assert "--skip-broken" in error
    assert not list(tmp_path.iterdir())


def test_broken_sections_are_left_out(spoilt, tmp_path):
    assert run(spoilt, tmp_path / "out", "--skip-broken") == 0
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(facts["stmmr"]["skipped"]) == len(EXPECTED)
    assert "spots without" in facts["stmmr"]["skipped"]["nan"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Sections left out" in page
    assert "twin (line 12)" in page
    assert set(pd.read_csv(tmp_path / "out" / "domains.csv")["section"]) == {"fine", "good"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["section,condition", "a,x"], "one of them 'path'"),
        (["path,path", "a,x"], "Expected a sample sheet with different columns"),
        (["section,path", ""], "Expected a row for each section"),
        (["section,path", "a,no.h5ad"], r"Section a \(line 2\): Expected files that exist"),
        (["section,path", "a,"], "Expected a path, found none"),
        (["section,path", ",samples.csv"], "Expected a name in the column of the sections"),
    ],
)
def test_wrong_sheets(lines, message, tmp_path):
    with pytest.raises(InputError, match=message):
        stmmr.run(write_sheet(tmp_path, *lines), progress=False)


def test_columns_of_numbers_stay_numbers(cohort):
    adata = section(0)
    adata.obs["section"] = pd.Categorical(np.repeat(["A", "B"], [40, adata.n_obs - 40]))
    columns = {"age": ("41", "63"), "dose": ("0.5", ""), "z": ("1", "2"), "donor": ("1", "2"), "site": ("1", "b")}
    entries = {name: Entry(cohort, obs={c: v[i] for c, v in columns.items()}) for i, name in enumerate("AB")}
    add_columns(adata, entries, "section")
    kinds = {name: adata.obs[name].dtype.kind for name in columns}
    assert kinds == {"age": "i", "dose": "f", "z": "f", "donor": "O", "site": "O"}
    assert adata.obs["age"].iloc[[0, -1]].tolist() == [41, 63]
    assert np.isnan(adata.obs["dose"].iloc[-1]) and adata.obs["donor"].iloc[-1] == "2"


@pytest.mark.parametrize("skip", [False, True])
def test_columns_and_depths_are_refused_with_all_problems(cohort, tmp_path, skip):
    lines = ["section,path,z,stmmr_domain", f"A,{cohort.parent / 'a.h5ad'},zero,x", f"B,{cohort.parent / 'b.h5ad'},,x"]
    with pytest.raises(InputError, match=r"Expected columns .* found stmmr_domain") as raised:
        stmmr.run(write_sheet(tmp_path, *lines), skip_broken=skip, progress=False)
    assert ("Expected a number in the column z, found 'zero'" in str(raised.value)) != skip


def test_one_section_that_remains_is_run_alone(cohort, tmp_path):
    path = write_sheet(tmp_path, "section,path,donor", f"A,{cohort.parent / 'a.h5ad'},d1", "B,no.h5ad,d2")
    adata = stmmr.run(path, n_domains=3, skip_broken=True, progress=False)
    assert set(adata.obs["section"]) == {"A"}
    assert set(adata.obs["donor"]) == {"d1"}
    assert list(stmmr._core.record.recorded(adata)["skipped"]) == ["B (line 3)"]


def test_a_sheet_is_the_only_input(cohort, tmp_path, capsys):
    assert run([cohort, cohort.parent / "a.h5ad"], tmp_path / "out") == 1
    assert "Expected a sample sheet as the only input, found 2 inputs" in capsys.readouterr().err


def test_many_sections_are_mapped_at_once(cohort, tmp_path):
    files = [cohort.parent / f"{name}.h5ad" for name in "abc"]
    assert run(files[0], tmp_path / "trained", "--no-report") == 0
    model = ("--model", tmp_path / "trained", "--no-progress", "--no-genes", "--no-report")
    for number, path in enumerate(files):
        assert run_main("map", path, "-o", tmp_path / f"alone{number}", *model) == 0
    alone = [pd.read_csv(tmp_path / f"alone{number}" / "domains.csv")["domain"] for number in range(3)]
    for mode in ("memory", "disk"):
        assert run_main("map", cohort, "-o", tmp_path / mode, *model, "--mode", mode) == 0
        table = pd.read_csv(tmp_path / mode / "domains.csv")
        assert list(dict.fromkeys(table["section"])) == ["A", "B", "C"]
        assert (table["domain"].to_numpy() == np.concatenate(alone)).mean() > 0.99
        sections = pd.read_csv(tmp_path / mode / "composition.csv")["section"].unique()
        assert list(sections) == ["A", "B", "C", "a"]
    assert set(ad.read_h5ad(tmp_path / "disk" / "result.h5ad").obs["condition"]) == {"x", "y"}


def test_info_of_a_sheet(cohort, tmp_path, capsys):
    assert run_main("info", cohort) == 0
    told = capsys.readouterr().out
    assert "3: A, B, C" in told
    assert "donor, condition, z" in told
    assert "none so far" in told
    path = write_sheet(tmp_path, "section,path", f"A,{cohort.parent / 'a.h5ad'}", "B,no.h5ad")
    assert run_main("info", path) == 0
    told = capsys.readouterr().out
    assert "B (line 3): Expected files that exist" in told
    assert "--skip-broken" in told


def test_costs_are_those_that_were_measured():
    for n_cells, (seconds, gb) in costs.MEASURED.items():
        expected = costs.expected_costs(n_cells, 75 * n_cells, on_disk=n_cells >= 1_000_000, chooses_number=False)
        assert 1 / 1.5 < expected.seconds / seconds < 1.5
        assert 1 / 1.5 < expected.n_bytes / 1e9 / gb < 1.5
    # 3,000 genes, a Xenium 5K section, a Visium HD chip, and sections of 50,000 cells
    for n_cells, each, on_disk, seconds, gb in (
        (100_000, 150, False, 34.5, 1.51),
        (300_000, 150, False, 64.2, 2.34),
        (500_000, 200, True, 74.5, 1.33),
        (600_000, 300, True, 98.0, 1.47),
        (200_000, 72, True, 33.9, 0.95),
        (5_000_000, 72, True, 573.6, 3.96),
    ):
        more = costs.expected_costs(n_cells, each * n_cells, on_disk=on_disk, chooses_number=False)
        assert more.seconds == pytest.approx(seconds, rel=0.3)
        assert more.n_bytes == pytest.approx(1e9 * gb, rel=0.3)
