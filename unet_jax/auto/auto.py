"""Plan, train every configuration on every fold, compare, choose: one command, in reading order.

    python main.py --config=configs/nnunet.py --config.data.root=Dataset004_Hippocampus

Each run is an ordinary one, in a folder of its own that is locked while it trains. So several machines may run the same
command, or one of them `--configuration=NAME --fold=K`, on one workdir: whoever finds a run in use takes the next, and
whoever finds all of them done makes the choice.
"""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.auto import best as best_file
from unet_jax.auto import choose, first_stage, pool, runs, table
from unet_jax.auto.best import Best
from unet_jax.auto.runs import Run
from unet_jax.data import labels, load
from unet_jax.data.load import DataSet
from unet_jax.errors import BusyError, InputError
from unet_jax.evaluation import choice
from unet_jax.files import write_text
from unet_jax.metrics import nnunet_scores
from unet_jax.metrics.nnunet_scores import Key
from unet_jax.plan import make, plan_file, planner, run_plan
from unet_jax.plan import table as plan_table
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.fingerprint import take_fingerprint
from unet_jax.plan.plans import Plans
from unet_jax.run import folder as run_folder
from unet_jax.run import resume
from unet_jax.runtime import compilation_cache, exchange
from unet_jax.runtime.mesh import is_primary
from unet_jax.runtime.out_of_memory import explained
from unet_jax.runtime.signals import StopRequest
from unet_jax.training.train import train

# nnU-Net's name of it, and its format.
SUMMARY = "summary.json"


def auto(
    config: ConfigDict,
    workdir: Path,
    *,
    configuration: str | None = None,
    fold: int | None = None,
    device_memory_gb: float | None = None,
) -> Best | None:
    """Trains what is not yet trained, then chooses if all of it is there.

    Args:
        config: resolved, with every key; config.plan.configurations names what is trained.
        workdir: the folder of plan, runs and choice.
        configuration: trains this one alone.
        fold: trains this fold alone.
        device_memory_gb: of the accelerator at hand, where config.plan.device asks for it.

    Returns:
        the choice; None while runs are missing.

    Raises:
        RunError: as `train` raises it; what is done is kept, and the same command resumes.
        InputError: a setting or the data cannot be used, or a run is of another config.
    """
    _check(config)
    # As each run reads them: for patches, intensities are left as they are in the files.
    data = load.load(runs.recipe(config, Run(config.plan.configurations[0], 0, workdir)))
    dataset = run_plan.describe_data(data, Path(config.data.root))
    plans = _planned(config, workdir, data, dataset, device_memory_gb)
    names, lines = runs.configurations_of(config, plans)
    for line in lines:
        _say(line)
    everything = runs.runs_of(workdir, names, runs.fold_numbers(config))
    for run in _asked_for(everything, configuration, fold):
        _train(config, workdir, run, everything, plans, data)

    missing = [run for run in everything if run.state != "done"]
    if missing:
        count = f"{len(everything) - len(missing)} of {len(everything)} runs are done"
        _say(f"{workdir}: {count}; once all are, the same command chooses:\n{table.states(missing)}")
        return None
    # Processes that end together choose one after the other.
    with (
        run_folder.lock_run(workdir, wait=True),
        explained(config),
        StopRequest() as stop,
    ):
        stop.anywhere(lambda: "all runs are done; run the same command to choose.")
        for run in everything:
            _check_same(_recipe(config, workdir, run, plans), workdir, run, data)
        compilation_cache.use(config.train.compilation_cache)
        return _choose(workdir, everything, plans, data, dataset)


def _check(config: ConfigDict) -> None:
    """What can be told before anything is read or trained."""
    runs.fold_numbers(config)
    cleaned = config.eval.postprocess
    if cleaned.minimum_voxels or cleaned.largest_component:
        raise InputError(
            "config.eval.postprocess is found on the cross-validation where config.plan.configurations is given: leave "
            "minimum_voxels at 0 and largest_component at False."
        )


def _planned(
    config: ConfigDict, workdir: Path, data: DataSet, dataset: Dataset, device_memory_gb: float | None
) -> Plans:
    """The plan that is there, which may have been edited, or else a new one."""
    path = workdir / plan_file.NAME

    def plan() -> None:
        if path.exists():
            return
        settings = make.settings(config.plan, device_memory_gb)
        if config.plan.file is not None:
            plans = plan_file.read_plans(Path(config.plan.file))
        else:
            plans = planner.plan(take_fingerprint(data.cases, lambda case: case), dataset, settings)
        plan_file.write_plans(path, plans)

    with run_folder.lock_run(workdir, wait=True):
        exchange.done_by_primary(plan)
    plans = plan_file.read_plans(path)
    _say(f"{plans.dataset}, {plans.name}, in {path}:\n{plan_table.table(plans)}")
    return plans


def _asked_for(everything: list[Run], configuration: str | None, fold: int | None) -> list[Run]:
    known = {"--configuration": {run.configuration for run in everything}, "--fold": {run.fold for run in everything}}
    for (flag, values), given in zip(known.items(), (configuration, fold), strict=True):
        if given is not None and given not in values:
            raise InputError(f"{flag} is {given!r}; it must be one of {', '.join(map(str, sorted(values)))}.")
    return [run for run in everything if configuration in (None, run.configuration) and fold in (None, run.fold)]


def _train(config: ConfigDict, workdir: Path, run: Run, everything: list[Run], plans: Plans, data: DataSet) -> None:
    """Trains a run to its end, unless it is there, or is being trained by another process."""
    first = plans.configurations[run.configuration].previous_stage
    if first is not None:
        needed = [each for each in everything if each.configuration == first]
        if any(each.state != "done" for each in needed):
            _say(f"{run.name} waits for all folds of {first}.")
            return
        first_stage.write_masks(workdir, needed, run.configuration, plans, data)
    recipe = _recipe(config, workdir, run, plans)
    _check_same(recipe, workdir, run, data)
    if run.state == "done":
        return
    exchange.done_by_primary(functools.partial(_give_plan, run, plans))
    _say(f"{run.name}:")
    try:
        train(recipe, run.folder)
    except BusyError:
        _say(f"{run.name} is being trained by another process.")


def _give_plan(run: Run, plans: Plans) -> None:
    if not (run.folder / plan_file.NAME).exists():
        plan_file.write_plans(run.folder / plan_file.NAME, plans)


def _recipe(config: ConfigDict, workdir: Path, run: Run, plans: Plans) -> ConfigDict:
    """What a run is trained with, where a cascade's second network finds the masks of the first."""
    recipe = runs.recipe(config, run)
    first = plans.configurations[run.configuration].previous_stage
    if first is not None:
        with recipe.unlocked():
            recipe.plan.previous = str(first_stage.folder_of(workdir, first, run.configuration))
    return recipe


def _check_same(recipe: ConfigDict, workdir: Path, run: Run, data: DataSet) -> None:
    """Raises InputError unless a run, if it was begun, is of this config, these data and the plan as it is now."""
    resume.compare(run.folder, run_plan.resolve(recipe, data, workdir)[0], data)


def _choose(workdir: Path, done: list[Run], plans: Plans, data: DataSet, dataset: Dataset) -> Best:
    """For a caller that holds the lock."""
    candidates = choice.candidates(list(dict.fromkeys(run.configuration for run in done)))
    origin = pool.origin_of(done, candidates)
    if (workdir / best_file.NAME).exists():
        there = best_file.read(workdir)
        if there.results.get("origin") == origin:
            show(workdir)
            return there
    pooled = pool.pool(workdir, done, candidates, plans, data, origin)
    exchange.done_by_primary(functools.partial(_write_choice, workdir, pooled, data, dataset, origin))
    return best_file.read(workdir)


def _write_choice(workdir: Path, pooled: pool.Pooled, data: DataSet, dataset: Dataset, origin: str) -> None:
    """Chooses, and writes everything that says what was chosen."""
    names, ignored = _names(dataset), labels.IGNORED if data.ignores else None
    scored = choose.score_all(pooled, tuple(names), ignored)
    best, found = choose.choose(pooled, scored, names, ignored, origin)
    for candidate, cases in scored.items():
        if len(candidate.members) == 1:
            write_text(workdir / candidate.name / SUMMARY, _summary(pooled, cases))
    write_text(workdir / SUMMARY, _summary(pooled, found.after))
    write_text(workdir / table.PAGE, table.page(best))
    # Last, as prediction goes by it.
    best_file.write(workdir, best)
    show(workdir)


def _names(dataset: Dataset) -> dict[Key, str]:
    """Labels, or regions where there are such, without the background, each with its name."""
    foreground = {name: value for name, value in dataset.labels.items() if name not in ("background", "ignore")}
    if dataset.regions is None:
        return {value: name for name, value in foreground.items()}
    return {value if isinstance(value, tuple) else (value,): name for name, value in foreground.items()}


def _summary(pooled: pool.Pooled, cases: list[choose.OfCase]) -> str:
    names = [pooled.data.cases[position].name for position in pooled.files]
    return nnunet_scores.summary_file([(name, name, scores) for name, scores in zip(names, cases, strict=True)])


def show(workdir: Path, title: str | None = None) -> None:
    """Prints what is there: the choice, or how far the runs are.

    Args:
        workdir: with the runs.
        title: what it is called, if not by its path.

    Raises:
        InputError: best.json is damaged.
    """
    if (workdir / best_file.NAME).exists():
        _say(f"{title or workdir}: the choice\n{table.table(best_file.read(workdir))}")
        if (workdir / table.PAGE).exists():  # a pack has best.json alone
            _say(f"  written to {workdir}: {best_file.NAME}, {table.PAGE}, {SUMMARY}")
    else:
        _say(f"{workdir}: nothing is chosen yet\n{table.states(runs.begun(workdir))}")


def _say(text: str) -> None:
    if is_primary():
        print(text, flush=True)
