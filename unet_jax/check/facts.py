"""The table of a data set: what it holds, how it is split, and what an epoch takes."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from unet_jax.check.survey import Surveyed
from unet_jax.data import regions, splits
from unet_jax.data.load import DataSet
from unet_jax.data.names import shown
from unet_jax.data.splits import SIDES, Split
from unet_jax.wording import count

# A line of the table: its name and what stands there.
Fact = tuple[str, str]
# Channels that have a line of their own.
MOST_CHANNELS = 12


def of_data(config: ConfigDict, data: DataSet, cases: Sequence[Surveyed]) -> list[Fact]:
    """Cases, channels, sizes, spacings, intensities and classes."""
    slices = sum(case.shape[0] for case in cases)
    patients = len({case.patient for case in cases})
    whose = f" of {count(patients, 'patient')}" if data.unit == "patient" else ""
    return [
        ("data", f"{config.data.root}, read as {config.data.source}"),
        ("cases", f"{count(len(cases), 'case')}{whose}, {count(slices, 'slice')}"),
        ("channels", f"{data.channels}: {', '.join(map(shown, data.channel_names))}"),
        ("size", _sizes(cases)),
        ("spacing", _spacings(cases)),
        *_axes(config, cases),
        *_intensities(data, cases),
        *_classes(data, cases),
    ]


def of_split(split: Split, data: DataSet, cases: Sequence[Surveyed]) -> list[Fact]:
    """Each side's share: what is split, slices, marked voxels, and who has none."""
    shares = {case.name: case for case in cases}
    lines = []
    for side in SIDES:
        groups = getattr(split, side)
        index = splits.slices_of(split, data.cases, side)
        of_side = [shares[data.cases[position].name] for position in np.unique(index[:, 0]).tolist()]
        what = "case" if split.split_by == "slice" else split.unit
        text = f"{count(len(groups), what)}, {count(len(index), 'slice')}"
        if split.split_by != "slice":
            total = sum(math.prod(case.shape) for case in of_side)
            text += f", {1 - sum(case.voxels[0] for case in of_side) / total:.3%} of the voxels marked"
            empty = sum(not case.is_marked for case in of_side)
            text += f", {count(empty, 'case')} with nothing marked" if empty else ""
        lines.append((side, text))
    return [("split", split.label), *lines]


def of_epoch(config: ConfigDict, data: DataSet, cases: Sequence[Surveyed], steps: int) -> list[Fact]:
    """Steps, and the memory of what is known without compiling anything.

    Args:
        config: with the batch and patch sizes of its plan, if any.
        data: the data set.
        cases: of the data set.
        steps: of an epoch.
    """
    size = tuple(config.data.patch or ())
    what = "patch"
    if not size:
        size = (
            (config.data.image_size,) * 2
            if config.data.slab is None
            else (config.data.slab, *(config.data.image_size,) * 2)
        )
        what = "slice" if config.data.slab is None else "slab"
    channels = data.channels * (1 + 2 * config.data.neighbours)
    # The mask of a patch is one number a voxel, that of a slice or slab one for each class.
    of_mask = 1 if config.data.patch else regions.count(data.classes)
    batch = config.train.batch_size * math.prod(size) * (channels + of_mask) * 4
    prepared = f" and about {_bytes(_prepared(config, data, cases))} of preprocessed ones" if config.data.patch else ""
    batch_text = f"{config.train.batch_size} {what}{'es' if what == 'patch' else 's'} of {'x'.join(map(str, size))}"
    return [
        ("epoch", f"{count(steps, 'step')} of {batch_text}; at most {count(config.train.epochs, 'epoch')}"),
        (
            "memory",
            f"{_bytes(sum(case.nbytes for case in cases))} of decoded cases{prepared} in memory maps on disk; a batch "
            f"of images and masks is {_bytes(batch)} as float32; the network's own is not estimated",
        ),
        ("time", "not estimated: --mode=benchmark measures a step"),
    ]


def _prepared(config: ConfigDict, data: DataSet, cases: Sequence[Surveyed]) -> float:
    """Bytes of cases that are resampled to the patches' spacing: float32 of each channel, and a byte of mask."""
    target, voxels = tuple(config.data.spacing or ()), 0.0
    for case in cases:
        # Of patches of slices, these keep their distance.
        present = (case.spacing or (1.0, 1.0, 1.0))[3 - len(target) :]
        voxels += math.prod(case.shape) * math.prod(present) / math.prod(target)
    return voxels * (4 * data.channels + 1)


def as_text(facts: Sequence[Fact]) -> str:
    """The table for a terminal."""
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"  {name:{width}}  {text}" for name, text in facts)


def _sizes(cases: Sequence[Surveyed]) -> str:
    depths, rows, columns = ((min(of), max(of)) for of in zip(*(case.shape for case in cases), strict=True))
    sizes = {case.shape[1:] for case in cases}
    text = f"{_span(rows)} rows, {_span(columns)} columns"
    text += f" ({len(sizes):,} sizes)" if len(sizes) > 1 else ""
    return text if depths == (1, 1) else f"{_span(depths)} slices, {text}"


def _span(ends: tuple[float, float] | tuple[int, int]) -> str:
    return f"{ends[0]:g}" if ends[0] == ends[1] else f"{ends[0]:g} to {ends[1]:g}"


def _spacings(cases: Sequence[Surveyed]) -> str:
    known = [case.spacing for case in cases if case.spacing is not None]
    if not known:
        return "unknown: the files do not say"
    spans = ((float(f"{min(of):.4g}"), float(f"{max(of):.4g}")) for of in zip(*known, strict=True))
    unknown = len(cases) - len(known)
    return f"{' x '.join(map(_span, spans))} mm" + (f"; unknown of {count(unknown, 'case')}" if unknown else "")


def _axes(config: ConfigDict, cases: Sequence[Surveyed]) -> list[Fact]:
    """How volumes' files lie in the body, and what becomes of that."""
    counts = Counter(case.axes.letters for case in cases if case.axes is not None)
    if not counts:
        return []
    listed = ", ".join(f"{letters} in {count(number, 'case')}" for letters, number in counts.most_common())
    how = "as they are" if config.data.axes == "file" else "all turned alike by their affines"
    return [("axes", f"{listed}; {how} (config.data.axes={config.data.axes})")]


def _intensities(data: DataSet, cases: Sequence[Surveyed]) -> list[Fact]:
    """As the network is given them, each in the type of its case."""
    types = sorted({case.measured.type for case in cases})
    factor = 255 if types == ["uint8"] else 1
    lines = []
    for number, name in enumerate(data.channel_names[:MOST_CHANNELS]):
        alike = [case for case in cases if len(case.ends) == len(data.channel_names)]
        lows, highs = zip(*(case.ends[number] for case in alike), strict=True)
        medians = [case.measured.percentiles[number][1] * factor for case in alike]
        lines.append(
            (
                "intensities",
                f"{shown(name)}: {_rounded(min(lows))} to {_rounded(max(highs))}, the cases' medians "
                f"{_rounded(min(medians))} to {_rounded(max(medians))} ({', '.join(types)}, as decoded)",
            )
        )
    return lines


def _rounded(value: float) -> str:
    return f"{value:.4g}"


def _classes(data: DataSet, cases: Sequence[Surveyed]) -> list[Fact]:
    total = sum(math.prod(case.shape) for case in cases)
    lines = []
    for number, name in enumerate(data.classes or ("marked",), 1):
        lacking = sum(not case.voxels[number] for case in cases)
        there = f"{count(lacking, 'case')} without" if lacking else "in every case"
        share = sum(case.voxels[number] for case in cases) / total
        lines.append(("class" if data.classes else "mask", f"{shown(name)}: {share:.3%} of the voxels, {there}"))
    if ignored := sum(case.ignored for case in cases):
        lines.append(("ignored", f"{ignored / (total + ignored):.3%} of all voxels, which do not count above"))
    return lines


def _bytes(number: int) -> str:
    power = min(len(f"{number:.0f}") - 1, 12) // 3
    return f"{number / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
