"""From which probability on a pixel is tumour, as the validation side has it best."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32
from ml_collections import ConfigDict

from unet_jax import metrics
from unet_jax.data.case import Case
from unet_jax.files import write_json
from unet_jax.inference import postprocess
from unet_jax.inference.from_config import how_to_segment, load_network, with_tta
from unet_jax.inference.segment import Probability, segment_stream
from unet_jax.inference.windows import Segmented, Wanted
from unet_jax.run import folder as run_folder
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
    network, restored = load_network(workdir, config, cases[0].image.shape[-1], mesh)
    found = segmented(network, config, cases, validation, mesh)
    scores = mean_dice(found, config.eval.postprocess.to_dict())
    chosen = best(scores)
    if is_primary():
        record = {"threshold": chosen, "checkpoint_step": restored.step, "validation_dice": scores}
        write_json(workdir / run_folder.THRESHOLD, record)
        half = scores[0.5]
        print(f"Threshold {chosen}: Dice {scores[chosen]:.3f} on validation, {half:.3f} at 0.5.", flush=True)
    return chosen


def segmented(
    network: Probability, config: ConfigDict, cases: Sequence[Case], index: Int32[np.ndarray, "n 2"], mesh: Mesh
) -> Iterator[Segmented]:
    """The cases of `index`, (position in cases, slice), with their probabilities, as the config wants them made."""
    wanted = [
        Wanted(position, cases[position], index[index[:, 0] == position, 1])
        for position in dict.fromkeys(index[:, 0].tolist())
    ]
    how = how_to_segment(config, mesh)
    return segment_stream(with_tta(network, config), wanted, **how, keep_probabilities=True)


def mean_dice(found: Iterable[Segmented], settings: Mapping[str, int | bool]) -> dict[float, float]:
    """The mean Dice per patient at each of CANDIDATES.

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
            total[row] += metrics.count(mask, truth).sum(0)
    return {
        threshold: float(np.mean([metrics.dice(total[row]) for total in counts.values()]))
        for row, threshold in enumerate(CANDIDATES)
    }


def best(scores: Mapping[float, float]) -> float:
    """The threshold with the highest score; of equal ones the nearest to 0.5."""
    return max(scores, key=lambda threshold: (scores[threshold], -abs(threshold - 0.5)))
