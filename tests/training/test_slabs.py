"""Volumes in slabs, each on a device of its own: the numbers of one device, and what devices send to each other."""

import numpy as np
import pytest
from processes import on_cpu_devices

from benchmarks import scaling

# Trains for two steps, and predicts, on one device, on eight, on two groups of four, and on one group of eight.
CHILD = """
import json
import re
import sys
import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh
from unet_jax import models
from unet_jax.errors import InputError
from unet_jax.inference.network import make_logits_step
from unet_jax.inference.rolling_sums import RollingSums
from unet_jax.inference.volume_windows import lay_out
from unet_jax.models.functional import split_model
from unet_jax.runtime.mesh import by_batch, by_slab, check_batch_size, data_mesh, global_batch, replicated
from unet_jax.training import step as steps
from unet_jax.training.patch_augment.settings import AugmentSettings, Chance

RNG = np.random.default_rng(0)
EIGHT = data_mesh()
MESHES = {
    "one": Mesh(EIGHT.devices[:1], ("data",), axis_types=(AxisType.Auto,)),
    "data 8": EIGHT,
    "data 2, space 4": data_mesh((4,)),
    "space 8": data_mesh([8]),
}
OFF = Chance(0.0, (1.0, 1.0))
NONE = dict.fromkeys(
    ("noise", "blur", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma"), OFF
)
NNUNET = models.build(
    "nnunet", 1, 3, nnx.Rngs(params=0), features=(4, 8), blocks=1, decoder_blocks=1, rank=3, deep_supervision=True
)
UNET = models.build("tutorial", 1, 3, nnx.Rngs(params=0), width=2, depth=2, norm="batch")
ROTATED = AugmentSettings(
    (16, 8), False, Chance(0.5, (-0.5, 0.5)), (0, 1), scaling=Chance(0.5, (0.7, 1.4)), mirror=0.5, **NONE
)
MIRRORED = AugmentSettings((16, 8, 8), False, OFF, (0, 1, 2), scaling=OFF, mirror=0.5, **NONE)
COMMON = dict(image_size=None, augment={}, seed=0, classes=2, loss={"ce": 1.0, "dice": {"smooth": 1e-5}})


def drawn(*size):
    return RNG.normal(size=(2, 8, *size, 1)).astype(np.float32), RNG.integers(0, 3, (2, 8, *size)).astype(np.int8)


CT = drawn(16, 8, 8)
VOLUMES = COMMON | {"patches": MIRRORED, "rank": 3}
CASES = {
    "3-D": (NNUNET, CT, VOLUMES),
    "2-D": (UNET, drawn(20, 12), COMMON | {"patches": ROTATED, "rank": 2}),
    "3-D, in parts": (NNUNET, CT, VOLUMES | {"accumulate": 4}),
}


def flat(*trees):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(trees)]).tolist()


def sent(program):
    # [what, channels] of each array that devices exchange
    found = re.findall(r"= [a-z0-9]+\\[([0-9,]+)\\]\\S* (all-gather|all-to-all|collective-permute)", program)
    sizes = [np.prod([int(n) for n in shape.split(",")]) for shape, what in found if what == "collective-permute"]
    channels = sorted({(what, int(shape.split(",")[-1])) for shape, what in found})
    return {"channels": channels, "planes": [len(sizes), int(sum(sizes))]}


def train(case, mesh):
    model, (image, mask), settings = CASES[case]
    graphdef, params, batch_stats = split_model(model)
    params, batch_stats = jax.tree.map(np.array, (params, batch_stats))
    optimizer = optax.sgd(0.1)
    settings = steps.StepSettings(**settings, mesh=mesh)
    state = jax.device_put(steps.init_state(params, batch_stats, optimizer), replicated(mesh))
    step = steps.make_train_step(graphdef, optimizer, settings, optax.constant_schedule(0.1))
    batches = [global_batch({"image": image[n], "mask": mask[n]}, mesh) for n in range(2)]
    program = step.lower(state, batches[0]).compile()
    logged = []
    for batch in batches:
        state, values = program(state, batch)
        logged += [float(values["loss"]), float(values["dice"]), float(values["gradient_norm"])]
    return {"logged": logged, "state": flat(state.params, state.batch_stats), "sent": sent(program.as_text())}


def predict(mesh):
    graphdef, *weights = split_model(NNUNET)
    window = jax.device_put(CT[0][0], by_batch(mesh))
    logits = make_logits_step(graphdef, rank=3, slabs=by_slab(mesh))(*jax.device_put(weights, replicated(mesh)), window)
    shares = {shard.data.shape[:2] for shard in logits.addressable_shards}
    layout = lay_out((16, 8, 8), (16, 8, 8), 0.5, gaussian=False)
    sums = RollingSums(layout, 16, 3, by_batch(mesh))
    sums.add(logits, np.zeros((1, 3), int))
    return {"logits": flat(logits), "shares": sorted(shares), "sum": flat(sums.array[:, :, :8, :8])}


def complaint(function, *arguments):
    try:
        function(*arguments)
    except InputError as error:
        return str(error)


SPACES = ("one", "data 2, space 4", "space 8")
wanted = {"3-D": MESHES, "2-D": SPACES, "3-D, in parts": SPACES[1:2]}
print(json.dumps({
    "steps": {case: {name: train(case, MESHES[name]) for name in names} for case, names in wanted.items()},
    "predicted": {name: predict(MESHES[name]) for name in SPACES},
    "refused": {
        "three": complaint(data_mesh, (3,)),
        "batch": complaint(check_batch_size, 3, MESHES["data 2, space 4"]),
        "parts": complaint(check_batch_size, 4, MESHES["data 2, space 4"], 4),
        "fits": complaint(check_batch_size, 8, MESHES["data 2, space 4"], 4),
    },
}))
"""
MESHES = ("data 8", "data 2, space 4", "space 8")
SPACES = MESHES[1:]


@pytest.fixture(scope="module")
def runs():
    return on_cpu_devices(CHILD, 8)


def _check_equal(found, expected):
    for key in ("logged", "state"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("case", "mesh"), [*(("3-D", mesh) for mesh in MESHES), *(("2-D", mesh) for mesh in SPACES)])
def test_steps_are_those_of_one_device(runs, case, mesh):
    """Losses, Dice, gradients and parameters, with instance and batch normalisation, rotation and deep supervision."""
    _check_equal(runs["steps"][case][mesh], runs["steps"][case]["one"])


def test_slabs_and_parts_of_a_batch_together_are_the_step_of_one_device_on_the_whole(runs):
    """Of a Dice over the batch, which the parts by themselves do not tell."""
    _check_equal(runs["steps"]["3-D, in parts"]["data 2, space 4"], runs["steps"]["3-D"]["one"])


@pytest.mark.parametrize("mesh", SPACES)
def test_devices_exchange_planes_and_gather_no_features(runs, mesh):
    """On a CPU, which augments patches one by one, the batch's own image and mask of one channel are gathered."""
    for case in ("3-D", "2-D"):
        sent = runs["steps"][case][mesh]["sent"]["channels"]
        assert {what for what, channels in sent if channels > 1} == {"collective-permute"}


@pytest.mark.parametrize(("mesh", "batch"), [("data 2, space 4", 4), ("space 8", 8)])
def test_as_many_planes_are_exchanged_as_the_scaling_model_says(runs, mesh, batch):
    planes = list(scaling.planes((4, 8), (16, 8, 8), batch, blocks=1))
    expected = [sum(count for count, _ in planes), sum(count * values for count, values in planes)]
    assert runs["steps"]["3-D"][mesh]["sent"]["planes"] == expected


@pytest.mark.parametrize("mesh", SPACES)
def test_predictions_are_those_of_one_device(runs, mesh):
    found, expected = runs["predicted"][mesh], runs["predicted"]["one"]
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["sum"], expected["sum"], rtol=1e-5, atol=1e-5)


def test_each_device_predicts_its_slab(runs):
    shares = {mesh: found["shares"] for mesh, found in runs["predicted"].items()}
    assert shares == {"one": [[8, 16]], "data 2, space 4": [[4, 4]], "space 8": [[8, 2]]}


def test_what_the_devices_cannot_share_is_refused_in_a_line(runs):
    groups = "there are 8 devices in groups of 4 that share volumes: it must be a multiple of"
    assert runs["refused"] == {
        "three": "config.train.spatial is (3,) and there are 8 devices: they must be a multiple of 3; with fewer or "
        "None, fewer devices share a volume.",
        "batch": f"config.train.batch_size is 3 and {groups} 2, such as 4.",
        "parts": f"config.train.batch_size is 4, config.train.accumulate 4 and {groups} 8, such as 8.",
        "fits": None,
    }
