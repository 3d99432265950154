"""The masks of all candidates for every case, by networks that were not trained on it; kept, a file a case.

A case goes through each configuration once, and all candidates are made of that: probabilities are never on disk.
"""

import dataclasses
import functools
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from unet_jax.auto import members, runs
from unet_jax.auto.runs import Run
from unet_jax.data import regions, splits
from unet_jax.data.load import DataSet
from unet_jax.errors import InputError
from unet_jax.evaluation.choice import Candidate
from unet_jax.files import json_digest, read_json, write_bytes
from unet_jax.inference.windows import Wanted
from unet_jax.plan.plans import Plans
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config
from unet_jax.runtime import exchange
from unet_jax.runtime.mesh import prediction_mesh

FOLDER = "candidates"


@dataclasses.dataclass(frozen=True)
class Pooled:
    """The test cases of all folds, each with the masks of all candidates.

    Attributes:
        candidates: in the order of the files' arrays.
        data: whose cases they are.
        files: of each case, by its position in the data, in ascending order.
        fold_of: the fold that each was tested in.
    """

    candidates: tuple[Candidate, ...]
    data: DataSet
    files: dict[int, Path]
    fold_of: dict[int, int]

    def masks(self, position: int) -> list[UInt8[np.ndarray, "_ _ _"]]:
        """Of a case, one a candidate."""
        return _read(self.files[position], len(self.candidates))[1]

    def pairs(self, candidate: Candidate) -> "Pairs":
        """The masks of a candidate with the true ones."""
        return Pairs(self, self.candidates.index(candidate))


@dataclasses.dataclass(frozen=True)
class Pairs(Sequence):
    """(predicted, true) masks, read when they are asked for.

    Attributes:
        pooled: the cases.
        number: of the candidate.
    """

    pooled: Pooled
    number: int

    def __len__(self) -> int:
        return len(self.pooled.files)

    def __getitem__(self, at: int) -> tuple[UInt8[np.ndarray, "_ _ _"], UInt8[np.ndarray, "_ _ _"]]:
        position = list(self.pooled.files)[at]
        return self.pooled.masks(position)[self.number], np.asarray(self.pooled.data.cases[position].mask)


def pool(
    workdir: Path, done: Sequence[Run], candidates: Sequence[Candidate], plans: Plans, data: DataSet, origin: str
) -> Pooled:
    """Segments the test cases of every fold that were not yet, and returns them all.

    Args:
        workdir: the folder of all configurations; the caller holds its lock.
        done: each configuration on each fold.
        candidates: of these configurations.
        plans: of all of them.
        data: that was trained on.
        origin: what tells these networks and candidates from others: see `origin_of`.

    Raises:
        InputError: the runs of a fold were not tested on the same cases, or one cannot be used.
        DamageError: a run's checkpoints are damaged.
        StorageError: the disk is full, read-only or failing.
    """
    files, fold_of = {}, {}
    for fold in sorted({run.fold for run in done}):
        its = [run for run in done if run.fold == fold]
        positions = _tested(its, data)
        paths = {position: workdir / FOLDER / f"fold{fold}" / f"{position:06d}.npz" for position in positions}
        missing = exchange.by_primary(functools.partial(_missing, paths, origin, len(candidates)))
        own = [missing[place] for place in exchange.share_of([data.cases[one].image.size for one in missing])]
        if own:
            _segment(workdir, its, candidates, plans, data, {one: paths[one] for one in own}, origin)
        exchange.barrier()
        files |= paths
        fold_of |= dict.fromkeys(positions, fold)
    return Pooled(tuple(candidates), data, dict(sorted(files.items())), fold_of)


def _missing(paths: Mapping[int, Path], origin: str, count: int) -> list[int]:
    return [position for position, path in paths.items() if not _is_there(path, origin, count)]


def origin_of(done: Sequence[Run], candidates: Sequence[Candidate]) -> str:
    """What tells the networks of these runs, and what was made of them, from all others."""
    networks = [[run.name, read_json(run.folder / run_folder.CONFIG), run.checkpoint_step] for run in done]
    return json_digest([networks, [candidate.members for candidate in candidates]])


def _tested(its: Sequence[Run], data: DataSet) -> list[int]:
    """Positions of the cases that the runs of a fold were tested on."""
    tested = {
        run: splits.slices_of(splits.read(run.folder / run_folder.SPLIT, data.cases, data.unit), data.cases, "test")
        for run in its
    }
    first = tested[its[0]]
    for run, index in tested.items():
        if not np.array_equal(index, first):
            raise InputError(
                f"{its[0].folder} and {run.folder} were tested on other cases, and cannot be compared: remove one, and "
                "run the command again."
            )
    return np.unique(first[:, 0]).tolist()


def _segment(
    workdir: Path,
    its: Sequence[Run],
    candidates: Sequence[Candidate],
    plans: Plans,
    data: DataSet,
    paths: dict[int, Path],
    origin: str,
) -> None:
    names, fold = [run.configuration for run in its], its[0].fold
    config = read_config(runs.folder_of(workdir, names[0], fold))
    loaded = members.load(workdir, plans, names, [fold], prediction_mesh(config.train.spatial))
    threshold, painted = config.eval.threshold, regions.painted(data.classes)
    several = any(len(candidate.members) > 1 for candidate in candidates)

    def wanted() -> Iterator[Wanted]:
        for position in paths:
            case = data.cases[position]
            yield Wanted(position, case, np.arange(len(case.image)))

    segmented = members.segment(loaded, wanted(), keep_probabilities=several)
    bar = tqdm(segmented, f"comparing in fold {fold}", len(paths), unit="case", disable=None, leave=False)
    for found in bar:
        masks = [members.together(found, candidate.members, threshold, painted).mask for candidate in candidates]
        _write(paths[found[names[0]].wanted.position], masks, origin)


def _write(path: Path, masks: Sequence[UInt8[np.ndarray, "_ _ _"]], origin: str) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, origin=np.array(origin), **{str(number): mask for number, mask in enumerate(masks)})
    write_bytes(path, file.getvalue())


def _is_there(path: Path, origin: str, count: int) -> bool:
    if not path.exists():
        return False
    try:
        return _read(path, count)[0] == origin
    except InputError as error:
        print(f"{error} It is made again.", file=sys.stderr, flush=True)
        return False


def _read(path: Path, count: int) -> tuple[str, list[UInt8[np.ndarray, "_ _ _"]]]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return str(found["origin"]), [found[str(number)] for number in range(count)]
    except (BadZipFile, EOFError, KeyError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}).") from None
