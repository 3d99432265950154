import errno
import json
import multiprocessing
import os
import pickle
import re
import shutil
import tracemalloc
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from unet_jax.data import cache, pool_arrays, pool_index, pools, threads
from unet_jax.data.case import Case
from unet_jax.data.formats import lgg, sources
from unet_jax.data.reader import CaseFiles, Reader
from unet_jax.errors import InputError, OutOfMemoryError, StorageError

NAMES = ("TCGA_AA_1_19990101", "TCGA_BB_2_19990101")


@pytest.fixture
def root(tmp_path, write_scan):
    rng = np.random.default_rng(0)
    for depth, name in enumerate(NAMES, 2):
        image = rng.integers(0, 256, (depth, 8, 9, 3), np.uint8)
        write_scan(tmp_path / "data", name, image, rng.integers(0, 2, (depth, 8, 9), np.uint8))
    return tmp_path / "data"


class _Arrays:
    """A reader of float32 volumes without masks, with spacing: one raw file a case."""

    DECODING = "raw 1"

    @staticmethod
    def find(root):
        return [CaseFiles(path.stem, path.stem, (Path(path.name),), ()) for path in sorted(root.iterdir())]

    @staticmethod
    def decode(files, read):
        volume = np.frombuffer(read(files.images[0]), np.float32).reshape(2, 3, 4, 1)
        return Case(files.name, files.patient, volume, None, (5.0, 0.5, 0.5))


def _folders(cache):
    """What lies in the cache, but for its notes of what was verified: see `verified`."""
    return [path.name for path in cache.iterdir() if path.suffix != ".verified"]


def test_the_cache_gives_what_the_reader_decodes(root, tmp_path):
    cases, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    assert [case.name for case in cases] == list(NAMES)
    for case, files in zip(cases, lgg.find(root), strict=True):
        decoded = lgg.decode(files, lambda path: (root / path).read_bytes())
        np.testing.assert_array_equal(case.image, decoded.image)
        np.testing.assert_array_equal(case.mask, decoded.mask)
        assert isinstance(case.image.base, np.memmap)
        assert not case.image.flags.writeable
        assert (case.patient, case.spacing) == (decoded.patient, None)
    assert len(fingerprint) == 64
    assert _folders(tmp_path / "cache") == [f"{fingerprint}.pools-1"]


def test_a_second_load_decodes_nothing(root, tmp_path, monkeypatch):
    first, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    monkeypatch.setattr(lgg, "decode", None)
    second, again, _ = cache.load(lgg, root, tmp_path / "cache")
    assert again == fingerprint
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_another_reader_keeps_type_spacing_and_missing_masks(tmp_path):
    volume = np.random.default_rng(0).normal(size=(2, 3, 4, 1)).astype(np.float32)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "knee.raw").write_bytes(volume.tobytes())
    for _ in range(2):
        [case], *_ = cache.load(_as_module(_Arrays), tmp_path / "data", tmp_path / "cache")
        np.testing.assert_array_equal(case.image, volume)
        assert case.image.dtype == np.float32
        assert case.mask is None
        assert case.spacing == (5.0, 0.5, 0.5)


def _as_module(reader):
    module = type(json)("raw")
    module.DECODING, module.find, module.decode = reader.DECODING, reader.find, reader.decode
    return module


def test_the_fingerprint_follows_bytes_names_and_decoding_but_not_the_place(root, tmp_path, monkeypatch):
    def fingerprint(of=root):
        return cache.load(lgg, of, tmp_path / "cache")[1]

    seen = [fingerprint()]
    image = root / NAMES[0] / f"{NAMES[0]}_1.tif"
    pixels = cv2.imread(str(image), cv2.IMREAD_UNCHANGED)
    pixels[0, 0, 0] ^= 1
    cv2.imwrite(str(image), pixels)
    seen.append(fingerprint())
    image.rename(image.with_name(f"{NAMES[0]}_7.tif"))
    mask = image.with_name(f"{NAMES[0]}_1_mask.tif")
    mask.rename(image.with_name(f"{NAMES[0]}_7_mask.tif"))
    seen.append(fingerprint())
    moved = root.rename(tmp_path / "elsewhere")
    assert fingerprint(moved) == seen[-1]
    monkeypatch.setattr(lgg, "DECODING", "another")
    seen.append(fingerprint(moved))
    assert len(set(seen)) == 4


def test_a_fault_added_to_cached_data_is_found(root, tmp_path):
    cache.load(lgg, root, tmp_path / "cache")
    (root / NAMES[0] / "stray.tif").write_bytes(b"")
    with pytest.raises(InputError, match=r"stray\.tif: is named neither"):
        cache.load(lgg, root, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_names_its_key(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"config\.data\.cache=.*file/cache: decoded cases cannot be written"):
        cache.load(lgg, root, tmp_path / "file" / "cache")


def test_a_write_cut_short_leaves_nothing_that_looks_whole(root, tmp_path, monkeypatch):
    def full_disk(file, array):
        if file.tell():
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(array.tobytes())

    with monkeypatch.context() as patch:
        patch.setattr(pool_arrays, "write", full_disk)
        with pytest.raises(StorageError, match=r"No space left on device\): name a folder .*, on a disk with room\."):
            cache.load(lgg, root, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    # What a killed process leaves: cases under a name that is not a fingerprint's.
    (tmp_path / "cache" / "unfinished-1" / "cases").mkdir(parents=True)
    assert len(cache.load(lgg, root, tmp_path / "cache")[0]) == 2


def test_the_fingerprint_is_that_of_earlier_versions(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "knee.raw").write_bytes(bytes(96))
    (tmp_path / "data" / "wrist.raw").write_bytes(np.arange(24, dtype="<f4").tobytes())
    _, fingerprint, _ = cache.load(_as_module(_Arrays), tmp_path / "data", tmp_path / "cache")
    # Computed before cases were kept in pools: runs have theirs on record.
    assert fingerprint == "82231dbfcb5dca192729e9afc9e6c200ecb4b011a748b19d1981f78ba6ae2626"


def test_files_are_read_once_to_decode_them_and_once_to_find_them_decoded(root, tmp_path):
    read = []

    def counting(root, path):
        read.append(path)
        return (root / path).read_bytes()

    reader = Reader(lgg.DECODING, lgg.find, lgg.decode, counting)
    files = sorted(path for one in lgg.find(root) for path in (*one.images, *one.masks))
    for _ in range(2):
        cache.load(reader, root, tmp_path / "cache")
        assert sorted(read) == files
        read.clear()


def _spoilt(whole: bytes, offset: int, size: int) -> bytes:
    """`whole` with so many of its bytes inverted."""
    return whole[:offset] + bytes(255 - value for value in whole[offset : offset + size]) + whole[offset + size :]


def _places(folder):
    return {record.facts["name"]: record.places for record in pool_index.read(folder)}


# What is done to a cache of two cases, and which are decoded again.
DAMAGE = {
    "masks inverted": (lambda whole, at: _spoilt(whole, at[NAMES[0]]["mask"].offset, 2 * 8 * 9), [NAMES[0]]),
    "images inverted": (lambda whole, at: _spoilt(whole, at[NAMES[1]]["image"].offset, 3 * 8 * 9 * 3), [NAMES[1]]),
    "one bit": (lambda whole, at: _spoilt(whole, at[NAMES[1]]["mask"].offset + 5, 1), [NAMES[1]]),
    "a mask value 7": (lambda whole, at: whole.replace(bytes([1]), bytes([7])), NAMES),
    "cut short": (lambda whole, at: whole[: at[NAMES[1]]["mask"].offset + 8], [NAMES[1]]),
    "empty": (lambda whole, at: b"", NAMES),
    "a pickle": (lambda whole, at: pickle.dumps([NAMES]), NAMES),
    "missing": (lambda whole, at: None, NAMES),
    "cases swapped": (
        lambda whole, at: whole[at[NAMES[1]]["image"].offset :] + whole[: at[NAMES[1]]["image"].offset],
        NAMES,
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cases_are_decoded_again_in_one_line(damage, root, tmp_path, capsys, monkeypatch):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    folder = tmp_path / "cache" / f"{fingerprint}.pools-1"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoil, names = DAMAGE[damage]
    pool = folder / "pool-0000.bin"
    spoilt = spoil(pool.read_bytes(), _places(folder))
    assert spoilt != whole["pool-0000.bin"]
    if spoilt is None:
        pool.unlink()
    else:
        pool.write_bytes(spoilt)
    decoded, decode = [], lgg.decode
    monkeypatch.setattr(lgg, "decode", lambda files, read: decoded.append(files.name) or decode(files, read))
    capsys.readouterr()
    cases, again, _ = cache.load(lgg, root, tmp_path / "cache")
    assert again == fingerprint
    assert sorted(decoded) == list(names)
    for case, files in zip(cases, lgg.find(root), strict=True):
        expected = decode(files, lambda path: (root / path).read_bytes())
        np.testing.assert_array_equal(case.image, expected.image)
        np.testing.assert_array_equal(case.mask, expected.mask)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    [line] = capsys.readouterr().err.splitlines()
    listed = ", ".join(names)
    assert line == f"warning: {folder}: {len(names)} decoded cases were damaged and were decoded again ({listed})."
    cache.load(lgg, root, tmp_path / "cache")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "damage", ["a name", "a mask left out", "cut", "empty", "missing", "no JSON", "another layout", "a pickle"]
)
def test_a_damaged_index_has_all_cases_decoded_again(damage, root, tmp_path, capsys):
    cases, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    folder = tmp_path / "cache" / f"{fingerprint}.pools-1"
    index = folder / "index.jsonl"
    whole = index.read_text()
    if damage == "missing":
        index.unlink()
    else:
        changed = {
            "a name": whole.replace(NAMES[0], NAMES[1]),
            "a mask left out": re.sub(r'"mask": \[.*\]', '"mask": null', whole),
            "cut": whole[:-30],
            "empty": "",
            "no JSON": "{",
            "another layout": '[{"name": "x"}]\n',
            "a pickle": pickle.dumps([NAMES]),
        }[damage]
        assert changed != whole
        index.write_bytes(changed if damage == "a pickle" else changed.encode())
    again, same, _ = cache.load(lgg, root, tmp_path / "cache")
    assert same == fingerprint
    assert _folders(tmp_path / "cache") == [folder.name]
    assert index.read_text() == whole
    for one, other in zip(cases, again, strict=True):
        assert one.name == other.name
        # The first is of a file that is no longer in the folder.
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
    [line] = capsys.readouterr().err.splitlines()
    kind = "missing" if damage == "missing" else "damaged"
    assert line == f"warning: {index}: the index is {kind}: all 2 cases are decoded again."


def test_a_damaged_case_that_decodes_to_other_pixels_has_all_decoded_again(root, tmp_path, capsys):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    folder = tmp_path / "cache" / f"{fingerprint}.pools-1"
    pool = folder / "pool-0000.bin"
    pool.write_bytes(_spoilt(pool.read_bytes(), 0, 1))

    def otherwise(files, read):
        case = lgg.decode(files, read)
        return Case(case.name, case.patient, case.image ^ 1, case.mask)

    cases, again, _ = cache.load(Reader(lgg.DECODING, lgg.find, otherwise), root, tmp_path / "cache")
    assert again == fingerprint
    assert _folders(tmp_path / "cache") == [folder.name]
    for case, files in zip(cases, lgg.find(root), strict=True):
        expected = lgg.decode(files, lambda path: (root / path).read_bytes()).image ^ 1
        np.testing.assert_array_equal(case.image, expected)
    assert "is another one when it is made again: all 2 cases" in capsys.readouterr().err


def test_what_keeps_a_damaged_case_from_being_decoded_again_is_named(root, tmp_path):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    pool = tmp_path / "cache" / f"{fingerprint}.pools-1" / "pool-0000.bin"
    pool.write_bytes(_spoilt(pool.read_bytes(), 0, 1))
    spoilt = pool.read_bytes()

    def emptied(files, read):
        return lgg.decode(files, lambda path: read(path) and b"")

    with pytest.raises(InputError, match=rf"{NAMES[0]}_1\.tif: the file is empty"):
        cache.load(Reader(lgg.DECODING, lgg.find, emptied), root, tmp_path / "cache")
    assert pool.read_bytes() == spoilt


def test_what_another_process_has_made_whole_meanwhile_is_kept(root, tmp_path, monkeypatch, capsys):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    index = tmp_path / "cache" / f"{fingerprint}.pools-1" / "index.jsonl"
    whole = index.read_bytes()
    folder = index.parent.stat().st_ino
    index.write_bytes(b"")
    write = pools.write

    def meanwhile(*arguments):
        write(*arguments)
        index.write_bytes(whole)

    monkeypatch.setattr(pools, "write", meanwhile)
    assert len(cache.load(lgg, root, tmp_path / "cache")[0]) == 2
    assert index.parent.stat().st_ino == folder
    assert _folders(tmp_path / "cache") == [index.parent.name]
    assert "the index is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.EMFILE, InputError, "allow more open files (ulimit -n)"),
        (errno.ENFILE, InputError, "allow more open files (ulimit -n)"),
        (errno.ENOMEM, OutOfMemoryError, "allow this one more memory (ulimit -v)"),
        (errno.EACCES, InputError, "make it readable"),
        (errno.EIO, StorageError, "check the disk"),
        (errno.ESTALE, InputError, "name another folder"),
    ],
)
@pytest.mark.parametrize(
    ("module", "where"),
    [(pool_index, "read"), (pools, "damaged"), (pools, "open_arrays")],
    ids=["read", "damaged", "open"],
)
def test_what_the_system_refuses_is_not_called_damage(
    number, kind, remedy, module, where, root, tmp_path, capsys, monkeypatch
):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    before = sorted((tmp_path / "cache" / f"{fingerprint}.pools-1").iterdir())

    def refuse(folder, *_):
        raise OSError(number, os.strerror(number), str(folder / "pool-0000.bin"))

    monkeypatch.setattr(module, where, refuse)
    with pytest.raises(kind) as caught:
        cache.load(lgg, root, tmp_path / "cache")
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"config.data.cache={tmp_path / 'cache'}: decoded cases cannot be read there (")
    assert f"pool-0000.bin: {os.strerror(number)}" in line
    assert remedy in line
    assert "damaged" not in line
    assert "delete" not in line
    assert sorted(before[0].parent.iterdir()) == before
    assert capsys.readouterr().err == ""


def test_too_many_files_are_not_a_lack_of_room(root, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(pools, "write", refuse)
    with pytest.raises(InputError, match=r"cannot be written there \(.*Too many open files\): .* \(ulimit -n\)"):
        cache.load(lgg, root, tmp_path / "cache")


def test_the_cases_of_a_hundred_folders_take_a_handful_of_files(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(100):
        (tmp_path / "data" / f"{number}.raw").write_bytes(np.full(24, number, np.float32).tobytes())
    cases, fingerprint, _ = cache.load(_as_module(_Arrays), tmp_path / "data", tmp_path / "cache")
    folder = tmp_path / "cache" / f"{fingerprint}.pools-1"
    assert len(list(folder.iterdir())) == 2
    assert Path("/proc/self/maps").read_text().count(f" {folder}/") == 1
    assert len({id(case.image.base) for case in cases}) == 1
    assert [int(case.name) for case in cases] == [case.image[1, 2, 3, 0] for case in cases]


def test_an_old_cache_is_left_alone(root, tmp_path):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / f"{fingerprint}.pools-1")
    old = tmp_path / "cache" / fingerprint
    old.mkdir()
    (old / "index.json").write_text("[]")
    assert cache.load(lgg, root, tmp_path / "cache")[1] == fingerprint
    assert (old / "index.json").read_text() == "[]"


def _load_in_process(root, folder, barrier, answers):
    barrier.wait()
    cases, fingerprint, _ = cache.load(lgg, root, folder)
    answers.put((fingerprint, [int(case.image.sum()) for case in cases]))


def test_two_processes_may_race(root, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    arguments = (root, tmp_path / "cache", barrier, answers)
    processes = [context.Process(target=_load_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    results = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert results[0] == results[1]
    assert _folders(tmp_path / "cache") == [f"{results[0][0]}.pools-1"]


def test_a_folder_finished_by_another_process_is_taken(root, tmp_path, monkeypatch):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    # As when the other process finished after this one had looked.
    monkeypatch.setattr(cache._DataSet, "hashed", lambda _: None)
    cases, again, _ = cache.load(lgg, root, tmp_path / "cache")
    assert again == fingerprint
    assert len(cases) == 2
    assert _folders(tmp_path / "cache") == [f"{fingerprint}.pools-1"]


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_large_volumes_are_decoded_one_by_one_in_the_memory_of_two_and_a_half(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "MOST_WEIGHT", 2**20)
    # Scans of air and noise, not in the order that cases have, as a scanner writes them.
    volume = np.random.default_rng(0).integers(0, 400, (96, 80, 128), np.int16)
    volume[:10] = 0
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in range(4):
        for name, voxels in {"images": volume, "masks": (volume > 300).astype(np.uint8)}.items():
            image = nibabel.Nifti1Image(voxels, np.diag([1, 1, 2, 1]))
            nibabel.save(image, tmp_path / "data" / name / f"{number}.{ending}")
    chosen = sources.Settings(images=f"images/{{case}}.{ending}", masks=f"masks/{{case}}.{ending}")
    reader = sources.reader(tmp_path / "data", "patterns", chosen)
    cache.load(reader, tmp_path / "data", tmp_path / "before")  # imports
    tracemalloc.start()
    try:
        cases, *_ = cache.load(reader, tmp_path / "data", tmp_path / "cache")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(cases) == 4
    assert peak < 2.5 * cases[0].image.nbytes, f"{peak / cases[0].image.nbytes:.2f} times a volume"
