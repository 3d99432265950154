"""The way of a command into several processes, and which modes only one of them does."""

import copy
import signal
from collections.abc import Callable, Sequence

from absl import flags

from unet_jax.command_line.flags import (
    CACHE_DIR,
    CONFIG,
    COORDINATOR,
    DATA,
    DISTRIBUTED,
    FLAGS,
    PROCESS,
    PROCESSES,
)
from unet_jax.errors import InputError
from unet_jax.run.config import as_json, flatten
from unet_jax.runtime import command_line
from unet_jax.version import VERSION

# What the first process does while the others wait.
ALONE = ("export", "plan", "check", "pack")
# Coordinator, number of processes and own number, as far as the flags say it: of a scheduler, nothing.
Place = tuple[str | None, int | None, int | None]


def is_one_of_several() -> bool:
    """Whether the flags say so."""
    return _place(FLAGS) is not None


def run_with_others(run: Callable[[], None]) -> None:
    """Meets the other processes, makes sure that they are given the same command, and runs it."""
    from unet_jax.runtime import exchange, processes
    from unet_jax.runtime.signals import StopRequest

    with StopRequest() as stop:
        # Waiting for the others may be interrupted as well. Training has last words of its own.
        stop.anywhere(lambda: "stopped; run the same command again.")
        print(processes.join(*_place(FLAGS)), flush=True)
        exchange.agree({"the version": VERSION, **_flags(), **_keys()})
        run()


def complain(error: InputError, arguments: Sequence[str]) -> int:
    """Prints the line of an error of the command line, and returns its exit code.

    If this is one of several processes, the others end with it too: they would wait for this one.
    """
    code = command_line.complain(error)
    place = _place_in(arguments)
    if place is not None:
        from unet_jax.runtime import processes

        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own waits until the others have come
        processes.end_others(error, *place)
    return code


def by_one_process(verb: Callable[[], None]) -> None:
    """Runs it in the first process, which works as if it were alone."""
    from unet_jax.runtime import exchange

    if exchange.index() == 0:
        with exchange.alone():
            verb()


def _place(values: flags.FlagValues) -> Place | None:
    """What parsed flags say; None for a process by itself."""
    place = tuple(values[flag.name].value for flag in (COORDINATOR, PROCESSES, PROCESS))
    return place if values[DISTRIBUTED.name].value or place != (None, None, None) else None


def _place_in(arguments: Sequence[str]) -> Place | None:
    """What a command line says, whatever else is wrong with it."""
    values = flags.FlagValues()
    for flag in (DISTRIBUTED, COORDINATOR, PROCESSES, PROCESS):
        values[flag.name] = copy.deepcopy(FLAGS[flag.name])
    values.set_gnu_getopt()  # goes on after what is not a flag
    try:
        values(list(arguments), known_only=True)
    except flags.Error:
        return None
    return _place(values)


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
