import os

import pytest

from unet_jax.errors import InputError
from unet_jax.files import read_json, write_json, write_text


def test_what_is_written_is_read_back(tmp_path):
    value = {"seed": 0, "names": ["Müller", "a/b"], "rate": 1e-3, "clip": None, "on": True}
    write_json(tmp_path / "new" / "folder" / "x.json", value)
    assert read_json(tmp_path / "new" / "folder" / "x.json") == value


def test_writing_replaces_and_leaves_nothing_beside_it(tmp_path):
    for text in ("old\n", "new\n"):
        write_text(tmp_path / "x.txt", text)
    assert (tmp_path / "x.txt").read_text() == "new\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


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
    with pytest.raises(InputError, match=r"config\.json is no JSON \(.+\): restore it\."):
        read_json(tmp_path / "config.json")
