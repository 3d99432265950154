"""What each --mode runs.

What a mode needs is imported when it runs: a mistyped flag is answered at once, before jax has started.
"""

import sys
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.command_line import given, together
from unet_jax.command_line.devices import device_memory, names_several, use_cores_as, use_cores_of
from unet_jax.command_line.flags import (
    AGAINST,
    CACHE_DIR,
    CASE_NAMES,
    CONFIG,
    CONFIGURATION,
    DRY_RUN,
    FOLD,
    FORMAT,
    INPUT,
    LICENCE,
    MODE,
    OUTPUT,
    OVERLAYS,
    OVERWRITE,
    PROBABILITIES,
    RESUME,
    SHAPE,
    SPACING,
    SPLIT,
    TILES,
    TTA,
    VERIFY,
    WORKDIR,
)
from unet_jax.errors import InputError
from unet_jax.run import pack_file
from unet_jax.runtime import caches


def run() -> None:
    """Runs the mode that the flags name."""
    caches.move_to(Path(CACHE_DIR.value).absolute() if CACHE_DIR.value else None)
    if together.is_one_of_several():
        together.run_with_others(_run)
    else:
        _run()


def _run() -> None:
    if VERIFY.value:
        together.by_one_process(_verify_data)
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
    if MODE.value in together.ALONE:
        together.by_one_process(verbs[MODE.value])
    else:
        verbs[MODE.value]()


def _train() -> None:
    config, workdir = given.recipe()

    from unet_jax.training.train import train

    use_cores_of(config)
    if names_several(config) and DRY_RUN.value:
        raise InputError("--dry_run is of one run: name it, such as --config.plan.configuration=2d.")
    if names_several(config):
        _auto(config, workdir)
    else:
        train(config, workdir, resuming=RESUME.value, dry_run=DRY_RUN.value)


def _auto(config: ConfigDict, workdir: Path) -> None:
    from unet_jax.auto.auto import auto

    auto(config, workdir, configuration=CONFIGURATION.value, fold=FOLD.value, device_memory_gb=device_memory(config))


def _benchmark() -> None:
    config, workdir = given.recipe()

    from unet_jax.benchmark.benchmark import benchmark
    from unet_jax.runtime.out_of_memory import explained

    use_cores_of(config)
    with explained(config):
        benchmark(config, workdir, [sys.executable, *sys.argv])


def _crossval() -> None:
    against = Path(AGAINST.value) if AGAINST.value else None
    config, workdir = (None, given.workdir()) if CONFIG.value is None else given.recipe()
    if not WORKDIR.value:
        workdir = workdir.with_name(f"{workdir.name}_crossval")

    from unet_jax.crossval.crossval import crossval

    if config is None:
        use_cores_as(workdir / "fold0")
    else:
        use_cores_of(config)
    crossval(config, workdir, fold=FOLD.value, against=against)


def _plan() -> None:
    config, workdir = given.recipe()
    memory = device_memory(config)

    from unet_jax.plan.make import make_plan
    from unet_jax.run.folder import lock_run

    with lock_run(workdir):
        make_plan(config, workdir, plan_format=FORMAT.value, overwrite=OVERWRITE.value, device_memory_gb=memory)


def _check() -> None:
    config, workdir = given.recipe()

    from unet_jax.check.check import check

    use_cores_of(config)
    check(config, workdir)


def _evaluate() -> None:
    with given.opened() as workdir:
        _evaluate_run(workdir)


def _evaluate_run(workdir: Path) -> None:
    if _has_several(workdir):
        from unet_jax.auto.auto import show

        show(workdir, str(given.workdir()))
        return

    from unet_jax.evaluation.evaluate import evaluate

    use_cores_as(workdir)
    evaluate(
        workdir,
        side=SPLIT.value,
        data=given.data(),
        output=Path(OUTPUT.value) if OUTPUT.value else pack_file.beside(given.workdir(), SPLIT.value),
        flips=TTA.value,
        tiles=TILES.value,
    )


def _predict() -> None:
    given.workdir()
    if not INPUT.value or not OUTPUT.value:
        missing = "--output" if INPUT.value else "--input"
        raise InputError(f"{missing} is missing: predict needs --input=PATH of images and --output=FOLDER for masks.")
    with given.opened() as workdir:
        _predict_with(workdir)


def _predict_with(workdir: Path) -> None:
    if _has_several(workdir):
        from unet_jax.auto.predict import predict
    else:
        from unet_jax.inference.predict import predict

    use_cores_as(workdir)
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
    given.workdir()
    if not OUTPUT.value:
        raise InputError("--output is missing: name the file to write, such as --output=tumour.zip.")
    with given.opened() as workdir:
        _export_run(workdir)


def _export_run(workdir: Path) -> None:
    if _has_several(workdir):
        from unet_jax.auto.export import export
    else:
        from unet_jax.export.export import export

    export(
        workdir,
        Path(OUTPUT.value),
        data=given.data(),
        overwrite=OVERWRITE.value,
        shape=given.three(SHAPE, int),
        spacing=given.three(SPACING, float),
    )


def _pack() -> None:
    workdir = given.workdir()
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


def _has_several(workdir: Path) -> bool:
    """Whether the folder is not that of one run, but of all configurations of a plan."""
    if not (workdir / "plan.json").exists():
        return False

    from unet_jax.auto.runs import begun

    return bool(begun(workdir))


def _verify_data() -> None:
    from unet_jax.run.verify import verify

    with given.opened() as workdir:
        verify(workdir, data=given.data())
