"""From seconds to speeds: images a second, operations a second, and the share of the device's peak."""

from collections.abc import Mapping

import jax
import numpy as np

from unet_jax.benchmark import device_peak, timing

GIGA, TERA = 1e9, 1e12
DTYPES = ("float32", "bfloat16")


def images_per_second(samples: list[float], images: int) -> float:
    """The images of a sample by the median of the samples' seconds."""
    return images / float(np.median(samples))


def speeds(
    samples: list[float], images: int, flops: int, dtype: str, devices: int, peak: Mapping[str, float | None]
) -> dict[str, float | None]:
    """The speeds of a program, by the median of its samples, and its floor: no faster than at the measured peak.

    Args:
        samples: the seconds of each call.
        images: that a call computes.
        flops: operations of a call.
        dtype: that it computes in, of DTYPES.
        devices: that share its work; all of a CPU count as one, as `peak` is that of all.
        peak: as `peak_tflops` measures it.
    """
    tflops = flops / float(np.median(samples)) / TERA / devices
    published = peak["published_bfloat16"] if dtype == "bfloat16" else None
    return timing.milliseconds(samples) | {
        "images_per_second": images_per_second(samples, images),
        "gflop": flops / GIGA,
        "floor_ms": flops / peak[dtype] / devices / TERA * 1e3,
        "tflops_a_device": tflops,
        "share_of_measured_peak": tflops / peak[dtype],
        "share_of_published_peak": tflops / published if published else None,
    }


def peak_tflops(seconds: float) -> dict[str, float | None]:
    """TFLOP/s of one device: of measured matrix products, and as its maker publishes them for bfloat16.

    Args:
        seconds: of measuring, for each type.
    """
    measured = {dtype: device_peak.measured_tflops(dtype, seconds) for dtype in DTYPES}
    return measured | {"published_bfloat16": device_peak.published_tflops(jax.devices()[0].device_kind)}
