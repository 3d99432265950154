"""How many devices a mode shares the CPU's cores among, and what it asks the accelerator; before jax has started."""

import contextlib
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.errors import InputError
from unet_jax.run.config import read_config


def use_cores_of(config: ConfigDict) -> None:
    """As many devices as share a batch of the config."""
    from unet_jax.runtime.cpu_devices import use_cores

    use_cores(_batch_size(config), config.train.spatial)


def use_cores_as(workdir: Path) -> None:
    """As many devices as share the batch of the run, whose slices are segmented in batches of that size."""
    # What is wrong with the run, the mode says.
    with contextlib.suppress(InputError):
        use_cores_of(read_config(workdir))


def device_memory(config: ConfigDict) -> float | None:
    """Of the accelerator at hand, GB; None where the config does not ask for it."""
    if not config.plan.device:
        return None

    from unet_jax.runtime.device_memory import device_memory_gb

    return device_memory_gb()


def names_several(config: ConfigDict) -> bool:
    """Whether all configurations of a plan are to be trained; the command line makes (None,) of None."""
    return config.plan.configuration is None and any(config.plan.configurations or ())


def _batch_size(config: ConfigDict) -> int:
    """Of the config; 0, for a single device, where a plan decides it after jax has started."""
    return 0 if names_several(config) else config.train.batch_size or 0
