"""What recomputed features and batches in parts save of a training step's memory, and what they cost.

    python -m benchmarks.less_memory
    python -m benchmarks.scaling      fills docs/scaling_model.md

nnU-Net's plain network in 3-D, of XLA's own layers, as on an accelerator. Memory is XLA's plan for the step, beside
state and batch. The price is seconds of processor, the contenders in turns, so that other programs on the machine count
less than in seconds of the clock.
"""

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
from flax import nnx

from benchmarks import results
from unet_jax import models
from unet_jax.models.fast.tracing import SLABS, tracing_for
from unet_jax.models.functional import split_model
from unet_jax.training import step as steps
from unet_jax.training.patch_augment.settings import AugmentSettings, Chance

NAME = "less_memory"
FEATURES, PATCH, BATCH, ROUNDS = (16, 32, 64), (32, 32, 32), 4, 5
# Name → remat, accumulate, and whether Dice pools the batch.
CONTENDERS = {
    "all features kept, the batch whole": (0, 1, False),
    "`remat` 1": (1, 1, False),
    "`remat` 3, all levels": (3, 1, False),
    "`accumulate` 2": (0, 2, False),
    "`accumulate` 4": (0, 4, False),
    "`accumulate` 4, Dice over the batch": (0, 4, True),
    "`remat` 3 and `accumulate` 4": (3, 4, False),
}
OFF = Chance(0.0, (1.0, 1.0))
UNCHANGED = ("scaling", "noise", "blur", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma")


def compiled_step(remat: int, accumulate: int, pooled: bool) -> tuple[jax.stages.Compiled, Callable]:
    """A training step of random patches, and a function that makes its arguments."""
    model = models.build(
        "nnunet", 1, 3, nnx.Rngs(params=0), features=FEATURES, rank=3, deep_supervision=True, remat=remat
    )
    graphdef, params, batch_stats = split_model(model)
    params = jax.tree.map(np.array, params)
    patches = AugmentSettings(PATCH, False, OFF, (), mirror=0.0, **dict.fromkeys(UNCHANGED, OFF))
    settings = steps.StepSettings(
        image_size=None,
        loss={"ce": 1.0, "dice": {"smooth": 1e-5, "per_sample": not pooled}},
        augment={},
        seed=0,
        classes=2,
        patches=patches,
        rank=3,
        accumulate=accumulate,
    )
    optimizer, rng = optax.sgd(0.01, momentum=0.99, nesterov=True), np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(BATCH, *PATCH, 1)).astype(np.float32),
        "mask": rng.integers(0, 3, (BATCH, *PATCH)).astype(np.int8),
    }

    def arguments() -> tuple[steps.TrainState, dict]:
        return steps.init_state(jax.device_put(params), batch_stats, optimizer), jax.device_put(batch)

    step = steps.make_train_step(graphdef, optimizer, settings, optax.constant_schedule(0.01))
    with tracing_for(SLABS):
        return step.lower(*arguments()).compile(), arguments


def measure() -> dict:
    """Each contender's planned bytes and seconds of processor a step, the least of ROUNDS."""
    compiled = {name: compiled_step(*settings) for name, settings in CONTENDERS.items()}
    seconds = {name: [] for name in compiled}
    for _ in range(1 + ROUNDS):  # the first one warms up
        for name, (step, arguments) in compiled.items():
            given = jax.block_until_ready(arguments())
            began = time.process_time()
            jax.block_until_ready(step(*given))
            seconds[name].append(time.process_time() - began)
    rows = {
        name: {
            "megabytes": step.memory_analysis().temp_size_in_bytes / 1e6,
            "gflop": (step.cost_analysis() or {}).get("flops", 0) / 1e9,
            "cpu_seconds": min(seconds[name][1:]),
        }
        for name, (step, _) in compiled.items()
    }
    return {"features": FEATURES, "patch": PATCH, "batch": BATCH, "jax": jax.__version__, "rows": rows}


def table(found: dict) -> str:
    """Markdown: memory, and both as a share of the first row's."""
    first = next(iter(found["rows"].values()))
    size = "×".join(map(str, found["patch"]))
    lines = [
        f"nnU-Net's plain network, features {found['features'][0]} to {found['features'][-1]}, {size}, batch "
        f"{found['batch']}, float32, XLA's own layers on two CPU cores, jax {found['jax']}.",
        "",
        "| training step | memory, MB | memory | seconds of processor |",
        "|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        shares = (row[key] / first[key] for key in ("megabytes", "cpu_seconds"))
        memory, price = (f"{share:.2f}" for share in shares)
        lines.append(f"| {name} | {row['megabytes']:.0f} | {memory} | {price} |")
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    results.write(NAME, measure())
