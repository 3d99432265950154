import json
import multiprocessing
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data import cache
from unet_jax.data.case import Case
from unet_jax.data.formats import lgg
from unet_jax.errors import InputError, StorageError

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
        return [cache.CaseFiles(path.stem, path.stem, (Path(path.name),), ()) for path in sorted(root.iterdir())]

    @staticmethod
    def decode(files, read):
        volume = np.frombuffer(read(files.images[0]), np.float32).reshape(2, 3, 4, 1)
        return Case(files.name, files.patient, volume, None, (5.0, 0.5, 0.5))


def test_the_cache_gives_what_the_reader_decodes(root, tmp_path):
    cases, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    assert [case.name for case in cases] == list(NAMES)
    for case, files in zip(cases, lgg.find(root), strict=True):
        decoded = lgg.decode(files, lambda path: (root / path).read_bytes())
        np.testing.assert_array_equal(case.image, decoded.image)
        np.testing.assert_array_equal(case.mask, decoded.mask)
        assert isinstance(case.image, np.memmap)
        assert not case.image.flags.writeable
        assert (case.patient, case.spacing) == (decoded.patient, None)
    assert len(fingerprint) == 64
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [fingerprint]


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
    def full_disk(path, array):
        if path.name.startswith("00001"):
            raise OSError(28, "No space left on device")
        np.lib.format.write_array(path.open("wb"), array)

    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "save", full_disk)
        with pytest.raises(StorageError, match="No space left on device"):
            cache.load(lgg, root, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    # What a killed process leaves: cases under a name that is no fingerprint.
    (tmp_path / "cache" / "unfinished-1" / "cases").mkdir(parents=True)
    assert len(cache.load(lgg, root, tmp_path / "cache")[0]) == 2


def test_damaged_decoded_cases_are_reported(root, tmp_path):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    array = tmp_path / "cache" / fingerprint / "00000_image.npy"
    array.write_bytes(array.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{fingerprint}: these decoded cases are damaged .* delete the folder"):
        cache.load(lgg, root, tmp_path / "cache")


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
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [results[0][0]]


def test_a_folder_finished_by_another_process_is_taken(root, tmp_path, monkeypatch):
    _, fingerprint, _ = cache.load(lgg, root, tmp_path / "cache")
    monkeypatch.setattr(cache, "_digests_of_files", lambda *_: None)
    cases, again, _ = cache.load(lgg, root, tmp_path / "cache")
    assert again == fingerprint
    assert len(cases) == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [fingerprint]


def test_more_files_may_be_open_than_a_process_starts_with(root, tmp_path, monkeypatch):
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, most))
    try:
        cache.load(lgg, root, tmp_path / "cache")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == cache.OTHER_OPEN_FILES + 2 * len(NAMES)
        monkeypatch.setattr(cache.resource, "getrlimit", lambda _: (300, 400))
        with pytest.raises(InputError, match=r"^4 files of decoded cases must be open at once, .* allows 400"):
            cache.load(lgg, root, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
