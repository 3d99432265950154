"""The epochs of a run: steps, validation and checkpoints, and what may end them early."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from unet_jax.errors import StopRequestedError
from unet_jax.report import curves
from unet_jax.report.packed_masks import PackedMask
from unet_jax.run import history
from unet_jax.runtime import exchange, host_memory
from unet_jax.runtime.mesh import any_process, global_batch, is_primary, replicated
from unet_jax.training import first_step, progress, state_on_disk, tensorboard_pictures
from unet_jax.training.logged import LoggedStep, check_numbers
from unet_jax.training.loggers import scalars
from unet_jax.training.pace import Pace
from unet_jax.training.progress_bar import ProgressBar
from unet_jax.training.running import FIRST, Run, saved
from unet_jax.training.step import ON_DEVICE, TrainState, zero_totals
from unet_jax.training.validation import validate

# Seconds from which a step is not worth waiting for when a second signal comes: the state before it is kept on the
# host, which costs a copy a step, and the steps no longer overlap.
SLOW = 5.0


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
            scores, masks = validate(run, state)
            loss = run.validation_loss and run.validation_loss(state)
            record = progress.epoch_record(state, len(epochs) + 1, scores, loss, time.perf_counter() - began)
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
        before, newest = newest, LoggedStep(number, logged, batch["case"], batch.get("slice", batch.get("place")))
        if last_words:
            check_numbers(run, newest)
        elif before:
            check_numbers(run, before)
        if not before:
            # By now the step is compiled; or, from the second epoch on, the validation before it is over.
            host_memory.give_back()
        pace.step()
        if number % settings.log_every_steps == 0:
            check_numbers(run, newest)
            seconds, began = time.perf_counter() - began, time.perf_counter()
            record = newest.record() | {"images_per_second": settings.batch_size * (number - since) / seconds}
            since = number
            bar.logged(record)
            if is_primary():
                _note(run, record)
        stopping = stops.after_step()
        every = settings.checkpoint_every_steps
        if stopping or (every and number % every == 0 and number < last):
            check_numbers(run, newest)
            _save(run, pace, state, None)
        if stopping:
            raise StopRequestedError(saved(number))
    if newest:
        check_numbers(run, newest)
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
        return saved(step)

    return save


def _untrained(step: int) -> str:
    return f"nothing was trained since step {step}; run the same command to resume."
