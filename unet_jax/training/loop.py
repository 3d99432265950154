"""The epochs of a run: steps, validation and checkpoints, and what may end them early."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32
from ml_collections import ConfigDict

from unet_jax.data.load import DataSet
from unet_jax.errors import NumbersError, StopRequestedError
from unet_jax.inference import shared
from unet_jax.inference.segment import segment_cases
from unet_jax.inference.settings import SegmentSettings
from unet_jax.metrics.cases import Predicted, count_slices
from unet_jax.metrics.summary import case_rows, summarise
from unet_jax.plan.prepared import PreparedCase
from unet_jax.report import curves, packed_masks
from unet_jax.report.packed_masks import PackedMask
from unet_jax.run import history
from unet_jax.runtime import exchange, host_memory
from unet_jax.runtime.mesh import any_process, global_batch, is_primary, prediction_mesh, replicated, to_local
from unet_jax.runtime.signals import StopRequest
from unet_jax.runtime.watchdog import Watchdog
from unet_jax.training import first_step, progress, state_on_disk, tensorboard_pictures
from unet_jax.training.loggers import Logger, scalars
from unet_jax.training.pace import Pace
from unet_jax.training.progress_bar import ProgressBar
from unet_jax.training.step import FAULTS, ON_DEVICE, TrainState, zero_totals
from unet_jax.training.tensorboard import EventFile

# How much longer the first step and the first batch may take than others: programs are compiled, workers started.
FIRST = 4
# Seconds from which a step is not worth waiting for when a second signal comes: the state before it is kept on the
# host, which costs a copy a step, and the steps no longer overlap.
SLOW = 5.0
# What processes tell each other of a signal that comes while they validate.
STOP = "stop validating"


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from epoch to epoch.

    Attributes:
        config: with every key.
        workdir: the run's folder.
        mesh: the devices.
        data: that is trained and validated on.
        validation: (position in cases, slice) of what is validated on.
        train_step: see `step.make_train_step`.
        network_step: see `network.make_step`.
        settings: how the validation side is segmented.
        prepared: for patches, the preprocessed cases of the validation side by their position in the data.
        steps_per_epoch: how many.
        total_steps: of the run, at most; the last epoch may be shorter than the others.
        checkpoints: their folder.
        record: what each of them says that it was trained on: see `resume.trained_on`.
        stop: whether a signal asked for it.
        watchdog: ends the run if nothing moves.
        events: where TensorBoard's events go, if anywhere.
        loggers: what else gets the numbers of the history.
    """

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    data: DataSet
    validation: Int32[np.ndarray, "n 2"]
    train_step: Callable
    network_step: Callable
    settings: SegmentSettings
    steps_per_epoch: int
    total_steps: int
    checkpoints: Path
    record: Mapping[str, str]
    stop: StopRequest
    watchdog: Watchdog
    events: EventFile | None
    loggers: Sequence[Logger] = ()
    prepared: Mapping[int, PreparedCase] = dataclasses.field(default_factory=dict)


def train_epochs(
    run: Run, state: TrainState, batches: Iterator[dict[str, np.ndarray]], epochs: list[dict]
) -> list[dict]:
    """Trains from `state` to the run's end.

    Args:
        run: the run.
        state: after a step, or after a whole epoch that is not validated yet. It is used up.
        batches: those of the steps after it.
        epochs: the records of the epochs before.

    Returns:
        The records of all epochs.

    Raises:
        StopRequestedError: a signal asked for it; the state is saved.
        NumbersError: a step met NaN or infinity; the state is not saved.
    """
    epochs, pace = list(epochs), Pace()
    with ProgressBar(int(state.step), run.total_steps, run.steps_per_epoch, epochs, pace) as bar:
        while not progress.finished(run.config, epochs, run.total_steps):
            began = time.perf_counter()
            state = _train_epoch(run, state, batches, pace, bar)
            trained = time.perf_counter()
            bar.doing("validation")
            scores, masks = _validate(run, state)
            record = progress.epoch_record(state, len(epochs) + 1, scores, time.perf_counter() - began)
            epochs.append(record)
            state = state.replace(
                epochs=jax.device_put(np.int32(len(epochs)), replicated(run.mesh)),
                totals=jax.device_put(zero_totals(), replicated(run.mesh)),
            )
            if is_primary():
                _note(run, record, masks)
                curves.write(run.workdir / "curves.png", epochs)
            # Saved before the next batch is drawn: what is on disk always describes a step boundary.
            _save(run, pace, state, record["val_dice"])
            pace.validated(time.perf_counter() - trained)
            bar.validated(epochs, progress.epoch_line(epochs, run.total_steps, run.steps_per_epoch))
    run.watchdog.rest()
    return epochs


def _train_epoch(
    run: Run, state: TrainState, batches: Iterator[dict[str, np.ndarray]], pace: Pace, bar: ProgressBar
) -> TrainState:
    """Steps to the end of the epoch that `state` stands in, logging and saving on the way."""
    settings, first = run.config.train, int(state.step)
    last = min((int(state.epochs) + 1) * run.steps_per_epoch, run.total_steps)
    newest, began, since = None, time.perf_counter(), first
    stops = _Stops(run)
    for number in range(first + 1, last + 1):
        longer = 1 if newest else FIRST
        if run.config.data.workers:
            run.watchdog.expect("a batch from the worker processes", run.config.data.wait_seconds * longer)
        batch = next(batches)
        run.watchdog.expect(f"the end of step {number}", run.config.watchdog_seconds * longer)
        # Until the first step has ended, nobody knows how long one takes.
        is_first = math.isinf(pace.longest_step)
        if is_first:
            last_words = functools.partial(_untrained, first)
            state, logged = _first_step(run, state, batch, bar)
            pace.begin()
        else:
            is_slow = pace.longest_step >= SLOW and run.stop.listens and exchange.count() == 1
            last_words = _saving(run, number - 1, jax.tree.map(np.array, state)) if is_slow else None
            state, logged = _step(run, state, batch)
        # Several processes agree on a stop in the step after it.
        under_way = 1 if last_words else 2 + (exchange.count() > 1)
        run.stop.between_steps(pace.until_stopped(under_way), last_words)
        bar.step(number)
        # One step runs while the next is prepared; more would only pile up batches in memory.
        before, newest = newest, _Step(number, logged, batch["case"], batch.get("slice", batch.get("place")))
        if last_words:
            _check_numbers(run, newest)
        elif before:
            _check_numbers(run, before)
        if not before:
            # By now the step is compiled; or, from the second epoch on, the validation before it is over.
            host_memory.give_back()
        pace.step()
        if number % settings.log_every_steps == 0:
            _check_numbers(run, newest)
            seconds, began = time.perf_counter() - began, time.perf_counter()
            record = newest.record() | {"images_per_second": settings.batch_size * (number - since) / seconds}
            since = number
            bar.logged(record)
            if is_primary():
                _note(run, record)
        stopping = stops.after_step()
        every = settings.checkpoint_every_steps
        if stopping or (every and number % every == 0 and number < last):
            _check_numbers(run, newest)
            _save(run, pace, state, None)
        if stopping:
            raise StopRequestedError(_saved(number))
    if newest:
        _check_numbers(run, newest)
        pace.end()
    return state


def _first_step(
    run: Run, state: TrainState, batch: dict[str, np.ndarray], bar: ProgressBar
) -> tuple[TrainState, dict[str, jax.Array]]:
    """`_step` of a program that is not compiled yet; how long that takes is kept."""
    bar.doing(first_step.text(run.config))
    began = time.perf_counter()
    result = _step(run, state, batch)
    if is_primary():
        first_step.keep(run.config, time.perf_counter() - began)
    return result


def _step(run: Run, state: TrainState, batch: dict[str, np.ndarray]) -> tuple[TrainState, dict[str, jax.Array]]:
    """Starts a step. The batch is all that moves to the device, and nothing moves back unless it is asked for."""
    on_device = global_batch({key: array for key, array in batch.items() if key in ON_DEVICE}, run.mesh)
    with jax.transfer_guard("disallow"):
        return run.train_step(state, on_device)


def _note(run: Run, record: dict[str, Any], masks: Mapping[int, PackedMask] | None = None) -> None:
    """Adds a record to the history, and to TensorBoard's events, with pictures of the validated masks."""
    history.append(run.workdir, record)
    for log in run.loggers:
        log(record["step"], scalars(record))
    if run.events:
        run.events.append(record, tensorboard_pictures.draw(run.data.cases, masks or {}, run.data.shown))


class _Stops:
    """Whether a signal asked for a stop: this process, or, of several, any of them; then all stop after one step."""

    def __init__(self, run: Run):
        self._stop = run.stop
        self._ask = any_process(run.mesh) if exchange.count() > 1 else None
        self._answer: jax.Array | None = None

    def after_step(self) -> bool:
        if self._ask is None:
            return self._stop.asked
        # The answer of the step before: that of this one would have to be waited for.
        before, self._answer = self._answer, self._ask(self._stop.asked)
        return before is not None and bool(before)


def _save(run: Run, pace: Pace, state: TrainState, score: float | None) -> None:
    """Saves the state. A signal waits meanwhile, be it the second."""
    run.stop.between_steps(pace.until_stopped(1))
    began = time.perf_counter()
    state_on_disk.save(run.checkpoints, state, score, run.record)
    pace.saved(time.perf_counter() - began)


def _saving(run: Run, step: int, kept: TrainState) -> Callable[[], str]:
    """The last words of a second signal: they save the state before the step that is under way."""

    def save() -> str:
        state_on_disk.save(run.checkpoints, kept, None, run.record)
        return _saved(step)

    return save


def _untrained(step: int) -> str:
    return f"nothing was trained since step {step}; run the same command to resume."


class _Step:
    """A step that was started, and which slices it saw or where its patches began; what it logs is fetched together."""

    def __init__(
        self,
        number: int,
        logged: dict[str, jax.Array],
        case: Int32[np.ndarray, " b"],
        place: Int32[np.ndarray, " b"] | Int32[np.ndarray, "b 3"],
    ):
        self.number = number
        self.case, self.place = case, place
        self.checked = False
        self._logged = logged

    @functools.cached_property
    def logged(self) -> dict[str, np.ndarray]:
        """What the step logs; the first look waits for its end."""
        return jax.device_get(self._logged)

    def record(self) -> dict[str, Any]:
        """The step's line in the history; what is not finite in a step that was skipped is None."""
        values = {key: float(self.logged[key]) for key in ("loss", "dice", "gradient_norm")}
        return {
            "step": self.number,
            **{key: value if np.isfinite(value) else None for key, value in values.items()},
            "spikes": int(self.logged["spikes"]),
            "skipped": int(self.logged["skipped"]),
            "learning_rate": float(self.logged["learning_rate"]),
        }


def _check_numbers(run: Run, step: _Step) -> None:
    """Waits for the step; raises NumbersError if it met NaN or infinity, or records that it was skipped."""
    fault = FAULTS[int(step.logged["fault"])]
    if not fault or step.checked:
        return
    step.checked = True
    settings, skipped, places = run.config.train, int(step.logged["skipped"]), _places(run, step)
    what = "slices" if step.place.ndim == 1 else "patches"
    if settings.nonfinite == "skip" and skipped <= settings.nonfinite_limit:
        if is_primary():
            record = {"step": step.number, "nonfinite": fault, "skipped": skipped, what: places}
            history.append(run.workdir, record)
        return
    remedy = {
        "image": "mend or leave out the file",
        "loss": "train again with a smaller config.optim.learning_rate, or with config.optim.clip_norm=1",
        "gradient": "train again with a smaller config.optim.learning_rate",
    }[fault]
    limit = f", the skipped step number {skipped} (config.train.nonfinite_limit)" if skipped > 1 else ""
    named = "; ".join(f"{case} {', '.join(map(str, numbers))}" for case, numbers in places.items())
    raise NumbersError(
        f"The {fault} of step {step.number}{limit} is NaN or infinite, and nothing of it was saved: {remedy}. "
        f"Its cases and {what if what == 'slices' else 'the first voxels of its patches'}: {named}."
    )


def _places(run: Run, step: _Step) -> dict[str, list]:
    """The slices of the step's batch, or the first voxels of its patches, by the name of their case.

    Of several processes, those of all: each comes here, as they look at the same numbers.
    """
    places: dict[str, list] = {}
    for cases, where in exchange.gather_json([step.case.tolist(), step.place.tolist()]):
        for position, place in zip(cases, where, strict=True):
            places.setdefault(run.data.cases[position].name, []).append(place)
    return places


def _validate(run: Run, state: TrainState) -> tuple[dict, dict[int, PackedMask]]:
    """The scores and masks of the validation side. A signal ends it where it stands, with the epoch's steps saved."""

    def save_unscored() -> str:
        state_on_disk.save(run.checkpoints, state, None, run.record)
        return _saved(int(state.step))

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
        parts = exchange.collect(packed_masks.to_bytes(masks)) if exchange.count() > 1 else []
        masks |= {position: mask for part in parts for position, mask in packed_masks.from_bytes(part).items()}
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


def _saved(step: int) -> str:
    return f"saved step {step}; run the same command to resume."
