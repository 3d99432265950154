"""How training would scale past the machines at hand: closed formulas over what was measured on one device.

    python -m benchmarks.scaling

fills the tables of docs/scaling_model.md, which states the assumptions. Bandwidths are the makers', step times and
memory those of docs/performance.md; nothing here was measured on more than one accelerator.
"""

import argparse
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from flax import nnx

from benchmarks import less_memory, results
from unet_jax import models
from unet_jax.models.functional import split_model

PAGE = Path(__file__).parent.parent / "docs" / "scaling_model.md"
FLOAT32, BFLOAT16 = 4, 2
DEVICES = (8, 64, 512)


@dataclasses.dataclass(frozen=True)
class Link:
    """What joins devices.

    Attributes:
        name: for the table.
        bandwidth: bytes a second that a device sends, all its links together, while it receives as many.
        neighbour: bytes a second that it sends to one neighbour.
        latency: seconds from one device to the next, an assumption.
        hosts: of how many devices a host has where it is the link between hosts, and the link within one; or None.
    """

    name: str
    bandwidth: float
    neighbour: float
    latency: float
    hosts: "tuple[int, Link] | None" = None


NVLINK = Link("NVLink", 450e9, 450e9, 3e-6)
INFINIBAND = Link("InfiniBand", 50e9, 50e9, 10e-6)
CLUSTER = Link("NVLink in hosts of 8, InfiniBand", 50e9, 50e9, 10e-6, (8, NVLINK))
ICI_V5P = Link("ICI, v5p", 600e9, 100e9, 2e-6)
ICI_V4 = Link("ICI, v4", 300e9, 50e9, 2e-6)
LINKS = (CLUSTER, INFINIBAND, ICI_V5P, ICI_V4)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A training step on one NVIDIA H200 in bfloat16, as docs/performance.md has it.

    Attributes:
        name: for the table.
        model: the network's name and options.
        shape: of what the network sees, an axis.
        batch: samples a step.
        seconds: a step.
        gflop: its convolutions and products.
        gigabytes: that XLA planned for it.
    """

    name: str
    model: dict
    shape: tuple[int, ...]
    batch: int
    seconds: float
    gflop: float
    gigabytes: float

    @functools.cached_property
    def parameters(self) -> int:
        """Of the network."""
        model = nnx.eval_shape(lambda: _build(self.model))
        return sum(leaf.size for leaf in jax.tree.leaves(split_model(model)[1]))


def _nnunet(*features: int) -> dict:
    return {"name": "nnunet", "rank": 3, "features": features, "deep_supervision": True, "dtype": "bfloat16"}


def _build(options: dict) -> nnx.Module:
    channels, classes = (1, 3) if options["name"] == "nnunet" else (3, 1)
    return models.build(in_channels=channels, num_classes=classes, rngs=nnx.Rngs(0), **options)


SLICES = Recipe(
    "2-D, width 64, 256², batch 32", {"name": "tutorial", "dtype": "bfloat16"}, (256, 256), 32, 17.2e-3, 6045.4, 3.11
)
SMALL = Recipe(
    "3-D, hippocampus' plan, 40×56×40, batch 7", _nnunet(32, 64, 128, 256), (40, 56, 40), 7, 6.1e-3, 803.0, 0.68
)
LARGE = Recipe("3-D, 128³, batch 2", _nnunet(32, 64, 128, 256, 320, 320), (128, 128, 128), 2, 28.3e-3, 5721.1, 4.29)
RECIPES = (SLICES, SMALL, LARGE)

# Measured as well: images/s that two cores make ready, bytes of a slice and its mask, and training slices.
IMAGES_PER_SECOND, SLICE_BYTES, TRAINING_SLICES = 21_313, 256 * 256 * 4, 2_110
# Of an H200: the fastest measured matrix product, FLOP/s, and the published memory bandwidth.
PRODUCTS, MEMORY_BANDWIDTH = 651.471e12, 4.8e12


def all_reduce_seconds(size: float, devices: int, link: Link) -> float:
    """Of `size` bytes that every device has a summand of: a ring sends 2 (n - 1) / n of them from each device.

    Latencies are those of trees, 2 log₂ n. Hosts first sum within, each device a share, and then share by share.
    """
    if devices == 1:
        return 0.0
    if link.hosts is not None:
        many, within = link.hosts
        inside = min(many, devices)
        between = dataclasses.replace(link, hosts=None)
        return all_reduce_seconds(size, inside, within) + all_reduce_seconds(size / inside, devices // inside, between)
    return 2 * (devices - 1) / devices * size / link.bandwidth + 2 * math.log2(devices) * link.latency


def weak_scaling(recipe: Recipe, devices: int, link: Link) -> float:
    """One device's step over that of many with as much work each, if gradients are sent only once all are there."""
    return recipe.seconds / (recipe.seconds + all_reduce_seconds(FLOAT32 * recipe.parameters, devices, link))


def planes(
    features: Sequence[int], shape: Sequence[int], batch: int, *, channels: int = 1, blocks: int = 2
) -> Iterator[tuple[int, int]]:
    """(how often, values) of the planes that a device sends in a step of nnU-Net's plain network cut along an axis.

    Convolutions are 3×3×3 and halve the size from stage to stage. One of stride 1 sends two planes of its input, two of
    its output's gradient for its input's, and two of its input again for its kernel's; one of stride 2 needs the
    neighbour on one side only. The network's input has no gradient. Transposed and 1×1×1 convolutions send
    nothing.

    Args:
        features: channels of each stage.
        shape: of what the network sees; the first axis is the one that is cut.
        batch: samples that the devices share.
        channels: of the image.
        blocks: convolutions of a stage, on the way down and on the way up.
    """
    for stage, here in enumerate(features):
        pixels = batch * math.prod(n // 2**stage for n in shape[1:])
        if stage == 0:
            yield 4, pixels * channels
        else:
            yield 2, 4 * pixels * features[stage - 1]
            yield 1, pixels * here
        yield 6 * (blocks - 1), pixels * here
        if stage < len(features) - 1:
            yield 4, pixels * 2 * here
            yield 2 + 6 * (blocks - 1), pixels * here


def exchange_seconds(recipe: Recipe, slabs: int, link: Link) -> float:
    """What slabs of `recipe.shape` each exchange in a step: planes, and the sums of normalisations and losses.

    One after the other, and none while something is computed.
    """
    features = recipe.model["features"]
    sent = list(planes(features, recipe.shape, recipe.batch))
    size = BFLOAT16 * sum(count * values for count, values in sent)
    link = link.hosts[1] if link.hosts else link
    # Half of it to each neighbour, at once.
    moving = max(size / link.bandwidth, size / 2 / link.neighbour)
    normalisations = 2 * (2 * len(features) - 1)
    sums = (2 * normalisations + 2) * all_reduce_seconds(0, slabs, link)
    return moving + sum(count for count, _ in sent) * link.latency + sums


def slab_scaling(recipe: Recipe, slabs: int, devices: int, link: Link) -> float:
    """One device's step on `recipe.shape` over that of many, in groups of `slabs` that have as much each."""
    gradients = all_reduce_seconds(FLOAT32 * recipe.parameters, devices, link)
    return recipe.seconds / (recipe.seconds + exchange_seconds(recipe, slabs, link) + gradients)


def planned_bytes(recipe: Recipe) -> int:
    """Of a step of nnU-Net's plain network: what its gradient needs, in bfloat16, and the state in float32.

    Each convolution's output and the normalised one, each concatenation, and the gradient of the largest of these;
    parameters, momentum and gradient.
    """
    outputs, joined = _feature_values(recipe)
    return BFLOAT16 * (2 * sum(outputs) + sum(joined) + joined[0]) + 3 * FLOAT32 * recipe.parameters


def _feature_values(recipe: Recipe) -> tuple[list[int], list[int]]:
    """Values of all convolutions' outputs, and of the concatenation, of each stage; the coarsest has none of these."""
    features = recipe.model["features"]
    maps = [recipe.batch * math.prod(n // 2**stage for n in recipe.shape) * c for stage, c in enumerate(features)]
    return [4 * values for values in maps[:-1]] + [2 * maps[-1]], [2 * values for values in maps[:-1]]


def roofline_seconds(recipe: Recipe) -> float:
    """Operations at the rate of matrix products, then the passes of nnU-Net's features over memory.

    A convolution's output and its normalisation pass 14 times: forwards the convolution reads and writes, statistics
    read, the normalisation reads and writes; backwards its gradient reads features and gradient twice and writes, and
    the convolution's two gradients read and write four times.
    """
    passes = 14 * BFLOAT16 * sum(_feature_values(recipe)[0]) / MEMORY_BANDWIDTH
    return recipe.gflop * 1e9 / PRODUCTS + passes


def predictions() -> str:
    """Markdown: what one device should take by formulas, and what it took."""
    rate = SLICES.gflop / SLICES.seconds
    columns = (
        "step on one H200",
        "measured, ms",
        "by the 2-D step's rate",
        "by products and passes",
        "planned, GB",
        "by formula",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for recipe in (SMALL, LARGE):
        times = recipe.gflop / rate, roofline_seconds(recipe)
        cells = [f"{1e3 * each:.1f} ms, {each / recipe.seconds - 1:+.0%}" for each in times]
        predicted = planned_bytes(recipe) / 1e9
        memory = f"{predicted:.2f} GB, {predicted / recipe.gigabytes - 1:+.0%}"
        lines.append(
            f"| {recipe.name} | {1e3 * recipe.seconds:.1f} | {cells[0]} | {cells[1]} | {recipe.gigabytes} | {memory} |"
        )
    return "\n".join(lines)


def data_parallel() -> str:
    """Markdown: weak scaling of each recipe, a column for each number of devices."""
    lines = [_head("recipe", "parameters", "link")]
    for recipe, link in itertools.product(RECIPES, LINKS):
        cells = [_cell(weak_scaling(recipe, n, link), recipe.seconds) for n in DEVICES]
        lines.append(f"| {recipe.name} | {recipe.parameters:,} | {link.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def slabs() -> str:
    """Markdown: weak scaling of volumes eight times as deep, each over a group of eight devices."""
    group = 8
    lines = [_head("a slab", "MB sent a step", "link")]
    for recipe, link in itertools.product((SMALL, LARGE), LINKS):
        sent = BFLOAT16 * sum(
            count * values for count, values in planes(recipe.model["features"], recipe.shape, recipe.batch)
        )
        cells = [_cell(slab_scaling(recipe, group, n, link), recipe.seconds) for n in DEVICES]
        lines.append(f"| {recipe.name} | {sent / 1e6:.0f} | {link.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def input_pipeline() -> str:
    """Markdown: what a host of eight devices needs of its data, and how many steps an epoch has."""
    each = SLICES.batch / SLICES.seconds
    lines = [
        "| devices | images/s a host | of what two cores were measured to give | GB/s copied | steps an epoch |",
        "|---" * 5 + "|",
    ]
    for devices in DEVICES:
        needed = each * min(devices, 8)
        share, copied = needed / IMAGES_PER_SECOND, needed * SLICE_BYTES / 1e9
        epoch = TRAINING_SLICES / (SLICES.batch * devices)
        lines.append(f"| {devices} | {needed:,.0f} | {share:.0%} | {copied:.1f} | {epoch:.2g} |")
    return "\n".join(lines)


def _head(*names: str) -> str:
    columns = [*names, *(f"{n} devices" for n in DEVICES)]
    return f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|"


def _cell(efficiency: float, seconds: float) -> str:
    return f"{efficiency:.1%} ({1e3 * seconds / efficiency:.1f} ms)"


SECTIONS = {
    "predictions": predictions,
    "data_parallel": data_parallel,
    "slabs": slabs,
    "input_pipeline": input_pipeline,
}


def fill(page: str) -> str:
    """The page with every table made anew; that of memory where it was measured."""
    for name, write in SECTIONS.items():
        page = results.fill_section(page, name, write())
    measured = results.read(less_memory.NAME)
    return page if measured is None else results.fill_section(page, less_memory.NAME, less_memory.table(measured))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(fill(PAGE.read_text()))
