"""What a training step is made of, besides the network's structure and the optimiser."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from unet_jax.data import regions
from unet_jax.data.regions import Classes, Members
from unet_jax.losses import for_overlap
from unet_jax.plan.plans import Configuration
from unet_jax.runtime.mesh import by_slab
from unet_jax.training import parts
from unet_jax.training.patch_augment.settings import AugmentSettings


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What a training step is made of, besides the network's structure and the optimiser.

    Attributes:
        image_size: rows and columns of the network's input, in pixels; None for patches, which are as they should be.
        loss: weight of each loss: see `losses.deep_supervision_loss`.
        augment: see `augment.augment`; not for patches.
        stacked: of how many slices an image has the channels.
        seed: what is random in step n is a function of (seed, n) alone.
        classes: how many there are, background aside.
        members: of classes that overlap, the numbers of each in the masks; empty for others, which have the numbers
            from 1.
        ignores: whether masks also hold pixels that are left out: `labels.IGNORED`, and in patches the number after
            all others.
        skip_nonfinite: a step that meets NaN or infinity changes nothing but the number of steps and `watch`. Without
            it, the state that such a step returns is undefined.
        spike_factor: a gradient norm above so many times the running mean counts as a spike.
        ema_decay: of the moving average of the weights; None for none. The state needs one then: see `init_state`.
        patches: how patches are augmented, which are cut larger than the network sees them; None for slices and slabs.
        rank: axes of what the network sees.
        frozen: the parts that a step leaves as they are, statistics included: see `parts`.
        accumulate: into how many parts, one after the other, a batch is divided for the gradient: see `accumulate`.
        mesh: whose devices share a batch; None where there is one.
    """

    image_size: int | None
    loss: Mapping[str, Any]
    augment: Mapping[str, Any]
    seed: int
    classes: int = 1
    stacked: int = 1
    skip_nonfinite: bool = False
    spike_factor: float = 10.0
    ema_decay: float | None = None
    patches: AugmentSettings | None = None
    rank: int = 2
    ignores: bool = False
    frozen: tuple[str, ...] = ()
    members: Members = ()
    accumulate: int = 1
    mesh: Mesh | None = None

    @classmethod
    def of(
        cls,
        config: ConfigDict,
        classes: Classes,
        configuration: Configuration | None = None,
        *,
        ignores: bool = False,
        mesh: Mesh | None = None,
    ) -> "StepSettings":
        """The config's; for patches, with the plan's configuration that is trained. `mesh` is that of its state."""
        previous = range(1, regions.count_numbers(classes) + 1) if config.plan.previous else ()
        loss, overlap = config.loss.to_dict(), regions.overlap(classes)
        return cls(
            image_size=config.data.image_size if config.data.patch is None else None,
            loss=for_overlap(loss, len(classes), ignored=ignores) if overlap else loss,
            augment=config.augment.to_dict(),
            seed=config.seed,
            classes=regions.count(classes),
            stacked=1 + 2 * config.data.neighbours,
            members=regions.members(classes) if overlap else (),
            skip_nonfinite=config.train.nonfinite == "skip",
            spike_factor=config.train.spike_factor,
            ema_decay=config.optim.ema_decay,
            patches=configuration and AugmentSettings.of(configuration, config.augment_patches.to_dict(), previous),
            rank=config.model.get("rank", 2),
            ignores=ignores,
            frozen=parts.names(config.train.freeze),
            accumulate=config.train.accumulate,
            mesh=mesh,
        )

    @property
    def slabs(self) -> NamedSharding | None:
        """How samples lie on devices that share them; None where each has whole ones. See `mesh.by_slab`."""
        return None if self.mesh is None else by_slab(self.mesh)

    @property
    def numbers(self) -> int:
        """How many the masks hold, without background and what is ignored."""
        return max((max(its) for its in self.members), default=self.classes)
