"""Golden arrays, made with PyTorch by the make_*.py scripts here, and how a network is held to them.

A .npz holds `image` and `logits/…` (channels last), and by our own parameter paths `params/…` (float16, in which
the weights are exact), `stats/…` (running statistics) and `gradient/…` (of the summed means of the squared logits).
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from networks import check_gradients

from unet_jax import models


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / f"{name}.npz") as arrays:
        return dict(arrays)


def check(name: str, network: str, *, tolerance: float, training: bool = False, **options) -> None:
    """Asserts that `network`, given the weights of <name>.npz, has the logits and the gradients there.

    Gradients are compared relative to the largest of their array; those that the file has not are there, too.
    """
    golden = load(name)
    channels, classes = golden["image"].shape[-1], golden["logits/0"].shape[-1]
    # from shapes alone: initialising a network takes longer than running it
    model = nnx.eval_shape(lambda: models.build(network, channels, classes, nnx.Rngs(0), **options))
    if not training:
        model = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, stats = fill(params, golden, "params"), fill(stats, golden, "stats")

    @jax.jit
    def run(params, image):
        def loss(params):
            outputs = nnx.merge(graphdef, params, stats)(image)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return sum(jnp.mean(logits**2) for logits in outputs), outputs

        return jax.grad(loss, has_aux=True)(params)

    gradient, outputs = run(params, golden["image"])
    expected = {key: x for key, x in golden.items() if key.startswith(("logits/", "gradient/"))}
    found = {f"logits/{i}": logits for i, logits in enumerate(outputs)}
    found |= {f"gradient/{path}": x for path, x in flatten(gradient).items()}
    check_gradients(flatten(gradient))
    assert found.keys() >= expected.keys()
    assert sum(key.startswith("logits/") for key in expected) == len(outputs)
    for key, x in expected.items():
        scale = np.abs(x).max() if key.startswith("gradient/") else 1
        np.testing.assert_allclose(found[key], x, rtol=0, atol=tolerance * scale, err_msg=key)


def fill(state: nnx.State, golden: dict[str, np.ndarray], group: str) -> nnx.State:
    """`state` with the golden arrays for values: the same paths and shapes on both sides, none left over."""
    expected = {key.removeprefix(f"{group}/"): x for key, x in golden.items() if key.startswith(f"{group}/")}
    found = flatten(state)
    assert {key: x.shape for key, x in found.items()} == {key: x.shape for key, x in expected.items()}
    values = [jnp.asarray(expected[key], jnp.float32) for key in found]
    return jax.tree.unflatten(jax.tree.structure(state), values)


def flatten(state: nnx.State | dict) -> dict[str, jax.Array]:
    """The leaves of a state by their path, as in "encoder/0/conv1/kernel", in the tree's order."""
    tree = nnx.to_pure_dict(state) if isinstance(state, nnx.State) else state
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(key.key) for key in path): x for path, x in leaves}
