"""Runs command lines in processes forked from one that has imported what they need: a slip takes milliseconds."""

import contextlib
import dataclasses
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code.
        out: what it printed.
        err: on stderr.
    """

    code: int
    out: str
    err: str


@contextlib.contextmanager
def _streams_in(folder: Path) -> Iterator[None]:
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    yield
    sys.stdout.flush()
    sys.stderr.flush()


def _start(arguments: Sequence[str], cwd: Path, streams: Path) -> None:
    """In the child: as `unet-jax` is started in `cwd`."""
    with _streams_in(streams):
        os.chdir(cwd)
        sys.argv = ["unet-jax", *arguments]
        from unet_jax.command_line import program

        program.run()


def run(arguments: Sequence[str], cwd: Path, streams: Path) -> Ended:
    """Runs `unet-jax` with these arguments in the folder `cwd`; its output goes through files in `streams`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unet_jax.command_line.program", "unet_jax.training.train"])
    child = context.Process(target=_start, args=(arguments, cwd, streams))
    child.start()
    child.join()
    return Ended(child.exitcode, *((streams / name).read_text() for name in ("out", "err")))
