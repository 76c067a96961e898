import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from stmmr import encoders
from stmmr.encoders import FeatureCache, HEEncoder, encoder_fingerprint, image_fingerprint

N, WIDTH = 50, 6
CENTRES = np.random.default_rng(0).uniform(0, 100, (N, 2))
KNOWN = {
    "image": "p",
    "encoder": "e",
    "geometry": {"patch_px": 32, "sides": [1.5]},
    "centres": CENTRES,
    "width": WIDTH,
}


def values(rows):
    return np.random.default_rng(rows.start).normal(size=(rows.stop - rows.start, WIDTH)).astype(np.float32)


def filled(folder, calls=None, encode=values, batch_size=8, **changes):
    cache = FeatureCache.open(folder, **KNOWN | changes)

    def counted(rows):
        if calls is not None:
            calls.append(rows.start)
        return encode(rows)

    return cache.fill(counted, batch_size=batch_size, progress=False)


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_features_come_back_in_order(tmp_path, where):
    found = filled(tmp_path if where == "disk" else None)
    expected = np.concatenate([values(slice(i, min(i + 8, N))) for i in range(0, N, 8)])
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    assert isinstance(found, np.memmap) == (where == "disk")


def test_second_run_encodes_nothing(tmp_path):
    first = np.array(filled(tmp_path))
    calls = []
    for batch_size in (8, 5):
        np.testing.assert_array_equal(filled(tmp_path, calls, batch_size=batch_size), first)
    assert calls == []
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_fingerprint_nothing_is_kept(tmp_path):
    filled(tmp_path, encoder=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"image": "q"},
        {"encoder": "f"},
        {"geometry": {"patch_px": 64, "sides": [1.5]}},
        {"centres": CENTRES[::-1]},
        {"centres": CENTRES[:-1]},
        {"width": WIDTH + 1},
    ],
)
def test_features_of_anything_else_are_not_read(tmp_path, change):
    filled(tmp_path)
    width = change.get("width", WIDTH)
    calls = []
    filled(tmp_path, calls, lambda rows: np.zeros((rows.stop - rows.start, width), dtype=np.float32), **change)
    assert len(calls) == 7
    calls.clear()
    filled(tmp_path, calls)
    assert calls == []


@pytest.mark.parametrize("name", ["features.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "other", "one bit"])
def test_damaged_features_are_made_anew(tmp_path, caplog, name, damage):
    first = np.array(filled(tmp_path))
    (own,) = tmp_path.iterdir()
    path = own / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "gone":
        path.unlink()
    elif damage == "one bit":  # of the values, or of the checksum
        content = bytearray(path.read_bytes())
        content[-9 if name == "features.npy" else content.rindex(b'": ') + 4] ^= 1
        path.write_bytes(content)
    else:
        shutil.copy(own / ("manifest.json" if name == "features.npy" else "features.npy"), path)
    calls = []
    np.testing.assert_array_equal(filled(tmp_path, calls), first)
    assert len(calls) == 7
    assert "damaged" in caplog.text


def test_manifest_of_something_else_under_this_name(tmp_path):
    filled(tmp_path)
    (own,) = tmp_path.iterdir()
    manifest = json.loads((own / "manifest.json").read_text())
    (own / "manifest.json").write_text(json.dumps(manifest | {"image": "q"}))
    calls = []
    filled(tmp_path, calls)
    assert len(calls) == 7


def test_error_in_between_leaves_a_state_to_go_on_from(tmp_path):
    cache = FeatureCache.open(tmp_path, **KNOWN)
    cache.put(slice(16, 24), values(slice(16, 24)))
    cache.commit()

    def breaks(rows):
        if rows.start == 32:
            raise KeyboardInterrupt
        return values(rows)

    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, encode=breaks)
    with pytest.raises(RuntimeError, match="not complete"):
        FeatureCache.open(tmp_path, **KNOWN).features()
    calls = []
    whole = filled(tmp_path, calls)
    assert 32 in calls
    assert 16 not in calls
    np.testing.assert_array_equal(whole, filled(None))


@pytest.mark.parametrize("bad", [np.zeros((8, WIDTH + 1)), np.full((8, WIDTH), np.nan), np.zeros((7, WIDTH))])
def test_only_finite_features_of_the_right_shape_are_kept(tmp_path, bad):
    cache = FeatureCache.open(tmp_path, **KNOWN)
    with pytest.raises(ValueError, match=r"finite features of shape \(8, 6\)"):
        cache.put(slice(0, 8), bad)
    assert FeatureCache.open(tmp_path, **KNOWN).done == []


def test_rows_in_any_order(tmp_path):
    cache = FeatureCache.open(tmp_path, **KNOWN)
    for start in (40, 0, 24):
        cache.put(slice(start, start + 8), values(slice(start, start + 8)))
    cache.commit()
    assert cache.done == [(0, 8), (24, 32), (40, 48)]
    assert [rows.start for rows in FeatureCache.open(tmp_path, **KNOWN).missing(8)] == [8, 16, 32, 48]
    # a batch that is there in part is encoded whole
    assert [rows.start for rows in FeatureCache.open(tmp_path, **KNOWN).missing(10)] == [0, 10, 20, 30, 40]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from stmmr.encoders import FeatureCache, TransformersEncoder

folder, model, kill_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
patches = np.random.default_rng(0).integers(0, 256, (60, 1, 32, 32, 3), dtype=np.uint8)
encoder = TransformersEncoder(model).fit(patches[:1], um_per_px=0.5)
cache = FeatureCache.open(
    folder / "cache", image="p", encoder=encoder.fingerprint, geometry={}, centres=np.zeros((60, 2)),
    width=len(encoder.feature_names), name=encoder.name,
)

def encode(rows):
    with (folder / "calls.txt").open("a") as log:
        log.write(f"{rows.start}\\n")
    return encoder(patches[rows])

put = FeatureCache.put
def counted(self, rows, values):
    put(self, rows, values)
    self.commit()
    if rows.start == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

FeatureCache.put = counted
np.save(folder / "features.npy", cache.fill(encode, batch_size=4, progress=False))
"""


def run(folder, model, kill_at):
    folder.mkdir(exist_ok=True)
    (folder / "calls.txt").write_text("")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), str(model), str(kill_at)]
    env = {**os.environ, "PYTHONPATH": ":".join(sys.path), "LOKY_MAX_CPU_COUNT": "2"}
    code = subprocess.run(command, env=env, check=False).returncode
    return code, [int(line) for line in (folder / "calls.txt").read_text().split()]


@pytest.mark.nightly
@pytest.mark.slow
def test_killed_midway_it_goes_on_where_it_was(models, tmp_path):
    code, calls = run(tmp_path / "undisturbed", models / "vit", -1)
    assert code == 0
    assert sorted(calls) == list(range(0, 60, 4))
    expected = np.load(tmp_path / "undisturbed" / "features.npy")

    code, calls = run(tmp_path / "killed", models / "vit", 28)
    assert code == -signal.SIGKILL
    code, calls = run(tmp_path / "killed", models / "vit", -1)
    assert code == 0
    assert sorted(calls) == list(range(32, 60, 4))
    np.testing.assert_array_equal(np.load(tmp_path / "killed" / "features.npy"), expected)


def test_fingerprint_of_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[39, 49, 2] ^= 1
    known = image_fingerprint(pixels)
    assert image_fingerprint(pixels[:, ::-1][:, ::-1]) == known
    others = [changed, pixels[:39], pixels.reshape(50, 40, 3), pixels.astype(np.int16)]
    assert known not in {image_fingerprint(other) for other in others}

    path = tmp_path / "slide.tif"
    path.write_bytes(os.urandom(200_000))
    known = image_fingerprint(path)
    assert image_fingerprint(str(path)) == known
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert image_fingerprint(path) != known
    stat = path.stat()
    known = image_fingerprint(path)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert image_fingerprint(path) != known
    assert image_fingerprint(tmp_path) != image_fingerprint(path)
    (tmp_path / "more").write_bytes(b"1")
    with_more = image_fingerprint(tmp_path)
    (tmp_path / "more").write_bytes(b"12")
    assert image_fingerprint(tmp_path) != with_more


def test_old_name_of_the_fingerprint_still_works(tmp_path):
    with pytest.warns(FutureWarning, match="use image_fingerprint"):
        old = encoders.picture_fingerprint
    assert old is image_fingerprint
    assert "picture_fingerprint" not in encoders.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = encoders.nothing


def test_fingerprint_of_encoders():
    made = [HEEncoder(), HEEncoder((60.0,)), HEEncoder(white=(1.0, 2.0, 3.0)), HEEncoder(nucleus_od=0.1)]
    for one, other in itertools.combinations(made, 2):
        assert encoder_fingerprint(one) != encoder_fingerprint(other)
    assert encoder_fingerprint(HEEncoder()) == encoder_fingerprint(HEEncoder())
    assert encoder_fingerprint(object()) is None
