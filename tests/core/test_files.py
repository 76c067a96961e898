"""Files and folders that are written as a whole or not at all, whatever goes wrong."""

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from stmmr import InputError
from stmmr._core.files import atomic_write, publish_folder

posix = pytest.mark.skipif(os.name == "nt", reason="needs signals")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def publish(target: Path, *, text: str = "new", overwrite: bool = True) -> None:
    with publish_folder(target, overwrite=overwrite) as folder:
        (folder / "figures").mkdir()
        (folder / "figures" / "domains.png").write_text(text)
        (folder / "run.json").write_text(text)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder that an earlier run published."""
    publish(tmp_path / "out", text="old")
    return tmp_path / "out"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.json"
    path.write_text("old")
    return path


def fail_at(monkeypatch, call: int) -> None:
    """Let one renaming fail with a full disk."""
    replace, calls = os.replace, []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*args, **kwargs)

    monkeypatch.setattr(os, "replace", full)


def run_until_killed(code: str, *args: Path) -> None:
    """Run a program that ends with SIGKILL, which nothing can catch."""
    prelude = "import os, signal, sys\nfrom pathlib import Path\nfrom stmmr._core import files\n"
    result = subprocess.run([sys.executable, "-c", prelude + code, *map(str, args)], check=False)
    assert result.returncode == -9


def test_file_appears_with_its_suffix_kept(tmp_path):
    target = tmp_path / "result.h5ad"
    with atomic_write(target) as path:
        assert path.parent == tmp_path
        assert path.suffix == ".h5ad"
        path.write_text("whole")
        assert not target.exists()
    assert contents(tmp_path) == {"result.h5ad": b"whole"}


def test_file_is_replaced_and_links_are_followed(tmp_path, file):
    (tmp_path / "link.json").symlink_to(file)
    with atomic_write(tmp_path / "link.json") as path:
        path.write_text("new")
    assert file.read_text() == "new"
    assert (tmp_path / "link.json").is_symlink()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failing_body_leaves_the_old_file(tmp_path, file, error):
    def write() -> None:
        with atomic_write(file) as path:
            path.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert contents(tmp_path) == {"model.json": b"old"}


def test_full_disk_leaves_the_old_file(tmp_path, file, monkeypatch):
    fail_at(monkeypatch, 1)
    with pytest.raises(OSError, match="No space left"), atomic_write(file) as path:
        path.write_text("new")
    assert contents(tmp_path) == {"model.json": b"old"}


@posix
def test_kill_leaves_the_old_file_and_the_next_run_tidies(tmp_path, file):
    run_until_killed(
        "with files.atomic_write(Path(sys.argv[1])) as path:\n"
        "    path.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
        file,
    )
    assert file.read_text() == "old"
    assert len(contents(tmp_path)) == 2
    with atomic_write(file) as path:
        path.write_text("new")
    assert contents(tmp_path) == {"model.json": b"new"}


def test_tidying_spares_what_is_not_ours(tmp_path, file):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    others = [".model.json", ".model.json.swp", f".other.json.{platform.node()}-{process.pid}-00000000.new.json"]
    others += [f".model.json.another-machine-{process.pid}-00000000.new.json"]
    for name in others:
        (tmp_path / name).write_text("keep")
    dead = tmp_path / f".model.json.{platform.node()}-{process.pid}-00000000.new.json"
    dead.touch()
    with atomic_write(file) as path:
        path.write_text("new")
    assert contents(tmp_path) == {"model.json": b"new"} | dict.fromkeys(others, b"keep")


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path, file):
    with atomic_write(file) as outer:
        outer.write_text("outer")
        with atomic_write(file) as inner:
            inner.write_text("inner")
        assert file.read_text() == "inner"
    assert contents(tmp_path) == {"model.json": b"outer"}


def test_disk_that_is_full_only_when_flushed(tmp_path, old, file, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(file) as path:
        path.write_text("new")
    with pytest.raises(OSError, match="No space left"):
        publish(old)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["out", "deep/new/out", "out.v1"])
def test_folder_appears_when_the_body_has_succeeded(tmp_path, name):
    target = tmp_path / name
    with publish_folder(target, overwrite=False) as folder:
        assert folder.parent == target.parent
        (folder / "run.json").write_text("{}")
        assert not target.exists()
    assert contents(tmp_path) == {f"{name}/run.json": b"{}"}


def test_folder_is_as_open_as_any_other(tmp_path):
    (tmp_path / "plain").mkdir()
    publish(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folder_is_replaced_as_a_whole(tmp_path, old):
    (old / "stale.csv").touch()
    publish(old)
    assert contents(tmp_path) == {"out/figures/domains.png": b"new", "out/run.json": b"new"}


def test_link_to_a_folder_stays_a_link(tmp_path, old):
    (tmp_path / "latest").symlink_to(old)
    publish(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert (old / "run.json").read_text() == "new"


def assert_refused(target: Path, message: str, **options) -> None:
    """Check that the refusal comes before any work is done."""
    before = contents(target.parent)
    with pytest.raises(InputError, match=message), publish_folder(target, **options):
        pytest.fail("the body ran")
    assert contents(target.parent) == before


def test_existing_folder_needs_overwrite(old):
    assert_refused(old, r"out exists\. Pass overwrite=True \(--overwrite\)", overwrite=False)


def test_foreign_folder_is_never_replaced(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.docx").write_text("years of work")
    assert_refused(home, r"that stmmr wrote \(with run.json\).*found .*thesis.docx", overwrite=True)


def test_file_is_no_folder(file):
    assert_refused(file, "found the file .*model.json", overwrite=True)


def test_mount_point_cannot_be_renamed(old, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == old)
    assert_refused(old, "found the mount point", overwrite=True)


def test_empty_folder_may_be_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    publish(tmp_path / "out")
    assert (tmp_path / "out" / "run.json").exists()


def test_other_marker(tmp_path):
    for text in ("old", "new"):
        with publish_folder(tmp_path / "model", overwrite=True, marker="model.json") as folder:
            (folder / "model.json").write_text(text)
    assert contents(tmp_path) == {"model/model.json": b"new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failing_body_leaves_the_old_folder(tmp_path, old, error):
    before = contents(tmp_path)

    def write() -> None:
        with publish_folder(old, overwrite=True) as folder:
            (folder / "run.json").write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("call", [1, 2])
def test_full_disk_at_the_renaming_leaves_old_and_new(old, monkeypatch, call):
    before = contents(old)
    fail_at(monkeypatch, call)
    with pytest.raises(OSError, match="No space left") as caught:
        publish(old)
    assert contents(old) == before
    (kept,) = old.parent.glob(".out.*")
    assert str(kept) in caught.value.__notes__[0]
    assert contents(kept) == {"figures/domains.png": b"new", "run.json": b"new"}


def test_folder_that_came_up_meanwhile_is_left(old, tmp_path):
    target = tmp_path / "slow"
    with pytest.raises(InputError, match="exists") as caught, publish_folder(target, overwrite=False) as new:
        (new / "run.json").write_text("slow")
        publish(target, text="fast", overwrite=False)
    assert (target / "run.json").read_text() == "fast"
    assert str(new) in caught.value.__notes__[0]


@posix
def test_kill_in_the_body_leaves_the_old_folder_and_the_next_run_tidies(tmp_path, old):
    before = contents(old)
    run_until_killed(
        "with files.publish_folder(Path(sys.argv[1]), overwrite=True) as folder:\n"
        "    (folder / 'run.json').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
        old,
    )
    assert contents(old) == before
    assert len(list(tmp_path.iterdir())) == 2
    publish(old)
    assert list(tmp_path.iterdir()) == [old]


@posix
def test_kill_between_the_renamings_is_mended_by_the_next_run(tmp_path, old):
    before = contents(old)
    run_until_killed(
        "replace = os.replace\n"
        "def then_die(*args):\n"
        "    replace(*args)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.replace = then_die\n"
        "with files.publish_folder(Path(sys.argv[1]), overwrite=True) as folder:\n"
        "    (folder / 'run.json').write_text('new')\n",
        old,
    )
    assert not old.exists()
    with pytest.raises(InputError, match="exists"):
        publish(old, overwrite=False)
    assert contents(old) == before
    assert list(tmp_path.iterdir()) == [old]
