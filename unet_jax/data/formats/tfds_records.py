"""A built `lgg_mri` (see tfds_lgg.py) to cases: all its splits together, as the files that it was built from.

Of the folder, the JSON in dataset_info.json and the records are read, with the features that tfds_lgg.py names.
features.json is not: TFDS would import whatever module it names.
"""

import contextlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError
from unet_jax.data.formats.image_file import decode_image, decode_or_note
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.data.tfds_lgg import FEATURES, LggMri
from unet_jax.errors import InputError

DECODING = "lgg_mri 1: channels in record order"

INFO = "dataset_info.json"
REBUILD = "build the data set again."
AS_STORED = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}


class Records:
    """The records of a built data set, each known by a path, `<case>/<case>_<slice>`.

    Attributes:
        listing: the cases, by name; their slices in numeric order.
    """

    def __init__(self, root: Path):
        """Reads which slice is in which record.

        Args:
            root: the built folder, `<data_dir>/lgg_mri/<version>`, or `<data_dir>`.

        Raises:
            InputError: there is no such data set, it is damaged, or a file of it lies elsewhere.
        """
        with _explained(root):
            self._records = _open(_built(root))
            places = [_place(record) for record in tqdm(self._records, "listing", disable=None, delay=1)]
        self.listing = _cases(places)
        self._positions = {_path(case, number): position for position, (case, _, number) in enumerate(places)}

    def read(self, root: Path, path: Path) -> bytes:
        """The record of a slice: the same bytes whenever it was built, and in whatever file it stands.

        Raises:
            InputError: there is no such slice, or its file is damaged.
        """
        if path not in self._positions:
            raise InputError(f"{shown(path)}: {root} has no such slice.")
        with _explained(path):
            record = tf_example_pb2.Example.FromString(self._records[self._positions[path]])
            # The order of the features in a file is left to chance.
            return record.SerializeToString(deterministic=True)


def decode(files: CaseFiles, read: Callable[[Path], bytes]) -> Case:
    """Stacks the slices of one case.

    Args:
        files: what `Records.listing` says of the case.
        read: gives the record of a path of `files`, or raises InputError.

    Returns:
        the case that `lgg.decode` makes of the files that the data set was built from.

    Raises:
        InputError: every fault of the case, one line each.
    """
    faults = list(files.faults)
    slices = [decode_or_note(_slice, path, read, faults) for path in files.images]
    shapes = {pixels.shape[:2] for pixels in slices if pixels is not None}
    if len(shapes) > 1:
        faults.append(Fault(files.name, f"its slices are of several sizes {sorted(shapes)}: {REBUILD}"))
    if faults:
        raise FaultsError(faults)
    volume = np.stack(slices)
    return Case(files.name, files.patient, volume[..., :3], volume[..., 3])


def _path(case: str, number: int) -> Path:
    return Path(case, f"{case}_{number}")


def _cases(places: list[tuple[str, str, int]]) -> list[CaseFiles]:
    """Case, patient and number of every slice, put together by case."""
    numbers: dict[str, list[int]] = defaultdict(list)
    patients: dict[str, list[str]] = defaultdict(list)
    for case, patient, number in places:
        numbers[case].append(number)
        patients[case].append(patient)
    listing = []
    for case in sorted(numbers):
        faults = [
            Fault(_path(case, number), f"two records are this slice: {REBUILD}")
            for number, count in sorted(Counter(numbers[case]).items())
            if count > 1
        ]
        if len(set(patients[case])) > 1:
            faults.append(Fault(case, f"its slices are of several patients: {REBUILD}"))
        images = tuple(_path(case, number) for number in sorted(set(numbers[case])))
        listing.append(CaseFiles(case, patients[case][0], images, (), tuple(faults)))
    return listing


def _built(root: Path) -> Path:
    folder = root if (root / INFO).is_file() else root / LggMri.name / str(LggMri.VERSION)
    if not (folder / INFO).is_file() or folder.resolve().parts[-2:] != (LggMri.name, str(LggMri.VERSION)):
        raise InputError(
            f"config.data.root={root}: is neither a folder {LggMri.name}/{LggMri.VERSION} that was built, nor a folder "
            "that holds it: build it with python -m unet_jax.data.tfds_lgg."
        )
    return folder.resolve()


def _open(folder: Path) -> Sequence[bytes]:
    # The class, and no builder that TFDS makes of the folder: see above.
    builder = LggMri(data_dir=folder.parents[1])
    for split in builder.info.splits.values():
        for shard in split.filepaths:
            if not Path(shard).resolve(strict=True).is_relative_to(folder):
                raise InputError(f"{shown(Path(shard))}: lies outside of {folder}: copy it there.")
    return builder.as_data_source(split="all", deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)


@contextlib.contextmanager
def _explained(what: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    # TFDS, protobuf and ArrayRecord raise errors of many kinds at what is damaged.
    except Exception as error:
        reason = shown(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
        raise InputError(f"{shown(what)}: the TFDS data set is damaged ({reason}): {REBUILD}") from error


def _example(record: bytes) -> Mapping[str, Any]:
    return FEATURES.deserialize_example_np(record, decoders=AS_STORED)


def _place(record: bytes) -> tuple[str, str, int]:
    """Case, patient and number of a slice."""
    example = _example(record)
    return example["case"].decode(), example["patient"].decode(), int(example["slice"])


def _slice(record: bytes, path: Path) -> UInt8[np.ndarray, "h w 4"]:
    """Image and, as a fourth channel, mask."""
    with _explained(path):
        example = _example(record)
        image = decode_image(example["image"], f"{path}.png")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"{shown(path)}: the image is {image.dtype} {image.shape}: {REBUILD}")
        size = image.shape[0] * image.shape[1]
        # One byte more than fits: a mask that claims to be small may be anything.
        found = zlib.decompressobj().decompress(example["mask"]["value"], size + 1)
        mask = np.frombuffer(found, np.uint8)
        if tuple(example["mask"]["shape"]) != image.shape[:2] or mask.size != size or mask.max(initial=0) > 1:
            raise InputError(f"{shown(path)}: its mask does not fit the image, or is not of 0 and 1: {REBUILD}")
        return np.dstack([image, mask.reshape(image.shape[:2])])
