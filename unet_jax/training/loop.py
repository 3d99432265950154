"""The epochs of a run: steps, validation and checkpoints, and what may end them early."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from unet_jax.errors import StopRequestedError
from unet_jax.report import curves
from unet_jax.report.packed_masks import PackedMask
from unet_jax.run import history
from unet_jax.runtime import exchange, host_memory
from unet_jax.runtime.mesh import any_process, is_primary, replicated
from unet_jax.training import first_step, progress, state_on_disk, tensorboard_pictures
from unet_jax.training.feed import Fed
from unet_jax.training.logged import LoggedStep, check_numbers, logged_steps
from unet_jax.training.loggers import scalars
from unet_jax.training.pace import Pace
from unet_jax.training.progress_bar import ProgressBar
from unet_jax.training.running import FIRST, Run, saved
from unet_jax.training.step import TrainState, zero_totals
from unet_jax.training.validation import validate
from unet_jax.wording import count

# Seconds from which a step is not worth waiting for when a second signal comes: the state before it is kept on the
# host, which costs a copy a step, and the steps no longer overlap.
SLOW = 5.0


def train_epochs(run: Run, state: TrainState, feed: Iterator[Fed], epochs: list[dict], pace: Pace) -> list[dict]:
    """Trains from `state` to the run's end.

    Args:
        run: the run.
        state: after a step, or after a whole epoch that is not validated yet. It is used up.
        feed: the batches of the steps after it.
        epochs: the records of the epochs before.
        pace: of this process, which has trained nothing yet.

    Returns:
        The records of all epochs.

    Raises:
        StopRequestedError: a signal asked for it; the state is saved.
        NumbersError: a step met NaN or infinity; the state is not saved.
    """
    epochs, compiled = list(epochs), set()
    with ProgressBar(int(state.step), run.total_steps, run.steps_per_epoch, epochs, pace) as bar:
        while not progress.finished(run.config, epochs, run.total_steps):
            began = time.perf_counter()
            state = _train_epoch(run, state, feed, compiled, pace, bar)
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
            # Saved before the next step begins: what is on disk always describes a step boundary.
            _save(run, pace, state, record["val_dice"])
            pace.validated(time.perf_counter() - trained)
            bar.validated(epochs, progress.epoch_line(epochs, run.total_steps, run.steps_per_epoch))
    run.watchdog.rest()
    return epochs


def _train_epoch(
    run: Run, state: TrainState, feed: Iterator[Fed], compiled: set[int], pace: Pace, bar: ProgressBar
) -> TrainState:
    """Steps to the end of the epoch that `state` stands in, logging and saving on the way.

    `compiled` gathers how many steps the programs have that are compiled by now.
    """
    settings, first = run.config.train, int(state.step)
    last = min((int(state.epochs) + 1) * run.steps_per_epoch, run.total_steps)
    newest, began, since = [], time.perf_counter(), first
    stops, done = _Stops(run), first
    while done < last:
        if run.config.data.workers:
            longer = 1 if newest else FIRST
            run.watchdog.expect("a batch from the worker processes", run.config.data.wait_seconds * longer)
        fed = next(feed)
        begun_at, done = done, done + fed.steps
        longer = 1 if newest and fed.steps in compiled else FIRST
        run.watchdog.expect(f"the end of step {done}", run.config.watchdog_seconds * longer)
        # Until the first step has ended, nobody knows how long one takes.
        if math.isinf(pace.longest_step):
            last_words = functools.partial(_untrained, first)
        else:
            is_slow = pace.longest_step >= SLOW and run.stop.listens and exchange.count() == 1
            last_words = _saving(run, begun_at, jax.tree.map(np.array, state)) if is_slow else None
        if fed.steps in compiled:
            state, logged = _run_program(run, state, fed)
        else:
            state, logged = _compile_and_run(run, state, fed, pace, bar)
            compiled.add(fed.steps)
        # Several processes agree on a stop in the step after it.
        under_way = 1 if last_words else 2 + (exchange.count() > 1)
        run.stop.between_steps(pace.until_stopped(under_way), last_words)
        bar.step(done)
        # One program runs while the next is prepared; more would only pile up batches in memory.
        before, newest = newest, logged_steps(begun_at + 1, logged, fed)
        _check_all(run, newest if last_words else before)
        if not before:
            # By now the step is compiled; or, from the second epoch on, the validation before it is over.
            host_memory.give_back()
        pace.step(fed.steps)
        due = [step for step in newest if step.number % settings.log_every_steps == 0]
        if due:
            _check_all(run, newest)
            seconds, began = time.perf_counter() - began, time.perf_counter()
            speed = settings.batch_size * (done - since) / seconds
            since = done
            _log(run, bar, [step.record() | {"images_per_second": speed} for step in due])
        stopping = stops.after_step()
        every = settings.checkpoint_every_steps
        if stopping or (every and done % every == 0 and done < last):
            _check_all(run, newest)
            _save(run, pace, state, None)
        if stopping:
            raise StopRequestedError(saved(done))
    if newest:
        _check_all(run, newest)
        pace.end()
    return state


def _compile_and_run(
    run: Run, state: TrainState, fed: Fed, pace: Pace, bar: ProgressBar
) -> tuple[TrainState, dict[str, jax.Array]]:
    """`_run_program` of one that is not compiled yet; how long the first takes is kept."""
    is_first = math.isinf(pace.longest_step)
    bar.doing(first_step.text(run.config) if is_first else f"compiling {count(fed.steps, 'step')} as one program")
    began = time.perf_counter()
    result = _run_program(run, state, fed)
    if is_first and is_primary():
        first_step.keep(run.config, time.perf_counter() - began)
    pace.begin()
    return result


def _run_program(run: Run, state: TrainState, fed: Fed) -> tuple[TrainState, dict[str, jax.Array]]:
    """Starts one or several steps. Nothing moves to the device but what was fed, and nothing back unless asked for."""
    program = run.train_step if fed.steps == 1 else run.train_steps
    with jax.transfer_guard("disallow"):
        return program(state, fed.on_device)


def _check_all(run: Run, steps: Sequence[LoggedStep]) -> None:
    """`check_numbers` of steps in their order."""
    for step in steps:
        check_numbers(run, step)


def _log(run: Run, bar: ProgressBar, records: Sequence[dict[str, Any]]) -> None:
    """Shows and notes the records of steps."""
    for record in records:
        bar.logged(record)
        if is_primary():
            _note(run, record)


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
