"""Two people who drew the same cases: how far they agree, and a network with each of them.

A network that was trained on what one of them drew can be no better judge than people are of each other.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from unet_jax.data import labels, load, regions
from unet_jax.data.case import Case
from unet_jax.data.formats import sources
from unet_jax.data.load import DataSet
from unet_jax.data.reader import read_of
from unet_jax.errors import InputError
from unet_jax.inference import postprocess
from unet_jax.metrics import overlap, statistics
from unet_jax.metrics.cases import BETWEEN_OBSERVERS, CLASSES, WITH_SECOND, Row
from unet_jax.report import packed_masks
from unet_jax.report.packed_masks import PackedMask

KEY = "config.eval.second_masks"
# A case's mask as the second observer drew it, read when it is asked for; None where they did not draw it.
Second = Callable[[Case], UInt8[np.ndarray, "d h w"] | None]


def compared(rows: Iterable[Row], data: DataSet, masks: Mapping[int, PackedMask], config: ConfigDict) -> list[Row]:
    """The rows with Dice of the predicted masks, and of the first observer's, against the second's.

    Args:
        rows: of the cases, of the final masks.
        data: with the cases, whose masks are the first observer's.
        masks: as predicted, before post-processing, by the position of their case.
        config: the run's.

    Raises:
        InputError: `config.eval.second_masks` fits no file, or a mask of it cannot be read or has another size.
    """
    second, settings = second_observer(config), config.eval.postprocess.to_dict()
    positions = {case.name: position for position, case in enumerate(data.cases)}
    members = regions.members(data.classes)

    def with_second(row: Row) -> Row:
        position = positions[row["case"]]
        case, packed = data.cases[position], masks[position]
        theirs = second(case)
        if theirs is None:
            return _noted(row, [(None, None)] * len(members))
        first, theirs = np.asarray(case.mask)[packed.numbers], theirs[packed.numbers]
        predicted = postprocess.apply(packed_masks.unpack(packed), settings, data.classes)
        truth = labels.without_ignored(labels.where_labelled(theirs, first))
        network, people = (
            _dice(labels.where_labelled(mask, first), truth, members)
            for mask in (predicted, labels.without_ignored(first))
        )
        return _noted(row, list(zip(network, people, strict=True)))

    return [with_second(row) for row in rows]


def second_observer(config: ConfigDict) -> Second:
    """Finds the files of `config.eval.second_masks`, which are read as those of `config.data.masks` are.

    Raises:
        InputError: the data are not described by patterns, or no file fits.
    """
    pattern, root = config.eval.second_masks, Path(config.data.root)
    if not (config.data.images and config.data.masks):
        raise InputError(
            f"{KEY} is set, and files are not told apart by patterns: set config.data.images and config.data.masks "
            "as well, or leave it None."
        )
    try:
        # Of the images, which are read with the masks, nothing is needed: not even another scale.
        settings = dataclasses.replace(load.reader_settings(config), masks=pattern, intensity="range")
        reader = sources.reader(root, config.data.source, settings)
        drawn = {files.name: files for files in reader.find(root) if files.masks}
    except InputError as error:
        raise InputError(f"{KEY}={pattern!r}, in the place of config.data.masks: {error}") from error
    if not drawn:
        raise InputError(f"{KEY}={pattern!r}: no case of {root} has such a file: mend the pattern, or leave it None.")

    def read(case: Case) -> UInt8[np.ndarray, "d h w"] | None:
        if case.name not in drawn:
            return None
        mask = reader.decode(drawn[case.name], lambda path: read_of(reader)(root, path)).mask
        if mask.shape != case.mask.shape:
            sizes = ("×".join(map(str, one.shape)) for one in (mask, case.mask))
            raise InputError(f"{KEY}: of {case.name} it has {' and config.data.masks '.join(sizes)} voxels.")
        return mask

    return read


def _dice(
    one: UInt8[np.ndarray, "s h w"], other: UInt8[np.ndarray, "s h w"], members: regions.Members
) -> list[float | None]:
    """Of each class."""
    return [overlap.dice(of_class) for of_class in overlap.count_classes(one, other, members).sum(0)]


def _noted(row: Row, by_class: list[tuple[float | None, float | None]]) -> Row:
    columns = [dict(zip((WITH_SECOND, BETWEEN_OBSERVERS), scores, strict=True)) for scores in by_class]
    if CLASSES not in row:
        return row | columns[0]
    classes = {name: of | its for (name, of), its in zip(row[CLASSES].items(), columns, strict=True)}
    means = {name: statistics.mean_of_defined(one[name] for one in columns) for name in columns[0]}
    return row | means | {CLASSES: classes}
