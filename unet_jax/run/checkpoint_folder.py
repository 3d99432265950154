"""The folder of a run's checkpoints: which there are, which of them are whole, and what must go.

A checkpoint is the folder `<step>`. It is written as `unfinished-<step>` and renamed when all of it is there, its
manifest included, and it is renamed to `deleting-<step>` before it is deleted: one that is called `<step>` and does not
verify is damaged. Damaged ones are not deleted; a run that resumes from another renames them to `damaged-<step>`.

Why orbax's CheckpointManager does not keep them: it restores flipped bits without a word, ranks a NaN score best, and
deletes by its own list, which knows nothing of a manifest that does not verify.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unet_jax.run import manifest as integrity

# The second newest is there for when the newest turns out to be damaged.
NEWEST_KEPT = 2
UNFINISHED, DELETING, DAMAGED = "unfinished-", "deleting-", "damaged-"
_STEP = re.compile("0|[1-9][0-9]{0,17}")


def steps(directory: Path) -> list[int]:
    """Steps of the checkpoints in `directory`, damaged ones included, in order."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if _STEP.fullmatch(path.name))


def clean(directory: Path) -> None:
    """Makes `directory` where it is missing, and removes what a killed process left half written or half deleted.

    What it had written to the end, with the manifest, becomes a checkpoint.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.glob(f"{UNFINISHED}*"):
        name = path.name.removeprefix(UNFINISHED)
        if integrity.read_manifest(path) and _STEP.fullmatch(name) and not (directory / name).exists():
            os.rename(path, directory / name)
        else:
            shutil.rmtree(path)
    for path in directory.glob(f"{DELETING}*"):
        shutil.rmtree(path)


def commit(
    unfinished: Path, step: int, score: float | None, leaves: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Completes what was written to `unfinished` with a manifest and makes it checkpoint `step`.

    Those that are neither among the newest two nor the best are deleted then. The manifest tells which one is the
    best, so that it is noticed if that one is missing.
    """
    directory = unfinished.parent
    manifests = {other: integrity.read_manifest(directory / str(other)) for other in steps(directory)}
    scores = {other: manifest["score"] for other, manifest in manifests.items() if manifest} | {step: score}
    scored = [(value, -other) for other, value in scores.items() if value is not None]
    best = -max(scored)[1] if scored else None
    facts = {"step": step, "score": score, "best": best, "leaves": leaves, "record": dict(record)}
    integrity.write_manifest(unfinished, facts)
    if step in manifests:
        _delete(directory, step)
    os.rename(unfinished, directory / str(step))
    present = steps(directory)
    for other in set(present) - {*present[-NEWEST_KEPT:], best}:
        _delete(directory, other)


def _delete(directory: Path, step: int) -> None:
    renamed = directory / f"{DELETING}{step}"
    os.rename(directory / str(step), renamed)
    shutil.rmtree(renamed)


def survey(directory: Path) -> tuple[dict[int, dict[str, Any]], dict[int, list[str]]]:
    """The manifests that can be read, and the faults of the checkpoints that are damaged, by step.

    Every file is read. Another process may be saving meanwhile.
    """
    while True:
        listed = steps(directory)
        manifests = {step: integrity.read_manifest(directory / str(step)) for step in listed}
        damaged = {step: _faults(directory, step, manifest) for step, manifest in manifests.items()}
        readable = {step: manifest for step, manifest in manifests.items() if manifest}
        best = best_known(readable)
        if best is not None and best not in listed:
            damaged[best] = [f"{best} is missing"]
        damaged = {step: faults for step, faults in sorted(damaged.items()) if faults}
        # What was listed may have been deleted since by the process that saves.
        if not damaged or steps(directory) == listed:
            return readable, damaged


def _faults(directory: Path, step: int, manifest: Mapping[str, Any] | None) -> list[str]:
    if manifest and manifest["step"] != step:
        return [f"{step}/{integrity.MANIFEST} is that of step {manifest['step']}"]
    return integrity.faults(directory / str(step), manifest)


def best_known(manifests: Mapping[int, Mapping[str, Any]]) -> int | None:
    """The step of the best checkpoint, as the newest of `manifests` tells it; None if none has a score."""
    return manifests[max(manifests)]["best"] if manifests else None


def set_aside(directory: Path, damaged: Iterable[int]) -> None:
    """Renames damaged checkpoints, so that their steps can be saved again."""
    for step in set(damaged) & set(steps(directory)):
        names = (f"{DAMAGED}{step}{suffix}" for suffix in ("", *(f".{number}" for number in range(2, 100))))
        os.rename(directory / str(step), next(directory / name for name in names if not (directory / name).exists()))
