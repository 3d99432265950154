"""How fast a recipe runs on the device at hand, part by part, and how much of the device that is."""

import contextlib
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.benchmark import feeding, first_step, flops, memory, rates, timing
from unet_jax.benchmark.subject import Subject, for_device, random_like
from unet_jax.benchmark.table import table
from unet_jax.benchmark.training_steps import Training, Way, alternate
from unet_jax.data import pipeline, regions
from unet_jax.files import write_json
from unet_jax.inference.network import make_step
from unet_jax.runtime import compilation_cache, environment
from unet_jax.runtime.mesh import data_mesh, global_batch
from unet_jax.training import setup
from unet_jax.training.step import make_train_step, make_train_steps
from unet_jax.training.step_inputs import augmented

RESULTS, TRACE = "benchmark.json", "trace"
TRACED_STEPS = 5


def benchmark(config: ConfigDict, workdir: Path, command: Sequence[str] = ()) -> dict:
    """Measures what the config says, prints a table and writes benchmark.json.

    Args:
        config: a recipe; `config.benchmark` says how long to measure.
        workdir: where benchmark.json and the profile go.
        command: the command line that this process was started with, to start training with; without it, the time to
            the first step is not measured.

    Returns:
        what benchmark.json holds.

    Raises:
        InputError: the config or the data cannot be used.
    """
    subject = Subject.of(config, workdir)
    config, seconds = subject.config, config.benchmark.seconds
    # Before this process takes the device and its memory.
    starts = first_step.cold_and_warm(command) if command and config.benchmark.first_step else None
    mesh = data_mesh(config.train.spatial)
    setup.check(config, mesh, subject.classes)

    sampled = subject.samples()
    with contextlib.closing(pipeline.stream(sampled.batches(0))) as batches:
        data = _measure_data(config, batches, sampled.steps_per_epoch)
        drawn = random_like(for_device(next(batches)))
    optimizer, schedule = setup.optimizer_and_schedule(config, sampled.steps_per_epoch)
    graphdef, state = setup.initial_state(config, subject.data.channels, optimizer, mesh, subject.classes)
    step_settings = subject.step_settings(mesh)
    of_step = graphdef, optimizer, step_settings, schedule
    train_step, train_steps = make_train_step(*of_step), make_train_steps(*of_step)
    random_batch = global_batch(drawn, mesh)
    compiled, compiling = _compile(train_step, state, random_batch)
    flops_a_step = flops.count(train_step, state, random_batch)

    network = make_step(graphdef, config, mesh, overlap=regions.overlap(subject.classes))
    image = global_batch({"image": subject.network_input(drawn)}, mesh)["image"]
    training = Training(state)

    def predict() -> jax.Array:
        return network(*training.state.weights, image)

    ways = {"end_to_end": feeding.as_configured(config)}
    ways |= feeding.others(config) if config.benchmark.feeding else {}
    with feeding.opened(ways, config, sampled, mesh, train_step, train_steps) as fed:
        still = Way(train_step, itertools.repeat(random_batch))
        stepping, of_step_only = alternate(training, {"step": still, **fed}, seconds)
        predicting = timing.sample(predict, seconds)
        if config.benchmark.trace:
            with jax.profiler.trace(str(workdir / TRACE)):
                training.run(fed["end_to_end"], count=TRACED_STEPS)
                jax.block_until_ready(predict())
    augment = jax.jit(functools.partial(augmented, jax.random.key(config.seed), settings=step_settings))
    augmenting = timing.sample(lambda: augment(random_batch), seconds / 5)
    flops_a_prediction = flops.count(network, *training.state.weights, image)

    # Before the matrix products, whose matrices may take more than all of that.
    peaks = memory.peaks(compiled)
    peak = rates.peak_tflops(seconds / 5)
    speeds = functools.partial(
        rates.speeds,
        images=config.train.batch_size,
        dtype=config.model.get("dtype", "float32"),
        devices=1 if jax.default_backend() == "cpu" else jax.device_count(),
        peak=peak,
    )
    results = {
        **environment.describe(),
        "config": {
            "model": config.model.to_dict(),
            "size": subject.size,
            "batch_size": config.train.batch_size,
        },
        "data": data,
        "step": speeds(stepping["step"], flops=flops_a_step) | {"gflop_by_xla": flops.gflop_by_xla(compiled)},
        "end_to_end": speeds(stepping["end_to_end"], flops=flops_a_step) | {"of_step_only": of_step_only["end_to_end"]},
        "feeding": {
            name: timing.milliseconds(stepping[name]) | ways[name] | {"of_step_only": of_step_only[name]}
            for name in ways
            if name != "end_to_end"
        },
        "augmentation": timing.milliseconds(augmenting)
        | {
            "images_per_second": rates.images_per_second(augmenting, config.train.batch_size),
            "of_step": float(np.median(augmenting) / np.median(stepping["step"])),
        },
        "inference": speeds(predicting, flops=flops_a_prediction),
        "compiling": compiling,
        "first_step": dict(zip(("cold", "warm"), starts, strict=True)) if starts else None,
        "peak_tflops": peak,
        "memory_gb": peaks,
    }
    write_json(workdir / RESULTS, results)
    print(table(results))
    print(f"  written to {workdir / RESULTS}" + (f"; profile in {workdir / TRACE}" if config.benchmark.trace else ""))
    return results


def _measure_data(config: ConfigDict, batches: Iterator[dict], steps_per_epoch: int) -> dict[str, float]:
    """Times batches on the host, from the second epoch on if the first is over within `config.benchmark.seconds`."""
    end = time.perf_counter() + config.benchmark.seconds
    for _ in range(steps_per_epoch):
        next(batches)
        if time.perf_counter() > end:
            break
    samples = timing.sample(lambda: next(batches)["image"], config.benchmark.seconds)
    speed = rates.images_per_second(samples, config.train.batch_size)
    return timing.milliseconds(samples) | {"images_per_second": speed}


def _compile(step: Callable, *arguments: Any) -> tuple[jax.stages.Compiled, dict[str, float]]:
    """The compiled step, and the seconds of tracing it, compiling it, and loading it from a compilation cache."""
    with tempfile.TemporaryDirectory() as folder, compilation_cache.replaced_by(folder):
        seconds = {}
        for name in ("compile_seconds", "load_seconds"):
            jax.clear_caches()
            began = time.perf_counter()
            lowered = step.lower(*arguments)
            seconds["trace_seconds"] = time.perf_counter() - began
            began = time.perf_counter()
            compiled = lowered.compile()
            seconds[name] = time.perf_counter() - began
    return compiled, seconds
