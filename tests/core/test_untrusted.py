"""Files that run code, lead elsewhere, need more memory than there is, crash a library or never end."""

import gzip
import json
import os
import pickle
import struct
import sys

import anndata as ad
import h5py
import numpy as np
import pytest
import tifffile
from scipy import sparse

import stmmr
from stmmr._core import examine, untrusted
from stmmr._core.files import write_csv
from stmmr.image.slide import open_slide

posix = pytest.mark.skipif(os.name == "nt", reason="needs pipes, links and signals")


@pytest.fixture
def adata():
    made = ad.AnnData(sparse.csr_matrix(np.arange(30.0, dtype=np.float32).reshape(6, 5)))
    made.obsm["spatial"] = np.arange(12.0).reshape(6, 2)
    return made


@pytest.fixture
def one_gb():
    stmmr.settings.max_memory = 1
    yield
    stmmr.settings.max_memory = None


# code and other files


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*will be removed:DeprecationWarning")
@pytest.mark.parametrize("consolidated", [False, True])
def test_pickles_in_a_store_are_refused(adata, tmp_path, consolidated):
    store, harm = tmp_path / "a.zarr", tmp_path / "harm"
    with ad.settings.override(zarr_write_format=2):
        adata.write_zarr(store)
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": None}
    array |= {"order": "C", "filters": [{"id": "pickle", "protocol": 5}]}
    node = store / "uns" / "evil"
    node.mkdir()
    (node / ".zarray").write_text(json.dumps(array))
    (node / ".zattrs").write_text('{"encoding-type": "array", "encoding-version": "0.2.0"}')
    (node / "0").write_bytes(pickle.dumps(Evil(harm)))
    if consolidated:  # the description in the group counts, whatever the array itself says
        metadata = {f"{path.relative_to(store)}": json.loads(path.read_text()) for path in store.rglob(".z[ga]*")}
        (store / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}))
        (node / ".zarray").write_text(json.dumps(array | {"filters": None, "dtype": "|u1"}))
    with pytest.raises(stmmr.InputError, match="the codec 'pickle' in uns/evil"):
        stmmr.read(store)
    assert not harm.exists()


def test_codecs_inside_shards_are_checked():
    inner = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}
    with pytest.raises(examine.RefusedError, match="pickle"):
        examine._require_codecs("X", {"codecs": [inner]})
    safe = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "bytes"}, {"name": "zstd"}]}}
    examine._require_codecs("X", {"codecs": [safe, {"name": "numcodecs.shuffle"}]})


def _external(file):
    file["uns"].create_dataset("x", (16,), dtype="u1", external=[("/etc/hosts", 0, 16)])


def _virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "X", (4,))
    file["uns"].create_virtual_dataset("x", layout)


def _external_link(file):
    file["uns/x"] = h5py.ExternalLink("/etc/hosts", "/X")


def _soft_link(file):
    file["uns/x"] = h5py.SoftLink("/")


def _group_in_itself(file):
    file["uns/x"] = file["uns"]


def _huge(file):
    file["obsm"].create_dataset("x", (6, 10**11), dtype="f8", chunks=(1, 1000))


def _huge_chunk(file):
    file["uns"].create_dataset("x", (10,), maxshape=(None,), dtype="f8", chunks=(5 * 10**8,))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_external, "values of /uns/x that are in another file"),
        (_virtual, "values of /uns/x that are in another file"),
        (_external_link, "a link to /etc/hosts/X under /uns/x"),
        (_soft_link, "a link to / under /uns/x"),
        (_group_in_itself, "groups without an end"),
        (_huge, r"fit into 1\.0 GB of memory"),
        (_huge_chunk, r"found 4\.0 GB"),
    ],
)
@pytest.mark.parametrize("read", [stmmr.read, lambda path: stmmr.read(path, backed=True)], ids=["memory", "backed"])
def test_hdf5_that_leads_elsewhere_or_is_huge_is_refused(adata, tmp_path, one_gb, change, found, read):
    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(stmmr.InputError, match=found):
        read(path)


def test_counts_on_disk_need_no_memory(adata, tmp_path):
    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    stmmr.settings.max_memory = 1e-6  # 1 kB; the small parts take 900 bytes
    try:
        with pytest.raises(stmmr.InputError, match=r"backed=True \(--mode disk\)"):
            stmmr.read(path)
        assert stmmr.read(path, backed=True).shape == adata.shape
    finally:
        stmmr.settings.max_memory = None


@posix
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stores_with_links_pipes_and_huge_chunks_are_refused(adata, tmp_path):
    def written(name):
        adata.write_zarr(tmp_path / name)
        return tmp_path / name, next(p for p in (tmp_path / name / "X" / "data").rglob("0") if p.is_file())

    store, chunk = written("link.zarr")
    chunk.unlink()
    chunk.symlink_to("/etc/hosts")
    with pytest.raises(stmmr.InputError, match="a link to /etc/hosts"):
        stmmr.read(store)
    store, chunk = written("pipe.zarr")
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(stmmr.InputError, match="which is no file"):
        stmmr.read(store)
    store, _ = written("huge.zarr")
    name = ".zarray" if (store / "X" / "data" / ".zarray").exists() else "zarr.json"
    description = json.loads((store / "X" / "data" / name).read_text())
    grid = description["chunk_grid"]["configuration"] if name == "zarr.json" else description
    grid["chunk_shape" if name == "zarr.json" else "chunks"] = [10**12]
    (store / "X" / "data" / name).write_text(json.dumps(description))
    with pytest.raises(stmmr.InputError, match=r"found 4000\.0 GB"):
        stmmr.read(store)


# crashes, and what never ends


def test_blosc_header_is_checked():
    from numcodecs.blosc import Blosc

    untrusted.guard_blosc()
    good = Blosc().encode(np.arange(500, dtype=np.int32))
    assert np.frombuffer(Blosc().decode(good), np.int32).tolist() == list(range(500))
    longer = bytearray(good)
    longer[12:16] = struct.pack("<I", 2**31)  # it would read beyond its end
    for bad in (bytes(longer), good[:10], b""):
        with pytest.raises(ValueError, match="header of blosc data is damaged"):
            Blosc().decode(bad)


@posix
@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGSEGV)", "crashes"),
        ("import sys, time; sys.stdin.readline(); time.sleep(60)", r"could not be opened within 0\.5 seconds"),
    ],
)
@pytest.mark.parametrize("name", ["a.h5ad", "he.svs"])
def test_a_crash_or_an_endless_read_is_one_sentence(adata, tmp_path, monkeypatch, name, program, found):
    path, child = tmp_path / name, tmp_path / "child.py"
    if name == "he.svs":
        pytest.importorskip("openslide")
        tifffile.imwrite(path, np.zeros((32, 32, 3), np.uint8), photometric="rgb", tile=(16, 16))
    else:
        adata.write_h5ad(path)
    child.write_text(program)
    monkeypatch.setattr(untrusted, "_examiner", untrusted._Examiner())
    monkeypatch.setattr(untrusted, "SECONDS", 0.5)
    monkeypatch.setattr(examine, "__file__", str(child))
    with pytest.raises(stmmr.InputError, match=f"at {path}, found .*{found}"):
        open_slide(path) if name == "he.svs" else stmmr.read(path)


@posix
def test_a_process_that_ended_is_started_again(adata, tmp_path, monkeypatch):
    path = tmp_path / "a.h5ad"
    monkeypatch.setattr(untrusted, "_examiner", untrusted._Examiner())
    for n in (1, 2):
        adata.obs["n"] = n
        adata.write_h5ad(path)
        assert list(stmmr.read(path).obs["n"]) == [n] * 6
        untrusted._examiner._process.terminate()
        untrusted._examiner._process.wait()
    untrusted._examiner.close()


@posix
def test_where_no_process_can_be_started_files_are_read_all_the_same(adata, tmp_path, monkeypatch):
    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    monkeypatch.setattr(untrusted, "_examiner", untrusted._Examiner())
    for program in ("/nothing", "/bin/true"):
        monkeypatch.setattr(sys, "executable", program)
        assert stmmr.read(path).shape == adata.shape


@posix
@pytest.mark.parametrize("name", ["pipe", "pipe.h5ad", "pipe.csv"])
def test_pipes_and_devices_are_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for path in (tmp_path / name, "/dev/zero"):
        with pytest.raises(stmmr.InputError, match="found a pipe or device"):
            stmmr.read(path)


# sizes that are declared


def test_text_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "LONGEST_LINE", 100_000)
    path = tmp_path / "counts.csv.gz"
    path.write_bytes(gzip.compress(b"name,x,y,a\ns1,0,0,1\ns2," + b"0" * 3_000_000))
    with pytest.raises(stmmr.InputError, match="Expected lines of at most"):
        stmmr.io.read_table(path)


def test_matrix_market_with_a_huge_header_is_refused(tmp_path):
    folder = tmp_path / "filtered_feature_bc_matrix"
    folder.mkdir()
    names = "".join(f"b{i}\n" for i in range(5))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress(names.encode()))
    features = "".join(f"e{i}\tg{i}\tGene Expression\n" for i in range(5))
    (folder / "features.tsv.gz").write_bytes(gzip.compress(features.encode()))
    head = b"%%MatrixMarket matrix coordinate integer general\n5 5 100000000000\n1 1 1\n"
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(head))
    with pytest.raises(stmmr.InputError, match=r"found 3200\.0 GB"):
        stmmr.io.read_10x_h5(folder)


def test_images_larger_than_memory_are_refused(tmp_path, one_gb):
    import tifffile

    from stmmr.image.pixels import read_image
    from stmmr.image.slide import open_slide

    png = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4))
    with pytest.raises(stmmr.InputError, match=r"fit into 1\.0 GB|complete image"):
        read_image(png)
    tiff = tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    tifffile.imwrite(tiff, pixels, compression="zlib", rowsperstrip=64, photometric="rgb")
    with tifffile.TiffFile(tiff, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(200_000)
    with pytest.raises(stmmr.InputError, match=r"fit into 1\.0 GB"):
        open_slide(tiff)


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_the_limit_of_memory_is_a_positive_number(limit):
    with pytest.raises(stmmr.InputError, match="max_memory"):
        stmmr.settings.max_memory = limit


# what is written


def test_no_cell_of_a_table_is_a_formula(tmp_path, monkeypatch):
    import pandas as pd

    names = ["=1+1", "@x", "+a", "-b", "-1.5", "+2e3", "a=b", "\tq", "x\ny"]
    table = pd.DataFrame({"domain": pd.Categorical(names), "value": np.arange(9.0) - 4}, index=names)
    write_csv(table, tmp_path / "a.csv")
    back = pd.read_csv(tmp_path / "a.csv", index_col=0, dtype=str)
    expected = ["'=1+1", "'@x", "'+a", "'-b", "-1.5", "+2e3", "a=b", "'\tq", "x\ny"]
    assert list(back.index) == list(back["domain"]) == expected
    assert list(back["value"].astype(float)) == list(table["value"])
    monkeypatch.setattr("stmmr._core.files.CSV_ROWS", 2)
    write_csv(table, tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
