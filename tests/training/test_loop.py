"""The epochs of a run whose network is a line, so that a step takes no time to compile."""

import types

import jax
import numpy as np
import optax
import pytest
from lines import Line

from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.data.slices import all_slices
from unet_jax.inference.network import make_probability_step
from unet_jax.inference.settings import SegmentSettings
from unet_jax.models.functional import split_model
from unet_jax.run import checkpoint, history
from unet_jax.runtime.mesh import data_mesh, replicated
from unet_jax.runtime.signals import StopRequest
from unet_jax.runtime.watchdog import Watchdog
from unet_jax.training import loop, optim
from unet_jax.training.running import Run
from unet_jax.training.step import init_state, make_train_step
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


@pytest.fixture
def begin(settings, configure, tmp_path):
    """Makes the run and the state before its first step."""

    def make(schedule, **changes):
        config = configure(settings | SETTINGS | changes)
        mesh = data_mesh()
        batch = next(_batches())
        data = DataSet([Case("a", "a", batch["image"], batch["mask"])], {}, "abc", {})
        graphdef, params, batch_stats = split_model(Line())
        optimizer = optax.sgd(schedule)
        checkpoint.prepare(tmp_path / "run" / "checkpoints")
        run = Run(
            config=config,
            workdir=tmp_path / "run",
            mesh=mesh,
            data=data,
            validation=all_slices(data.cases),
            train_step=make_train_step(graphdef, optimizer, StepSettings.of(config, ()), schedule),
            network_step=make_probability_step(graphdef, image_size=SIZE),
            settings=SegmentSettings.of(config, mesh),
            steps_per_epoch=STEPS_PER_EPOCH,
            total_steps=min(config.train.epochs * STEPS_PER_EPOCH, config.train.steps or 1_000),
            checkpoints=tmp_path / "run" / "checkpoints",
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
    loop.train_epochs(run, state, _batches(nan_in_step=3), [])
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
    epochs = loop.train_epochs(run, state, timed(), [])
    found = {record["step"]: record["images_per_second"] for record in _steps(run)}
    # Step 5 is the first epoch's last and has no record; step 6 begins the second.
    expected = {2: 8 / 0.75, 4: 8 / 1.75, 6: 4 / 1.5, 8: 8 / 3.75, 10: 8 / 4.75}
    assert found == pytest.approx(expected)
    assert [record["seconds"] for record in epochs] == pytest.approx([15 / 4 + 100, 40 / 4 + 100])


def test_the_batch_alone_moves_to_the_device(begin, monkeypatch):
    """Whatever else a step would have copied there without being told raises an error."""
    run, state = begin(optax.constant_schedule(0.1))
    state, logged = loop._step(run, state, next(_batches()))
    assert np.isfinite(float(logged["loss"]))
    assert int(state.step) == 1
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        loop._step(run, state.replace(step=np.int32(1)), next(_batches()))
    monkeypatch.setattr(loop, "global_batch", lambda batch, mesh: batch)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        loop._step(run, state, next(_batches()))
