"""Trains and evaluates U-Nets on MRI.

    python main.py --config=configs/default.py                     train, then score the test side
    python main.py --config=configs/nnunet.py                      plan, train every configuration and fold, choose
    python main.py --config=... --config.model.width=32            any key of the config can be set
    python main.py --mode=evaluate --workdir=runs/default          score it again
    python main.py --mode=predict --workdir=runs/default --input=scans --output=masks
    python main.py --mode=export --workdir=runs/default --output=tumour.zip    for programs without this package
    python main.py --mode=pack --workdir=runs/default --output=model.zip       to share: --workdir=model.zip
    python main.py --mode=benchmark --config=...                   how fast the recipe runs here
    python main.py --mode=crossval --config=...                    every fold, pooled by patient
    python main.py --mode=check --config=...                       reads the data, trains nothing, says what is odd
    python main.py --mode=plan --config=configs/nnunet.py          spacing, patch, batch and network, as nnU-Net plans

Exit codes: 0 done, 1 a bug; and with one line that says what happened and what to do: 2 something that was given cannot
be used, 3 stopped by a signal and saved, 4 damaged files, 5 a full or read-only disk, 6 NaN or infinity, 7 stuck, 8 out
of memory, 9 the run's folder is in use.
"""

from unet_jax.runtime import start_up

if __name__ == "__main__":
    # Before the other imports: re-executing would import them twice.
    start_up.re_execute()

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from unet_jax.errors import InputError
from unet_jax.run import config_file, pack_file
from unet_jax.run.config import default_config, read_config
from unet_jax.run.config_keys import accept_none, check_keys, unknown_keys
from unet_jax.run.resolve import resolve
from unet_jax.runtime.command_line import complain, run_and_report
from unet_jax.runtime.out_of_memory import explained

MODES = ("train", "evaluate", "predict", "export", "benchmark", "crossval", "plan", "check", "pack")

FLAGS = flags.FLAGS
accept_none()
CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="The recipe; --config.model.width=32 sets one key.", lock_config=True
)
MODE = flags.DEFINE_string("mode", "train", f"One of {', '.join(MODES)}.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, or a pack; runs/<name of the config> by default.")
SPLIT = flags.DEFINE_string("split", "test", "evaluate: which side to score; train, val, test or all.")
DATA = flags.DEFINE_string(
    "data", None, "Where the run's data are now; other cases, for evaluate --split=all to score or export to try."
)
INPUT = flags.DEFINE_string("input", None, "predict: a picture, a NIfTI file, a DICOM file, or a folder of them.")
OUTPUT = flags.DEFINE_string(
    "output", None, "predict: the folder for masks and tables; evaluate: for scores; export, pack: the file."
)
OVERWRITE = flags.DEFINE_boolean(
    "overwrite",
    False,
    "predict, export, pack: replaces what is in --output already; plan: the plan in the run's folder.",
)
PROBABILITIES = flags.DEFINE_boolean("probabilities", False, "predict: also writes each pixel's probability.")
OVERLAYS = flags.DEFINE_boolean("overlays", False, "predict: also writes PNGs with the outlines.")
TTA = flags.DEFINE_boolean("tta", None, "evaluate, predict: the mean over flips, instead of config.eval.tta.")
TILES = flags.DEFINE_boolean("tiles", None, "evaluate, predict: windows or whole slices, instead of config.eval.tiles.")
RESUME = flags.DEFINE_string("resume", "auto", "train: auto resumes a run or begins one; must, never: only that.")
FOLD = flags.DEFINE_integer("fold", None, "crossval: trains this fold alone, then pools all that are there.")
CONFIGURATION = flags.DEFINE_string(
    "configuration", None, "train, of config.plan.configurations: trains this one alone."
)
SHAPE = flags.DEFINE_list(
    "shape", None, "export, of a run on patches: the cases' slices, rows and columns, such as 36,50,35."
)
SPACING = flags.DEFINE_list("spacing", None, "export, of a run on patches: the cases' spacing in mm, such as 1,1,1.")
AGAINST = flags.DEFINE_string("against", None, "crossval: the folder of another one, to compare patient by patient.")
FORMAT = flags.DEFINE_string("format", "unet_jax", "plan: nnunet also writes nnU-Net's plans and fingerprint.")
LICENCE = flags.DEFINE_string("licence", None, "pack: of the weights, for the model card, such as CC-BY-4.0.")
CASE_NAMES = flags.DEFINE_boolean("case_names", True, "pack: also packs the names of the data's cases and files.")
VERIFY = flags.DEFINE_boolean("verify-data", False, "Only compares the data's files with the run's, by SHA-256.")

# The pack that a verb reads is unpacked until it is done.
OPENED = contextlib.ExitStack()


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parses the command line; what cannot be parsed ends the program with one line and exit code 2."""
    try:
        config_file.check(arguments)
        rest = FLAGS(list(arguments))
        if len(rest) > 1:
            raise InputError(f"{rest[1]!r} is not a flag: flags look like --mode=train.")
        getattr(CONFIG.value, "seed", None)  # what could not be loaded raises only when it is looked at
    except InputError as error:
        sys.exit(complain(error))
    except Exception as error:  # absl, ml_collections and the parsers of values have many kinds
        keys = [argument[len("--config.") :].split("=")[0] for argument in arguments if "--config." in argument]
        unknown = unknown_keys(keys, default_config()) if isinstance(error, (AttributeError, KeyError)) else []
        sys.exit(complain(InputError("\n".join(unknown) or _last_line(error))))
    return rest


def _last_line(error: Exception) -> str:
    reason = error.__cause__ or error
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[-1] if lines else type(reason).__name__


def main(arguments: Sequence[str]) -> int:
    """Runs what --mode names and returns the exit code."""
    del arguments
    start_up.collect_rarely()
    logging.set_verbosity(logging.ERROR)
    return run_and_report(_run)


def _run() -> None:
    if MODE.value not in MODES:
        raise InputError(f"--mode is {MODE.value!r}; it must be one of {', '.join(MODES)}.")
    if VERIFY.value:
        with OPENED:
            _verify_data()
        return
    verbs = {
        "train": _train,
        "evaluate": _evaluate,
        "predict": _predict,
        "export": _export,
        "benchmark": _benchmark,
        "crossval": _crossval,
        "plan": _plan,
        "check": _check,
        "pack": _pack,
    }
    with OPENED:
        verbs[MODE.value]()


# The verbs are imported when they are run: a mistyped flag is then answered at once, before jax has started.


def _train() -> None:
    config, workdir = _recipe()

    from unet_jax.runtime.cpu_devices import use_cores
    from unet_jax.training.train import train

    use_cores(_batch_size(config))
    if _names_several(config):
        _auto(config, workdir)
    else:
        train(config, workdir, resuming=RESUME.value)


def _auto(config: ConfigDict, workdir: Path) -> None:
    from unet_jax.auto.auto import auto

    auto(config, workdir, configuration=CONFIGURATION.value, fold=FOLD.value, device_memory_gb=_device_memory(config))


def _benchmark() -> None:
    config, workdir = _recipe()

    from unet_jax.benchmark.benchmark import benchmark
    from unet_jax.runtime.cpu_devices import use_cores

    use_cores(_batch_size(config))
    with explained(config):
        benchmark(config, workdir, [sys.executable, *sys.argv])


def _crossval() -> None:
    against = Path(AGAINST.value) if AGAINST.value else None
    config, workdir = (None, _workdir()) if CONFIG.value is None else _recipe()
    if not WORKDIR.value:
        workdir = workdir.with_name(f"{workdir.name}_crossval")

    from unet_jax.crossval.crossval import crossval
    from unet_jax.runtime.cpu_devices import use_cores

    if config is None:
        _use_cores_as(workdir / "fold0")
    else:
        use_cores(_batch_size(config))
    crossval(config, workdir, fold=FOLD.value, against=against)


def _plan() -> None:
    config, workdir = _recipe()
    memory = _device_memory(config)

    from unet_jax.plan.make import make_plan
    from unet_jax.run.folder import lock_run

    with lock_run(workdir):
        make_plan(config, workdir, plan_format=FORMAT.value, overwrite=OVERWRITE.value, device_memory_gb=memory)


def _check() -> None:
    config, workdir = _recipe()

    from unet_jax.check.check import check
    from unet_jax.runtime.cpu_devices import use_cores

    use_cores(_batch_size(config))
    check(config, workdir)


def _device_memory(config: ConfigDict) -> float | None:
    """Of the accelerator at hand, GB; None where the config does not ask for it."""
    if not config.plan.device:
        return None

    from unet_jax.runtime.device_memory import device_memory_gb

    return device_memory_gb()


def _recipe() -> tuple[ConfigDict, Path]:
    """The resolved config, and the run's folder."""
    if CONFIG.value is None:
        raise InputError("--config is missing: name a recipe, such as --config=configs/default.py.")
    check_keys(CONFIG.value, default_config())

    flag = FLAGS["config"]
    config, messages = resolve(CONFIG.value, config_flags.get_override_values(flag))
    for message in messages:
        print(message, flush=True)
    return config, _workdir()


def _evaluate() -> None:
    workdir = _opened()

    if _has_several(workdir):
        from unet_jax.auto.auto import show

        show(workdir, str(_workdir()))
        return

    from unet_jax.evaluation.evaluate import evaluate

    _use_cores_as(workdir)
    evaluate(
        workdir,
        side=SPLIT.value,
        data=_data(),
        output=Path(OUTPUT.value) if OUTPUT.value else pack_file.beside(_workdir(), SPLIT.value),
        flips=TTA.value,
        tiles=TILES.value,
    )


def _predict() -> None:
    _workdir()
    if not INPUT.value or not OUTPUT.value:
        missing = "--output" if INPUT.value else "--input"
        raise InputError(f"{missing} is missing: predict needs --input=PATH of images and --output=FOLDER for masks.")
    workdir = _opened()

    if _has_several(workdir):
        from unet_jax.auto.predict import predict
    else:
        from unet_jax.inference.predict import predict

    _use_cores_as(workdir)
    predict(
        workdir,
        Path(INPUT.value),
        Path(OUTPUT.value),
        overwrite=OVERWRITE.value,
        probabilities=PROBABILITIES.value,
        overlays=OVERLAYS.value,
        flips=TTA.value,
        tiles=TILES.value,
    )


def _export() -> None:
    _workdir()
    if not OUTPUT.value:
        raise InputError("--output is missing: name the file to write, such as --output=tumour.zip.")
    workdir = _opened()

    if _has_several(workdir):
        from unet_jax.auto.export import export
    else:
        from unet_jax.export.export import export

    export(
        workdir,
        Path(OUTPUT.value),
        data=_data(),
        overwrite=OVERWRITE.value,
        shape=_three(SHAPE, int),
        spacing=_three(SPACING, float),
    )


def _pack() -> None:
    workdir = _workdir()
    if not OUTPUT.value:
        raise InputError("--output is missing: name the file to write, such as --output=model.zip.")

    from unet_jax.share.pack import pack

    pack(
        workdir,
        Path(OUTPUT.value),
        licence=LICENCE.value,
        case_names=CASE_NAMES.value,
        overwrite=OVERWRITE.value,
    )


def _three(flag: flags.FlagHolder, kind: type) -> tuple | None:
    """Slices, rows and columns of a flag, or None where it is not given."""
    if not flag.value:
        return None
    try:
        numbers = tuple(map(kind, flag.value))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(0 < number < float("inf") for number in numbers):
        raise InputError(f"--{flag.name}={','.join(flag.value)}: give three numbers above 0: slices, rows, columns.")
    return numbers


def _has_several(workdir: Path) -> bool:
    """Whether the folder is not that of one run, but of all configurations of a plan."""
    if not (workdir / "plan.json").exists():
        return False

    from unet_jax.auto.runs import begun

    return bool(begun(workdir))


def _use_cores_as(workdir: Path) -> None:
    """As many devices as share the batch of the run, whose slices are segmented in batches of that size."""
    from unet_jax.runtime.cpu_devices import use_cores

    # What is wrong with the run, the verb says.
    with contextlib.suppress(InputError):
        use_cores(_batch_size(read_config(workdir)))


def _batch_size(config: ConfigDict) -> int:
    """Of the config; 0, for a single device, where a plan decides it after jax has started."""
    return 0 if _names_several(config) else config.train.batch_size or 0


def _names_several(config: ConfigDict) -> bool:
    """Whether all configurations are to be trained; the command line makes (None,) of None."""
    return config.plan.configuration is None and any(config.plan.configurations or ())


def _verify_data() -> None:
    workdir = _opened()

    from unet_jax.run.verify import verify

    verify(workdir, data=_data())


def _workdir() -> Path:
    """What --workdir names, or else a folder with the config's name."""
    if WORKDIR.value:
        return Path(WORKDIR.value)
    if CONFIG.value is None:
        raise InputError("--workdir is missing: name the run's folder, such as --workdir=runs/default.")
    return Path("runs", Path(config_flags.get_config_filename(FLAGS["config"])).stem)


def _opened() -> Path:
    """The folder of a run, or what the pack that --workdir names unpacks to, until the verb is done."""
    return OPENED.enter_context(pack_file.opened(_workdir()))


def _data() -> Path | None:
    return Path(DATA.value) if DATA.value else None


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
