"""What a run leaves behind besides checkpoints and scores: its config, its data's identity and its history.

A run's folder is data and no program, and may be somebody else's: nothing in it is executed, and it leads nowhere else.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax.data import labels
from unet_jax.data.labels import LabelMap
from unet_jax.errors import DamageError, InputError
from unet_jax.files import append_line, read_json, write_text

CONFIG, DATA, HISTORY, SPLIT = "config.json", "data.json", "history.jsonl", "split.json"
CLASSES, THRESHOLD = "classes.json", "threshold.json"
CHECKPOINTS, EVALUATION = "checkpoints", "evaluation"
FINGERPRINT = "data_fingerprint"

# Groups whose keys depend on the network or the loss that is chosen; those check them.
OPEN_GROUPS = ("model.", "loss.")
# Never taken from a run's config: what lies in that folder is executed.
PROGRAMS = "train.compilation_cache"


def read_config(workdir: Path, defaults: ConfigDict | None = None) -> ConfigDict:
    """The run's config; keys that the program got since then have the values of `defaults`.

    A threshold that the run has chosen takes the place of config.eval.threshold.

    Raises:
        InputError: there is none; or, compared with `defaults`, a key is unknown or its value of another type, and
            all of them are listed.
    """
    path = workdir / CONFIG
    found = read_flat_config(workdir)
    known = {} if defaults is None else flatten(as_json(defaults.to_dict()))
    if defaults is not None:
        faults = [_fault(key, value, known) for key, value in sorted(found.items())]
        if any(faults):
            raise InputError("\n".join(f"{path}: {fault}" for fault in faults if fault))
    added = {key: value for key, value in known.items() if not key.startswith(OPEN_GROUPS)}
    chosen = added | found | {PROGRAMS: known.get(PROGRAMS)}
    if chosen.get("eval.choose_threshold"):
        chosen["eval.threshold"] = _chosen_threshold(workdir, chosen["eval.threshold"])
    try:
        return ConfigDict(_nested(chosen))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no config ({error}): restore it.") from None


def _chosen_threshold(workdir: Path, otherwise: float) -> float:
    """What the run has chosen once it is trained to its end; before that, `otherwise`."""
    path = workdir / THRESHOLD
    if not path.exists():
        return otherwise
    found = read_json(path)
    value = found.get("threshold") if isinstance(found, dict) else None
    if not isinstance(value, float) or not 0 < value < 1:
        raise InputError(f"{path} has no threshold between 0 and 1: remove it, and train again to choose it anew.")
    return value


def _fault(key: str, value: Any, known: Mapping[str, Any]) -> str | None:
    """What is wrong with a value of a run's config, given those of the defaults."""
    if key not in known:
        if key == FINGERPRINT or key.startswith(OPEN_GROUPS):
            return None
        return f"config.{key} is no key of this version of the program: use the one that made the run."
    # A whole number may stand for a float, and None for anything.
    types = (int, float) if isinstance(known[key], float) else type(known[key])
    if value is None or known[key] is None or isinstance(value, types):
        return None
    return f"config.{key} is {value!r}, and must be of the kind of {known[key]!r}: restore the file."


def read_flat_config(workdir: Path) -> dict[str, Any]:
    """The run's config as it is on disk, flattened, with the data's fingerprint.

    Raises:
        InputError: there is none.
    """
    found = read_json(workdir / CONFIG)
    if not isinstance(found, dict):
        raise InputError(f"{workdir / CONFIG} is no config: restore it.")
    return flatten(found)


def read_classes(workdir: Path) -> LabelMap:
    """The classes that the run's network tells apart, in order; empty where it tells one from background.

    Raises:
        InputError: they are damaged.
    """
    path = workdir / CLASSES
    if not path.exists():
        return {}
    try:
        found = {name: tuple(map(int, values)) for name, values in read_json(path).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no list of classes ({error}): restore it.") from None
    labels.check(found, str(path))
    return found


def as_json(tree: Mapping) -> dict:
    """With lists for tuples, as a file has them."""
    return json.loads(json.dumps(tree))


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _nested(flat: Mapping[str, Any]) -> dict:
    tree = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return tree


def check_links(workdir: Path) -> None:
    """Raises InputError if a link in `workdir` leads out of it: what is written there would land elsewhere."""
    inside = workdir.resolve()
    paths = (Path(folder, name) for folder, *kinds in os.walk(workdir) for names in kinds for name in names)
    faults = [
        f"{path}: this link leads out of the run's folder: put what it leads to in its place, or link the whole folder."
        for path in sorted(path for path in paths if path.is_symlink())
        if not path.resolve().is_relative_to(inside)
    ]
    if faults:
        raise InputError("\n".join(faults))


def check_phantom(workdir: Path, config: ConfigDict) -> None:
    """Raises InputError if the config of the run in `workdir` would have the phantom written just anywhere."""
    root = Path(config.data.root)
    if config.data.source == "phantom" and not root.exists() and (root.is_absolute() or ".." in root.parts):
        raise InputError(
            f"{workdir / CONFIG}: config.phantom.root={root} does not exist, and a run's folder may have the phantom "
            "made below the current folder only: start there, or score other data with --split=all --data=DIR."
        )


def append_history(workdir: Path, record: Mapping) -> None:
    """Adds one line to the history.

    Raises:
        StorageError: the disk is full, read-only or failing; the history is as it was.
    """
    append_line(workdir / HISTORY, json.dumps(record, allow_nan=False))


def read_history(workdir: Path) -> list[dict]:
    """All records so far, in order. A last line that a killed process left unfinished does not count.

    Raises:
        DamageError: another line is no record.
    """
    path = workdir / HISTORY
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [_record(path, number, line) for number, line in enumerate(lines, 1) if line.endswith(b"\n")]


def _record(path: Path, number: int, line: bytes) -> dict:
    try:
        record = json.loads(line)
        if not isinstance(record["step"], int):
            raise TypeError(f"step {record['step']!r} is no number")
    except (KeyError, TypeError, ValueError) as error:
        raise DamageError(f"{path}, line {number} is no record of a run ({error}): mend or remove it.") from None
    return record


def rewind_history(workdir: Path, step: int, epochs: int) -> list[dict]:
    """Drops the records after `step` and `epochs`, those of the checkpoint to go on from, and returns the rest."""
    records = [
        record for record in read_history(workdir) if record["step"] <= step and record.get("epoch", 0) <= epochs
    ]
    write_text(workdir / HISTORY, "".join(json.dumps(record) + "\n" for record in records))
    return records


def epochs_of(records: list[dict]) -> list[dict]:
    """The records that close an epoch, in order."""
    return [record for record in records if "epoch" in record]
