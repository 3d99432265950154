import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from configs import default
from unet_jax.runtime import caches

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Started outside of the checkout, with a home that is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, **_: tmp_path / "home" / name)
    yield tmp_path / "here"
    caches.move_to(None)


def test_the_folders_are_those_of_the_default_recipe():
    config = default.get_config()
    assert (config.data.cache, config.train.compilation_cache, config.phantom.root) == caches.DEFAULTS


def test_in_a_checkout_they_are_below_data(monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert [caches.place_of(named) for named in caches.DEFAULTS] == list(map(Path, caches.DEFAULTS))
    monkeypatch.chdir(PROJECT / "examples")
    assert [caches.place_of(named) for named in caches.DEFAULTS] == [PROJECT / named for named in caches.DEFAULTS]


def test_elsewhere_they_are_in_the_users_folder_which_is_said_once(here, capsys):
    home = here.parent / "home" / "unet_jax"
    places = [caches.place_of(named) for named in caches.DEFAULTS]
    assert places == [home / "cache", home / "compiled", home / "phantom" / "kaggle_3m"]
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"are kept in {home}; --cache_dir=DIR" in err
    assert not list(here.iterdir())


def test_a_path_of_ones_own_stands(tmp_path, capsys):
    for named in ("cache", "data/other", str(tmp_path / "cache")):
        assert caches.place_of(named) == Path(named)
    assert capsys.readouterr().err == ""


def test_they_can_be_moved(tmp_path, monkeypatch):
    caches.move_to(tmp_path / "moved")
    assert caches.place_of("data/cache") == tmp_path / "moved" / "cache"
    monkeypatch.chdir(PROJECT)
    assert caches.place_of("data/compiled") == tmp_path / "moved" / "compiled"


CHILD = """
import os
from unet_jax.runtime import caches
os.access = lambda path, mode: False  # as of a home that is read-only, which root is not held by
first, second = caches.place_of("data/cache"), caches.place_of("data/compiled")
assert first.parent == second.parent
assert oct(first.parent.stat().st_mode)[-3:] == "700"
print(first.parent)
"""


def test_where_home_is_read_only_they_last_as_long_as_the_process(here):
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not Path(done.stdout.strip()).exists()
    assert done.stderr.count("\n") == 1
    assert "cannot be written: decoded cases are kept until this ends; --cache_dir=DIR keeps them." in done.stderr
