import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.check.check import check
from unet_jax.errors import InputError

PROJECT = Path(__file__).parents[2]


def write(root, name, *, size=(24, 32), marked=True, seed=0, at=8):
    """A grey square from 4 to 20 in black, and a mask of 6x6 pixels, each case's in other columns."""
    image = np.zeros(size, np.uint8)
    image[4:20, 4:20] = np.random.default_rng(seed).integers(100, 200, (16, 16))
    mask = np.zeros(size, np.uint8)
    mask[at : at + 6, 4 + seed % 10 : 10 + seed % 10] = 255 * marked
    for folder, pixels in (("images", image), ("masks", mask)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / folder / f"{name}.png"), pixels)


@pytest.fixture
def root(tmp_path):
    """Ten pictures that are alike."""
    for number in range(10):
        write(tmp_path / "set", f"p{number}", seed=number)
    return tmp_path / "set"


@pytest.fixture
def made(settings, configure, root, tmp_path):
    """The config of the pictures."""

    def make(**changes):
        keys = settings | {"data.source": "auto", "data.root": str(root), "data.cache": str(tmp_path / "cache")}
        return configure(keys | {"train.batch_size": 2} | changes)

    return make


def warnings(capsys):
    out, err = capsys.readouterr()
    return out, [line.removeprefix("warning: ") for line in err.splitlines() if line.startswith("warning: ")]


def test_a_clean_set_has_a_table_and_no_warning(made, tmp_path, capsys):
    check(made(), tmp_path / "run")
    out, lines = warnings(capsys)
    assert lines == []
    assert "  cases        10 cases, 10 slices\n" in out
    assert "  size         24 rows, 32 columns\n" in out
    # A tenth of 10 validates, and .15 of the other 9, rounded up, are tested: 7 are left, 3 whole batches of 2.
    assert "  train        7 pictures, 7 slices, " in out
    assert "  epoch        3 steps of 2 slices of 16x16; at most 3 epochs\n" in out
    # Image and mask of 24x32 bytes each; in a batch, float32 of 16x16.
    assert "15.4 kB of decoded cases in memory maps on disk; a batch of images and masks is 4.1 kB as float32" in out
    assert f"marked: {6 * 6 / (24 * 32):.3%} of the voxels, in every case" in out
    assert {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")} == {"check.html"}


def test_planted_oddities_are_named(made, root, tmp_path, capsys):
    write(root, "p3", size=(30, 32), seed=3)
    write(root, "p4", marked=False, seed=4)
    write(root, "p5", at=16, seed=15)
    check(made(), tmp_path / "run")
    _, lines = warnings(capsys)
    # Of the rows of p5's mask, 16 to 21, four lie within the square.
    assert [line for line in lines if "side" not in line or "outside" in line] == [
        "1 of 10 cases has another size of slices than the usual 24x32 (p3: 30x32).",
        "1 of 10 cases has nothing marked (p4).",
        "1 of 10 cases has marked voxels outside of what the image shows, where it is 0 or air in every channel "
        "(p5: 33%): is the mask of this image, and turned as it is?",
    ]
    page = (tmp_path / "run" / "check.html").read_text()
    assert page.count("<img ") == 10
    assert "p4, nothing marked" in page
    assert page.count("<li>1 of 10 cases has nothing marked (p4).</li>") == 1


def test_all_that_training_would_refuse_is_listed(made, root, tmp_path, capsys):
    config = made(**{"train.epochs": 0, "train.batch_size": 8})
    with pytest.raises(InputError) as error:
        check(config, tmp_path / "run")
    assert str(error.value).splitlines() == [
        "config.train.epochs is 0; it must be at least 1.",
        "config.train.batch_size=8: the training side has 7 slices: lower it, or add cases.",
    ]
    page = (tmp_path / "run" / "check.html").read_text()
    assert "training would refuse it" in page
    assert page.count("<img ") == 10


def test_cases_of_other_channels_are_refused_and_the_rest_is_shown(made, root, tmp_path, capsys):
    cv2.imwrite(str(root / "images" / "p3.png"), np.full((24, 32, 3), (50, 100, 150), np.uint8))
    with pytest.raises(InputError, match="channels"):
        check(made(), tmp_path / "run")
    assert (tmp_path / "run" / "check.html").read_text().count("<img ") == 10


def test_an_image_on_two_sides_is_refused(made, root, tmp_path):
    for number in range(1, 10):
        shutil.copy(root / "images" / "p0.png", root / "images" / f"p{number}.png")
    with pytest.raises(InputError, match="is the same image as"):
        check(made(), tmp_path / "run")


def test_data_that_cannot_be_read_have_their_faults_and_no_table(made, root, tmp_path):
    (root / "images" / "p1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"p1\.png: "):
        check(made(), tmp_path / "run")
    page = (tmp_path / "run" / "check.html").read_text()
    assert "p1.png: " in page
    assert "<table" not in page


def test_nothing_in_names_becomes_markup(made, root, tmp_path):
    write(root, "<b>x & y", seed=11)
    check(made(), tmp_path / "run")
    page = (tmp_path / "run" / "check.html").read_text()
    assert "&lt;b&gt;x &amp; y" in page
    assert "<b>" not in page
    assert "<script" not in page


def test_exit_codes_of_the_command(root, tmp_path):
    command = [sys.executable, str(PROJECT / "main.py"), "--mode=check", f"--config={PROJECT / 'configs/default.py'}"]
    command += [
        f"--config.data.root={root}",
        f"--config.data.cache={tmp_path / 'cache'}",
        f"--workdir={tmp_path / 'run'}",
    ]
    done = subprocess.run([*command, "--config.train.batch_size=2"], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*command, "--config.train.batch_size=8"], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 2
    assert "error: config.train.batch_size=8: the training side has 7 slices" in done.stderr


def test_the_page_opens_without_an_error_and_fits_a_phone(made, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    check(made(), tmp_path / "run")
    switches = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    faults = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=switches.split())
        tab = browser.new_context(offline=True, viewport={"width": 390, "height": 800}).new_page()
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto((tmp_path / "run" / "check.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        assert tab.evaluate("[...document.images].every((one) => one.naturalWidth === 96)")
        browser.close()
    assert faults == []
