import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data import cache, pools, verified
from unet_jax.data.formats import lgg
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.verified import Stamp

NAMES = ("TCGA_AA_1_19990101", "TCGA_BB_2_19990101")


@pytest.fixture
def root(tmp_path, write_scan):
    rng = np.random.default_rng(0)
    for name in NAMES:
        image = rng.integers(0, 256, (2, 8, 9, 3), np.uint8)
        write_scan(tmp_path / "data", name, image, rng.integers(0, 2, (2, 8, 9), np.uint8))
    return tmp_path / "data"


@pytest.fixture
def settled(monkeypatch):
    """Files need not be two seconds old."""
    monkeypatch.setattr(verified, "SETTLED_NS", 0)


@pytest.fixture
def read(monkeypatch):
    """The paths of all files that readers read, and of all pools whose arrays are verified."""
    found, whole = [], pools._are_whole

    def reading(root, path):
        found.append(path.as_posix())
        return read_file(root, path)

    def verifying(folder, places):
        found.append(f"pool {places[0].pool}")
        return whole(folder, places)

    for module in ("reader", "cache"):
        monkeypatch.setattr(f"unet_jax.data.{module}.read_of", lambda _: reading)
    monkeypatch.setattr("unet_jax.data.reader.read_file", reading)
    monkeypatch.setattr(pools, "_are_whole", verifying)
    return found


def test_a_later_start_reads_neither_files_nor_decoded_arrays(root, tmp_path, settled, read):
    first = cache.load(lgg, root, tmp_path / "cache")
    assert sorted(read) == sorted([*(path.relative_to(root).as_posix() for path in root.rglob("*.tif")), "pool 0"])
    read.clear()
    again = cache.load(lgg, root, tmp_path / "cache")
    assert read == []
    assert again[1:] == first[1:]
    for one, other in zip(first[0], again[0], strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_files_that_just_changed_are_read_again(root, tmp_path, read):
    for _ in range(2):
        read.clear()
        cache.load(lgg, root, tmp_path / "cache")
        assert len(read) == 9
    assert list(tmp_path.glob("cache/*.verified")) == []


def rewritten(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def with_its_time_restored(path: Path, data: bytes) -> None:
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_a_copy_of_the_same_time(path: Path, data: bytes) -> None:
    before = path.stat()
    path.with_suffix(".new").write_bytes(data)
    os.utime(path.with_suffix(".new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_suffix(".new").replace(path)


CHANGES = [rewritten, with_its_time_restored, replaced_by_a_copy_of_the_same_time]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_of_the_same_size_is_found(change, root, tmp_path, settled, read):
    path = Path(NAMES[0], f"{NAMES[0]}_1.tif")
    pixels = cv2.imread(str(root / path), cv2.IMREAD_UNCHANGED)
    uncompressed = (cv2.IMWRITE_TIFF_COMPRESSION, 1)
    cv2.imwrite(str(root / path), pixels, uncompressed)
    cv2.imwrite(str(tmp_path / "other.tif"), pixels ^ 1, uncompressed)
    _, fingerprint, digests = cache.load(lgg, root, tmp_path / "cache")
    read.clear()
    time.sleep(0.02)  # longer than a tick of the file system's clock
    change(root / path, (tmp_path / "other.tif").read_bytes())
    _, other, changed = cache.load(lgg, root, tmp_path / "cache")
    assert path.as_posix() in read
    assert changed[path][0] == digests[path][0]
    assert {name for name in digests if changed[name] != digests[name]} == {path}
    assert other != fingerprint


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_pool_is_verified_and_mended(change, root, tmp_path, settled, read, capsys):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    pool = tmp_path / "cache" / f"{fingerprint}.pools-1" / "pool-0000.bin"
    whole = pool.read_bytes()
    time.sleep(0.02)
    change(pool, bytes([whole[0] ^ 1]) + whole[1:])
    cache.load(lgg, root, tmp_path / "cache")
    assert pool.read_bytes() == whole
    assert "1 decoded cases were damaged and were decoded again" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"{}", b"0" * 64 + b"\n{}", b"\x80\x04N.", b"[1]\n[1]"])
def test_damaged_notes_are_as_good_as_none(content, root, tmp_path, settled, read):
    expected = cache.load(lgg, root, tmp_path / "cache")[1]
    notes = list(tmp_path.glob("cache/*.verified"))
    assert len(notes) == 2
    for path in notes:
        path.write_bytes(content)
    read.clear()
    assert cache.load(lgg, root, tmp_path / "cache")[1] == expected
    assert len(read) == 9
    read.clear()
    cache.load(lgg, root, tmp_path / "cache")
    assert read == []


def test_a_pipe_in_the_place_of_notes_is_not_waited_for(root, tmp_path, settled):
    expected = cache.load(lgg, root, tmp_path / "cache")[1]
    for path in tmp_path.glob("cache/*.verified"):
        path.unlink()
        os.mkfifo(path)
    assert cache.load(lgg, root, tmp_path / "cache")[1] == expected


def test_what_is_noted_is_what_was_there_before_it_was_read(tmp_path):
    known = verified.nothing(tmp_path, tmp_path / "data")
    old = Stamp(5, 1, 2, 3)
    known.note("a", old, "digest")
    known.note("young", Stamp(5, 1, time.time_ns(), 3), "digest")
    known.note("missing", None, "digest")
    known.save()
    again = verified.read(tmp_path, tmp_path / "data")
    assert again.noted == {"a": (old, "digest")}
    assert again.get("a", old) == "digest"
    for field in Stamp._fields:
        assert again.get("a", old._replace(**{field: 9})) is None
    assert again.get("a", None) is None
    assert verified.read(tmp_path, tmp_path / "other").noted == {}
