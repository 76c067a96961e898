"""Files and folders that are written as a whole or not at all, whatever goes wrong."""

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from stmmr import InputError
from stmmr._core import folders, locks
from stmmr._core.files import atomic_write
from stmmr._core.folders import Kind, publish_folder

RESULT = Kind("results", "run.json", frozenset({"text"}), r"run\.json|figures/domains\.png")
posix = pytest.mark.skipif(os.name == "nt", reason="needs signals")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def publish(target: Path, *, text: str = "new", overwrite: bool = True) -> None:
    with publish_folder(target, RESULT, overwrite=overwrite) as folder:
        (folder / "figures").mkdir()
        (folder / "figures" / "domains.png").write_text(text)
        (folder / "run.json").write_text(written(text))


def written(text: str) -> str:
    return f'{{"text": "{text}"}}'


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
    prelude = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom stmmr._core import files, folders\n"
        f"RESULT = folders.Kind{tuple(RESULT)}\n"
    )
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
    with publish_folder(target, RESULT, overwrite=False) as folder:
        assert folder.parent == target.parent
        (folder / "run.json").write_text("{}")
        assert not target.exists()
    assert contents(tmp_path) == {f"{name}/run.json": b"{}"}


def test_folder_is_as_open_as_any_other(tmp_path):
    (tmp_path / "plain").mkdir()
    publish(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folder_is_replaced_as_a_whole(tmp_path, old):
    (old / "figures/stale.csv").write_text("of the user")
    publish(old)
    assert contents(tmp_path) == {
        "out/figures/domains.png": b"new",
        "out/run.json": written("new").encode(),
        "out/figures/stale.csv": b"of the user",
    }


def test_link_to_a_folder_stays_a_link(tmp_path, old):
    (tmp_path / "latest").symlink_to(old)
    publish(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert (old / "run.json").read_text() == written("new")


def assert_refused(target: Path, message: str, **options) -> None:
    """Check that the refusal comes before any work is done."""
    before = contents(target.parent)
    with pytest.raises(InputError, match=message), publish_folder(target, RESULT, **options):
        pytest.fail("the body ran")
    assert contents(target.parent) == before


def test_existing_folder_needs_overwrite(old):
    assert_refused(old, r"out exists\. Pass overwrite=True \(--overwrite\)", overwrite=False)


def test_foreign_folder_is_never_replaced(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.docx").write_text("years of work")
    assert_refused(home, r"in which stmmr wrote .* \(with run.json\).*found .*thesis.docx", overwrite=True)


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
        kind = RESULT._replace(marker="model.json", files="model.json")
        with publish_folder(tmp_path / "model", kind, overwrite=True) as folder:
            (folder / "model.json").write_text(written(text))
    assert contents(tmp_path) == {"model/model.json": written("new").encode()}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failing_body_leaves_the_old_folder(tmp_path, old, error):
    before = contents(tmp_path)

    def write() -> None:
        with publish_folder(old, RESULT, overwrite=True) as folder:
            (folder / "run.json").write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("call", [0, 1, 2])
def test_full_disk_at_the_renaming_leaves_old_and_new(old, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents(old)
    monkeypatch.setattr(folders, "_exchange", (lambda *_: False) if call else full)
    fail_at(monkeypatch, call)
    with pytest.raises(OSError, match="No space left") as caught:
        publish(old)
    assert contents(old) == before
    (kept,) = old.parent.glob(".out.*")
    assert str(kept) in caught.value.__notes__[0]
    assert contents(kept) == {"figures/domains.png": b"new", "run.json": written("new").encode()}


def test_folder_that_came_up_meanwhile_is_left(old, tmp_path):
    target = tmp_path / "slow"
    with pytest.raises(InputError, match="exists") as caught, publish_folder(target, RESULT, overwrite=False) as new:
        (new / "run.json").write_text(written("slow"))
        target.mkdir()
        (target / "notes.txt").write_text("of another program")
    assert contents(target) == {"notes.txt": b"of another program"}
    assert str(new) in caught.value.__notes__[0]


@posix
def test_kill_in_the_body_leaves_the_old_folder_and_the_next_run_tidies(tmp_path, old):
    before = contents(old)
    run_until_killed(
        "with folders.publish_folder(Path(sys.argv[1]), RESULT, overwrite=True) as folder:\n"
        "    (folder / 'run.json').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
        old,
    )
    assert contents(old) == before
    assert len(list(tmp_path.iterdir())) == 3  # with the lock
    publish(old)
    assert list(tmp_path.iterdir()) == [old]


@posix
def test_kill_between_the_renamings_is_mended_by_the_next_run(tmp_path, old):
    before = contents(old)
    run_until_killed(
        "folders._exchange = lambda *_: False\n"
        "replace = os.replace\n"
        "def then_die(*args):\n"
        "    replace(*args)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.replace = then_die\n"
        "with folders.publish_folder(Path(sys.argv[1]), RESULT, overwrite=True) as folder:\n"
        "    (folder / 'run.json').write_text('{\"text\": 0}')\n",
        old,
    )
    assert not old.exists()
    folders.restore(old)
    assert contents(old) == before
    publish(old)
    assert list(tmp_path.iterdir()) == [old]


def user_files(folder: Path) -> None:
    (folder / "deep/er").mkdir(parents=True)
    for name in ("notes.txt", "deep/er/notes.txt", "figures/notes.txt"):
        (folder / name).write_text("of the user")
    (folder / "link").symlink_to(folder.parent)
    (folder / "deep/broken").symlink_to("nothing")


def check_user_files(folder: Path) -> None:
    for name in ("notes.txt", "deep/er/notes.txt", "figures/notes.txt"):
        assert (folder / name).read_text() == "of the user"
    assert (folder / "link").readlink() == folder.parent
    assert (folder / "deep/broken").is_symlink()


@posix
@pytest.mark.parametrize("system", ["exchanges", "moves aside", "has no hard links"])
def test_files_of_the_user_move_to_the_new_folder(tmp_path, old, monkeypatch, system):
    if system != "exchanges":
        monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    if system == "has no hard links":

        def link(*_, **__):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    user_files(old)
    for text in ("new", "newer"):
        publish(old, text=text)
        check_user_files(old)
        assert (old / "figures/domains.png").read_text() == text
    assert list(tmp_path.iterdir()) == [old]


@posix
def test_a_kill_after_the_exchange_loses_no_file_of_the_user(tmp_path, old):
    user_files(old)
    run_until_killed(
        "folders.Draft._dispose = lambda self, old: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with folders.publish_folder(Path(sys.argv[1]), RESULT, overwrite=True) as folder:\n"
        "    (folder / 'run.json').write_text('{\"text\": 0}')\n",
        old,
    )
    check_user_files(old)
    publish(old)
    check_user_files(old)
    assert list(tmp_path.iterdir()) == [old]


@posix
def test_what_was_shown_stays_whatever_happens_then(tmp_path, old):
    user_files(old)
    with pytest.raises(RuntimeError), folders.drafted(old, RESULT, overwrite=True) as draft:
        (draft.folder / "run.json").write_text(written("first"))
        draft.show()
        assert (old / "run.json").read_text() == written("first")
        raise RuntimeError
    check_user_files(old)
    assert (old / "run.json").read_text() == written("first")
    assert not (old / "figures/domains.png").exists()
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("spoil", ["foreign", "link", "file", "other JSON"])
def test_only_what_is_ours_is_removed(tmp_path, old, spoil):
    folder = tmp_path / "folder"
    if spoil == "link":
        folder.symlink_to(old)
    elif spoil == "file":
        folder.write_text("of the user")
    else:
        folder.mkdir()
        (folder / ("notes.txt" if spoil == "foreign" else "run.json")).write_text("[1]")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="Expected"):
        folders.remove(folder, RESULT)
    assert contents(tmp_path) == before


@posix
def test_removing_follows_no_links_and_leaves_files_of_the_user(tmp_path, old):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/domains.png").write_text("of the user")
    (old / "figures/domains.png").unlink()
    (old / "figures").rmdir()
    (old / "figures").symlink_to(tmp_path / "elsewhere")
    (old / "notes.txt").write_text("of the user")
    folders.remove(old, RESULT)
    assert contents(tmp_path) == {"elsewhere/domains.png": b"of the user", "out/notes.txt": b"of the user"}
    assert (old / "figures").is_symlink()


@posix
def test_a_lock_is_of_a_live_process(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom stmmr._core import folders, locks\n"
        "with locks.locked(Path(sys.argv[1])):\n    print(flush=True)\n    time.sleep(100)"
    )
    target = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(InputError, match=f"found process {process.pid} on"), locks.locked(target):
            pass
        process.kill()
        process.wait()
    with locks.locked(target), locks.locked(target):
        pass
    assert not list(tmp_path.iterdir())
