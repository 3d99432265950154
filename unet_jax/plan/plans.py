"""A plan: what a data set's cases are resampled and normalised to, and which networks see which patches of them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from unet_jax.plan.intensities import Intensities
from unet_jax.plan.network import Network
from unet_jax.plan.resample import Resampling
from unet_jax.wording import count


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One way to segment a data set. Axes stand in the plan's order; a configuration of two axes sees single slices.

    Attributes:
        spacing: millimetres an axis that cases are resampled to.
        patch_size: voxels an axis.
        batch_size: patches a step.
        median_shape: voxels an axis of the median case in this spacing.
        normalisation: the scheme of each channel, a name of `normalisation.NNUNET`.
        inside_only: for each channel, whether its statistics are those of the inside of the body.
        network: what is trained; None where something else than the plan says it.
        batch_dice: whether the Dice loss takes a batch as one sample.
        images: how images are resampled.
        masks: how masks are resampled.
        logits: how the network's outputs are resampled back.
        data: names the preprocessed cases; configurations of one name share them.
        previous_stage: the configuration whose masks this one is given as well.
        next_stages: configurations that are given this one's masks.
        inherits_from: the configuration whose values this one has, unless it says otherwise.
    """

    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    median_shape: tuple[int | float, ...]
    normalisation: tuple[str, ...]
    inside_only: tuple[bool, ...]
    network: Network | None
    batch_dice: bool
    images: Resampling
    masks: Resampling
    logits: Resampling
    data: str
    previous_stage: str | None = None
    next_stages: tuple[str, ...] = ()
    inherits_from: str | None = None

    @property
    def axes(self) -> int:
        """2 for slices, 3 for volumes."""
        return len(self.patch_size)


@dataclasses.dataclass(frozen=True)
class Plans:
    """The plan of a data set.

    Attributes:
        dataset: its name.
        name: the plan's own.
        planner: nnU-Net's planner whose rules made it.
        reader: nnU-Net's reader of the files; None where it has none for them.
        median_spacing: millimetres an axis of the median case as it is read, its axes in the plan's order.
        median_shape: its voxels an axis after cropping.
        transpose_forward: the axes of a case in the plan's order.
        intensities: of each channel's foreground.
        configurations: by name.
        reasons: a line for each decision.
    """

    dataset: str
    name: str
    planner: str
    reader: str | None
    median_spacing: tuple[float, ...]
    median_shape: tuple[int, ...]
    transpose_forward: tuple[int, ...]
    intensities: tuple[Intensities, ...]
    configurations: Mapping[str, Configuration]
    reasons: tuple[str, ...] = ()


def with_added(plans: Plans, earlier: Plans) -> Plans:
    """A new plan with the configurations that somebody added to the earlier one, which planning does not make."""
    added = {name: each for name, each in earlier.configurations.items() if name not in plans.configurations}
    return dataclasses.replace(plans, configurations={**plans.configurations, **added})


def contradictions(plans: Plans) -> list[str]:
    """What cannot hold together in a plan whose every value is of the right kind, a line each."""
    faults = []
    for name, each in plans.configurations.items():
        base = plans.configurations.get(each.inherits_from)
        # What is inherited is the other's fault.
        inherited = [] if base is None else _of_configuration(base, plans)
        own = [line for line in _of_configuration(each, plans) if line not in inherited]
        faults += [f"configurations.{name}: {line}" for line in own]
        faults += _of_stages(name, plans.configurations)
    return faults


def _of_configuration(each: Configuration, plans: Plans) -> list[str]:
    axes = each.axes
    by_axis: dict[str, Sequence] = {"spacing": each.spacing, "the median shape": each.median_shape}
    if each.network is not None:
        by_axis |= {f"the kernel of stage {at}": kernel for at, kernel in enumerate(each.network.kernels)}
        by_axis |= {f"the stride of stage {at}": stride for at, stride in enumerate(each.network.strides)}
    faults = [
        f"patch_size has {axes} axes and {name} {len(values)}: give both as many."
        for name, values in by_axis.items()
        if len(values) != axes
    ]
    if each.network is not None:
        faults += _of_network(each.network)
        faults += [] if faults else _indivisible(each.patch_size, each.network)
    channels = len(plans.intensities)
    faults += [
        f"{what} is given for {count(len(values), 'channel')} and the plan has intensities of {channels}: give "
        "both as many."
        for what, values in (("the normalisation", each.normalisation), ("the use of the mask", each.inside_only))
        if len(values) != channels
    ]
    return faults


def _of_network(network: Network) -> list[str]:
    stages = len(network.features)
    counts = {
        "kernels": (network.kernels, stages),
        "strides": (network.strides, stages),
        "blocks of the encoder": (network.blocks, stages),
        "convolutions of the decoder": (network.decoder_blocks, stages - 1),
    }
    faults = [
        f"the network has {stages} stages of features and {len(values)} {what}: {needed} are needed."
        for what, (values, needed) in counts.items()
        if len(values) != needed
    ]
    even = sorted({n for kernel in network.kernels for n in kernel if n % 2 == 0})
    if even:
        faults.append(f"a kernel has {', '.join(map(str, even))} samples a side: every number must be odd.")
    if network.strides and max(network.strides[0]) > 1:
        faults.append(f"the stride of stage 0 is {_shape(network.strides[0])}: it must be 1, as its outputs are whole.")
    return faults


def _indivisible(patch: tuple[int, ...], network: Network) -> list[str]:
    divisor = [math.prod(axis) for axis in zip(*network.strides, strict=True)]
    if not any(n % by for n, by in zip(patch, divisor, strict=True)):
        return []
    nearest = [max(round(n / by), 1) * by for n, by in zip(patch, divisor, strict=True)]
    return [
        f"patch_size {_shape(patch)} does not divide by {_shape(divisor)}, the network's strides: "
        f"use {_shape(nearest)}."
    ]


def _of_stages(name: str, all_of_them: Mapping[str, Configuration]) -> list[str]:
    each = all_of_them[name]
    named = {"previous_stage": (each.previous_stage,) if each.previous_stage else (), "next_stage": each.next_stages}
    faults = [
        f"configurations.{name}.{key} is {other!r}: there is no such configuration."
        for key, others in named.items()
        for other in others
        if other not in all_of_them
    ]
    if name in (each.previous_stage, *each.next_stages):
        faults.append(f"configurations.{name} is a stage before or after itself: name another configuration.")
    return faults


def _shape(values: Sequence[int | float]) -> str:
    return " × ".join(f"{n:g}" for n in values)
