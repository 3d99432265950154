import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unet_jax.data import cache, splits, tfds_lgg
from unet_jax.data.formats import lgg
from unet_jax.data.formats.tfds_records import Records
from unet_jax.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cases(phantom_files, tmp_path_factory):
    return cache.load(lgg, phantom_files, tmp_path_factory.mktemp("cache"))[0]


def _examples(built, split):
    return list(tfds_lgg.LggMri(data_dir=built.parents[1]).as_data_source(split=split))


def test_the_splits_are_the_projects_own_by_patient(phantom_as_tfds, cases):
    expected = splits.make(cases)
    for name, side in tfds_lgg.SPLITS.items():
        examples = _examples(phantom_as_tfds, name)
        patients = {example["patient"].decode() for example in examples}
        assert patients == set(getattr(expected, side))
        assert len(examples) == sum(len(case.image) for case in cases if case.patient in patients)


def test_every_slice_is_there_with_its_pixels_and_its_place(phantom_as_tfds, cases):
    found = {(e["case"].decode(), e["slice"]): e for e in _examples(phantom_as_tfds, "all")}
    assert len(found) == sum(len(case.image) for case in cases)
    for case in cases:
        # The phantom numbers slices from 1.
        for number, (image, mask) in enumerate(zip(case.image, case.mask, strict=True), 1):
            example = found[case.name, number]
            np.testing.assert_array_equal(example["image"], image)
            np.testing.assert_array_equal(example["mask"], mask)
            assert (example["mask"].dtype, example["patient"].decode()) == (np.uint8, case.patient)


def test_numbers_with_gaps_are_kept(tmp_path, write_scan):
    rng = np.random.default_rng(0)
    for patient in "ABCDE":
        image = rng.integers(0, 256, (2, 6, 7, 3), np.uint8)
        write_scan(tmp_path / "scans", f"T_{patient}_1_x", image, image[..., 0] % 2, numbers=(9, 11))
    built = tfds_lgg.build(tmp_path / "scans", tmp_path / "tfds")
    assert {example["slice"] for example in _examples(built, "all")} == {9, 11}


def test_bad_data_are_listed_whole_and_nothing_is_built(phantom_files, tmp_path, capsys):
    scans = tmp_path / "scans"
    for path in phantom_files.rglob("*.tif"):
        copy = scans / path.relative_to(phantom_files)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    first, second, *_ = sorted(scans.rglob("*_mask.tif"))
    first.write_bytes(b"")
    second.unlink()
    assert tfds_lgg.main([f"--root={scans}", f"--data_dir={tmp_path / 'tfds'}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert first.name in "".join(lines)
    assert second.name.replace("_mask", "") in "".join(lines)
    assert not [path for path in (tmp_path / "tfds").rglob("*") if path.is_file()]


def test_what_is_there_is_left_and_what_is_missing_is_said(phantom_as_tfds, phantom_files, tmp_path, capsys):
    assert tfds_lgg.main([f"--root={phantom_files}", f"--data_dir={phantom_as_tfds.parents[1]}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {phantom_as_tfds}: exists; remove it ")
    with pytest.raises(InputError, match="there is no such folder"):
        tfds_lgg.build(tmp_path / "nowhere", tmp_path / "tfds")


# `tfds build`, but for the other commands of `tfds`, which import TensorFlow when it starts.
TFDS_BUILD = """
import sys
from tensorflow_datasets.scripts.cli import build, cli_utils
cli_utils.make_flags_parser(build.Args, "")(sys.argv).execute()
"""


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "unet_jax.data.tfds_lgg", "--root"],
        ["-c", TFDS_BUILD, "lgg_mri", "--imports=unet_jax.data.tfds_lgg", "--manual_dir"],
    ],
    ids=["python -m", "tfds build"],
)
def test_both_commands_build_it_without_tensorflow(command, phantom_as_tfds, phantom_files, tmp_path):
    assert importlib.util.find_spec("tensorflow") is None
    done = subprocess.run(
        [sys.executable, *command, phantom_files, "--data_dir", tmp_path], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = Records(phantom_as_tfds), Records(tmp_path)
    assert ours.listing == theirs.listing
    for path in (path for files in ours.listing for path in files.images):
        assert ours.read(phantom_as_tfds, path) == theirs.read(tmp_path, path)
