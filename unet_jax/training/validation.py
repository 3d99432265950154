"""The scores of the validation side after an epoch."""

import functools
from collections.abc import Iterator

from unet_jax.errors import StopRequestedError
from unet_jax.inference import shared
from unet_jax.inference.segment import segment_cases
from unet_jax.metrics.cases import Predicted, count_slices
from unet_jax.metrics.summary import case_rows, summarise
from unet_jax.report import packed_masks
from unet_jax.report.packed_masks import PackedMask
from unet_jax.runtime import exchange
from unet_jax.runtime.mesh import prediction_mesh, to_local
from unet_jax.training import state_on_disk
from unet_jax.training.running import FIRST, Run, saved
from unet_jax.training.step import TrainState

# What processes tell each other of a signal that comes while they validate.
STOP = "stop validating"


def validate(run: Run, state: TrainState) -> tuple[dict, dict[int, PackedMask]]:
    """The scores and masks of the validation side. A signal ends it where it stands, with the epoch's steps saved."""

    def save_unscored() -> str:
        state_on_disk.save(run.checkpoints, state, None, run.record)
        return saved(int(state.step))

    if exchange.count() == 1:
        run.stop.anywhere(save_unscored)
    cases, classes = run.data.cases, run.data.classes
    network = functools.partial(run.network_step, *to_local(state.weights, prediction_mesh(run.config.train.spatial)))
    own = shared.own_part(cases, run.validation)
    predicted = segment_cases(network, cases, own, run.settings, title="validation", prepared=run.prepared)
    masks: dict[int, PackedMask] = {}
    own, counts = count_slices(packed_masks.keep(_watched(run, predicted), masks), cases, classes)
    run.stop.between_steps()
    run.watchdog.rest()  # while others are not done yet
    if exchange.count() > 1 and any(exchange.gather_json(exchange.told(STOP))):
        raise StopRequestedError(save_unscored())
    index, counts = shared.all_counts(cases, run.validation, own, counts, run.settings)
    if run.config.train.tensorboard:
        masks = packed_masks.of_all_processes(masks)
    return summarise(case_rows(cases, index, counts, classes), counts), masks


def _watched(run: Run, predicted: Iterator[Predicted]) -> Iterator[Predicted]:
    """The predicted cases, each of which the watchdog waits for and a signal may be the last."""
    allowed = run.config.watchdog_seconds * FIRST
    while True:
        run.watchdog.expect("the next validated case", allowed)
        if exchange.count() == 1:
            run.stop.check()
        elif run.stop.asked or exchange.told(STOP):
            exchange.tell(STOP)  # and whatever the others have done by now will do
            return
        one = next(predicted, None)
        if one is None:
            return
        yield one
