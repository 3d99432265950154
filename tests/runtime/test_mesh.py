import numpy as np
import pytest
from processes import on_cpu_devices

from unet_jax.errors import InputError
from unet_jax.runtime.mesh import by_batch, data_mesh, global_batch, is_primary, slabs_of

# Trains for five steps on one device and on four, in a process of its own that has four.
CHILD = """
import json
import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh
from configs import default
from unet_jax import models
from unet_jax.errors import InputError
from unet_jax.models.functional import split_model
from unet_jax.runtime.mesh import check_batch_size, data_mesh, global_batch, replicated
from unet_jax.training import optim
from unet_jax.training import step as steps

rng = np.random.default_rng(0)
augmentation = default.get_config().augment
augmentation.transpose = augmentation.rot90 = augmentation.affine.probability = 0.0
image = rng.integers(0, 256, (5, 8, 16, 16, 3), np.uint8)
mask = (image[..., 0] > 128).astype(np.uint8)


def losses(mesh, norm):
    model = models.build("tutorial", 3, 1, nnx.Rngs(params=0), width=2, depth=1, norm=norm)
    graphdef, params, batch_stats = split_model(model)
    schedule = optim.learning_rate_schedule(
        "constant", peak=0.01, warmup_steps=2, steps_per_epoch=5, total_steps=5
    )
    optimizer = optim.optimizer("adam", schedule, weight_decay=0.0, clip_norm=None)
    state = jax.device_put(steps.init_state(params, batch_stats, optimizer), replicated(mesh))
    settings = steps.StepSettings(
        image_size=16, loss={"bce": 1.0, "dice": 1.0}, augment=augmentation.to_dict(), seed=0
    )
    step = steps.make_train_step(graphdef, optimizer, settings, schedule)
    logged = []
    for number in range(5):
        batch = global_batch({"image": image[number], "mask": mask[number]}, mesh)
        state, values = step(state, batch)
        state = state.replace(totals=jax.device_put(steps.zero_totals(), replicated(mesh)))
        logged.append(float(values["loss"]))
    devices = {len(leaf.devices()) for leaf in jax.tree.leaves(state)}
    return {"losses": logged, "devices": sorted(devices), "compilations": step._cache_size()}


def complaint(batch_size, mesh):
    try:
        check_batch_size(batch_size, mesh)
    except InputError as error:
        return str(error)


four = data_mesh()
one = Mesh(four.devices[:1], four.axis_names, axis_types=(AxisType.Auto,))
result = {norm: [losses(mesh, norm) for mesh in (one, four)] for norm in ("none", "batch")}
result["complaints"] = {size: complaint(size, four) for size in (2, 4, 6, 8, 32, 33)}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def runs():
    return on_cpu_devices(CHILD, 4)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_four_devices_give_the_losses_of_one(runs, norm):
    one, four = runs[norm]
    assert (one["devices"], four["devices"]) == ([1], [4])
    np.testing.assert_allclose(four["losses"], one["losses"], rtol=0, atol=1e-5)
    assert len(set(one["losses"])) == 5


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_step_is_compiled_once_for_any_number_of_devices(runs, norm):
    assert [run["compilations"] for run in runs[norm]] == [1, 1]


def test_a_batch_that_the_devices_cannot_share_is_refused_with_one_that_they_can(runs):
    line = "config.train.batch_size is {} and there are 4 devices: it must be a multiple of 4, such as {}."
    expected = {"2": line.format(2, 4), "6": line.format(6, 8), "33": line.format(33, 36)}
    assert runs["complaints"] == expected | dict.fromkeys(("4", "8", "32"))


def test_one_process_brings_the_whole_batch_and_is_the_one_that_writes():
    mesh = data_mesh()
    image = np.arange(8 * mesh.size, dtype=np.uint8).reshape(-1, 2, 2, 1)
    batch = global_batch({"image": image}, mesh)
    np.testing.assert_array_equal(batch["image"], image)
    assert batch["image"].sharding == by_batch(mesh)
    assert is_primary()


@pytest.mark.parametrize(("spatial", "slabs"), [(None, 1), ((None,), 1), ((), 1), ((1,), 1), ([4], 4)])
def test_slabs_as_a_config_a_command_line_and_a_file_give_them(spatial, slabs):
    assert slabs_of(spatial) == slabs


@pytest.mark.parametrize("spatial", [(2, 2), (0,), (2.0,), ("4",)])
def test_slabs_that_are_not_one_number_are_refused(spatial):
    with pytest.raises(InputError, match=r"config\.train\.spatial is .*; it must be one number, such as \(4,\)"):
        slabs_of(spatial)
