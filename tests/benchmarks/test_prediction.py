import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import prediction, prediction_data, table, timed_prediction


def test_the_start_lasts_until_the_first_call_and_has_what_that_takes_longer_than_others():
    """The command at 100, calls at 105 and 115 of 9 and 3 seconds, the end at 120."""
    found = prediction.parts(100.0, 120.0, [(105.0, 9.0), (115.0, 3.0)])
    assert found == pytest.approx({"start": 5 + 6, "network": 3 + 3, "rest": 20 - 11 - 6})
    # One call alone does not tell what of it was compiling.
    assert prediction.parts(0.0, 10.0, [(4.0, 3.0)]) == pytest.approx({"start": 4, "network": 3, "rest": 3})
    # Nor is a first call shorter for being compiled.
    assert prediction.parts(0.0, 10.0, [(4.0, 1.0), (5.0, 2.0)])["network"] == pytest.approx(3)


def test_masks_are_compared_pixel_by_pixel_by_their_names(tmp_path):
    ours, theirs = tmp_path / "ours" / "deeper", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
    mask = np.zeros((4, 5), np.uint8)
    other = mask.copy()
    other[0, :2] = 255
    for folder, second in ((ours, mask), (theirs, other)):
        cv2.imwrite(str(folder / "a_mask.png"), mask)
        cv2.imwrite(str(folder / "b_mask.tif"), second)
    (ours / "cases.csv").touch()
    assert prediction.agreement(tmp_path / "ours", theirs) == pytest.approx((1 + 18 / 20) / 2)
    (theirs / "b_mask.tif").unlink()
    with pytest.raises(SystemExit, match="has 2 masks"):
        prediction.agreement(tmp_path / "ours", theirs)


def test_each_call_of_the_network_is_noted_and_its_answer_is_the_same():
    calls, networks = [], []
    make = timed_prediction.timed(lambda network, flips: network, calls, networks)
    doubled = make(lambda x: 2 * x, ())
    assert doubled(np.float32(2)) == 4
    assert doubled(np.float32(3)) == 6
    assert len(calls) == 2
    assert calls[0][0] <= calls[1][0]
    assert all(0 <= seconds < 10 for _, seconds in calls)
    assert networks[0](1) == 2


def test_pictures_have_several_sizes_and_what_is_predicted_has_no_masks(tmp_path):
    source = prediction_data.write_pictures(tmp_path, 3, (24, 30))
    assert len(list(source.iterdir())) == 3
    assert len(list((tmp_path / "data" / "masks").iterdir())) == 12
    sizes = {cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in (tmp_path / "data" / "images").iterdir()}
    assert len(sizes) > 3
    assert all(len(size) == 2 for size in sizes)


def test_the_table_has_a_line_a_program():
    split = {"start": 4.0, "network": 2.5, "rest": 0.5}
    row = {
        "title": "one scan",
        "first_seconds": 20.0,
        "seconds": {"unet_jax": 7.0, "torch": 9.0},
        "split": {"unet_jax": split, "torch": split},
        "same_pixels": 0.9987,
    }
    found = {"date": "2026-01-02T03", "machine": "Some CPU", "device": "cpu", "devices": 1, "versions": {"jax": "1.2"}}
    lines = table.prediction(found | {"rows": [row]}).splitlines()
    assert "| one scan | unet_jax | 7.0 | 4.0 | 2.5 | 0.5 | 20.0 |" in lines
    assert "| one scan | torch | 9.0 | 4.0 | 2.5 | 0.5 |  |" in lines
    assert lines[-1] == "At least 99.87% of all pixels have the same mask on both sides."


def test_without_rounds_the_one_that_waits_for_the_network_counts(tmp_path, monkeypatch):
    processes = []
    monkeypatch.setattr(prediction, "_process", lambda *command: processes.append(command[2]))
    monkeypatch.setattr(prediction, "_split", lambda *_: {"start": 4.0, "network": 2.5, "rest": 0.5})
    found = prediction.measure(prediction_data.rows("cpu", tiny=True)[0], tmp_path, 0, None)
    assert (found["seconds"], found["first_seconds"]) == ({"unet_jax": 7.0}, None)
    assert [command.split("=")[0] for command in processes] == ["--config"]  # the training, and no prediction
    origin = {"date": "2026-01-02T03", "machine": "Some CPU", "device": "cpu", "devices": 1, "versions": {}}
    assert table.prediction(origin | {"rows": [found]}).endswith(" | unet_jax | 7.0 | 4.0 | 2.5 | 0.5 |  |")


@pytest.mark.longest
def test_every_row_at_toy_size():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.prediction", "--tiny"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["title"].split(" (")[0] for row in rows] == [
        "one scan of 5 slices of 32×32×3",
        "3 ultrasound pictures of about 30×24",
        "one CT of 16×16×12",
    ]
    for row in rows:
        assert row["seconds"]["unet_jax"] > 0
        assert all(seconds > 0 for seconds in row["split"]["unet_jax"].values())
