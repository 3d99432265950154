"""history.jsonl: a line for each logged step and for each epoch of a run."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unet_jax.errors import DamageError
from unet_jax.files import append_line, write_bytes
from unet_jax.run.folder import HISTORY
from unet_jax.runtime import exchange

# The key of a line's checksum: CRC-32 of its other keys.
CHECK = "crc32"


def append(workdir: Path, record: Mapping) -> None:
    """Adds one line to the history.

    Raises:
        StorageError: the disk is full, read-only or failing; the history is as it was.
    """
    append_line(workdir / HISTORY, _line(record))


def encode(records: Iterable[Mapping]) -> bytes:
    """A history of these records."""
    return "".join(f"{_line(record)}\n" for record in records).encode()


def read(workdir: Path) -> list[dict]:
    """All records so far, in order. A last line that a killed process left unfinished does not count.

    Raises:
        DamageError: another line is not a record.
    """
    return [record for _, record in _lines(workdir / HISTORY)]


def _lines(path: Path) -> list[tuple[bytes, dict]]:
    """Each whole line of a history, with its record."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    found, checked = [], False
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
            found.append((line, record))
            checked = has_check
    return found


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
    if not has_check and any(isinstance(value, str) for key, value in record.items() if key != "nonfinite"):
        raise ValueError(f"its {CHECK} is damaged")
    if has_check and record.pop(CHECK) != _check(record):
        raise ValueError("it is not what was written")
    return record, has_check


def rewind(workdir: Path, step: int, epochs: int) -> list[dict]:
    """Drops the records after `step` and `epochs`, those of the checkpoint to resume from, and returns the rest.

    Raises:
        DamageError: epochs before the checkpoint are missing.
    """
    path = workdir / HISTORY
    lines = [(line, record) for line, record in _lines(path) if _is_before(record, step, epochs)]
    records = [record for _, record in lines]
    found = len(epochs_of(records))
    if found < epochs:
        raise DamageError(
            f"{path} has {found} of the {epochs} epochs before checkpoint {step}: restore that file, or "
            "train again with another --workdir."
        )
    if exchange.index() == 0:
        write_bytes(path, b"".join(line for line, _ in lines))
    return records


def _is_before(record: Mapping, step: int, epochs: int) -> bool:
    return record["step"] <= step and record.get("epoch", 0) <= epochs


def epochs_of(records: list[dict]) -> list[dict]:
    """The records that close an epoch, in order."""
    return [record for record in records if "epoch" in record]


def best_epoch(epochs: Sequence[dict]) -> dict:
    """The first of the epochs with the highest validation Dice; the last where it is undefined in all of them."""
    scored = [record for record in epochs if record["val_dice"] is not None]
    return max(scored, key=lambda record: record["val_dice"]) if scored else epochs[-1]
