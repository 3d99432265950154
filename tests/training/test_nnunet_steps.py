"""Five steps of nnU-Net 2.8.1 on a small network, repeated; see tests/golden/make_nnunet_training.py."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from nnunet_arrays import arrays, state_of

from unet_jax.losses.nnunet import loss_weights
from unet_jax.models import build
from unet_jax.models.pretrained import torch_names
from unet_jax.models.pretrained.torch_weights import fill
from unet_jax.runtime import mesh
from unet_jax.training.optim import optimizer
from unet_jax.training.step import init_state, make_train_step
from unet_jax.training.step_settings import StepSettings

OPTIONS = {
    "features": (4, 6, 8, 8),
    "kernels": ((1, 3, 3), 3, 3, 3),
    "strides": (1, (1, 2, 2), 2, 2),
    "deep_supervision": True,
    "rank": 3,
}
NO_AUGMENTATION = (
    {"per_channel": False}
    | {key: 0.0 for key in ("flip_rows", "flip_columns", "transpose", "rot90")}
    | {key: {"probability": 0.0} for key in ("affine", "elastic", "brightness", "contrast", "gamma")}
)


@pytest.fixture(scope="module")
def golden():
    return {key.removeprefix("steps/"): array for key, array in arrays("training").items()}


@pytest.fixture(scope="module")
def trained(golden):
    """What each of the five steps logged, the parameters after them, and our path of each of nnU-Net's."""
    network = nnx.eval_shape(lambda: build("nnunet", 1, 3, nnx.Rngs(0), **OPTIONS))
    weights = {key.removeprefix("w0:"): array for key, array in golden.items() if key.startswith("w0:")}
    params, batch_stats = fill(network, torch_names.nnunet(network), weights, "The golden weights do not fit:")
    schedule = optax.constant_schedule(0.01)
    sgd = optimizer("sgd", schedule, weight_decay=3e-5, clip_norm=12.0, coupled_decay=True)
    settings = StepSettings(
        image_size=16, loss=loss_weights(batch_dice=True), augment=NO_AUGMENTATION, seed=0, classes=2
    )
    step = make_train_step(nnx.graphdef(network), sgd, settings, schedule)
    batch = {"image": np.moveaxis(golden["x"], 1, -1), "mask": golden["target0"][:, 0].astype(np.uint8)}
    devices = mesh.data_mesh()
    state = jax.device_put(init_state(params, batch_stats, sgd), mesh.replicated(devices))
    logged = []
    for _ in range(5):
        state, log = step(state, mesh.global_batch(batch, devices))
        logged.append(log)
    return logged, state.params, network


def test_losses_are_nnunets(trained, golden):
    # nnU-Net's Dice loss runs from -1 to 0, this project's from 0 to 1
    np.testing.assert_allclose([log["loss"] - 1 for log in trained[0]], golden["losses"], rtol=0, atol=1e-5)


def test_gradient_norms_are_nnunets(trained, golden):
    norms = [log["gradient_norm"] for log in trained[0]]
    np.testing.assert_allclose(norms, golden["grad_norms_before_clip"], rtol=1e-5)


def test_weights_after_five_steps_are_nnunets(trained, golden):
    _, params, network = trained
    after = state_of(params, network)
    assert after.keys() == {key.removeprefix("w5:") for key in golden if key.startswith("w5:")}
    for key, array in after.items():
        part = array.ravel()[:: int(golden["part"])]
        np.testing.assert_allclose(part, golden[f"w5:{key}"], rtol=0, atol=2e-5, err_msg=key)
