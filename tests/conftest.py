"""Fixtures that several test files share."""

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

# Networks here are tiny: their programs take far longer to optimise than to run. For this process and its children.
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0"])

import cv2
import jax
import numpy as np
import platformdirs
import pytest

from configs import default
from unet_jax.data import phantom
from unet_jax.run.resolve import resolve

PHANTOM = {"seed": 3, "patients": 8, "size": 32, "slices": (4, 6)}
SETTINGS = {
    "data.source": "phantom",
    "data.image_size": 16,
    "model.width": 2,
    "model.depth": 2,
    "train.batch_size": 4,
    "train.epochs": 3,
    "train.patience": 0,
    "train.checkpoint_every_steps": 2,
    "train.log_every_steps": 1,
}


# As in main.py: tracing makes many objects that stay.
gc.set_threshold(100_000)

# Files that take longest; the others fill up what is left of the workers' time when these are under way.
LONGEST = (
    "test_faults",
    "test_quickstart",
    "test_train",
    "test_configs",
    "test_crossval",
    "test_classes",
    "test_evaluate",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first: each runs on one worker, and the last to end keeps all waiting."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory) -> None:
    """What one test has compiled, the others and their child processes need not compile again."""
    base = tmp_path_factory.getbasetemp()
    # The folder above the workers' own is theirs together.
    folder = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session", autouse=True)
def users_cache_folder() -> None:
    """The first program to make it says so in a line; no test depends on which that is."""
    platformdirs.user_cache_path("unet_jax", appauthor=False).mkdir(parents=True, exist_ok=True)


@pytest.fixture(scope="session")
def settings(tmp_path_factory) -> dict:
    """Overrides of the default config that train in seconds, on a phantom of 8 patients that all tests share."""
    folder = tmp_path_factory.mktemp("phantom")
    phantom.write(folder / "kaggle_3m", **PHANTOM)
    return SETTINGS | {
        "data.cache": str(folder / "cache"),
        "phantom.root": str(folder / "kaggle_3m"),
        **{f"phantom.{key}": value for key, value in PHANTOM.items()},
    }


@pytest.fixture(scope="session")
def phantom_files(settings) -> Path:
    """The folders of the phantom that all tests share."""
    return Path(settings["phantom.root"])


@pytest.fixture(scope="session")
def phantom_as_tfds(phantom_files, tmp_path_factory) -> Path:
    """The same as a TFDS data set; not to be changed."""
    from unet_jax.data import tfds_lgg

    return tfds_lgg.build(phantom_files, tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="session")
def configure() -> Callable:
    """Makes the resolved config of such overrides."""

    def make(settings: dict):
        config = default.get_config()
        config.update_from_flattened_dict(settings)
        return resolve(config, settings)[0]

    return make


@pytest.fixture
def write_scan() -> Callable[..., None]:
    """Writes one scan in the Kaggle LGG layout: image [d,h,w,3] in file order, mask [d,h,w] of 0 and 1."""

    def write(root: Path, name: str, image: np.ndarray, mask: np.ndarray, numbers=None) -> None:
        folder = root / name
        folder.mkdir(parents=True)
        for position, number in enumerate(numbers or range(1, len(image) + 1)):
            cv2.imwrite(str(folder / f"{name}_{number}.tif"), image[position, :, :, ::-1])
            cv2.imwrite(str(folder / f"{name}_{number}_mask.tif"), mask[position] * np.uint8(255))

    return write


@pytest.fixture(scope="module")
def browser():
    """Chromium, as a distribution has it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    switches = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    )
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=switches.split())
        yield browser
        browser.close()
