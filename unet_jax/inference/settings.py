"""How a run's cases are segmented: what travels from a config through prediction, scoring and validation."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from unet_jax.data import regions
from unet_jax.data.regions import Classes
from unet_jax.plan import run_plan
from unet_jax.plan.run_plan import RunPlan
from unet_jax.run import folder as run_folder
from unet_jax.runtime import exchange
from unet_jax.runtime.mesh import by_batch


@dataclasses.dataclass(frozen=True)
class SegmentSettings:
    """How cases become masks.

    Attributes:
        batch_size: windows at a time; the last batch is filled up with zeros, so that there is one program a size. Of
            several processes, which segment cases of their own, each takes its part of the config's.
        threshold: a pixel is of the only class from this probability on; of several, it is of the likeliest.
        painted: the number that is painted for each of several classes that overlap, in order; None for others.
        sharding: how a batch lies on the devices.
        slab: slices of a slab; None for a 2-D network, which sees single slices.
        tile: what has more rows or columns than this is cut into windows of that size; None segments whole slices.
        neighbours: slices on either side that go into a slice's channels; 0 for single slices, and for slabs.
        flips: see `network.with_flips`.
        postprocess: see `postprocess.stages`.
        mirror_axes: of a patch, from 0, over whose flips logits are averaged.
        plan: of a run on patches, whose cases are preprocessed and segmented whole; None for slices and slabs.
        image_size: pixels a side of what the network sees, for the padding of other sizes: see `buckets.padded`.
    """

    batch_size: int
    threshold: float
    sharding: jax.sharding.Sharding
    slab: int | None = None
    tile: int | None = None
    neighbours: int = 0
    flips: tuple[str, ...] = ()
    postprocess: Mapping[str, int | bool] = dataclasses.field(default_factory=dict)
    mirror_axes: tuple[int, ...] = ()
    plan: RunPlan | None = None
    painted: tuple[int, ...] | None = None
    image_size: int | None = None

    @classmethod
    def of_run(cls, workdir: Path, config: ConfigDict, mesh: Mesh) -> "SegmentSettings":
        """Those of the run in a folder, given its config.

        Raises:
            InputError: its plan is missing or damaged.
        """
        channels, classes = run_folder.read_channels(workdir), run_folder.read_classes(workdir)
        return cls.of(config, mesh, run_plan.read(workdir, config, channels or 0, classes), classes)

    @classmethod
    def of(
        cls, config: ConfigDict, mesh: Mesh, plan: RunPlan | None = None, classes: Classes = ()
    ) -> "SegmentSettings":
        """The config's; `plan` is as above, and `classes` are empty for one.

        A batch is training's, or a larger one that the devices share evenly.
        """
        shares = mesh.shape["data"]
        return cls(
            batch_size=-(-max(config.train.batch_size // exchange.count(), 1) // shares) * shares,
            threshold=config.eval.threshold,
            sharding=by_batch(mesh),
            slab=config.data.slab,
            tile=config.data.image_size if config.eval.tiles else None,
            neighbours=config.data.neighbours,
            flips=flips_of(config),
            postprocess=config.eval.postprocess.to_dict(),
            mirror_axes=() if plan is None else mirror_axes_of(config, plan.configuration.axes),
            plan=plan,
            painted=regions.painted(classes),
            image_size=config.data.image_size if plan is None else None,
        )


def keeps_scale(workdir: Path, config: ConfigDict, channels: int) -> tuple[bool, ...]:
    """Whether each channel of a run's images reaches the network on the files' own scale.

    That depends on config.data.intensity for slices and slabs, see `Scale`; of patches, z-scores and what is rescaled
    by each case's own range do not.

    Raises:
        InputError: the run's plan is missing or damaged.
    """
    plan = run_plan.read(workdir, config, channels, ())
    if plan is None:
        return (True,) * channels
    return tuple(scheme in ("ct", "none", "rgb") for scheme in plan.configuration.normalisation)


def flips_of(config: ConfigDict) -> tuple[str, ...]:
    """What `network.with_flips` averages over: if the config wants any, the flips that training has.

    A network that never saw heads upside down is wrong about them.
    """
    return tuple(axis for axis in ("rows", "columns") if config.eval.tta and config.augment[f"flip_{axis}"] > 0)


def mirror_axes_of(config: ConfigDict, axes: int) -> tuple[int, ...]:
    """The axes of a patch, from 0, that prediction averages over, if the config wants any.

    They are those that it names, else those that training mirrors.
    """
    if not config.eval.tta:
        return ()
    if config.eval.mirror_axes is not None:
        return tuple(config.eval.mirror_axes)
    mirror = config.augment_patches.mirror
    if mirror.probability == 0:
        return ()
    return tuple(range(axes)) if mirror.axes is None else tuple(mirror.axes)
