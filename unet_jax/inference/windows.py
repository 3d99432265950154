"""Which parts of a case the network sees one by one, and how its answers are put together."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int, UInt8
from tqdm import tqdm

from unet_jax.data import regions
from unet_jax.data.case import Case
from unet_jax.data.slices import slab_start, with_neighbours
from unet_jax.inference.settings import SegmentSettings
from unet_jax.plan.prepared import PreparedCase
from unet_jax.plan.preprocess import Preprocessed

# Seconds of a case before it gets a progress bar.
DELAY_S = 5


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Slices of a case that are to be segmented.

    Attributes:
        position: a number that tells the case from others.
        case: with or without a mask.
        slices: which, in order.
        prepared: the case as its plan preprocesses it, where that was done already; the second network of a cascade
            needs it, with the first one's mask as more channels.
    """

    position: int
    case: Case
    slices: Int[np.ndarray, " s"]
    prepared: PreparedCase | Preprocessed | None = None


@dataclasses.dataclass(frozen=True)
class Segmented:
    """A case with what was found in it.

    Attributes:
        wanted: the case and its slices.
        mask: 0 and 1, or the numbers of several classes.
        probability: of the class, or of background and each of several, or of each of several that overlap, where it
            was asked for.
    """

    wanted: Wanted
    mask: UInt8[np.ndarray, "s h w"]
    probability: Float32[np.ndarray, "s h w"] | Float32[np.ndarray, "s h w k"] | None


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a case; a slab may reach beyond the last slice.

    Attributes:
        slices: one, or those of a slab.
        rows: that it covers.
        columns: that it covers.
    """

    slices: range
    rows: slice
    columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Assembly:
    """A case of which some windows are still to come.

    A pixel's probability is the mean over the windows that it lies in, weighted by a Gaussian around each window's
    middle (nnU-Net: Isensee et al. 2021, supplementary note 4). A slice is finished, and its sums are dropped, as soon
    as its last window is there.

    Attributes:
        wanted: what is to be segmented.
        windows: that cover it.
        channels: of what the network sees of a window.
    """

    def __init__(self, wanted: Wanted, settings: SegmentSettings, *, keep: bool = False):
        """Lays out the windows.

        Args:
            wanted: at least one slice of a case.
            settings: slab, tile, neighbours, threshold and painted are used.
            keep: whether the result has probabilities.
        """
        slab, tile = settings.slab, settings.tile
        depth, height, width, channels = wanted.case.image.shape
        if slab is None:
            spans = [range(number, number + 1) for number in wanted.slices.tolist()]
        else:
            slabs = [range(start, start + slab) for start in _slab_starts(depth, slab)]
            spans = [span for span in slabs if not set(span).isdisjoint(wanted.slices.tolist())]
        places = list(itertools.product(_spans(height, tile), _spans(width, tile)))
        self.wanted = wanted
        self.channels = channels * (1 + 2 * settings.neighbours)
        self.windows = [Window(span, rows, columns) for span in spans for rows, columns in places]
        self._neighbours = settings.neighbours
        self._threshold = settings.threshold
        self._painted = settings.painted
        self._row_of = {number: row for row, number in enumerate(wanted.slices.tolist())}
        self._missing = Counter(number for window in self.windows for number in window.slices)
        self._waiting = len(self.windows)
        self._bar = tqdm(total=len(self.windows), unit="window", delay=DELAY_S, disable=None, leave=False)
        self._keep = keep
        self._sums: dict[int, list[Float32[np.ndarray, "h w *k"]]] = {}
        self._mask = np.zeros((len(wanted.slices), height, width), np.uint8)
        self._probability: Float32[np.ndarray, "s h w *k"] | None = None
        self._profiles = (
            _profile(slab or 1, slab is not None),
            _profile(min(height, tile or height), tile is not None and height > tile),
            _profile(min(width, tile or width), tile is not None and width > tile),
        )

    def cut(self, window: Window) -> np.ndarray:
        """The window's pixels, [rows, columns, channels]; of a slab, as far as it goes, with slices before them."""
        image = np.asarray(self.wanted.case.image)
        if self._neighbours:
            return with_neighbours(image[:, window.rows, window.columns], window.slices.start, self._neighbours)
        part = image[window.slices.start : window.slices.stop, window.rows, window.columns]
        return part[0] if len(window.slices) == 1 and self._profiles[0] is None else part

    def add(self, window: Window, found: Float32[np.ndarray, "*window"]) -> Segmented | None:
        """Takes the network's answer to a window, with the classes last if there are several.

        The last one completes the case.
        """
        along, down, across = self._profiles
        axes = 2 if along is None else 3
        plane = np.ones(found.shape[axes - 2 : axes], np.float32)
        plane = plane if down is None else plane * down[:, None]
        plane = plane if across is None else plane * across
        plane = plane if found.ndim == axes else plane[..., None]
        answers = found[None] if along is None else found
        for place, number in enumerate(window.slices):
            if number in self._row_of:
                weights = plane if along is None else plane * along[place]
                self._add_to_slice(number, window, weights, answers[place])
        self._waiting -= 1
        self._bar.update()
        if not self._waiting:
            self._bar.close()
        return None if self._waiting else Segmented(self.wanted, self._mask, self._probability)

    def _add_to_slice(self, number: int, window: Window, weights: np.ndarray, found: np.ndarray) -> None:
        self._missing[number] -= 1
        if not self._missing[number] and number not in self._sums:  # a single window is the whole slice
            self._finish(number, found)
            return
        if number not in self._sums:
            size = self._mask.shape[1:]
            self._sums[number] = [np.zeros((*size, *part.shape[2:]), np.float32) for part in (found, weights)]
        total, weight = (of_slice[window.rows, window.columns] for of_slice in self._sums[number])
        total += weights * found
        weight += weights
        if not self._missing[number]:
            total, weight = self._sums.pop(number)
            self._finish(number, total / weight)

    def _finish(self, number: int, probability: Float32[np.ndarray, "h w *k"]) -> None:
        row = self._row_of[number]
        if self._painted is not None:
            self._mask[row] = regions.paint(probability, self._painted)
        else:
            self._mask[row] = probability >= self._threshold if probability.ndim == 2 else probability.argmax(-1)
        if self._keep:
            if self._probability is None:
                self._probability = np.zeros((len(self._mask), *probability.shape), np.float32)
            self._probability[row] = probability


def _slab_starts(depth: int, slab: int) -> Iterator[int]:
    """First slices of slabs that cover a case, each half a slab on from the one before."""
    starts = [*range(0, max(depth - slab, 0), max(slab // 2, 1)), max(depth - slab, 0)]
    return (slab_start(start + slab // 2, depth, slab) for start in starts)


def _spans(length: int, tile: int | None) -> list[slice]:
    """Spans of `tile` pixels that cover an axis, spread evenly, at most half a tile apart; or the axis as it is."""
    if tile is None or length <= tile:
        return [slice(0, length)]
    count = -(-(length - tile) // max(tile // 2, 1)) + 1
    return [slice(start, start + tile) for start in np.rint(np.linspace(0, length - tile, count)).astype(int).tolist()]


def _profile(length: int, overlapping: bool) -> Float32[np.ndarray, " n"] | None:
    """Weights along an axis of a window, a Gaussian whose width is nnU-Net's, an eighth of the window; or None."""
    if not overlapping:
        return None
    gauss = np.exp(-0.5 * ((np.arange(length) - (length - 1) / 2) / (length / 8)) ** 2)
    return np.maximum(gauss, 1e-3).astype(np.float32)
