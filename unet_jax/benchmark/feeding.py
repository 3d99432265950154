"""The ways in which batches can come to the steps of a recipe, to be measured side by side."""

import contextlib
import itertools
from collections.abc import Iterator

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from unet_jax.benchmark.training_steps import Way
from unet_jax.training import dispatch, feed
from unet_jax.training.samples import Samples
from unet_jax.training.step import Step


def as_configured(config: ConfigDict) -> dict:
    """The keys of a recipe that say how batches come. Steps are done one by one where the run would choose."""
    return {
        "ahead": config.data.ahead,
        "resident": config.data.resident,
        "steps": config.train.steps_per_dispatch or 1,
    }


def others(config: ConfigDict) -> dict[str, dict]:
    """By name: each batch in turn with its step, sent ahead, from the device's own memory, and several steps at once.

    Patches cannot stay on the device.
    """
    stays = "never" if config.data.patch is not None else "must"
    given = config.train.steps_per_dispatch or 1
    together = {"ahead": feed.AHEAD, "resident": stays, "steps": given if given > 1 else dispatch.SEVERAL}
    found = {
        "in_turn": {"ahead": 0, "resident": "never", "steps": 1},
        "ahead": {"ahead": feed.AHEAD, "resident": "never", "steps": 1},
        "resident": {"ahead": feed.AHEAD, "resident": stays, "steps": 1},
        "together": together,
    }
    return found if stays == "must" else {name: way for name, way in found.items() if name != "resident"}


@contextlib.contextmanager
def opened(
    ways: dict[str, dict], config: ConfigDict, sampled: Samples, mesh: Mesh, step: Step, several: Step
) -> Iterator[dict[str, Way]]:
    """The ways with their batches, for as long as the block lasts.

    Args:
        ways: as `as_configured` and `others` have them.
        config: of the recipe.
        sampled: its training side.
        mesh: the devices.
        step: the program of one step.
        several: the program of several.
    """
    with contextlib.ExitStack() as stack:
        found = {}
        for name, way in ways.items():
            own = config.copy_and_resolve_references()
            own.data.ahead, own.data.resident = way["ahead"], way["resident"]
            fed = stack.enter_context(feed.opened(own, sampled, mesh, 0, itertools.repeat(way["steps"])))
            program = step if way["steps"] == 1 else several
            found[name] = Way(program, _on_device(fed), way["steps"])
        yield found


def _on_device(feed_of_way: Iterator[feed.Fed]) -> Iterator[dict[str, jax.Array]]:
    return (fed.on_device for fed in feed_of_way)
