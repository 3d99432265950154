"""What all layers of a network share, and the checks of its options."""

import dataclasses
from collections.abc import Collection, Sequence

from flax import nnx
from jax.typing import DTypeLike

from unet_jax.errors import InputError

INITS = ("torch", "he")


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """What all layers of a network share.

    Attributes:
        rank: number of spatial axes: 2 for slices, 3 for volumes.
        dtype: the type that layers compute in; parameters are float32.
        rngs: source of the initial parameters.
        init: how convolutions are initialised: "torch", PyTorch's default, or "he", kernels N(0, √(2/N)) for N
            incoming values (He et al. 2015, section 2.2) and biases 0.

    Raises:
        InputError: `rank` or `init` has another value.
    """

    rank: int
    dtype: DTypeLike
    rngs: nnx.Rngs
    init: str = "torch"

    def __post_init__(self):
        if self.rank not in (2, 3):
            raise InputError(f"rank is {self.rank}; it must be 2 (slices) or 3 (volumes).")
        check_choice("init", self.init, INITS)


def each_axis(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """One number for each of `rank` axes, from a single number or a sequence of them."""
    return (value,) * rank if isinstance(value, int) else tuple(value)


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Raises InputError, naming <key>, unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{key} is {value!r}; it must be one of {', '.join(choices)}.")
