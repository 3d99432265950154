"""What to lower when a device or the host runs out of memory."""

import contextlib
import re
from collections.abc import Iterator

from ml_collections import ConfigDict

from unet_jax.errors import OutOfMemoryError

# How XLA says so, in the text of a RuntimeError.
EXHAUSTED = "RESOURCE_EXHAUSTED"
# "allocating 4503599627370496 bytes" (CPU), "allocate 35.00GiB" (GPU), "allocate 128. PiB for an array" (numpy)
ASKED = re.compile(r"allocat\w*\s+(?:request for\s+)?([0-9.]+)\s*(bytes|[KMGTP]i?B)")
OR_SLOWER = "With config.train.accumulate or config.model.remat, training the same takes less memory and more time."
UNITS = {unit: 1024**power for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"))}


@contextlib.contextmanager
def explained(config: ConfigDict) -> Iterator[None]:
    """Turns an error that means too little memory into one that names the keys that memory depends on.

    Raises:
        OutOfMemoryError: memory ran out within the `with` block.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and EXHAUSTED not in str(error):
            raise
        raise OutOfMemoryError(_describe(str(error), config)) from error


def _describe(text: str, config: ConfigDict) -> str:
    if config.data.patch is not None:
        return (
            f"out of memory: {_need(text)} with config.train.batch_size={config.train.batch_size} and "
            f"config.data.patch={tuple(config.data.patch)}: memory grows with both; halve config.train.batch_size, or "
            f"make the patch smaller. {OR_SLOWER}"
        )
    slab = "" if config.data.slab is None else f", config.data.slab={config.data.slab}"
    return (
        f"out of memory: {_need(text)} with config.train.batch_size={config.train.batch_size}, "
        f"config.data.image_size={config.data.image_size}{slab} and config.model.width="
        f"{config.model.get('width')}: memory grows with batch_size × image_size² × width; halve "
        f"config.train.batch_size, or lower the others. {OR_SLOWER}"
    )


def _need(text: str) -> str:
    """What the allocation that failed asked for: the run needs more than that."""
    found = ASKED.search(text)
    if found is None:
        return "an allocation failed"
    number, unit = found.groups()
    count = float(number) * UNITS[unit if unit == "bytes" else f"{unit[0]}iB"]
    return f"at least {count / 1024**3:,.1f} GiB are needed"
