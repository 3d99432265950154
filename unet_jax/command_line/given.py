"""What the flags name: a resolved recipe, the run's folder, other data."""

import contextlib
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from unet_jax.command_line.flags import CONFIG, DATA, FLAGS, WORKDIR
from unet_jax.errors import InputError
from unet_jax.run import pack_file, recipes
from unet_jax.run.config import default_config
from unet_jax.run.config_keys import check_keys
from unet_jax.run.resolve import resolve


def recipe() -> tuple[ConfigDict, Path]:
    """The resolved config, and the run's folder."""
    if CONFIG.value is None:
        raise InputError(
            f"--config is missing: name a recipe, such as --config=default; there are {', '.join(recipes.names())}."
        )
    check_keys(CONFIG.value, default_config())

    flag = FLAGS["config"]
    config, messages = resolve(CONFIG.value, config_flags.get_override_values(flag))
    for message in messages:
        print(message, flush=True)
    return config, workdir()


def workdir() -> Path:
    """What --workdir names, or else a folder with the config's name."""
    if WORKDIR.value:
        return Path(WORKDIR.value)
    if CONFIG.value is None:
        raise InputError("--workdir is missing: name the run's folder, such as --workdir=runs/default.")
    return Path("runs", Path(config_flags.get_config_filename(FLAGS["config"])).stem)


def opened() -> contextlib.AbstractContextManager[Path]:
    """The folder of the run; of a pack that --workdir names, what it unpacks to, for as long as the block lasts."""
    return pack_file.opened(workdir())


def data() -> Path | None:
    """What --data names."""
    return Path(DATA.value) if DATA.value else None


def three(flag: flags.FlagHolder, kind: type) -> tuple | None:
    """Slices, rows and columns of a flag, or None where it is not given."""
    if not flag.value:
        return None
    try:
        numbers = tuple(map(kind, flag.value))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(0 < number < float("inf") for number in numbers):
        raise InputError(f"--{flag.name}={','.join(flag.value)}: give three numbers above 0: slices, rows, columns.")
    return numbers
