import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data.load import load
from unet_jax.errors import InputError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.run import resume
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
    config = configure(settings | {"data.source": "lgg", "data.root": str(root)})
    resume.record(tmp_path / "run", config, load(config))
    return tmp_path / "run"


def change_one_pixel(path: Path) -> None:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    pixels[0, 0, 0] ^= 1
    cv2.imwrite(str(path), pixels)


def test_files_that_are_as_they_were_are_counted(workdir, root, tmp_path, capsys):
    before = sorted(workdir.iterdir())
    assert verify(workdir) == 12
    assert capsys.readouterr().out.startswith(f"12 files verified in {root}: ")
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
