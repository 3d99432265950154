"""A case in, a mask in the case's own geometry out: the one path of validation, evaluation and prediction."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jaxtyping import Float32, UInt8

# image [b, h, w, c] → mask uint8 [b, h, w]: a segment step with its parameters filled in
Segment = Callable[[jax.Array], jax.Array]


def segment_batches(segment: Segment, batches: Iterable[dict], sharding: jax.sharding.Sharding) -> Iterator[dict]:
    """Adds `predicted`, uint8 [n, h, w], to each evaluation batch, and drops the rows that only fill it up.

    The next batch is on its way to the device before the last one's result is fetched.
    """
    pending = None
    for batch in batches:
        predicted = segment(jax.device_put(batch["image"], sharding))
        if pending is not None:
            yield _finish(*pending)
        pending = (batch, predicted)
    if pending is not None:
        yield _finish(*pending)


def _finish(batch: dict, predicted: jax.Array) -> dict:
    valid = batch["valid"]
    return {key: x[valid] for key, x in batch.items()} | {"predicted": np.asarray(predicted)[valid]}


def segment_volume(
    segment: Segment,
    image: UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"],
    batch_size: int,
    sharding: jax.sharding.Sharding,
) -> UInt8[np.ndarray, "d h w"]:
    """The mask of one case, `batch_size` slices at a time."""
    starts = range(0, len(image), batch_size)
    batches = (_padded(np.asarray(image[start : start + batch_size]), batch_size) for start in starts)
    return np.concatenate([batch["predicted"] for batch in segment_batches(segment, batches, sharding)])


def _padded(image: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    missing = batch_size - len(image)
    return {
        "image": np.pad(image, [(0, missing), (0, 0), (0, 0), (0, 0)]),
        "valid": np.arange(batch_size) < len(image),
    }
