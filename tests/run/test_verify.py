import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data import pool_index, verified
from unet_jax.data.load import load
from unet_jax.errors import InputError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.run import history, resume
from unet_jax.run.config import read_config
from unet_jax.run.verify import verify
from unet_jax.training.train import train

NAMES = ("TCGA_AA_1_19990101", "TCGA_BB_2_19990101")


@pytest.fixture
def root(tmp_path, write_scan):
    rng = np.random.default_rng(0)
    for name in NAMES:
        image = rng.integers(0, 256, (3, 8, 9, 3), np.uint8)
        write_scan(tmp_path / "data", name, image, rng.integers(0, 2, (3, 8, 9), np.uint8))
    return tmp_path / "data"


@pytest.fixture
def workdir(root, tmp_path, configure, settings):
    """Of a run that has only begun."""
    own = {"data.source": "lgg", "data.root": str(root), "data.cache": str(tmp_path / "cache")}
    config = configure(settings | own)
    resume.record(tmp_path / "run", config, load(config))
    return tmp_path / "run"


def change_one_pixel(path: Path) -> None:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    pixels[0, 0, 0] ^= 1
    cv2.imwrite(str(path), pixels)


def test_files_that_are_as_they_were_are_counted(workdir, root, tmp_path, capsys):
    before = sorted(workdir.iterdir())
    assert verify(workdir) == 12
    files, decoded = capsys.readouterr().out.splitlines()
    assert files.startswith(f"12 files verified in {root}: ")
    assert decoded == f"2 decoded cases verified in {tmp_path / 'cache'}."
    moved = root.rename(tmp_path / "moved")
    assert verify(workdir, data=moved) == 12
    assert sorted(workdir.iterdir()) == before


def test_one_changed_pixel_is_found_and_its_file_named(workdir, root):
    change_one_pixel(root / NAMES[1] / f"{NAMES[1]}_2.tif")
    with pytest.raises(InputError) as error:
        verify(workdir)
    assert str(error.value).splitlines()[1:] == [f"  {NAMES[1]}/{NAMES[1]}_2.tif: has another content"]


def test_a_file_that_is_missing_damaged_or_new_is_named(workdir, root):
    folder = root / NAMES[0]
    (folder / f"{NAMES[0]}_1_mask.tif").unlink()
    (folder / f"{NAMES[0]}_2.tif").write_bytes(b"")
    for ending in ("", "_mask"):
        shutil.copy(folder / f"{NAMES[0]}_3{ending}.tif", folder / f"{NAMES[0]}_4{ending}.tif")
    with pytest.raises(InputError) as error:
        verify(workdir)
    assert str(error.value).splitlines()[1:] == [
        f"  {NAMES[0]}/{NAMES[0]}_1_mask.tif: is missing",
        f"  {NAMES[0]}/{NAMES[0]}_2.tif: has another content",
        f"  {NAMES[0]}/{NAMES[0]}_4.tif: is new",
        f"  {NAMES[0]}/{NAMES[0]}_4_mask.tif: is new",
    ]


def test_what_no_time_and_size_tells_is_found_where_all_is_read(workdir, root, tmp_path, monkeypatch):
    # As a bit that flips on the disk: the file's notes say that it is what it was.
    monkeypatch.setattr(verified, "SETTLED_NS", 0)
    config, path = read_config(workdir), Path(NAMES[1], f"{NAMES[1]}_2.tif")
    whole = load(config)
    change_one_pixel(root / path)
    known = verified.read(tmp_path / "cache", root)
    known.note(path.as_posix(), verified.stamp(root / path), whole.digests[path][1])
    known.save()
    assert load(config).fingerprint == whole.fingerprint
    with pytest.raises(InputError, match="has another content"):
        verify(workdir)
    # From then on starts know it too.
    assert load(config).fingerprint != whole.fingerprint


def inverted(folder: Path, kind: str, cases: list[int]) -> None:
    """Inverts the images or the masks of some decoded cases: 0 becomes 1 in a mask, 255 in an image."""
    [decoded] = folder.glob("*.pools-1")
    records = pool_index.read(decoded)
    for number in cases:
        place = records[number].places[kind]
        pool = np.memmap(decoded / "pool-0000.bin", np.uint8, "r+")
        part = pool[place.offset : place.offset + np.prod(place.shape)]
        part ^= 1 if kind == "mask" else 255
        pool.flush()


@pytest.mark.parametrize(("kind", "cases"), [("mask", [1]), ("image", [0, 1])])
def test_damaged_decoded_cases_are_decoded_again_in_one_line(kind, cases, workdir, tmp_path, capsys):
    [decoded] = (tmp_path / "cache").glob("*.pools-1")
    whole = (decoded / "pool-0000.bin").read_bytes()
    inverted(tmp_path / "cache", kind, cases)
    assert (decoded / "pool-0000.bin").read_bytes() != whole
    assert verify(workdir) == 12
    names = ", ".join(NAMES[number] for number in cases)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{len(cases)} decoded cases were damaged and were decoded again ({names}).")
    assert (decoded / "pool-0000.bin").read_bytes() == whole
    verify(workdir)
    assert capsys.readouterr().err == ""


def test_files_that_are_not_decoded_stay_so(workdir, tmp_path, capsys):
    shutil.rmtree(tmp_path / "cache")
    assert verify(workdir) == 12
    assert capsys.readouterr().out.splitlines()[1].startswith(f"They are not decoded in {tmp_path / 'cache'}; ")
    assert not (tmp_path / "cache").exists()


def test_neither_inverted_test_masks_nor_training_images_reach_a_run(settings, configure, tmp_path, capsys):
    config = configure(settings | {"train.epochs": 2, "data.cache": str(tmp_path / "cache")})
    train(config, tmp_path / "whole")
    scores = (tmp_path / "whole" / "evaluation" / "test" / "metrics.json").read_bytes()
    everyone = list(range(8))

    inverted(tmp_path / "cache", "mask", everyone)
    capsys.readouterr()
    expected = json.loads(scores)
    found = evaluate(tmp_path / "whole")
    assert expected.pop("seconds_per_case")
    assert found.pop("seconds_per_case")
    assert found == expected
    assert capsys.readouterr().err.count("8 decoded cases were damaged and were decoded again") == 1

    inverted(tmp_path / "cache", "image", everyone)
    train(config, tmp_path / "again")
    assert capsys.readouterr().err.count("8 decoded cases were damaged and were decoded again") == 1
    assert losses(tmp_path / "again") == losses(tmp_path / "whole")


def losses(workdir: Path) -> list[float]:
    return [record["loss"] for record in history.read(workdir) if "loss" in record]


def test_a_run_that_noted_no_files_says_so(workdir):
    (workdir / "data.json").unlink()
    with pytest.raises(InputError, match=r"has no data\.json"):
        verify(workdir)


def test_one_changed_pixel_stops_a_resumed_run_and_an_evaluation(settings, configure, tmp_path):
    root, workdir = tmp_path / "kaggle_3m", tmp_path / "run"
    shutil.copytree(settings["phantom.root"], root)
    own = {"data.source": "lgg", "data.root": str(root), "train.epochs": 1}
    config = configure(settings | own)
    train(config, workdir, resuming="never")
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="holds a run already"):
        train(config, workdir, resuming="never")

    changed = sorted(root.rglob("*_2.tif"))[0]
    whole = changed.read_bytes()
    change_one_pixel(changed)
    for verb in (lambda: train(config, workdir), lambda: evaluate(workdir), lambda: verify(workdir)):
        with pytest.raises(InputError) as error:
            verb()
        assert str(error.value).splitlines()[-1] == f"  {changed.relative_to(root)}: has another content"
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before

    changed.write_bytes(whole)
    moved = str(root.rename(tmp_path / "moved"))
    train(configure(settings | own | {"data.root": moved}), workdir, resuming="must")
    assert read_config(workdir).data.root == moved
