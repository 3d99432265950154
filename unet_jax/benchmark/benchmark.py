"""How fast a recipe runs on the device at hand, part by part, and how much of the device that is."""

import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.benchmark import device_peak, first_step, timing
from unet_jax.benchmark import flops as operations
from unet_jax.benchmark.table import table
from unet_jax.data import labels, load, pipeline, splits
from unet_jax.data.slices import Slices
from unet_jax.files import write_json
from unet_jax.inference.network import make_probability_step
from unet_jax.runtime import compilation_cache
from unet_jax.runtime import environment as surroundings
from unet_jax.runtime.mesh import by_batch, data_mesh, global_batch
from unet_jax.training import setup
from unet_jax.training.step import StepSettings, TrainState, make_train_step

RESULTS, TRACE = "benchmark.json", "trace"
ON_DEVICE = ("image", "mask", "weights")
# Steps with a batch that lies on the device and steps with new ones take turns, so that what else the machine does
# falls on both alike; each pair of turns is compared by itself, as a machine's speed drifts.
TURNS = 9
TRACED_STEPS = 5
GIGA = 1e9


def benchmark(config: ConfigDict, workdir: Path, command: Sequence[str] = ()) -> dict:
    """Measures what the config says, prints a table and writes benchmark.json.

    Args:
        config: a recipe; `config.benchmark` says how long to measure.
        workdir: where benchmark.json goes, and the profile.
        command: the command line that this process was started with, to start training by; none leaves that out.

    Returns:
        what benchmark.json holds.

    Raises:
        InputError: the config or the data cannot be used.
    """
    data_set = load.load(config)
    cases, classes = data_set.cases, labels.count(data_set.classes)
    # Before this process takes the device and its memory.
    starts = first_step.cold_and_warm(command) if command and config.benchmark.first_step else None
    mesh = data_mesh()
    setup.check(config, mesh, classes)
    training_side = splits.slices_of(setup.draw_split(config, cases), cases, "train")
    weigh = setup.pixel_weights(config, cases, training_side)
    slices = Slices(cases, training_side, config.data.slab, weigh, config.data.neighbours)

    batches = _batches(config, slices)
    data = _measure_data(config, batches, len(slices))
    steps_per_epoch = pipeline.steps_per_epoch(len(slices), config.train.batch_size)
    optimizer, schedule = setup.optimizer_and_schedule(config, steps_per_epoch)
    graphdef, state = setup.initial_state(config, data_set.channels, optimizer, mesh, classes)
    train_step = make_train_step(graphdef, optimizer, StepSettings.of(config, classes), schedule)
    random_batch = global_batch(_random_like(_for_device(next(batches))), mesh)
    compiled, compiling = _compile(train_step, state, random_batch)
    operations_a_step = operations.count(train_step, state, random_batch)

    real = (global_batch(_for_device(batch), mesh) for batch in batches)
    training = _Training(train_step, state)
    still, fed, of_step_only = _alternate(training, random_batch, real, config.benchmark.seconds)
    probability = make_probability_step(graphdef, image_size=config.data.image_size)
    image = jax.device_put(random_batch["image"], by_batch(mesh))

    def predict() -> jax.Array:
        return probability(training.state.params, training.state.batch_stats, image)

    predicting = timing.sample(predict, config.benchmark.seconds)
    operations_a_prediction = operations.count(
        probability, training.state.params, training.state.batch_stats, random_batch["image"]
    )
    if config.benchmark.trace:
        with jax.profiler.trace(str(workdir / TRACE)):
            training.run(real, count=TRACED_STEPS)
            jax.block_until_ready(predict())

    # Before the matrix products, whose matrices may take more than all of that.
    memory = _memory(compiled)
    peak = _peak(config)
    results = {
        **surroundings.describe(),
        "config": {
            "model": config.model.to_dict(),
            "image_size": config.data.image_size,
            "batch_size": config.train.batch_size,
        },
        "data": data,
        "step": _rates(config, still, operations_a_step, peak) | {"gflop_by_xla": _gflop_by_xla(compiled)},
        "end_to_end": _rates(config, fed, operations_a_step, peak) | {"of_step_only": of_step_only},
        "inference": _rates(config, predicting, operations_a_prediction, peak),
        "compiling": compiling,
        "first_step": dict(zip(("cold", "warm"), starts, strict=True)) if starts else None,
        "peak_tflops": peak,
        "memory_gb": memory,
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
    """Batches made ready on the host, from the second epoch on where an epoch takes no longer than a measure."""
    end = time.perf_counter() + config.benchmark.seconds
    for _ in range(pipeline.steps_per_epoch(slices, config.train.batch_size)):
        next(batches)
        if time.perf_counter() > end:
            break
    samples = timing.sample(lambda: next(batches)["image"], config.benchmark.seconds)
    return timing.milliseconds(samples) | {"images_per_second": config.train.batch_size / float(np.median(samples))}


def _for_device(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: array for key, array in batch.items() if key in ON_DEVICE}


def _random_like(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Random numbers in a batch's shapes and types: zeros would make some devices faster."""
    rng = np.random.default_rng(0)

    def draw(key: str, array: np.ndarray) -> np.ndarray:
        if key == "mask":
            return rng.integers(0, 2, array.shape, np.uint8)
        if array.dtype == np.uint8:
            return rng.integers(0, 256, array.shape, np.uint8)
        return rng.random(array.shape, np.float32)

    return {key: draw(key, array) for key, array in batch.items()}


def _compile(step: Callable, *arguments: Any) -> tuple[jax.stages.Compiled, dict[str, float]]:
    """The compiled step, and the seconds of tracing it, compiling it, and loading it from a compilation cache."""
    with tempfile.TemporaryDirectory() as folder, compilation_cache.fresh(folder):
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


@dataclasses.dataclass
class _Training:
    """Steps as a run takes them: one is computed while the next is prepared."""

    step: Callable
    state: TrainState

    def run(self, batches: Iterator[dict], *, seconds: float = 0.0, count: int = timing.FEWEST) -> list[float]:
        """The seconds from each step's end to the next one's; at least `count`."""
        self.state, previous = self.step(self.state, next(batches))
        jax.block_until_ready(previous)
        ends = [time.perf_counter()]
        self.state, previous = self.step(self.state, next(batches))
        while len(ends) <= count or ends[-1] - ends[0] < seconds:
            self.state, logged = self.step(self.state, next(batches))
            jax.block_until_ready(previous)
            previous = logged
            ends.append(time.perf_counter())
        jax.block_until_ready(previous)
        return np.diff(ends).tolist()


def _alternate(
    training: _Training, resident: dict, fed: Iterator[dict], seconds: float
) -> tuple[list[float], list[float], float]:
    """Seconds of steps with one batch that stays on the device, and with new ones; and the second rate by the first."""
    still, moving, ratios = [], [], []
    for turn in range(TURNS):
        found = {}
        for fresh in (False, True) if turn % 2 else (True, False):
            found[fresh] = training.run(fed if fresh else iter(lambda: resident, None), seconds=seconds / TURNS)
        still += found[False]
        moving += found[True]
        ratios.append(np.median(found[False]) / np.median(found[True]))
    return still, moving, float(np.median(ratios))


def _peak(config: ConfigDict) -> dict[str, float | None]:
    """TFLOP/s of one device: of measured matrix products, and as its maker publishes them for bfloat16."""
    measured = {
        dtype: device_peak.measured_tflops(dtype, config.benchmark.seconds / 5) for dtype in ("float32", "bfloat16")
    }
    return measured | {"published_bfloat16": device_peak.published_tflops(jax.devices()[0].device_kind)}


def _rates(config: ConfigDict, samples: list[float], operations: int, peak: dict[str, float | None]) -> dict:
    seconds = float(np.median(samples))
    # Devices of a CPU share what was measured as its peak.
    tflops = operations / seconds / 1e12 / (1 if jax.default_backend() == "cpu" else jax.device_count())
    published = peak["published_bfloat16"] if config.model.get("dtype", "float32") == "bfloat16" else None
    return timing.milliseconds(samples) | {
        "images_per_second": config.train.batch_size / seconds,
        "gflop": operations / GIGA,
        "tflops_a_device": tflops,
        "share_of_measured_peak": tflops / peak[config.model.get("dtype", "float32")],
        "share_of_published_peak": tflops / published if published else None,
    }


def _gflop_by_xla(compiled: jax.stages.Compiled) -> float | None:
    flops = (compiled.cost_analysis() or {}).get("flops")
    return flops / GIGA if flops else None


def planned_memory_gb(compiled: jax.stages.Compiled) -> float | None:
    """What XLA plans that a program holds at most on a device, its arguments included, GB; None if unknown."""
    plan = compiled.memory_analysis()
    if not plan:
        return None
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return (held + plan.temp_size_in_bytes) / GIGA


def _memory(compiled: jax.stages.Compiled) -> dict[str, float | None]:
    """Peaks so far, of the device (where it keeps count) and of this process; and what XLA plans for a step."""
    device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB on Linux
    return {
        "device_peak": device / GIGA if device else None,
        "step_by_xla": planned_memory_gb(compiled),
        "host_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIGA,
    }
