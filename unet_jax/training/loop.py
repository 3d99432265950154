"""The epochs of a run: steps, validation and checkpoints, and what may end them early."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int32
from ml_collections import ConfigDict
from tqdm import tqdm

from unet_jax.data.case import Case
from unet_jax.errors import NumbersError, StopRequestedError
from unet_jax.evaluation.evaluate import FLAIR, count_slices
from unet_jax.inference.from_config import segment
from unet_jax.metrics import cases as scoring
from unet_jax.report import packed_masks, pictures
from unet_jax.report import scores as report
from unet_jax.report.packed_masks import PackedMask
from unet_jax.run import folder as run_folder
from unet_jax.runtime import host_memory
from unet_jax.runtime.mesh import global_batch, is_primary, replicated
from unet_jax.runtime.signals import StopRequest
from unet_jax.runtime.watchdog import Watchdog
from unet_jax.training import progress, tensorboard_pictures
from unet_jax.training.step import FAULTS, TrainState, zero_totals
from unet_jax.training.tensorboard import EventFile

# How much longer the first step and the first batch may take than others: programs are compiled, workers started.
FIRST = 4


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from epoch to epoch.

    Attributes:
        classes: the names of several; empty for one.
        validation: (position in cases, slice) of what is validated on.
        train_step: see `steps.make_train_step`.
        probability_step: see `steps.make_probability_step`.
        schedule: step → learning rate.
        save: writes the state as a checkpoint, with the score where one is known.
        events: where TensorBoard's events go, if anywhere.
    """

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    cases: list[Case]
    classes: tuple[str, ...]
    validation: Int32[np.ndarray, "n 2"]
    train_step: Callable
    probability_step: Callable
    schedule: optax.Schedule
    steps_per_epoch: int
    save: Callable[[TrainState, float | None], None]
    stop: StopRequest
    watchdog: Watchdog
    events: EventFile | None


def train_epochs(
    run: Run, state: TrainState, batches: Iterator[dict[str, np.ndarray]], epochs: list[dict]
) -> list[dict]:
    """Trains from `state` to the run's end.

    Args:
        run: the run.
        state: a step's, or a whole epoch's that is not validated yet. It is used up.
        batches: those of the steps after it.
        epochs: the records of the epochs before.

    Returns:
        The records of all epochs.

    Raises:
        StopRequestedError: a signal asked for it; the state is saved.
        NumbersError: a step met NaN or infinity; the state is not saved.
    """
    epochs = list(epochs)
    while not progress.finished(run.config, epochs):
        began = time.perf_counter()
        state = _train_epoch(run, state, batches)
        scores, predicted = _validate(run, state)
        record = progress.epoch_record(state, len(epochs) + 1, scores, time.perf_counter() - began)
        epochs.append(record)
        state = state.replace(
            epochs=jax.device_put(np.int32(len(epochs)), replicated(run.mesh)),
            totals=jax.device_put(zero_totals(), replicated(run.mesh)),
        )
        if is_primary():
            _note(run, record, predicted)
            pictures.write_curves(run.workdir / "curves.png", epochs)
        run.save(state, record["val_dice"])
        if is_primary():
            print(progress.epoch_line(run.config, epochs), flush=True)
    run.watchdog.rest()
    return epochs


def _train_epoch(run: Run, state: TrainState, batches: Iterator[dict[str, np.ndarray]]) -> TrainState:
    """Steps to the end of the epoch that `state` stands in, logging and saving on the way."""
    settings, first = run.config.train, int(state.step)
    last = (int(state.epochs) + 1) * run.steps_per_epoch
    newest, began, since = None, time.perf_counter(), first
    with _bar(run, first, last) as bar:
        for step in range(first + 1, last + 1):
            longer = 1 if newest else FIRST
            if run.config.data.workers:
                run.watchdog.expect("a batch from the worker processes", run.config.data.wait_seconds * longer)
            batch = next(batches)
            run.watchdog.expect(f"the end of step {step}", run.config.watchdog_seconds * longer)
            for_device = {key: array for key, array in batch.items() if key in ("image", "mask", "weights")}
            state, logged = run.train_step(state, global_batch(for_device, run.mesh))
            run.stop.between_steps()
            # One step runs while the next is prepared; more would only pile up batches in memory.
            before, newest = newest, _Step(step, logged, batch["case"], batch["slice"])
            if before:
                _check_numbers(run, before)
            else:
                # By now the step is compiled; or, from the second epoch on, the validation before it is over.
                host_memory.give_back()
            bar.update()
            if step % settings.log_every_steps == 0:
                _check_numbers(run, newest)
                seconds, began = time.perf_counter() - began, time.perf_counter()
                values = _logged(run, newest) | {"images_per_second": settings.batch_size * (step - since) / seconds}
                since = step
                bar.set_postfix(progress.in_the_bar(values))
                if is_primary():
                    _note(run, values)
            stopping = _stop_after(run, step)
            every = settings.checkpoint_every_steps
            if stopping or (every and step % every == 0 and step < last):
                _check_numbers(run, newest)
                run.save(state, None)
            if stopping:
                raise StopRequestedError(_saved(step))
    if newest:
        _check_numbers(run, newest)
    return state


def _note(run: Run, record: dict[str, Any], predicted: Mapping[int, PackedMask] | None = None) -> None:
    """Adds a record to the history, and to TensorBoard's events, with pictures of what was predicted."""
    run_folder.append_history(run.workdir, record)
    if run.events:
        run.events.append(record, tensorboard_pictures.draw(run.cases, predicted or {}, FLAIR))


def _stop_after(run: Run, step: int) -> bool:
    """Whether to stop after this step: this process, or, of several, all of them."""
    if not jax.distributed.is_initialized():
        return run.stop.asked
    import orbax.checkpoint as ocp

    return run.stop.asked or ocp.utils.reached_preemption(step)


def _bar(run: Run, first: int, last: int) -> tqdm:
    epoch = last // run.steps_per_epoch
    done = first - (last - run.steps_per_epoch)
    return tqdm(desc=f"epoch {epoch}", initial=done, total=run.steps_per_epoch, unit="step", disable=None, leave=False)


@dataclasses.dataclass(eq=False)
class _Step:
    """A step that was started: its number, what it logs, and whose slices it saw."""

    number: int
    logged: dict[str, Array]
    case: Int32[np.ndarray, " b"]
    slice: Int32[np.ndarray, " b"]
    checked: bool = False


def _check_numbers(run: Run, step: _Step) -> None:
    """Waits for the step and raises NumbersError, or notes the step that was skipped, where its numbers are none."""
    fault = FAULTS[int(step.logged["fault"])]
    if not fault or step.checked:
        return
    step.checked = True
    settings, skipped, slices = run.config.train, int(step.logged["skipped"]), _slices(run, step)
    if settings.nonfinite == "skip" and skipped <= settings.nonfinite_limit:
        if is_primary():
            record = {"step": step.number, "nonfinite": fault, "skipped": skipped, "slices": slices}
            run_folder.append_history(run.workdir, record)
        return
    remedy = {
        "image": "mend or leave out the file",
        "loss": "train anew with a smaller config.optim.learning_rate, or with config.optim.clip_norm=1",
        "gradient": "train anew with a smaller config.optim.learning_rate",
    }[fault]
    limit = f", the skipped step number {skipped} (config.train.nonfinite_limit)" if skipped > 1 else ""
    named = "; ".join(f"{case} {', '.join(map(str, numbers))}" for case, numbers in slices.items())
    raise NumbersError(
        f"The {fault} of step {step.number}{limit} is NaN or infinite, and nothing of it was saved: {remedy}. "
        f"Its cases and slices: {named}."
    )


def _slices(run: Run, step: _Step) -> dict[str, list[int]]:
    """The slices of the step's batch by the name of their case."""
    slices: dict[str, list[int]] = {}
    for position, number in zip(step.case.tolist(), step.slice.tolist(), strict=True):
        slices.setdefault(run.cases[position].name, []).append(number)
    return slices


def _logged(run: Run, step: _Step) -> dict[str, Any]:
    """The step's line in the history; what is no number in a step that was skipped is None."""
    values = {key: float(step.logged[key]) for key in ("loss", "dice", "gradient_norm")}
    return {
        "step": step.number,
        **{key: value if np.isfinite(value) else None for key, value in values.items()},
        "spikes": int(step.logged["spikes"]),
        "skipped": int(step.logged["skipped"]),
        "learning_rate": float(run.schedule(max(step.number - 1 - int(step.logged["skipped"]), 0))),
    }


def _validate(run: Run, state: TrainState) -> tuple[dict, dict[int, PackedMask]]:
    """The scores and masks of the validation side. A signal ends it where it stands, with the epoch's steps saved."""

    def save_unscored() -> str:
        run.save(state, None)
        return _saved(int(state.step))

    run.stop.anywhere(save_unscored)
    probability = functools.partial(run.probability_step, *state.weights)
    predicted = segment(probability, run.config, run.cases, run.validation, run.mesh, title="validation")
    kept: dict[int, PackedMask] = {}
    index, counts = count_slices(packed_masks.keep(_watched(run, predicted), kept), run.cases, run.classes)
    run.stop.between_steps()
    return report.summarise(report.case_rows(run.cases, index, counts, run.classes), counts), kept


def _watched(run: Run, predicted: Iterator[scoring.Predicted]) -> Iterator[scoring.Predicted]:
    allowed = run.config.watchdog_seconds * FIRST
    while True:
        run.watchdog.expect("the next validated case", allowed)
        run.stop.check()
        one = next(predicted, None)
        if one is None:
            return
        yield one


def _saved(step: int) -> str:
    return f"saved step {step}; the same command goes on."
