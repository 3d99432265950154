import json
import subprocess
from pathlib import Path

import pytest
from disks import make_read_only, small_disk

from unet_jax.data import cache, phantom
from unet_jax.data.formats import lgg
from unet_jax.errors import StorageError
from unet_jax.run import history
from unet_jax.training.train import train


def test_a_run_on_a_full_disk_goes_on_once_there_is_room(settings, configure, tmp_path):
    config = configure(settings | {"train.epochs": 2})
    with small_disk(tmp_path / "disk", "1m") as disk:
        workdir = disk / "run"
        filler = disk / "filler"
        filler.write_bytes(b"x" * 900_000)
        with pytest.raises(StorageError, match=f"{disk}.*bytes") as error:
            train(config, workdir)
        assert "\n" not in str(error.value)
        left = [path for path in workdir.rglob("*") if path.is_file()]
        assert not any(path.name.startswith(".") for path in left)
        for path in left:
            if path.suffix == ".json" and path.parent == workdir:
                json.loads(path.read_text())
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        metrics = train(config, workdir)
        records = history.read(workdir)
        steps = [record["step"] for record in records if "epoch" not in record]
        assert steps == list(range(1, max(steps) + 1))
        assert [record["epoch"] for record in records if "epoch" in record] == [1, 2]
        make_read_only(disk)
        with pytest.raises(StorageError, match=f"{workdir}.*Read-only file system"):
            train(config, workdir)
        assert json.loads((workdir / "evaluation" / "test" / "metrics.json").read_text()) == metrics


def test_a_data_set_that_does_not_fit_leaves_nothing_half_made(settings, tmp_path):
    with small_disk(tmp_path / "disk", "40k") as disk:
        with pytest.raises(StorageError, match=r"config\.data\.cache=.*: decoded cases cannot be written there"):
            cache.load(lgg, Path(settings["phantom.root"]), disk / "cache")
        assert list((disk / "cache").iterdir()) == []
        with pytest.raises(StorageError, match=r"_\d+\.tif: could not be written: free some room"):
            phantom.write(disk / "phantom", seed=0, patients=4, size=32, slices=(4, 6))
        assert [path.name for path in disk.iterdir()] == ["cache"]
        make_read_only(disk)
        with pytest.raises(StorageError, match="Read-only file system"):
            cache.load(lgg, Path(settings["phantom.root"]), disk / "cache")
