"""What --help and --version print."""

import sys
import textwrap
from collections.abc import Sequence

from unet_jax.command_line import flags
from unet_jax.run import recipes
from unet_jax.version import VERSION

HELP = ("--help", "-help", "-h", "-?", "--helpshort", "--helpfull")
WIDTH = 100
TEXT = """Trains, scores and uses U-Nets for medical image segmentation.

usage: {program} [--mode=MODE] [--config=RECIPE] [--workdir=RUN] [flags]

modes:
  train       trains the recipe, resumes it if it was stopped, and scores the test side; the default
  evaluate    scores a run again, on any side of its split or on other cases
  predict     writes masks of images
  export      writes a run's network as one file for programs without this package
  pack        writes a run, with a model card, as one file to share: --workdir=model.zip
  crossval    trains and scores every fold, pooled by patient
  plan        finds spacing, patch, batch and network as nnU-Net does; trains nothing
  check       reads the data and says what is odd; trains nothing
  benchmark   measures how fast the recipe runs here

examples:
  {program} --config=default                                the first run: needs no data
  {program} --config=lgg_cpu --config.model.width=32        a recipe, with one knob changed
  {program} --mode=evaluate --workdir=runs/lgg_cpu --split=val
  {program} --mode=predict --workdir=runs/lgg_cpu --input=scans --output=masks
  {program} --config=mine.py --workdir=runs/mine            a recipe of your own

recipes: {recipes}.

knobs: {default} explains every key of a recipe; --config.KEY=VALUE sets one.

flags:
{flags}

Exit codes: 0 done, 1 a bug; and with one line that says what happened and what to do: 2 something
that was given cannot be used, 3 stopped by a signal and saved, 4 damaged files, 5 a full or
read-only disk, 6 NaN or infinity, 7 stuck, 8 out of memory, 9 the run's folder is in use.
"""


def asked_for(arguments: Sequence[str]) -> str | None:
    """The text that the command line asks for in place of a run; None where it asks for none."""
    if "--version" in arguments:
        return f"unet_jax {VERSION}"
    return text() if any(argument in HELP for argument in arguments) else None


def text() -> str:
    """All modes, five examples, where the knobs are, and every flag."""
    return TEXT.format(
        program=_program(),
        recipes=textwrap.fill(", ".join(recipes.names()), WIDTH - len("recipes: ")),
        default=recipes.FOLDER / "default.py",
        flags="\n".join(_flag_lines()),
    ).rstrip()


def _program() -> str:
    """How this process was started, as it is typed."""
    name = sys.argv[0].replace("\\", "/").rsplit("/", 1)[-1]
    return {"main.py": "python main.py", "__main__.py": "python -m unet_jax"}.get(name, "unet-jax")


def _flag_lines() -> list[str]:
    own = flags.FLAGS.flags_by_module_dict()[flags.__name__]
    return [
        textwrap.fill(f"  --{'[no]' if flag.boolean else ''}{flag.name}: {flag.help}", WIDTH, subsequent_indent=" " * 6)
        for flag in own
    ]
