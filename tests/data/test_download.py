import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from unet_jax.data import cache, download, phantom
from unet_jax.data.download import Counts
from unet_jax.data.formats import lgg
from unet_jax.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans") / "kaggle_3m"
    phantom.write(folder, seed=1, patients=3, size=16, slices=(3, 5))
    return folder


@pytest.fixture(scope="module")
def expected(scans, tmp_path_factory):
    cases, *_ = cache.load(lgg, scans, tmp_path_factory.mktemp("cache"))
    masks = [mask for case in cases for mask in case.mask]
    return Counts(3, len(masks), sum(bool(mask.any()) for mask in masks))


@pytest.fixture
def kaggle(scans, monkeypatch):
    """A kagglehub that has the scans, and notes what it is asked for."""
    asked = []

    def dataset_download(handle, *, output_dir):
        asked.append(handle)
        for path in [path for path in scans.rglob("*") if path.is_file()]:
            copy = Path(output_dir, "kaggle_3m", path.relative_to(scans))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        return output_dir

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=dataset_download))
    return asked


def _names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_what_comes_is_verified_and_nothing_else_is_left(kaggle, scans, expected, tmp_path):
    root = tmp_path / "data" / "kaggle_3m"
    assert download.download(root, expected)
    assert kaggle == ["mateuszbuda/lgg-mri-segmentation"]
    assert _names(root) == _names(scans)
    assert _names(tmp_path / "data") == ["kaggle_3m", *(f"kaggle_3m/{name}" for name in _names(scans))]


def test_existing_data_are_verified_and_left_alone(kaggle, scans, expected, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in scans.rglob("*")}
    assert not download.download(scans, expected)
    more = Counts(expected.patients, expected.slices + 1, expected.tumour_slices)
    with pytest.raises(InputError, match=rf"kaggle_3m: holds {expected}, and the data set has {more}: move the folder"):
        download.download(scans, more)
    assert before == {path: path.stat().st_mtime_ns for path in scans.rglob("*")}
    assert [path.name for path in scans.parent.iterdir()] == ["kaggle_3m"]
    assert not kaggle


@pytest.mark.parametrize("fault", ["too few", "damaged", "elsewhere"])
def test_what_is_not_as_published_is_not_kept(fault, kaggle, expected, tmp_path, monkeypatch):
    fetch = sys.modules["kagglehub"].dataset_download

    def spoilt(handle, *, output_dir):
        fetch(handle, output_dir=output_dir)
        first = min(Path(output_dir).rglob("*_1.tif"))
        if fault == "too few":
            first.unlink()
            first.with_name(f"{first.stem}_mask.tif").unlink()
        elif fault == "damaged":
            first.write_bytes(first.read_bytes()[:100])
        else:
            Path(output_dir, "kaggle_3m").rename(Path(output_dir, "other"))
        return output_dir

    monkeypatch.setattr(sys.modules["kagglehub"], "dataset_download", spoilt)
    message = {"too few": "the data set has", "damaged": "the file is damaged", "elsewhere": "there is no such folder"}
    with pytest.raises(InputError, match=message[fault]):
        download.download(tmp_path / "data" / "kaggle_3m", expected)
    assert _names(tmp_path) == ["data"]


def test_the_licence_is_shown_and_the_published_counts_are_expected(kaggle, tmp_path, capsys):
    assert download.main([f"--root={tmp_path / 'kaggle_3m'}"]) == 2
    shown = capsys.readouterr()
    assert "CC BY-NC-SA 4.0" in shown.out
    assert "the data set has 110 patients, 3,929 slices, 1,373 of them with tumour" in shown.err
    assert _names(tmp_path) == []


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert download.main([f"--root={tmp_path / 'kaggle_3m'}"]) == 2
    assert (
        capsys.readouterr().err == "error: Downloads from Kaggle need the package kagglehub: pip install .[kaggle].\n"
    )
    assert _names(tmp_path) == []


@pytest.mark.parametrize("reason", ["User is not authenticated", "403 Client Error.\n\nYou don't have permission"])
def test_what_kaggle_refuses_is_answered_in_one_line(reason, kaggle, tmp_path, monkeypatch, capsys):
    def refuse(handle, *, output_dir):
        raise RuntimeError(reason)

    monkeypatch.setattr(sys.modules["kagglehub"], "dataset_download", refuse)
    assert download.main([f"--root={tmp_path / 'kaggle_3m'}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"(RuntimeError: {reason.splitlines()[0]}): check the network and Kaggle's credentials" in line
    assert _names(tmp_path) == []


def test_a_network_that_fails_is_answered_in_one_line(tmp_path):
    """The real kagglehub, with a proxy that is not there."""
    home = {"HOME": str(tmp_path / "home"), "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "unet_jax.data.download", f"--root={tmp_path / 'data' / 'kaggle_3m'}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | home,
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: mateuszbuda/lgg-mri-segmentation cannot be downloaded (ProxyError: ")
    assert "check the network and Kaggle's credentials" in line
    assert _names(tmp_path / "data") == []
