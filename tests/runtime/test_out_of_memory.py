import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from unet_jax.errors import OutOfMemoryError
from unet_jax.runtime.out_of_memory import explained
from unet_jax.training.train import train

CONFIG = ConfigDict(
    {
        "train": {"batch_size": 32},
        "data": {"patch": None, "image_size": 256, "slab": None},
        "model": {"name": "fpn", "width": 64},
    }
)


def test_a_run_that_needs_too_much_names_what_to_lower(settings, configure, tmp_path):
    """XLA is really asked for 10^17 bytes: no address space has them, so nothing is touched."""
    size = 2**24
    with pytest.raises(OutOfMemoryError) as error:
        train(configure(settings | {"data.image_size": size, "model.up": "transposed"}), tmp_path / "run")
    text = str(error.value)
    assert "config.train.batch_size=4" in text
    assert f"config.data.image_size={size}" in text
    assert "halve config.train.batch_size" in text
    assert "\n" not in text
    # the batch's images alone, in float32
    needed = float(text.split("at least ")[1].split(" GiB")[0].replace(",", ""))
    assert needed * 2**30 > 4 * size**2 * 3 * 4


@pytest.mark.parametrize(
    ("allocate", "gibibytes"),
    [
        (lambda: jax.block_until_ready(jnp.zeros((2**24, 2**26))), "4,194,304.0"),
        (lambda: np.zeros(2**53, np.float32), "33,554,432.0"),
    ],
)
def test_what_the_device_or_numpy_was_asked_for_is_told(allocate, gibibytes):
    with pytest.raises(OutOfMemoryError, match=f"at least {gibibytes} GiB are needed"), explained(CONFIG):
        allocate()


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory allocating 4503599627370496 bytes.", "at least 4,194,304.0 GiB are needed"),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 35.50GiB.", "at least 35.5 GiB are needed"),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 512.00MiB", "at least 0.5 GiB are needed"),
        ("RESOURCE_EXHAUSTED: too many buffers", "an allocation failed"),
    ],
)
def test_each_way_of_saying_it_is_understood(text, need):
    with pytest.raises(OutOfMemoryError, match=f"^out of memory: {need} with"), explained(CONFIG):
        raise RuntimeError(text)


@pytest.mark.parametrize("error", [RuntimeError("INTERNAL: something else"), ValueError("RESOURCE_EXHAUSTED")])
def test_other_errors_pass(error):
    with pytest.raises(type(error), match=str(error)), explained(CONFIG):
        raise error
