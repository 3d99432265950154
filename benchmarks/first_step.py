"""From the start of the program to its first finished step, with compiled programs on disk: as a user waits for it.

python -m benchmarks.first_step [--rounds=5] -- --config=configs/default.py

Everything after -- is training's own command line. Data are made and decoded before, by the first of the runs that do
not count.
"""

import sys

import numpy as np
from absl import app, flags

from benchmarks import results
from unet_jax.benchmark.first_step import cold_and_warm
from unet_jax.runtime import environment

ROUNDS = flags.DEFINE_integer("rounds", 5, "Starts with compiled programs on disk; the median counts.")
KEEP = flags.DEFINE_bool("keep", True, "Whether the figures go to benchmarks/results.")


def main(arguments: list[str]) -> None:
    """Measures, prints and keeps the figures."""
    command = [sys.executable, "main.py", *arguments[1:]]
    cold_and_warm(command, warm=0)
    starts = cold_and_warm(command, warm=ROUNDS.value)
    found = {
        **environment.describe(),
        "arguments": arguments[1:],
        "cold": starts[0],
        "warm": starts[1:],
        "warm_median": {key: float(np.median([one[key] for one in starts[1:]])) for key in starts[0]},
    }
    for name in ("cold", "warm_median"):
        print(f"{name}: {found[name]['seconds']:.2f} s, {found[name]['cpu_seconds']:.2f} s of processor")
    if KEEP.value:
        device = "cpu" if found["device"] == "cpu" else "gpu"
        print(f"written to {results.write(results.name_for('first_step', device), found)}")


if __name__ == "__main__":
    app.run(main)
