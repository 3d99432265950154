"""Small files written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from unet_jax.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`; a reader finds the old file or the whole new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON in the same way."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What `path` holds.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give the folder of a run, or restore the file."
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): restore it.") from None
