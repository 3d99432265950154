"""Whether the run in a folder is the one that is asked for: its config, its data, and whether there is one."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ml_collections import ConfigDict

from unet_jax.data import scale, splits
from unet_jax.data.load import DataSet
from unet_jax.data.reader import Digests
from unet_jax.data.splits import Split
from unet_jax.errors import InputError
from unet_jax.files import read_json, write_sealed_json
from unet_jax.run.checkpoint import Restored
from unet_jax.run.checkpoint_folder import steps
from unet_jax.run.config import as_json, default_config, flatten, read_flat_config
from unet_jax.run.folder import CHECKPOINTS, CLASSES, CONFIG, DATA, FINGERPRINT, SPLIT, read_data

RESUME = ("auto", "must", "never")
# What may change when a run resumes: where things lie, how long it waits, what it logs, an additional score, and in
# which parts and on which devices the same numbers are computed. The data are identified by their fingerprint. A group
# stands for all its keys.
HARMLESS = (
    "data.ahead",
    "data.cache",
    "data.resident",
    "data.root",
    "data.wait_seconds",
    "data.workers",
    "phantom.root",
    "plan.configurations",
    "plan.folds",
    "plan.previous",
    "model.remat",
    "train.accumulate",
    "train.checkpoint_every_steps",
    "train.compilation_cache",
    "train.log_every_steps",
    "train.loggers",
    "train.spatial",
    "train.steps_per_dispatch",
    "train.tensorboard",
    "watchdog_seconds",
    "eval.cldice",
    "eval.second_masks",
    "benchmark",
)
# What may differ between processes of one run.
OF_A_MACHINE = (
    "data.cache",
    "data.root",
    "data.wait_seconds",
    "data.workers",
    "phantom.root",
    "plan.previous",
    "train.compilation_cache",
)
# What to do where processes of one run differ in `identity`.
ALIKE = (
    "start all of them with the same command, where they find the same data and, as the run's folder, one and the same"
)
# Paths.
ROOTS = ("data.root", "phantom.root")
LAID_OUT = "; the learning rate's schedule depends on it, so that a longer run is another run"
REASONS = {"train.epochs": LAID_OUT, "train.steps": LAID_OUT, "train.minutes": LAID_OUT}
# An error lists so many files and counts the others.
LISTED = 20
# An error proposes so many flags at most: with more, another recipe is meant.
PROPOSED = 3


def check_resume(workdir: Path, resume: str) -> None:
    """Checks that `workdir`, which may be missing, is what --resume expects.

    "auto" resumes a run or begins one; "must" needs a checkpoint to resume from; "never" needs a folder without a run.

    Raises:
        InputError: it is not, or there are checkpoints of which nothing says what they are of.
    """
    begun, saved = (workdir / CONFIG).exists(), bool(steps(workdir / CHECKPOINTS))
    if resume not in RESUME:
        raise InputError(f"--resume is {resume!r}; it must be one of {', '.join(RESUME)}.")
    if resume == "never" and (begun or saved):
        raise InputError(f"{workdir} holds a run already, and --resume=never overwrites none: name another --workdir.")
    if resume == "must" and not saved:
        raise InputError(
            f"{workdir} has no checkpoint to resume from, as --resume=must demands: correct --workdir, or begin with "
            "--resume=auto."
        )
    if saved and not begun:
        raise InputError(f"{workdir} has checkpoints and no {CONFIG}: restore that file, or name another --workdir.")


def compare(workdir: Path, config: ConfigDict, data: DataSet) -> list[str]:
    """Compares what is asked for with the run in `workdir`, if there is one.

    A key that is newer than the run is not a difference where it has the program's own value.

    Returns:
        what differs and may, a line each.

    Raises:
        InputError: the run has another config or other data; every key and file that differs is listed.
    """
    if not (workdir / CONFIG).exists():
        return []
    there, here = read_flat_config(workdir), flatten(as_json(config.to_dict()))
    known = flatten(as_json(default_config().to_dict()))
    there = {key: known[key] for key in here if key in known} | there
    data_there = there.pop(FINGERPRINT, None)
    differing = [key for key in sorted(there.keys() | here.keys()) if _differ(key, there.get(key), here.get(key))]
    changed = [key for key in differing if not is_harmless(key)]
    lines = [
        f"config.{key}: the run has {there.get(key)!r}, this command {here.get(key)!r}{REASONS.get(key, '')}"
        for key in changed
    ]
    files = file_differences(workdir, data.digests) if data_there != data.fingerprint else []
    if data_there != data.fingerprint:
        lines.append(f"the data's fingerprint: the run has {data_there!r}, this command {data.fingerprint!r}")
        lines += files
    if lines:
        # The same files have another fingerprint where they are decoded by other keys.
        decoded_alike = data_there == data.fingerprint or (
            any(key.startswith("data.") for key in changed) and not files and read_files(workdir) is not None
        )
        flags = _flags(changed, there, here) if decoded_alike else None
        advice = f"to resume it as it was begun, add {flags}" if flags else "undo the change"
        head = f"{workdir} holds a run of another config or of other data; {advice}, or name another --workdir:"
        raise InputError("\n  ".join([head, *lines]))
    return [
        f"config.{key} is {here.get(key)!r} from now on; it was {there.get(key)!r}."
        for key in differing
        if is_harmless(key)
    ]


def _flags(keys: Sequence[str], there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The flags that give these keys the run's values; None for many keys, or for one that is not in both configs."""
    if len(keys) > PROPOSED or not all(key in there and key in here for key in keys):
        return None
    values = {key: tuple(there[key]) if isinstance(there[key], list) else there[key] for key in keys}
    return " ".join(shlex.quote(f"--config.{key}={value}") for key, value in values.items())


def _differ(key: str, there: Any, here: Any) -> bool:
    if key in ROOTS and there and here:
        # Runs of former versions have paths from the folder where they were started.
        return Path(there).absolute() != Path(here).absolute()
    return there != here


def is_harmless(key: str) -> bool:
    """Whether a run may resume with another value of this key, flattened."""
    return key in HARMLESS or key.partition(".")[0] in HARMLESS


def record(workdir: Path, config: ConfigDict, data: DataSet, split: Split | None = None) -> None:
    """Writes what `compare` and prediction will need, where it is not there yet.

    Args:
        workdir: the run's folder.
        config: the run's.
        data: the run's.
        split: of them; with it, the intensities of the training side are recorded.
    """
    contents = {DATA: _description(workdir, data, split)}
    if data.classes:
        contents[CLASSES] = as_json(data.classes)
    # The config comes last: it is what makes the folder a run.
    contents[CONFIG] = as_json(config.to_dict()) | {FINGERPRINT: data.fingerprint}
    for name, content in contents.items():
        path = workdir / name
        if not path.exists() or read_json(path) != content:
            write_sealed_json(path, content)


def _description(workdir: Path, data: DataSet, split: Split | None) -> dict[str, Any]:
    """What data.json holds. Intensities are measured once: the data of a run do not change."""
    files = {path.as_posix(): {"bytes": size, "sha256": sha} for path, (size, sha) in sorted(data.digests.items())}
    named = {"channel_names": list(data.channel_names), "shown": data.shown} if data.channel_names else {}
    known = (read_data(workdir) or {}).get("intensities")
    if known is None and split is not None:
        trained = {position for position, _ in splits.slices_of(split, data.cases, "train").tolist()}
        known = scale.record(data.cases[position] for position in sorted(trained))
    intensities = {} if known is None else {"intensities": known}
    return {"channels": data.channels, **named, **intensities, "files": files}


def check_files(workdir: Path, data: DataSet) -> list[str]:
    """Checks that the data are those of the run in `workdir`, before they are scored as its own.

    Returns:
        what a reader of the scores should know, a line each.

    Raises:
        InputError: files changed; each is listed.
    """
    if read_flat_config(workdir).get(FINGERPRINT) == data.fingerprint:
        missing = f"{workdir} has no {DATA}: the data were compared by their fingerprint alone."
        return [] if (workdir / DATA).exists() else [missing]
    lines = file_differences(workdir, data.digests)
    if lines:
        head = (
            f"{workdir} was trained on other data: restore them, or score these as they are with --split=all "
            "--data=DIR:"
        )
        raise InputError("\n  ".join([head, *lines]))
    return [f"The data's fingerprint is not the run's: {workdir} was made by another version of the program."]


def trained_on(data: DataSet, split: Split) -> dict[str, str]:
    """What each checkpoint records: the data and the split that it was trained on."""
    return {"data": data.fingerprint, "split": splits.digest(split)}


def identity(workdir: Path, config: ConfigDict, data: DataSet, split: Split | None) -> dict[str, Any]:
    """What all processes of one run must have the same, for `exchange.agree`: the digest of each, by its name."""
    keys = flatten(as_json(config.to_dict()))
    return {
        **{f"config.{key}": value for key, value in keys.items() if key not in OF_A_MACHINE},
        "the data's fingerprint": data.fingerprint,
        "the split": split and splits.digest(split),
        f"the checkpoints in {workdir}": steps(workdir / CHECKPOINTS),
    }


def check_record(restored: Restored, record: Mapping[str, str]) -> None:
    """Compares what a checkpoint says that it was trained on with what the run's folder has now.

    Its data are compared file by file before: see `compare` and `check_files`.

    Raises:
        InputError: the split is another one.
    """
    if restored.record.get("split", record["split"]) != record["split"]:
        raise InputError(
            f"{SPLIT} is not the split that checkpoint {restored.step} was trained with: its scores could be of "
            "patients that it was trained on. Restore that file, or train again with another --workdir."
        )


def file_differences(workdir: Path, digests: Digests) -> list[str]:
    """A line for each file that differs from the run's, is missing or is new; none for a run that recorded no files."""
    recorded = read_files(workdir)
    if recorded is None:
        return []
    complaints = {
        path: "is missing" if path not in digests else "is new" if path not in recorded else "has another content"
        for path in recorded.keys() | digests.keys()
        if recorded.get(path) != digests.get(path)
    }
    lines = [f"{path.as_posix()}: {complaint}" for path, complaint in sorted(complaints.items())]
    more = [f"… and {len(lines) - LISTED:,} more files"] if len(lines) > LISTED else []
    return lines[:LISTED] + more


def read_files(workdir: Path) -> Digests | None:
    """The files of the run's data, or None if the run is older than such a list.

    Raises:
        InputError: it is damaged, or a path leads out of the data's folder.
    """
    path = workdir / DATA
    found = read_data(workdir)
    if found is None:
        return None
    try:
        return {_inside(name): (entry["bytes"], entry["sha256"]) for name, entry in found["files"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a list of files ({error}): restore it.") from None


def _inside(name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} leads out of the data's folder")
    return Path(path)
