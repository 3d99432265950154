import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import nibabel
import numpy as np
import pytest
from nnunet_answers import unpack_raw
from nnunet_arrays import arrays, plans_of, write_plans

from unet_jax.data.formats import itk_file, nifti_file
from unet_jax.errors import InputError
from unet_jax.plan import prepared, raw
from unet_jax.plan.dataset import read_dataset
from unet_jax.plan.sources import of_raw
from unet_jax.runtime.lock import lock_folder

NAME = "real_iso_mri"


@pytest.fixture
def given(tmp_path):
    root = unpack_raw(tmp_path / "raw") / NAME
    plans = plans_of(tmp_path, NAME)
    dataset = read_dataset(root / "dataset.json")
    return [raw.cases(root, dataset), dataset, plans, plans.configurations["3d_fullres"], tmp_path / "cache"]


def prepare(cases, dataset, plans, configuration, cache, **options):
    return prepared.prepare(of_raw(cases, dataset, plans.reader), dataset, plans, configuration, cache, **options)


def stamps(cache):
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.case")}


def test_arrays_are_those_of_nnunet_and_are_mapped(given):
    cases = prepare(*given)
    assert [case.name for case in cases] == [f"iso_{number}" for number in range(5)]
    golden, case = arrays(NAME), pickle.loads(pickle.dumps(cases[1]))
    np.testing.assert_array_equal(case.mask, golden["seg"][0])
    assert case.image.shape == (*case.shape, 1)
    assert isinstance(case.image.base, np.memmap)
    for key in (1, 2):
        np.testing.assert_array_equal(case.locations(key), golden[f"cl_{key}"][:, 1:])
        assert case.count(key) == len(golden[f"cl_{key}"])
    assert case.geometry.box == ((4, 29), (6, 34), (5, 32))


def test_once_is_enough(given):
    prepare(*given)
    before = stamps(given[-1])
    prepare(*given)
    assert stamps(given[-1]) == before


def test_another_file_is_another_case(given):
    prepare(*given)
    before = stamps(given[-1])
    path = given[0][2].mask
    image = nibabel.load(path)
    changed = np.asarray(image.dataobj).copy()
    changed[10, 10, 10] = 2
    nibabel.save(nibabel.Nifti1Image(changed, image.affine), path)
    prepare(*given)
    after = stamps(given[-1])
    assert len(after) == 6
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": (2.0, 2.0, 2.0)},
        {"normalisation": ("rescale",)},
        {"inside_only": (False,)},
        {"batch_size": 9, "patch_size": (8, 8, 8)},
    ],
    ids=str,
)
def test_what_the_arrays_depend_on(given, change):
    cases, dataset, plans, configuration, cache = given
    prepare(*given)
    prepare(cases, dataset, plans, dataclasses.replace(configuration, **change), cache)
    assert len(stamps(cache)) == (5 if "batch_size" in change else 10)


@pytest.mark.parametrize("damaged", ["pool-0000.bin", "index.jsonl"])
def test_a_damaged_case_is_made_again(given, damaged, capfd):
    before = [np.array(case.image) for case in prepare(*given)]
    folder = sorted(given[-1].iterdir())[0]
    path = folder / damaged
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    after = prepare(*given)
    assert capfd.readouterr().err.count(f"{folder} is damaged: it is made again.") == 1
    for case, image in zip(after, before, strict=True):
        np.testing.assert_array_equal(case.image, image)


def test_a_class_that_is_not_there_has_no_voxel(given):
    path = given[0][0].mask
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.uint8), image.affine), path)
    case = prepare(*given)[0]
    assert case.count(1) == len(case.locations(1)) > 0
    assert case.count(2) == 0
    assert case.locations(2).shape == (0, 3)


def test_all_mistakes_are_told_and_the_other_cases_are_kept(given):
    given[0][1].images[0].write_bytes(b"no")
    given[0][3] = dataclasses.replace(given[0][3], mask=None)
    with pytest.raises(InputError) as error:
        prepare(*given)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("iso_1_0000.nii.gz")
    assert lines[1] == "iso_3 has no mask: add it, or leave the case out."
    assert len(stamps(given[-1])) == 3


@pytest.mark.parametrize(("memory", "at_once"), [(1, 1), (2**40, 2)])
def test_cases_wait_for_memory(given, monkeypatch, memory, at_once):
    under_way, most, lock = 0, 0, threading.Lock()
    original = prepared.preprocess

    def counted(*args):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
        found = original(*args)
        with lock:
            under_way -= 1
        return found

    monkeypatch.setattr(prepared, "preprocess", counted)
    prepare(*given, workers=2, memory=memory)
    assert most == at_once


def test_a_cache_that_another_process_fills_is_waited_for(given):
    with lock_folder(given[-1]):
        thread = threading.Thread(target=prepare, args=given)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert [path.name for path in given[-1].iterdir()] == [".lock"]
    thread.join()
    assert len(stamps(given[-1])) == 5


PROGRAM = """
import sys
from pathlib import Path
from unet_jax.plan import raw
from unet_jax.plan.dataset import read_dataset
from unet_jax.plan.plan_file import read_plans
from unet_jax.plan.prepared import prepare
from unet_jax.plan.sources import of_raw
root, plans, cache = map(Path, sys.argv[1:])
dataset, plans = read_dataset(root / "dataset.json"), read_plans(plans)
sources = of_raw(raw.cases(root, dataset), dataset, plans.reader)
prepare(sources, dataset, plans, plans.configurations["3d_fullres"], cache, workers=1)
"""


def test_a_killed_run_resumes(given, tmp_path):
    cases, dataset, plans, configuration, cache = given
    # Cases that take long enough to be killed amidst.
    image, mask = np.random.default_rng(0).random((90, 80, 70)) + 1, np.zeros((90, 80, 70))
    mask[20:50, 30:60, 20:40] = 2
    for number, case in enumerate(cases):
        for path, array in zip(case.files, (image + number, mask), strict=True):
            nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.diag([1.3, 1.3, 1.3, 1])), path)
    root = cases[0].mask.parents[1]
    command = [sys.executable, "-c", PROGRAM, str(root), str(write_plans(tmp_path, NAME)), str(cache)]
    with subprocess.Popen(command) as process:
        while process.poll() is None and len(list(cache.glob("*.case"))) < 2:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in cache.glob("*.case")}
    assert 2 <= len(finished) < 5
    found = prepare(*given)
    assert finished.items() <= stamps(cache).items()
    # Nothing is left of the case that was being written.
    assert len(stamps(cache)) == 5
    for case, fresh in zip(found, prepare(cases, dataset, plans, configuration, tmp_path / "fresh"), strict=True):
        np.testing.assert_array_equal(case.image, fresh.image)
        np.testing.assert_array_equal(case.mask, fresh.mask)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".gipl"])
def test_what_a_case_takes_is_estimated_before_it_is_decoded_whatever_its_format(given, tmp_path, monkeypatch, suffix):
    itk = pytest.importorskip("SimpleITK")
    _, dataset, plans, configuration, _ = given
    image = itk.GetImageFromArray(np.zeros((5, 4, 3), np.int16))
    image.SetSpacing((1.0, 2.0, 3.0))
    paths = [tmp_path / f"{name}{suffix}" for name in ("a_0000", "a")]
    for path in paths:
        itk.WriteImage(image, str(path))
    for module in (nifti_file, itk_file):
        monkeypatch.setattr(module, "decode", None)
    [source] = of_raw([raw.RawCase("a", (paths[0],), paths[1], None)], dataset, None)
    opened = source.open()
    assert (opened.shape, opened.spacing) == ((5, 4, 3), (3.0, 2.0, 1.0))
    assert prepared._peak_bytes(opened, plans, configuration, dataset) > 8 * 60
