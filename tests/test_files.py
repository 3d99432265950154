import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from disks import make_read_only, no_room_beyond, small_disk

from unet_jax.errors import InputError, StorageError
from unet_jax.files import (
    append_line,
    read_json,
    replace_folder,
    storage_error,
    sweep,
    write_bytes,
    write_json,
    write_parts,
    write_text,
)
from unet_jax.report import case_sheet, curves, scores
from unet_jax.run import history


def test_what_is_written_is_read_back(tmp_path):
    value = {"seed": 0, "names": ["Müller", "a/b"], "rate": 1e-3, "clip": None, "on": True}
    write_json(tmp_path / "new" / "folder" / "x.json", value)
    assert read_json(tmp_path / "new" / "folder" / "x.json") == value


def test_parts_are_one_file(tmp_path):
    write_parts(tmp_path / "a", [b"one", memoryview(b"two"), b""])
    assert (tmp_path / "a").read_bytes() == b"onetwo"


def test_writing_replaces_and_leaves_nothing_beside_it(tmp_path):
    for text in ("old\n", "new\n"):
        write_text(tmp_path / "x.txt", text)
    assert (tmp_path / "x.txt").read_text() == "new\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_what_dead_writers_left_is_removed_and_a_living_ones_is_not(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f".x.txt.{ended.pid}", f".x.txt.{os.getpid()}", f".x.txt.{os.getppid()}", ".x.txt.old", ".xxtxt.7"):
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "x.txt", "whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"x.txt", f".x.txt.{os.getppid()}", ".x.txt.old", ".xxtxt.7"}


def test_many_files_are_written_without_listing_their_folder_each_time(tmp_path, monkeypatch):
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f".x.txt.{ended.pid}", f".x.txt.{os.getppid()}", f".other.txt.{ended.pid}", "x.txt"):
        (tmp_path / name).write_text("half")
    listed, glob = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: listed.append(path) or glob(path, pattern))
    sweep([tmp_path / "x.txt", tmp_path / "y.txt", tmp_path / "missing" / "z.txt"])
    for name in ("x.txt", "y.txt"):
        write_bytes(tmp_path / name, b"whole", swept=True)
    assert listed == [tmp_path, tmp_path / "missing"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "x.txt",
        "y.txt",
        f".x.txt.{os.getppid()}",
        f".other.txt.{ended.pid}",
    }
    assert (tmp_path / "x.txt").read_bytes() == b"whole"


def test_a_planted_link_is_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    for name in ("x.txt", f".x.txt.{os.getpid()}"):
        (tmp_path / name).symlink_to(elsewhere)
    write_text(tmp_path / "x.txt", "new")
    assert elsewhere.read_text() == "mine"
    assert not (tmp_path / "x.txt").is_symlink()


def test_a_crash_before_the_last_move_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"epoch": 1})

    def crash(source, target):
        raise OSError("the power went")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="the power went"):
        write_json(path, {"epoch": 2})
    assert read_json(path) == {"epoch": 1}


def test_the_new_file_is_whole_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    moved = []

    def replace(source, target):
        moved.append((source.read_text(), target.read_text()))

    monkeypatch.setattr(os, "replace", replace)
    write_text(path, "new" * 10_000)
    assert moved == [("new" * 10_000, "old")]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_never_written(tmp_path, value):
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"dice": value})
    assert read_json(tmp_path / "x.json") == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.json cannot be read \(No such file or directory\)"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize("content", [b"", b'{"seed": ', b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json is not JSON \(.+\): restore it\."):
        read_json(tmp_path / "config.json")


def test_without_room_the_old_file_stays_and_the_error_counts_bytes(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"epoch": 1})
    with no_room_beyond(5_000), pytest.raises(StorageError) as error:
        write_bytes(path, b"x" * 10_000)
    assert str(error.value).startswith(f"{path}: File too large; 10,000 bytes are needed, ")
    assert "\n" not in str(error.value)
    assert read_json(path) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_without_room_no_part_of_a_line_is_added(tmp_path):
    path = tmp_path / "x.jsonl"
    append_line(path, "a" * 99)
    before = path.read_bytes()
    assert before == b"a" * 99 + b"\n"
    with no_room_beyond(150), pytest.raises(StorageError, match=r"x\.jsonl: .*; 101 bytes are needed"):
        append_line(path, "b" * 100)
    assert path.read_bytes() == before
    append_line(path, "c")
    assert path.read_bytes() == before + b"c\n"


def test_a_full_disk_and_then_a_read_only_one(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        write_json(disk / "x.json", {"epoch": 1})
        append_line(disk / "x.jsonl", "first")
        with pytest.raises(
            StorageError, match=r"x\.json: No space left on device; 100,000 bytes are needed, 5\d,\d+ are"
        ):
            write_bytes(disk / "x.json", b"x" * 100_000)
        with pytest.raises(StorageError, match=r"x\.jsonl: No space left on device; 100,001 bytes are needed"):
            append_line(disk / "x.jsonl", "y" * 100_000)
        make_read_only(disk)
        for write in (write_text, append_line):
            with pytest.raises(StorageError, match=r"x\.jsonl: Read-only file system; .*: make it writable"):
                write(disk / "x.jsonl", "second")
        assert read_json(disk / "x.json") == {"epoch": 1}
        assert (disk / "x.jsonl").read_text() == "first\n"
        assert {path.name for path in disk.iterdir()} == {"x.json", "x.jsonl"}


def test_what_a_run_writes_says_which_file_had_no_room(tmp_path):
    epochs = [{"epoch": 1, "train_loss": 1.0, "train_dice": 0.5, "val_dice": 0.5}]
    mask = np.ones((2, 8, 8), np.uint8)
    writers = {
        "curves.png": lambda path: curves.write(path, epochs),
        "cases.png": lambda path: case_sheet.write(path, [case_sheet.of_case("one", mask, mask, mask)], "test"),
        "metrics.json": lambda path: scores.write(path.parent, {"split": "test" * 200}, [{"case": "one"}]),
        "cases.csv": lambda path: scores.write(path.parent, {}, [{"case": "one" * 200}]),
        "history.jsonl": lambda path: history.append(path.parent, {"step": 1, "loss": "0" * 200}),
    }
    for name, write in writers.items():
        with (
            no_room_beyond(100),
            pytest.raises(StorageError, match=f"{name}: File too large; [0-9,]+ bytes are needed"),
        ):
            write(tmp_path / name)
        assert not (tmp_path / name).exists() or (tmp_path / name).stat().st_size == 0


@pytest.fixture
def folder(tmp_path):
    """Two files that are written together, and what somebody else has put there."""
    with replace_folder(tmp_path / "run" / "test") as new:
        (new / "a.txt").write_text("old")
        (new / "b.txt").write_text("old")
    (tmp_path / "run" / "test" / "mine").mkdir()
    (tmp_path / "run" / "test" / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "run" / "test" / "link").symlink_to("nowhere")
    return tmp_path / "run" / "test"


OLD = {"a.txt": "old", "b.txt": "old", "mine/notes.txt": "mine", "link": "nowhere"}
NEW = {"a.txt": "new", "c.txt": "new", "b.txt": "old", "mine/notes.txt": "mine", "link": "nowhere"}


def contents(folder):
    paths = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in paths
    }


def replace(folder, meanwhile=lambda new: None):
    with replace_folder(folder) as new:
        (new / "a.txt").write_text("new")
        meanwhile(new)
        (new / "c.txt").write_text("new")


def fail(new):
    raise ValueError("not written")


def test_a_folder_is_replaced_at_once_and_keeps_what_else_lay_in_it(folder):
    seen = []
    replace(folder, lambda new: seen.append((new.parent, contents(folder))))
    assert seen == [(folder.parent, OLD)]
    assert contents(folder) == NEW
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_that_is_not_written_to_its_end_stays_the_old_one(folder):
    with pytest.raises(ValueError, match="not written"):
        replace(folder, fail)
    assert contents(folder) == OLD
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("number", [1, 2])
def test_a_disk_that_fails_while_folders_are_swapped_leaves_the_old_one(folder, number, monkeypatch):
    rename, calls = os.rename, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(StorageError, match=f"{folder}: .*: check the disk"):
        replace(folder)
    assert contents(folder) == OLD
    assert list(folder.parent.iterdir()) == [folder]


def test_on_a_full_or_a_read_only_disk_the_old_folder_stays(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        replace(disk / "test")
        before = contents(disk)
        for write in (write_bytes, Path.write_bytes):
            with pytest.raises(StorageError, match="No space left on device"):
                replace(disk / "test", lambda new, write=write: write(new / "a.txt", b"x" * 100_000))
            assert contents(disk) == before
        make_read_only(disk)
        with pytest.raises(StorageError, match="Read-only file system: make it writable"):
            replace(disk / "test")
        assert contents(disk) == before == {"test/a.txt": "new", "test/c.txt": "new"}


def test_a_living_writers_folder_is_left_alone(folder):
    beside = folder.with_name(f".test.{os.getppid()}")
    beside.mkdir()
    replace(folder)
    assert set(folder.parent.iterdir()) == {folder, beside}


# Replaces the folder, and is killed before its nth rename or removal; without n, before the new folder is whole.
REPLACING = """
import os, signal, sys
from pathlib import Path
from unet_jax.files import replace_folder

count = 0

def strike():
    os.kill(os.getpid(), signal.SIGKILL)

def heard(event, arguments):
    global count
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        count += 1
        if count == int(sys.argv[2]):
            strike()

with replace_folder(Path(sys.argv[1])) as new:
    (new / "a.txt").write_text("new")
    if int(sys.argv[2]) == 0:
        strike()
    (new / "c.txt").write_text("new")
    sys.addaudithook(heard)
"""


@pytest.mark.parametrize("place", range(12))
def test_a_process_that_is_killed_leaves_the_old_folder_or_the_new_one(folder, place):
    """At the next writer's start, at the latest: here one that fails and so writes nothing itself."""
    command = [sys.executable, "-c", REPLACING, str(folder), str(place)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode in ((-signal.SIGKILL,) if place < 7 else (-signal.SIGKILL, 0)), done.stderr
    with pytest.raises(ValueError, match="not written"):
        replace(folder, fail)
    assert contents(folder) == (OLD if place < 3 else NEW)
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some room"),
        (errno.EDQUOT, "free some room"),
        (errno.EROFS, "make it writable"),
        (errno.EACCES, "make it writable"),
        (errno.EIO, "check the disk"),
    ],
)
def test_errors_of_a_disk_are_told_from_others(number, remedy):
    error = storage_error(OSError(number, os.strerror(number), "runs/x/metrics.json"))
    assert str(error).startswith(f"runs/x/metrics.json: {os.strerror(number)}: {remedy}")
    assert storage_error(FileNotFoundError(errno.ENOENT, "gone", "x")) is None


def test_a_path_that_is_not_utf8_is_written_escaped(tmp_path):
    write_text(tmp_path / "x.txt", os.fsdecode(b"l\xe4ufe and l\xc3\xa4ufe"))
    assert (tmp_path / "x.txt").read_text(encoding="utf-8") == "l\\udce4ufe and läufe"
