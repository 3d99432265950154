"""history.jsonl: a line for each logged step and for each epoch of a run."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_jax.errors import DamageError
from unet_jax.files import append_line, write_text
from unet_jax.run.folder import HISTORY

# The key of a line's checksum: CRC-32 of its other keys.
CHECK = "crc32"


def append(workdir: Path, record: Mapping) -> None:
    """Adds one line to the history.

    Raises:
        StorageError: the disk is full, read-only or failing; the history is as it was.
    """
    append_line(workdir / HISTORY, _line(record))


def read(workdir: Path) -> list[dict]:
    """All records so far, in order. A last line that a killed process left unfinished does not count.

    Raises:
        DamageError: another line is not a record.
    """
    path = workdir / HISTORY
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    records, checked = [], False
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\n"):
            try:
                record, has_check = _parse(line)
                if checked and not has_check:  # lines from before version 0.1, which have none, come first
                    raise ValueError(f"it has no {CHECK}")
            except (KeyError, TypeError, ValueError) as error:
                raise DamageError(
                    f"{path}, line {number} is not a record of a run ({error}): mend or remove it."
                ) from None
            records.append(record)
            checked = has_check
    return records


def _line(record: Mapping) -> str:
    """The record with a checksum of itself."""
    return json.dumps({**record, CHECK: _check(record)}, allow_nan=False)


def _check(record: Mapping) -> str:
    return f"{zlib.crc32(json.dumps(record).encode()):08x}"


def _parse(line: bytes) -> tuple[dict, bool]:
    """The record of a line, and whether it had a checksum."""
    record = json.loads(line)
    if not isinstance(record["step"], int):
        raise TypeError(f"step {record['step']!r} is not a number")
    has_check = CHECK in record
    if has_check and record.pop(CHECK) != _check(record):
        raise ValueError("it is not what was written")
    return record, has_check


def rewind(workdir: Path, step: int, epochs: int) -> list[dict]:
    """Drops the records after `step` and `epochs`, those of the checkpoint to resume from, and returns the rest.

    Raises:
        DamageError: epochs before the checkpoint are missing.
    """
    records = [record for record in read(workdir) if record["step"] <= step and record.get("epoch", 0) <= epochs]
    found = len(epochs_of(records))
    if found < epochs:
        raise DamageError(
            f"{workdir / HISTORY} has {found} of the {epochs} epochs before checkpoint {step}: restore that file, or "
            "train again with another --workdir."
        )
    write_text(workdir / HISTORY, "".join(_line(record) + "\n" for record in records))
    return records


def epochs_of(records: list[dict]) -> list[dict]:
    """The records that close an epoch, in order."""
    return [record for record in records if "epoch" in record]


def best_epoch(epochs: Sequence[dict]) -> dict:
    """The first of the epochs with the highest validation Dice; the last where it is undefined in all of them."""
    scored = [record for record in epochs if record["val_dice"] is not None]
    return max(scored, key=lambda record: record["val_dice"]) if scored else epochs[-1]
