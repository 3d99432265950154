import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from disks import make_read_only, small_disk

from unet_jax.runtime.cache_warnings import explained_cache_warnings

PROJECT = Path(__file__).parents[2]
# Compiles three programs, or loads them from the cache, as a command does.
CHILD = """
import sys
from unet_jax.runtime import compilation_cache
from unet_jax.runtime.command_line import run_and_report

compilation_cache.WORTH_KEEPING = 0.0

def work():
    compilation_cache.use(sys.argv[1])
    import jax
    for number in range(3):
        jax.jit(lambda x: x * (number + 2) + 1).lower(jax.ShapeDtypeStruct((4,), "float32")).compile()

sys.exit(run_and_report(work))
"""


def _warnings_of(folder):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        env=kept | {"JAX_PLATFORMS": "cpu"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def _programs(folder):
    return sorted(path for path in folder.iterdir() if path.name.endswith("-cache"))


@pytest.fixture
def filled(tmp_path):
    folder = tmp_path / "compiled"
    assert _warnings_of(folder) == ""
    assert len(_programs(folder)) == 3
    return folder


def _cut(path):
    os.truncate(path, path.stat().st_size - 20)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [_cut, _flip, _empty])
def test_damaged_programs_are_one_line_and_are_replaced(filled, spoil):
    whole = [path.stat().st_size for path in _programs(filled)]
    for path in _programs(filled)[:2]:
        spoil(path)
    line = f"warning: 2 compiled programs in {filled} were damaged: they are removed, and compiled again.\n"
    assert _warnings_of(filled) == line
    assert _warnings_of(filled) == ""
    for path, size in zip(_programs(filled), whole, strict=True):
        assert abs(path.stat().st_size - size) < 100


def test_a_program_of_another_kind_is_kept_and_told(filled):
    """A whole zlib stream that is not a program: nothing says what it was."""
    import zlib

    path = _programs(filled)[0]
    path.write_bytes(zlib.compress(b"1234 not a program"))
    said = _warnings_of(filled)
    assert said.startswith(f"warning: compiled programs in {filled} cannot be read (")
    assert said.count("\n") == 1
    assert path.exists()


def test_a_file_in_the_folders_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    line = f"warning: compiled programs in {tmp_path / 'file'} cannot be read (File exists): they are compiled again; "
    said = _warnings_of(tmp_path / "file")
    assert said.startswith(line)
    assert said.endswith("or name another config.train.compilation_cache.\n")
    assert said.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_and_a_read_only_disk_are_one_line_and_leave_nothing_half_written(tmp_path):
    with small_disk(tmp_path / "disk", "4k") as disk:
        (disk / "filler").write_bytes(bytes(4096))
        said = _warnings_of(disk)
        assert said.startswith(f"warning: compiled programs cannot be kept in {disk} (No space left on device): make ")
        assert said.count("\n") == 1
        assert _programs(disk) == []
        make_read_only(disk)
        said = _warnings_of(disk)
        assert said.startswith(f"warning: compiled programs cannot be kept in {disk} (Read-only file system): make ")
        assert said.count("\n") == 1


def test_other_warnings_are_left_as_they_are():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        show = warnings.showwarning
        with explained_cache_warnings():
            warnings.warn("mind the gap", stacklevel=1)
        assert warnings.showwarning is show
    assert [str(one.message) for one in caught] == ["mind the gap"]
