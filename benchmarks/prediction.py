"""Prediction as a user waits for it: seconds from the command to the masks, beside a plain script in PyTorch.

    python -m benchmarks.prediction [--torch_python=PYTHON] [--rounds=3] [--tiny]
    python -m benchmarks.table

One scan of LGG's size, 250 pictures as ultrasound makes them, and one CT of 512×512×400, all synthetic, by runs whose
networks are trained for one step. Programs are compiled before the rounds that count; the first time is given
beside them. In one more round the network is waited for at each call, which splits the time: start (until the first
call, and what that takes longer than others), network, and the rest, which is reading, preprocessing and writing. With
--rounds=0 that round is the only one, for a CT on a CPU, and programs are compiled in it where they have to be. The
script in PyTorch has the same weights, needs torch, OpenCV and nibabel, and its masks are compared; where the
interpreter of --torch_python has no torch, it is left out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import nibabel
import numpy as np

from benchmarks import prediction_data, results

# Of all pixels, at least so many have the same mask on both sides.
SAME = 0.99
DESCRIBE = "import json; from unet_jax.runtime import environment as e; print(json.dumps(e.describe()))"


def measure(row: prediction_data.Row, work: Path, rounds: int, torch_python: str | None) -> dict:
    """Trains the row's network, predicts, and gives the seconds of both sides."""
    run, masks = work / row.name / "run", work / row.name / "masks"
    source = row.write(work / row.name)
    _process(sys.executable, "main.py", *row.training(work), f"--workdir={run}")
    predict = ("--mode=predict", f"--workdir={run}", f"--input={source}", f"--output={masks}", "--overwrite")
    commands = {"unet_jax": (sys.executable, "main.py", *predict)}
    cold = _process(*commands["unet_jax"]) if rounds else None
    splits = {
        "unet_jax": _split(work / row.name / "ours.json", sys.executable, "benchmarks.timed_prediction", *predict)
    }
    if torch_python:
        job = work / row.name / "job.json"
        of_torch = {"weights": str(work / row.name / "ours.npz"), "input": str(source), **row.torch}
        job.write_text(json.dumps(of_torch | {"output": str(work / row.name / "torch")}))
        commands["torch"] = (torch_python, "-m", "benchmarks.torch_prediction", str(work / "unused.json"), str(job))
        split = work / row.name / "torch.json", torch_python, "benchmarks.torch_prediction", str(job)
        splits["torch"] = _split(*split)
        same = agreement(masks, work / row.name / "torch")
        if same < SAME:
            raise SystemExit(f"{row.title}: {same:.2%} of the pixels have the same mask: not the same computation.")
    seconds = {name: [] if rounds else [sum(split.values())] for name, split in splits.items()}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(_process(*command))
    return {
        "title": row.title,
        "first_seconds": cold,
        "seconds": {name: float(np.median(one)) for name, one in seconds.items()},
        "rounds": rounds,
        "split": splits,
        "same_pixels": same if torch_python else None,
    }


def parts(since: float, ended: float, calls: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Seconds of the start, the network and the rest.

    Args:
        since: the clock at the command.
        ended: at its end.
        calls: of the network: the clock at its beginning, and its seconds. What the first takes longer than the median
            of the others is compiling or loading, and belongs to the start.
    """
    later = [seconds for _, seconds in calls[1:]]
    extra = max(calls[0][1] - float(np.median(later)), 0.0) if later else 0.0
    start = calls[0][0] - since + extra
    network = sum(seconds for _, seconds in calls) - extra
    return {"start": start, "network": network, "rest": ended - since - start - network}


def agreement(ours: Path, theirs: Path) -> float:
    """The share of pixels in which the masks of two folders are the same, by the names of their files."""
    found = {path.name: path for path in theirs.rglob("*_mask.*")}
    names = sorted(path.name for path in ours.rglob("*_mask.*"))
    if names != sorted(found):
        raise SystemExit(f"{ours} has {len(names)} masks, and {theirs} {len(found)} of the same names.")
    where = {path.name: path for path in ours.rglob("*_mask.*")}
    return float(np.mean([np.mean(_read(where[name]) == _read(found[name])) for name in names]))


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".nii":
        return np.asarray(nibabel.load(path).dataobj)
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _split(found: Path, python: str, module: str, *arguments: str) -> dict[str, float]:
    """The parts of one prediction by a module that notes the calls of its network in a file."""
    since = time.time()
    _process(python, "-m", module, str(found), *arguments)
    return parts(since, time.time(), json.loads(found.read_text()))


def _process(*command: str) -> float:
    """The seconds of a process; ends this one if it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with code {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def _torch_version(python: str) -> str | None:
    done = subprocess.run(
        (python, "-c", "import torch; print(torch.__version__)"), capture_output=True, text=True, check=False
    )
    return None if done.returncode else done.stdout.strip()


def _arguments() -> argparse.Namespace:
    # Not flags of absl: a process that imports several of these modules would have some twice.
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", default=sys.executable, help="the interpreter for the script in PyTorch")
    parser.add_argument("--rounds", type=int, default=3, help="predictions that are timed by themselves")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, one round, nothing kept: a check")
    parser.add_argument("--only", default="", help="the one row of this name: scan, pictures, ct")
    return parser.parse_args()


def main() -> None:
    """Measures every row, prints them and keeps them."""
    given = _arguments()
    # By a process of its own: this one leaves the device to the programs that it starts.
    described = subprocess.run((sys.executable, "-c", DESCRIBE), capture_output=True, text=True, check=True)
    origin = json.loads(described.stdout.splitlines()[-1])
    version = _torch_version(given.torch_python)
    if version:
        origin["versions"]["torch"] = version
    else:
        print(f"{given.torch_python} has no torch: its script is left out.", flush=True)
    device = "cpu" if origin["device"] == "cpu" else "gpu"
    with tempfile.TemporaryDirectory(prefix="prediction_") as folder:
        for row in prediction_data.rows(device, tiny=given.tiny):
            if given.only in ("", row.name):
                rounds = 1 if given.tiny else given.rounds
                one = measure(row, Path(folder), rounds, given.torch_python if version else None)
                print(json.dumps(one), flush=True)
                if not given.tiny:
                    print(f"written to {results.write_rows(results.name_for('prediction', device), origin, [one])}")


if __name__ == "__main__":
    main()
