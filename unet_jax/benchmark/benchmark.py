"""How fast a recipe runs on the device at hand, part by part, and how much of the device that is."""

import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.benchmark import first_step, flops, memory, rates, timing
from unet_jax.benchmark.table import table
from unet_jax.benchmark.training_steps import Training, alternate
from unet_jax.data import labels, load, pipeline, splits
from unet_jax.data.slices import Slices
from unet_jax.errors import InputError
from unet_jax.files import write_json
from unet_jax.inference.network import make_probability_step
from unet_jax.run.folder import SPLIT
from unet_jax.runtime import compilation_cache, environment
from unet_jax.runtime.mesh import by_batch, data_mesh, global_batch
from unet_jax.training import samples, setup
from unet_jax.training.step import ON_DEVICE, StepSettings, make_train_step

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
    if load.has_patches(config):
        raise InputError("--mode=benchmark measures training on slices, and config.data.patch or config.plan is set.")
    data_set = load.load(config)
    cases, classes = data_set.cases, labels.count(data_set.classes)
    # Before this process takes the device and its memory.
    starts = first_step.cold_and_warm(command) if command and config.benchmark.first_step else None
    mesh = data_mesh()
    setup.check(config, mesh, classes)
    split, _ = setup.choose_split(config, data_set, workdir / SPLIT)
    training_side = splits.slices_of(split, cases, "train")
    weigh = samples.pixel_weights(config, cases, training_side)
    slices = Slices(cases, training_side, config.data.slab, weigh, config.data.neighbours)

    batches = _batches(config, slices)
    data = _measure_data(config, batches, len(slices))
    steps_per_epoch = pipeline.steps_per_epoch(len(slices), config.train.batch_size)
    optimizer, schedule = setup.optimizer_and_schedule(config, steps_per_epoch)
    graphdef, state = setup.initial_state(config, data_set.channels, optimizer, mesh, classes)
    step_settings = StepSettings.of(config, classes, ignores=data_set.ignores)
    train_step = make_train_step(graphdef, optimizer, step_settings, schedule)
    random_batch = global_batch(_random_like(_for_device(next(batches))), mesh)
    compiled, compiling = _compile(train_step, state, random_batch)
    flops_a_step = flops.count(train_step, state, random_batch)

    fed = (global_batch(_for_device(batch), mesh) for batch in batches)
    training = Training(train_step, state)
    still, moving, of_step_only = alternate(training, random_batch, fed, config.benchmark.seconds)
    probability = make_probability_step(graphdef, image_size=config.data.image_size)
    image = jax.device_put(random_batch["image"], by_batch(mesh))

    def predict() -> jax.Array:
        return probability(training.state.params, training.state.batch_stats, image)

    predicting = timing.sample(predict, config.benchmark.seconds)
    flops_a_prediction = flops.count(
        probability, training.state.params, training.state.batch_stats, random_batch["image"]
    )
    if config.benchmark.trace:
        with jax.profiler.trace(str(workdir / TRACE)):
            training.run(fed, count=TRACED_STEPS)
            jax.block_until_ready(predict())

    # Before the matrix products, whose matrices may take more than all of that.
    peaks = memory.peaks(compiled)
    peak = rates.peak_tflops(config.benchmark.seconds / 5)
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
            "image_size": config.data.image_size,
            "batch_size": config.train.batch_size,
        },
        "data": data,
        "step": speeds(still, flops=flops_a_step) | {"gflop_by_xla": flops.gflop_by_xla(compiled)},
        "end_to_end": speeds(moving, flops=flops_a_step) | {"of_step_only": of_step_only},
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


def _batches(config: ConfigDict, slices: Slices) -> Iterator[dict[str, np.ndarray]]:
    """Training batches without end."""
    return iter(
        pipeline.training_batches(
            slices,
            batch_size=config.train.batch_size,
            seed=config.seed,
            epochs=sys.maxsize // (1 + len(slices)),
            workers=config.data.workers,
            tumour_share=config.data.tumour_share,
        )
    )


def _measure_data(config: ConfigDict, batches: Iterator[dict], slices: int) -> dict[str, float]:
    """Times batches on the host, from the second epoch on if the first is over within `config.benchmark.seconds`."""
    end = time.perf_counter() + config.benchmark.seconds
    for _ in range(pipeline.steps_per_epoch(slices, config.train.batch_size)):
        next(batches)
        if time.perf_counter() > end:
            break
    samples = timing.sample(lambda: next(batches)["image"], config.benchmark.seconds)
    speed = rates.images_per_second(samples, config.train.batch_size)
    return timing.milliseconds(samples) | {"images_per_second": speed}


def _for_device(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: array for key, array in batch.items() if key in ON_DEVICE}


def _random_like(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Random numbers in a batch's shapes and types: zeros would make some devices faster."""
    rng = np.random.default_rng(0)

    def draw(key: str, array: np.ndarray) -> np.ndarray:
        if key == "size":  # of images that differ in it: how they lie in the batch
            return array
        if key == "mask":
            return rng.integers(0, 2, array.shape, np.uint8)
        if array.dtype == np.uint8:
            return rng.integers(0, 256, array.shape, np.uint8)
        return rng.random(array.shape, np.float32)

    return {key: draw(key, array) for key, array in batch.items()}


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
