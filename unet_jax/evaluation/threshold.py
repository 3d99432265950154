"""Choose the threshold that maximises validation Dice."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32, Int64
from ml_collections import ConfigDict

from unet_jax import metrics
from unet_jax.data import labels
from unet_jax.data.case import Case
from unet_jax.data.slices import slices_by_case
from unet_jax.files import write_sealed_json
from unet_jax.inference import postprocess, shared
from unet_jax.inference.network import Probability, load_network
from unet_jax.inference.segment import segment_stream
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Segmented, Wanted
from unet_jax.report.scores import share
from unet_jax.run.folder import THRESHOLD
from unet_jax.runtime import exchange
from unet_jax.runtime.mesh import is_primary

CANDIDATES = tuple(round(0.05 * step, 2) for step in range(1, 20))


def choose(
    workdir: Path, config: ConfigDict, cases: Sequence[Case], validation: Int32[np.ndarray, "n 2"], mesh: Mesh
) -> float:
    """Chooses the threshold of a run that is trained to its end, and writes it into the run's folder.

    The network is the one that is scored, with the config's flips, windows and post-processing.

    Args:
        workdir: the run's folder.
        config: the run's.
        cases: of the run's data.
        validation: (position in cases, slice) of the validation side.
        mesh: the devices.
    """
    network, restored = load_network(workdir, config, mesh)
    settings = SegmentSettings.of_run(workdir, config, mesh)
    scores = mean_dice(segmented(network, cases, validation, settings), settings.postprocess)
    chosen = best(scores)
    if is_primary():
        record = {"threshold": chosen, "checkpoint_step": restored.step, "validation_dice": scores}
        write_sealed_json(workdir / THRESHOLD, record)
        print(
            f"Threshold {chosen}: Dice {share(scores[chosen])} on validation, {share(scores[0.5])} at 0.5.", flush=True
        )
    exchange.barrier()
    return chosen


def segmented(
    network: Probability, cases: Sequence[Case], index: Int32[np.ndarray, "n 2"], settings: SegmentSettings
) -> Iterator[Segmented]:
    """The cases of `index`, (position in cases, slice), with their probabilities."""
    own = shared.own_part(cases, index)
    wanted = [Wanted(position, cases[position], slices) for position, slices in slices_by_case(own).items()]
    return segment_stream(network, wanted, settings, keep_probabilities=True)


def mean_dice(found: Iterable[Segmented], settings: Mapping[str, int | bool]) -> dict[float, float | None]:
    """The mean Dice per patient at each of CANDIDATES, over all processes; None where it is undefined for all of them.

    Args:
        found: cases with masks, and with probabilities.
        settings: of `postprocess.apply`.
    """
    counts: dict[str, np.ndarray] = {}
    for one in found:
        case = one.wanted.case
        truth = np.asarray(case.mask)[one.wanted.slices]
        total = counts.setdefault(case.patient, np.zeros((len(CANDIDATES), 3), np.int64))
        for row, threshold in enumerate(CANDIDATES):
            mask = postprocess.apply((one.probability >= threshold).astype(np.uint8), settings)
            total[row] += metrics.count(labels.where_labelled(mask, truth), labels.without_ignored(truth)).sum(0)
    totals = _of_all_processes(counts)
    return {
        threshold: metrics.mean_of_defined(metrics.dice(total[row]) for total in totals)
        for row, threshold in enumerate(CANDIDATES)
    }


def _of_all_processes(counts: Mapping[str, Int64[np.ndarray, "t 3"]]) -> list[Int64[np.ndarray, "t 3"]]:
    """The counts of each patient over all processes, which may each have had some of the patient's cases."""
    totals: dict[str, np.ndarray] = {}
    for part in exchange.gather_json({patient: total.tolist() for patient, total in counts.items()}):
        for patient, total in part.items():
            totals[patient] = totals.get(patient, 0) + np.array(total, np.int64)
    return [totals[patient] for patient in sorted(totals)]


def best(scores: Mapping[float, float | None]) -> float:
    """The threshold with the highest score; of equal ones the nearest to 0.5.

    A score is undefined where nothing is marked and nothing is found, which no threshold can better.
    """

    def rank(threshold: float) -> tuple[float, float]:
        score = scores[threshold]
        return 1.0 if score is None else score, -abs(threshold - 0.5)

    return max(scores, key=rank)
