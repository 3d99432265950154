"""The way of a command into several processes, and which modes only one of them does."""

from collections.abc import Callable

from unet_jax.command_line.flags import (
    CACHE_DIR,
    CONFIG,
    COORDINATOR,
    DATA,
    DISTRIBUTED,
    FLAGS,
    MODE,
    PROCESS,
    PROCESSES,
)
from unet_jax.errors import InputError
from unet_jax.run.config import as_json, flatten
from unet_jax.version import VERSION

# What the first process does while the others wait.
ALONE = ("export", "plan", "check", "pack")


def is_one_of_several() -> bool:
    """Whether the flags say so."""
    return DISTRIBUTED.value or COORDINATOR.value or PROCESSES.value is not None or PROCESS.value is not None


def run_with_others(run: Callable[[], None]) -> None:
    """Meets the other processes, makes sure that they are given the same command, and runs it."""
    if MODE.value == "benchmark":
        raise InputError("--mode=benchmark measures one process: start it without --distributed and --coordinator.")

    from unet_jax.runtime import exchange, processes
    from unet_jax.runtime.signals import StopRequest

    print(processes.join(COORDINATOR.value, PROCESSES.value, PROCESS.value), flush=True)
    with StopRequest() as stop:
        # Training has last words of its own.
        stop.anywhere(lambda: "stopped; run the same command again.")
        exchange.agree({"the version": VERSION, **_flags(), **_keys()})
        run()


def by_one_process(verb: Callable[[], None]) -> None:
    """Runs it in the first process, which works as if it were alone."""
    from unet_jax.runtime import exchange

    if exchange.index() == 0:
        with exchange.alone():
            verb()


def _flags() -> dict[str, object]:
    """Those that all processes must have the same; where data and caches lie may differ."""
    own = {flag.name for flag in (CACHE_DIR, CONFIG, COORDINATOR, DATA, PROCESSES, PROCESS)}
    named = FLAGS.get_flags_for_module("unet_jax.command_line.flags")
    return {f"--{flag.name}": flag.value for flag in named if flag.name not in own}


def _keys() -> dict[str, object]:
    """Of the config; where things lie may differ."""
    from unet_jax.run.resume import OF_A_MACHINE

    keys = flatten(as_json(CONFIG.value.to_dict())) if CONFIG.value is not None else {}
    return {f"config.{key}": value for key, value in keys.items() if key not in OF_A_MACHINE}
