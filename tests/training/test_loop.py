"""The epochs of a run whose network is a line, so that a step takes no time to compile."""

import dataclasses
import itertools
import types

import jax
import numpy as np
import optax
import pytest
from lines import Line

from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.data.slices import all_slices
from unet_jax.errors import StopRequestedError
from unet_jax.inference.network import make_probability_step
from unet_jax.inference.settings import SegmentSettings
from unet_jax.models.functional import split_model
from unet_jax.run import checkpoint, history
from unet_jax.runtime.mesh import data_mesh, replicated
from unet_jax.runtime.signals import StopRequest
from unet_jax.runtime.watchdog import Watchdog
from unet_jax.training import dispatch, feed, loop, optim, samples, state_on_disk
from unet_jax.training.pace import Pace
from unet_jax.training.running import Run
from unet_jax.training.step import init_state, make_train_step, make_train_steps
from unet_jax.training.step_settings import StepSettings

SIZE, BATCH, STEPS_PER_EPOCH = 8, 4, 5
SETTINGS = {"data.image_size": SIZE, "train.batch_size": BATCH, "train.epochs": 2, "train.checkpoint_every_steps": 0}


def _batches(*, nan_in_step=None):
    """Endless batches of random intensities, tumour where the first sequence is bright."""
    rng = np.random.default_rng(0)
    number = 0
    while True:
        number += 1
        image = rng.random((BATCH, SIZE, SIZE, 3), np.float32)
        mask = (image[..., 0] > 0.5).astype(np.uint8)
        if number == nan_in_step:
            image[0, 0, 0, 0] = np.nan
        places = np.zeros(BATCH, np.int32)
        yield {"image": image, "mask": mask, "case": places, "slice": places}


def _train(run, state, batches):
    """Trains to the end with a program a step, and batches in turn."""
    fed = feed.fed(batches, itertools.repeat(1), lambda several: feed.sent(several, run.mesh))
    return loop.train_epochs(run, state, fed, [], Pace())


def _fed_once(run):
    return next(feed.fed(_batches(), iter([1]), lambda several: feed.sent(several, run.mesh)))


@pytest.fixture
def begin(settings, configure, tmp_path):
    """Makes the run and the state before its first step."""

    def make(schedule, folder="run", cases=None, **changes):
        config = configure(settings | SETTINGS | changes)
        mesh = data_mesh()
        batch = next(_batches())
        data = DataSet(cases or [Case("a", "a", batch["image"], batch["mask"])], {}, "abc", {})
        graphdef, params, batch_stats = split_model(Line())
        optimizer = optax.sgd(schedule)
        workdir, of_step = tmp_path / folder, (graphdef, optimizer, StepSettings.of(config, ()), schedule)
        checkpoint.prepare(workdir / "checkpoints")
        run = Run(
            config=config,
            workdir=workdir,
            mesh=mesh,
            data=data,
            validation=all_slices(data.cases),
            train_step=make_train_step(*of_step),
            train_steps=make_train_steps(*of_step),
            network_step=make_probability_step(graphdef, image_size=SIZE),
            settings=SegmentSettings.of(config, mesh),
            steps_per_epoch=STEPS_PER_EPOCH,
            total_steps=min(config.train.epochs * STEPS_PER_EPOCH, config.train.steps or 1_000),
            checkpoints=workdir / "checkpoints",
            record={"data": "abc", "split": "def"},
            stop=StopRequest(listen=False),
            watchdog=Watchdog(tmp_path / "stacks.txt"),
            events=None,
        )
        return run, jax.device_put(init_state(params, batch_stats, optimizer), replicated(mesh))

    return make


def _steps(run):
    """The history's records of steps."""
    return [record for record in history.read(run.workdir) if "loss" in record]


def test_the_history_has_the_rate_that_each_step_used(begin):
    """Warm-up from a hundredth over 4 steps. Step 3 is skipped: it had the rate of the next one."""
    schedule = optim.learning_rate_schedule(
        "constant", peak=0.4, warmup_steps=4, steps_per_epoch=STEPS_PER_EPOCH, total_steps=2 * STEPS_PER_EPOCH
    )
    run, state = begin(schedule, **{"train.nonfinite": "skip", "train.nonfinite_limit": 1})
    _train(run, state, _batches(nan_in_step=3))
    records = _steps(run)
    assert [record["step"] for record in records] == list(range(1, 11))
    assert [record["skipped"] for record in records] == [0, 0, *[1] * 8]
    expected = [0.004, 0.103, 0.202, 0.202, 0.301, *[0.4] * 5]
    assert [record["learning_rate"] for record in records] == pytest.approx(expected, rel=1e-5)


def test_images_per_second_are_those_since_the_last_record(begin, monkeypatch):
    """The clock stands still but for step n, which takes n / 4 seconds, and for a validation of a hundred."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    validate = loop.validate

    def validated(*arguments):
        now[0] += 100
        return validate(*arguments)

    def timed():
        for number, batch in enumerate(_batches(), 1):
            now[0] += number / 4
            yield batch

    monkeypatch.setattr(loop, "validate", validated)
    run, state = begin(optax.constant_schedule(0.1), **{"train.log_every_steps": 2})
    epochs = _train(run, state, timed())
    found = {record["step"]: record["images_per_second"] for record in _steps(run)}
    # Step 5 is the first epoch's last and has no record; step 6 begins the second.
    expected = {2: 8 / 0.75, 4: 8 / 1.75, 6: 4 / 1.5, 8: 8 / 3.75, 10: 8 / 4.75}
    assert found == pytest.approx(expected)
    assert [record["seconds"] for record in epochs] == pytest.approx([15 / 4 + 100, 40 / 4 + 100])


def test_the_batch_alone_moves_to_the_device(begin, monkeypatch):
    """Whatever else a step would have copied there without being told raises an error."""
    run, state = begin(optax.constant_schedule(0.1))
    state, logged = loop._run_program(run, state, _fed_once(run))
    assert np.isfinite(float(logged["loss"]))
    assert int(state.step) == 1
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        loop._run_program(run, state.replace(step=np.int32(1)), _fed_once(run))
    fed = _fed_once(run)
    vars(fed)["on_device"] = next(_batches())
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        loop._run_program(run, state, fed)


IN_TURN = {"data.ahead": 0, "data.resident": "never", "train.steps_per_dispatch": 1}


@pytest.fixture
def train_slices(begin):
    """Trains two epochs of five steps; after some programs a signal comes, and the run resumes as it is."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (STEPS_PER_EPOCH * BATCH + 1, SIZE, SIZE, 3), np.uint8)
    cases = [Case("a", "a", image, (image[..., 0] > 128).astype(np.uint8))]

    def train(folder, ways, stopped_after=None, **changes):
        schedule = optax.constant_schedule(0.1)
        run, state = begin(schedule, folder, cases, **(ways | changes))
        sampled = samples.of_slices(run.config, cases, {"train": all_slices(cases)})

        def stopping(program):
            def stepped(*arguments):
                calls.append(program)
                run.stop.asked = len(calls) == stopped_after
                return program(*arguments)

            return stepped

        calls, epochs = [], []
        run = dataclasses.replace(run, train_step=stopping(run.train_step), train_steps=stopping(run.train_steps))
        for _ in range(1 if stopped_after is None else 2):
            done, pace = int(state.step), Pace()
            epochs = history.epochs_of(history.rewind(run.workdir, done, int(state.epochs)))
            periods = (STEPS_PER_EPOCH, run.config.train.checkpoint_every_steps)
            counts = dispatch.counts(done, run.total_steps, periods, lambda: run.config.train.steps_per_dispatch)
            with feed.opened(run.config, sampled, run.mesh, done, counts) as fed:
                try:
                    loop.train_epochs(run, state, fed, epochs, pace)
                except StopRequestedError:
                    assert stopped_after is not None
            state, _ = state_on_disk.restore(run.checkpoints, begin(schedule, folder, cases)[1], run.mesh, run.record)
        records = [
            {key: value for key, value in record.items() if key not in ("images_per_second", "seconds")}
            for record in history.read(run.workdir)
        ]
        return jax.tree.map(np.asarray, state), records, len(calls)

    return train


def test_however_batches_come_a_run_is_the_same_to_the_bit_though_it_was_stopped(train_slices):
    """Parameters, totals and history; the run is stopped in the middle of an epoch and resumed."""
    state, records, count = train_slices("in turn", IN_TURN)
    assert (int(state.step), count) == (10, 10)
    assert len(records) == 10 + 2
    for folder, ways, stopped_after, programs in (
        ("ahead", {"data.ahead": 2}, 7, 10),
        ("resident", {"data.resident": "must"}, 7, 10),
        ("two steps", {"train.steps_per_dispatch": 2}, 2, 6),
        ("all", {"data.ahead": 1, "data.resident": "must", "train.steps_per_dispatch": 3}, 4, 6),
    ):
        found, its_records, its_count = train_slices(folder, IN_TURN | ways, stopped_after)
        jax.tree.map(np.testing.assert_array_equal, found, state)
        assert its_records == records, folder
        assert its_count == programs, folder


def test_checkpoints_are_where_they_are_asked_for_with_several_steps_a_program(train_slices, tmp_path):
    train_slices("run", IN_TURN | {"train.steps_per_dispatch": 2}, **{"train.checkpoint_every_steps": 4})
    saved = {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert {8, 10} <= saved <= {4, 5, 8, 10}


def test_the_step_that_met_nan_is_named_with_several_steps_a_program(begin):
    run, state = begin(optax.constant_schedule(0.1), **{"train.nonfinite": "skip", "train.nonfinite_limit": 1})
    fed = feed.fed(_batches(nan_in_step=3), iter([4, 1, 4, 1]), lambda several: feed.sent(several, run.mesh))
    loop.train_epochs(run, state, fed, [], Pace())
    records = history.read(run.workdir)
    assert [record["step"] for record in records if "nonfinite" in record] == [3]
    assert [record["skipped"] for record in records if "loss" in record] == [0, 0, *[1] * 8]
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 11))
