"""Which random transforms patches undergo, how often and how strongly: nnU-Net's values by default."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.plan.enlarged_patch import is_flat, rotation
from unet_jax.plan.plans import Configuration

# Groups of the config that are a `Chance` as they stand.
CHANCES = (
    "scaling",
    "noise",
    "blur",
    "brightness",
    "contrast",
    "low_resolution",
    "inverted_gamma",
    "gamma",
    "morphology",
    "removal",
)


@dataclasses.dataclass(frozen=True)
class Chance:
    """How often a transform happens and what its strength is drawn from.

    Attributes:
        probability: for a patch; 0 switches the transform off.
        range: of the strength; its meaning is the transform's.
        each: the probability for each channel, or label, of a patch to which it happens.
    """

    probability: float
    range: tuple[float, float]
    each: float = 1.0


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """The transforms of patches, in the order in which they happen.

    Attributes:
        patch: voxels an axis of the result.
        dummy_2d: whether the slices of a patch of three axes are rotated and scaled in their planes alone, and keep
            their number when low resolution is simulated.
        rotation: radians about each axis.
        scaling: a factor for all axes; above 1, objects shrink.
        noise: standard deviation, the same noise on all channels.
        blur: standard deviation of the Gaussian in voxels, one for each channel and axis.
        brightness: a factor for each channel.
        contrast: a factor for each channel, on the distance from its mean.
        low_resolution: of a voxels an axis, the share that is left; one for each channel.
        inverted_gamma: an exponent for each channel, on the negated image.
        gamma: an exponent for each channel.
        mirror_axes: the axes that may be mirrored.
        mirror: the probability for each of them.
        inside_only: for each channel, whether it is 0 outside of the body; empty for none.
        labels: those of the previous stage's masks, one channel each; empty without a previous stage.
        morphology: radius in voxels of the ball that dilates, erodes, opens or closes a label of the previous stage.
        removal: how often a component of a label is removed; the range is the share of the patch that it covers, the
            upper end left out.
    """

    patch: tuple[int, ...]
    dummy_2d: bool
    rotation: Chance
    mirror_axes: tuple[int, ...]
    scaling: Chance = Chance(0.2, (0.7, 1.4))
    noise: Chance = Chance(0.1, (0.0, 0.1))
    blur: Chance = Chance(0.2, (0.5, 1.0), each=0.5)
    brightness: Chance = Chance(0.15, (0.75, 1.25))
    contrast: Chance = Chance(0.15, (0.75, 1.25))
    low_resolution: Chance = Chance(0.25, (0.5, 1.0), each=0.5)
    inverted_gamma: Chance = Chance(0.1, (0.7, 1.5))
    gamma: Chance = Chance(0.3, (0.7, 1.5))
    mirror: float = 0.5
    inside_only: tuple[bool, ...] = ()
    labels: tuple[int, ...] = ()
    morphology: Chance = Chance(0.4, (1.0, 8.0), each=0.5)
    removal: Chance = Chance(0.2, (0.0, 0.15), each=0.5)

    @classmethod
    def of(
        cls, configuration: Configuration, config: Mapping[str, Any], labels: Sequence[int] = ()
    ) -> "AugmentSettings":
        """Those of a plan's configuration.

        Args:
            configuration: says how large the patch is.
            config: the config's `augment_patches` group.
            labels: of a cascade's previous stage, the background left out.
        """
        patch = tuple(configuration.patch_size)
        degrees = config["rotation"]["degrees"]
        limit = math.radians(rotation(patch) if degrees is None else degrees)
        axes = config["mirror"]["axes"]
        return cls(
            patch=patch,
            dummy_2d=is_flat(patch),
            rotation=Chance(config["rotation"]["probability"], (-limit, limit)),
            mirror_axes=tuple(range(len(patch)) if axes is None else axes),
            mirror=config["mirror"]["probability"],
            inside_only=tuple(configuration.inside_only),
            labels=tuple(labels),
            **{name: _chance(config[name]) for name in CHANCES},
        )


def _chance(group: Mapping[str, Any]) -> Chance:
    low, high = group["range"]
    return Chance(group["probability"], (low, high), group.get("each", 1.0))
