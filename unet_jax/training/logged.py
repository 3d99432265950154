"""What a step logs, once it has ended, and what is said where its numbers are not finite."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32

from unet_jax.errors import NumbersError
from unet_jax.run import history
from unet_jax.runtime import exchange
from unet_jax.runtime.mesh import is_primary
from unet_jax.training.feed import Fed
from unet_jax.training.running import Run
from unet_jax.training.step import FAULTS


class LoggedStep:
    """A step that was started, and which slices it saw or where its patches began; what it logs is fetched together.

    Args:
        number: of the run, from 1.
        fetch: waits for the step's program and gives what that logs.
        case: positions in the data.
        place: slices, or the first voxels of patches.
        row: which of the program's steps it is; None where it has one.
    """

    def __init__(
        self,
        number: int,
        fetch: Callable[[], dict[str, np.ndarray]],
        case: Int32[np.ndarray, " b"],
        place: Int32[np.ndarray, " b"] | Int32[np.ndarray, "b 3"],
        row: int | None = None,
    ):
        self.number = number
        self.case, self.place = case, place
        self.checked = False
        self._fetch, self._row = fetch, row

    @functools.cached_property
    def logged(self) -> dict[str, np.ndarray]:
        """What the step logs; the first look waits for its end."""
        values = self._fetch()
        return values if self._row is None else {key: value[self._row, ...] for key, value in values.items()}

    def record(self) -> dict[str, Any]:
        """The step's line in the history; what is not finite in a step that was skipped is None."""
        values = {key: float(self.logged[key]) for key in ("loss", "dice", "gradient_norm")}
        return {
            "step": self.number,
            **{key: value if np.isfinite(value) else None for key, value in values.items()},
            "spikes": int(self.logged["spikes"]),
            "skipped": int(self.logged["skipped"]),
            "learning_rate": float(self.logged["learning_rate"]),
        }


def logged_steps(first: int, logged: dict[str, jax.Array], fed: Fed) -> list[LoggedStep]:
    """The steps of a program, of which `first` is the number of the first."""
    fetch = functools.cache(lambda: jax.device_get(logged))
    if fed.steps == 1:
        return [LoggedStep(first, fetch, *fed.seen[0])]
    return [LoggedStep(first + row, fetch, *seen, row) for row, seen in enumerate(fed.seen)]


def check_numbers(run: Run, step: LoggedStep) -> None:
    """Waits for the step; raises NumbersError if it met NaN or infinity, or records that it was skipped."""
    fault = FAULTS[int(step.logged["fault"])]
    if not fault or step.checked:
        return
    step.checked = True
    settings, skipped, places = run.config.train, int(step.logged["skipped"]), _places(run, step)
    what = "slices" if step.place.ndim == 1 else "patches"
    if settings.nonfinite == "skip" and skipped <= settings.nonfinite_limit:
        if is_primary():
            record = {"step": step.number, "nonfinite": fault, "skipped": skipped, what: places}
            history.append(run.workdir, record)
        return
    remedy = {
        "image": "mend or leave out the file",
        "loss": "train again with a smaller config.optim.learning_rate, or with config.optim.clip_norm=1",
        "gradient": "train again with a smaller config.optim.learning_rate",
    }[fault]
    limit = f", the skipped step number {skipped} (config.train.nonfinite_limit)" if skipped > 1 else ""
    named = "; ".join(f"{case} {', '.join(map(str, numbers))}" for case, numbers in places.items())
    raise NumbersError(
        f"The {fault} of step {step.number}{limit} is NaN or infinite, and nothing of it was saved: {remedy}. "
        f"Its cases and {what if what == 'slices' else 'the first voxels of its patches'}: {named}."
    )


def _places(run: Run, step: LoggedStep) -> dict[str, list]:
    """The slices of the step's batch, or the first voxels of its patches, by the name of their case.

    Of several processes, those of all: each comes here, as they look at the same numbers.
    """
    places: dict[str, list] = {}
    for cases, where in exchange.gather_json([step.case.tolist(), step.place.tolist()]):
        for position, place in zip(cases, where, strict=True):
            places.setdefault(run.data.cases[position].name, []).append(place)
    return places
