"""What a run leaves behind besides checkpoints and scores: its config, its data's identity and its history."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_jax.errors import InputError
from unet_jax.files import read_json, write_json, write_text

CONFIG, HISTORY, SPLIT = "config.json", "history.jsonl", "split.json"
CHECKPOINTS, EVALUATION = "checkpoints", "evaluation"
FINGERPRINT = "data_fingerprint"


def start(workdir: Path, config: Mapping, fingerprint: str) -> None:
    """Records the resolved config and the data's fingerprint, or compares them with what the folder has.

    Raises:
        InputError: the folder holds a run of another config or of other data; each key that differs is listed.
    """
    here = json.loads(json.dumps(config)) | {FINGERPRINT: fingerprint}
    path = workdir / CONFIG
    if not path.exists():
        write_json(path, here)
        return
    there, here = flatten(read_json(path)), flatten(here)
    differing = [
        f"  {_title(key)}: the run has {there.get(key)!r}, this command {here.get(key)!r}"
        for key in sorted(there | here)
        if there.get(key) != here.get(key)
    ]
    if differing:
        raise InputError(
            "\n".join(
                [
                    f"{workdir} holds a run of another config or of other data; undo the change or name another "
                    "--workdir:",
                    *differing,
                ]
            )
        )


def _title(key: str) -> str:
    return "the data's fingerprint" if key == FINGERPRINT else f"config.{key}"


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def append_history(workdir: Path, record: Mapping) -> None:
    """Adds one line to the history."""
    with open(workdir / HISTORY, "a") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")


def read_history(workdir: Path) -> list[dict]:
    """All records so far, in order. A last line that a killed process left unfinished does not count."""
    path = workdir / HISTORY
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def rewind_history(workdir: Path, step: int) -> list[dict]:
    """Drops the records after `step`, the checkpoint that training goes on from, and returns the rest."""
    records = [record for record in read_history(workdir) if record["step"] <= step]
    write_text(workdir / HISTORY, "".join(json.dumps(record) + "\n" for record in records))
    return records


def epochs_of(records: list[dict]) -> list[dict]:
    """The records that close an epoch, in order."""
    return [record for record in records if "epoch" in record]
