"""How long a run's first step takes to compile: measured, kept beside the compiled programs, said at the next start."""

import contextlib
import hashlib
import json
from pathlib import Path

import jax
from ml_collections import ConfigDict

from unet_jax.errors import InputError, StorageError
from unet_jax.files import read_json, write_bytes
from unet_jax.wording import duration

NAME = "first_steps.json"
# What the program of a step is made from; a group stands for all its keys.
GROUPS = ("model", "loss", "border_weights", "augment", "augment_patches", "optim")
DATA = ("image_size", "patch", "slab", "neighbours")


def text(config: ConfigDict) -> str:
    """What the progress bar says while the first step is compiled, or loaded."""
    known = _read().get(_key(config))
    return "compiling the first step" + (f", last time {duration(known)}" if known is not None else "")


def keep(config: ConfigDict, seconds: float) -> None:
    """Keeps what compiling, or loading, took; nowhere, where no compiled programs are kept."""
    folder = _folder()
    if folder is None or not folder.is_dir():
        return
    # jax warns of a folder that cannot be written.
    with contextlib.suppress(StorageError):
        write_bytes(folder / NAME, json.dumps(_read() | {_key(config): round(seconds, 3)}).encode())


def _key(config: ConfigDict) -> str:
    """Of the program: two that differ have different ones; the same may, after a change that does not matter."""
    tree = config.to_dict()
    made_from = {name: tree[name] for name in GROUPS} | {name: tree["data"][name] for name in DATA}
    device = jax.devices()[0].device_kind
    where = [jax.__version__, device, jax.device_count(), config.train.batch_size, config.train.steps_per_dispatch]
    return hashlib.sha256(json.dumps([made_from, where], sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read() -> dict[str, float]:
    """Seconds by key; empty where nothing is known."""
    folder = _folder()
    if folder is None or not (folder / NAME).exists():
        return {}
    try:
        found = read_json(folder / NAME)
    except InputError:
        return {}
    is_known = isinstance(found, dict) and all(isinstance(seconds, float) for seconds in found.values())
    return found if is_known else {}


def _folder() -> Path | None:
    folder = jax.config.jax_compilation_cache_dir
    return Path(folder) if folder else None
