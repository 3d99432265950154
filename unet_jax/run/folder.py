"""What a run leaves behind besides checkpoints and scores: its config, its data's identity and its history.

A run's folder is data and no program, and may be somebody else's: nothing in it is executed, and it leads nowhere else.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import errors
from unet_jax.data import labels, load, scale
from unet_jax.data.formats import sources
from unet_jax.data.labels import LabelMap
from unet_jax.data.scale import Scale
from unet_jax.errors import InputError
from unet_jax.files import read_json
from unet_jax.runtime import exchange, lock
from unet_jax.wording import count

CONFIG, DATA, HISTORY, SPLIT = "config.json", "data.json", "history.jsonl", "split.json"
CLASSES, THRESHOLD, CHOSEN = "classes.json", "threshold.json", "chosen.json"
CHECKPOINTS, EVALUATION = "checkpoints", "evaluation"
FINGERPRINT = "data_fingerprint"
_FOLD = re.compile("fold(0|[1-9][0-9]*)")


def read_data(workdir: Path) -> dict[str, Any] | None:
    """What the run recorded of its data: `files`, and, as far as the run is new enough, the rest.

    That is `channels`, `channel_names`, `shown`, the channel that stands for an image in grey, and `intensities`, of
    `scale.record`. None if the run is older than data.json.

    Raises:
        InputError: it is damaged.
    """
    path = workdir / DATA
    if not path.exists():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or ("channels" in found and not _describes_data(found)):
        raise InputError(f"{path} is not a description of data: restore it.")
    return found if "channels" in found else {"files": found}


def _describes_data(found: dict[str, Any]) -> bool:
    return "files" in found and found.keys() <= {"channels", "channel_names", "shown", "intensities", "files"}


def read_channels(workdir: Path) -> int | None:
    """How many channels the run's images have; None if the run did not record it.

    Raises:
        InputError: the record is damaged.
    """
    channels = (read_data(workdir) or {}).get("channels")
    if channels is not None and not (isinstance(channels, int) and channels > 0):
        raise InputError(f"{workdir / DATA}: channels is {channels!r}, and must be a number from 1 on: restore it.")
    return channels


def read_channel_names(workdir: Path, config: ConfigDict, channels: int) -> tuple[str, ...]:
    """What the channels of the run's images are called; of a run that did not record it, what its data's layout says.

    Raises:
        InputError: the record is damaged.
    """
    names = (read_data(workdir) or {}).get("channel_names")
    if names is None:
        return sources.channel_names(config.data.source, Path(config.data.root), channels, config.data.images)
    if not (isinstance(names, list) and len(names) == channels and all(isinstance(name, str) for name in names)):
        raise InputError(f"{workdir / DATA}: channel_names is not {count(channels, 'name')}: restore it.")
    return tuple(names)


def read_shown(workdir: Path, config: ConfigDict, channels: int) -> int | None:
    """The channel that stands for an image in grey; None where nobody named the channels, as those of a photograph.

    Raises:
        InputError: the record is damaged.
    """
    names = read_channel_names(workdir, config, channels)
    if names == sources.unnamed(channels):
        return None
    number = (read_data(workdir) or {}).get("shown", sources.channel_to_show(config.data.source, names))
    if not (isinstance(number, int) and 0 <= number < channels):
        raise InputError(f"{workdir / DATA}: shown is {number!r}, and must be below {channels}: restore it.")
    return number


def read_scale(workdir: Path, config: ConfigDict, matters: Sequence[bool]) -> Scale | None:
    """The scale of intensities that the run was trained on; None if it did not record it.

    Args:
        workdir: the run's folder.
        config: the run's.
        matters: see `Scale`.

    Raises:
        InputError: the record is damaged.
    """
    mode = sources.intensity_mode(config.data.source, load.reader_settings(config).intensity)
    try:
        return scale.read((read_data(workdir) or {}).get("intensities"), mode, matters)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{workdir / DATA}: intensities cannot be read ({error!r}): restore it.") from None


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
        raise InputError(f"{path} is not a list of classes ({error}): restore it.") from None
    labels.check(found, str(path))
    return found


def fold_numbers(workdir: Path) -> list[int]:
    """The folds of which there is a folder, `fold<k>`, in order."""
    names = [path.name for path in workdir.iterdir()] if workdir.is_dir() else []
    return sorted(int(name.removeprefix("fold")) for name in names if _FOLD.fullmatch(name))


def folds_of(workdir: Path) -> list[Path]:
    """The folders of a cross-validation's folds, `fold<k>`, in order; only those in which a run has begun."""
    folders = [workdir / f"fold{number}" for number in fold_numbers(workdir)]
    return [folder for folder in folders if (folder / CONFIG).exists()]


@contextlib.contextmanager
def lock_run(workdir: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps other commands out of the run's folder while this one writes there; nothing in it may lead elsewhere.

    Of several processes, the first one takes the lock, and all of them have it or raise what it raises.

    Raises:
        RunError: as `lock.lock_folder` raises it.
    """
    if workdir.is_file():
        raise InputError(
            f"{workdir} is a file: a run is written into a folder. A pack holds no state to resume from: name another "
            f"--workdir, and start from its weights with --config.train.initial_weights={workdir}."
        )
    with contextlib.ExitStack() as held:
        fault = exchange.by_primary(functools.partial(_lock, held, workdir, wait))
        if fault is not None:
            kind, message = fault
            raise getattr(errors, kind)(message)
        yield


def _lock(held: contextlib.ExitStack, workdir: Path, wait: bool) -> tuple[str, str] | None:
    """Takes the lock, or says what is in the way: the kind of the error, and its line."""
    try:
        check_links(workdir)
        held.enter_context(lock.lock_folder(workdir, wait=wait))
    except errors.RunError as error:
        return type(error).__name__, str(error)
    return None


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


def check_data(config: ConfigDict) -> None:
    """Raises InputError where the data of a run's config are not there; a phantom is not made again."""
    if not Path(config.data.root).is_dir():
        raise InputError(f"{config.data.root}: the run's data are not there: say with --data=DIR where they are now.")
