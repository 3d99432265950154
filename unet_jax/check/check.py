"""The verb: reads what training would read, in the same order and with the same checks, and trains nothing."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.check import facts as table
from unet_jax.check import page
from unet_jax.check.findings import findings
from unet_jax.check.survey import survey
from unet_jax.data import leaks, load, splits
from unet_jax.data.faults import lines_of
from unet_jax.data.formats import sources
from unet_jax.data.load import DataSet
from unet_jax.data.splits import Split
from unet_jax.errors import InputError
from unet_jax.plan import run_plan
from unet_jax.run import folder as run_folder
from unet_jax.runtime.mesh import data_mesh
from unet_jax.runtime.out_of_memory import explained
from unet_jax.training import samples, setup

PAGE = "check.html"


def check(config: ConfigDict, workdir: Path) -> None:
    """Prints a table of the config's data and a line a finding, and writes `check.html` in `workdir`.

    Args:
        config: resolved; of several configurations of a plan, the first stands for all.
        workdir: the folder for the page; a run there is left as it is.

    Raises:
        InputError: training would refuse; every reason is listed, a line each.
        BusyError: another process works in `workdir`.
        StorageError: a disk is full, read-only or failing.
    """
    with run_folder.lock_run(workdir), explained(config):
        refusals: list[str] = []
        with _noting(refusals):
            _check_config(config)
        config = _first_configuration(config)
        data = None
        with _noting(refusals):
            data = load.load(config)
        if data is None:
            _write(workdir, config, refusals)
            raise InputError("\n".join(refusals))
        with _noting(refusals):
            config = _planned(config, data, workdir)
        _report(config, data, workdir, refusals)
        if refusals:
            raise InputError("\n".join(refusals))


def _check_config(config: ConfigDict) -> None:
    classes = load.load_classes(config)
    if config.plan.configuration is None and not any(config.plan.configurations or ()):
        setup.check(config, data_mesh(config.train.spatial), classes)


def _first_configuration(config: ConfigDict) -> ConfigDict:
    configurations = [name for name in config.plan.configurations or () if name]
    if config.plan.configuration is not None or not configurations:
        return config
    config = config.copy_and_resolve_references()
    config.plan.configuration = configurations[0]
    return config


def _planned(config: ConfigDict, data: DataSet, workdir: Path) -> ConfigDict:
    """The config with what its plan, if any, decides."""
    wanted = config.plan.configuration is not None
    config, _ = run_plan.resolve(config, data, workdir)
    if wanted:
        setup.check(config, data_mesh(config.train.spatial), data.classes)
    return config


def _report(config: ConfigDict, data: DataSet, workdir: Path, refusals: list[str]) -> None:
    """Everything that needs decoded cases; what training would refuse goes to `refusals`."""
    unnamed = data.channel_names == sources.unnamed(data.channels)
    cases = survey(data, Path(config.data.root), None if unnamed else data.shown)
    lines = table.of_data(config, data, cases)
    odd = findings(cases, data.channel_names, tuple(data.classes), config.data.axes)
    split = None
    with _noting(refusals):
        split, notes = setup.choose_split(config, data, workdir / run_folder.SPLIT)
        odd += notes
    if split is not None:
        lines += table.of_split(split, data, cases)
        with _noting(refusals):
            odd += leaks.check_leaks(split, data.cases, data.listing, data.digests, workdir / leaks.FULL_LIST)
        with _noting(refusals):
            odd += leaks.side_warnings(split, data.cases, data.classes)
        with _noting(refusals):
            lines += table.of_epoch(config, data, cases, _steps_per_epoch(config, data, split))
    _write(workdir, config, refusals, odd, lines, cases, tuple(data.classes))
    print(table.as_text(lines), flush=True)
    for line in odd:
        print(f"warning: {line}", file=sys.stderr, flush=True)


def _steps_per_epoch(config: ConfigDict, data: DataSet, split: Split) -> int:
    """As training counts them, with its checks that the cases go together and fill a batch."""
    if config.data.patch is not None:
        return config.train.steps_per_epoch or samples.STEPS_PER_EPOCH
    index = {side: splits.slices_of(split, data.cases, side) for side in splits.SIDES}
    return samples.of_slices(config, data.cases, index).steps_per_epoch


def _write(
    workdir: Path,
    config: ConfigDict,
    refusals: Sequence[str],
    odd: Sequence[str] = (),
    lines: Sequence[table.Fact] = (),
    cases: Sequence = (),
    classes: Sequence[str] = (),
) -> None:
    title = Path(config.data.root).resolve().name
    page.write(workdir / PAGE, title, refusals=refusals, findings=odd, facts=lines, cases=cases, classes=classes)
    print(f"The page is {workdir / PAGE}.", flush=True)


@contextlib.contextmanager
def _noting(refusals: list[str]) -> Iterator[None]:
    """Within the block, what training would refuse is noted, once, and the check goes on after the block."""
    try:
        yield
    except InputError as error:
        refusals += [line for line in lines_of(error) if line not in refusals]
