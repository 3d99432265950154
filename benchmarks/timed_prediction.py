"""`main.py --mode=predict` whose network is waited for at each call: for benchmarks.prediction.

python -m benchmarks.timed_prediction CALLS.json --mode=predict --workdir=RUN --input=PATH --output=FOLDER

CALLS.json gets the clock at the beginning of each call of the network and its seconds, CALLS.npz its parameters.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.runtime import start_up

Calls = list[tuple[float, float]]


def timed(make: Callable[..., Callable], calls: Calls, networks: list[Any]) -> Callable[..., Callable]:
    """`make`, whose first argument is a network, or several, and which returns one: each call of that is noted."""

    def made(given: Any, *rest: Any) -> Callable:
        network = make(given, *rest)
        networks.append(given if callable(given) else given[0])

        def called(*arguments: Any) -> Any:
            import jax

            began = time.time()
            found = jax.block_until_ready(network(*arguments))
            calls.append((began, time.time() - began))
            return found

        return called

    return made


def main() -> None:
    """Predicts as the arguments say, and keeps the calls and the parameters."""
    start_up.re_execute()

    # As late as the command itself imports jax, but for its flags.
    from unet_jax.inference import segment, volumes

    found, calls, networks = Path(sys.argv[1]), [], []
    segment.with_flips = timed(segment.with_flips, calls, networks)
    volumes.averaged = timed(volumes.averaged, calls, networks)
    sys.argv = ["main.py", *sys.argv[2:]]

    from flax import traverse_util

    from unet_jax.command_line import program

    try:
        program.run()
    finally:
        found.write_text(json.dumps(calls))
        params = traverse_util.flatten_dict(networks[0].args[0])
        np.savez(
            found.with_suffix(".npz"), **{".".join(map(str, path)): np.asarray(one) for path, one in params.items()}
        )


if __name__ == "__main__":
    main()
