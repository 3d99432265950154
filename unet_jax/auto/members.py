"""Networks of configurations side by side: of each the folds averaged, a cascade's first stage before its second."""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, UInt8

from unet_jax.auto import runs
from unet_jax.data import regions
from unet_jax.inference.averaged import averaged
from unet_jax.inference.network import Logits, Probability, load_network
from unet_jax.inference.segment import segment_stream
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Segmented, Wanted
from unet_jax.plan import cascade
from unet_jax.plan.fingerprint import spacing_of
from unet_jax.plan.plans import Plans
from unet_jax.plan.preprocess import preprocess
from unet_jax.run import checkpoint
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config

Network = Probability | Logits


@dataclasses.dataclass(frozen=True)
class Member:
    """A configuration that segments.

    Attributes:
        name: of the configuration.
        network: the mean over its folds: of logits where there is a plan, as nnU-Net takes it.
        settings: how.
        previous: the configuration whose masks it is given; None for most.
    """

    name: str
    network: Network
    settings: SegmentSettings
    previous: str | None = None


def load(
    workdir: Path,
    plans: Plans,
    configurations: Sequence[str],
    numbers: Sequence[int],
    mesh: Mesh,
    *,
    flips: bool | None = None,
    tiles: bool | None = None,
) -> list[Member]:
    """Configurations and the first stages that they need, which come before them.

    Args:
        workdir: where the runs are.
        plans: which names first stages.
        configurations: their names.
        numbers: the folds whose networks are averaged.
        mesh: the devices.
        flips: takes the place of the runs' config.eval.tta.
        tiles: takes the place of the runs' config.eval.tiles.

    Raises:
        InputError: a run is missing or cannot be used.
        DamageError: a run's checkpoints are damaged.
    """
    first = {name: plans.configurations[name].previous_stage for name in configurations}
    names = dict.fromkeys([each for each in first.values() if each] + list(configurations))
    return [
        _member(workdir, name, numbers, mesh, plans.configurations[name].previous_stage, flips, tiles) for name in names
    ]


def _member(
    workdir: Path,
    name: str,
    numbers: Sequence[int],
    mesh: Mesh,
    previous: str | None,
    flips: bool | None,
    tiles: bool | None,
) -> Member:
    networks = []
    for number in numbers:
        folder = runs.folder_of(workdir, name, number)
        config = read_config(folder, flips=flips, tiles=tiles)
        network, restored = load_network(folder, config, mesh)
        for line in checkpoint.warnings(folder / run_folder.CHECKPOINTS, restored):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        networks.append(network)
    return Member(name, averaged(networks), SegmentSettings.of_run(folder, config, mesh), previous)


def segment(
    members: Sequence[Member], wanted: Iterable[Wanted], *, keep_probabilities: bool
) -> Iterator[dict[str, Segmented]]:
    """Each case as every member segments it, by the member's name; a first stage's mask goes into the second.

    Args:
        members: first stages before what they are for.
        wanted: whole cases.
        keep_probabilities: whether results have them.
    """
    streams: dict[str, Iterator[Segmented]] = {}
    for member, cases in zip(members, itertools.tee(wanted, len(members)), strict=True):
        if member.previous is not None:
            streams[member.previous], before = itertools.tee(streams[member.previous])
            cases = map(_given(member), cases, before)
        streams[member.name] = segment_stream(
            member.network, cases, member.settings, keep_probabilities=keep_probabilities
        )
    for found in zip(*streams.values(), strict=True):
        yield dict(zip(streams, found, strict=True))


def _given(member: Member) -> Callable[[Wanted, Segmented], Wanted]:
    """Preprocesses a case for the second network of a cascade, with the first one's mask as more channels."""
    plan = member.settings.plan

    def with_mask(wanted: Wanted, before: Segmented) -> Wanted:
        found = preprocess(wanted.case.image, None, spacing_of(wanted.case), plan.plans, plan.configuration)
        mask = cascade.from_mask(before.mask, found.geometry, plan.plans, plan.configuration)
        channels = cascade.one_hot(mask, plan.dataset).astype(np.float32)
        image = np.concatenate([found.image, channels], axis=-1)
        return dataclasses.replace(wanted, prepared=dataclasses.replace(found, image=image))

    return with_mask


def together(
    found: Mapping[str, Segmented], names: Sequence[str], threshold: float, painted: Sequence[int] | None = None
) -> Segmented:
    """What one configuration found in a case, or several by the mean of their probabilities.

    Args:
        found: by configuration, with probabilities if `names` are several.
        names: which.
        threshold: from which probability on the only class is there; of several, the likeliest is.
        painted: of classes that overlap: see `SegmentSettings`.
    """
    first = found[names[0]]
    if len(names) == 1:
        return first
    probability = sum(found[name].probability for name in names) / np.float32(len(names))
    mask = _decide(probability, threshold) if painted is None else regions.paint(probability, painted)
    return Segmented(first.wanted, mask, probability)


def _decide(
    probability: Float32[np.ndarray, "s h w"] | Float32[np.ndarray, "s h w k"], threshold: float
) -> UInt8[np.ndarray, "s h w"]:
    decided = probability >= threshold if probability.ndim == 3 else probability.argmax(-1)
    return decided.astype(np.uint8)
