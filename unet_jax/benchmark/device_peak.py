"""The most a device can do: a large matrix product, measured, and what its maker publishes."""

import jax
import jax.numpy as jnp

from unet_jax.benchmark import timing

# Dense matrix products in bfloat16, TFLOP/s, from the makers' data sheets, by the start of jax's name for the device;
# longer names first.
PUBLISHED = {
    "NVIDIA H200": 989.4,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100": 989.4,
    "NVIDIA A100": 311.9,
    "NVIDIA L40S": 362.0,
    "NVIDIA L4": 121.0,
    "TPU v6 lite": 918.0,
    "TPU v5 lite": 197.0,
    "TPU v5": 459.0,
    "TPU v4": 275.0,
    "TPU v3": 123.0,
    "TPU v2": 45.0,
}

# A product takes at least this long, so that starting it does not count, unless the matrices outgrow the device.
LONG_ENOUGH, LARGEST = 0.02, 16384


def published_tflops(device_kind: str) -> float | None:
    """The published peak of bfloat16 matrix products, TFLOP/s a device; None where it is not known here."""
    return next((peak for name, peak in PUBLISHED.items() if device_kind.startswith(name)), None)


def measured_tflops(dtype: str, seconds: float) -> float:
    """TFLOP/s of a square matrix product of random numbers on one device: the median of as many as fit in `seconds`.

    The matrices double in size until one product takes 20 ms. float32 is multiplied as in the networks' layers: at
    jax's default precision, which is less than 24 bits on GPU and TPU.
    """
    product = jax.jit(jnp.matmul)
    size = 1024
    while True:
        left, right = (jax.random.normal(jax.random.key(n), (size, size), dtype) for n in (0, 1))
        jax.block_until_ready(product(left, right))
        if size >= LARGEST or timing.once(lambda: product(left, right)) >= LONG_ENOUGH:  # noqa: B023
            break
        size *= 2
    samples = timing.sample(lambda: product(left, right), seconds)
    return 2 * size**3 / (timing.milliseconds(samples)["p50_ms"] / 1e3) / 1e12
