import pytest
from nnunet_answers import data_set, planned

from unet_jax.plan.memory_proxy import activations
from unet_jax.plan.network import Network
from unet_jax.plan.presets import PRESETS

BY_PLANNER = {preset.planner: preset for preset in PRESETS.values()}


@pytest.mark.parametrize(("name", "planner"), planned())
def test_as_nnunet(name, planner):
    preset = BY_PLANNER[planner]
    for call in data_set(name)["estimates"][planner]:
        stages = len(call["strides"])
        strides = tuple(tuple(stride) for stride in call["strides"])
        features = tuple(call["features"])
        network = Network(
            preset.residual, features, strides, strides, preset.blocks(stages), preset.decoder_blocks(stages)
        )
        assert activations(network, call["patch"], call["out"]) == call["estimate"], call


def test_by_hand():
    stages = {"features": (2, 3), "kernels": ((3, 3), (3, 3)), "strides": ((1, 1), (2, 2))}
    plain = Network(residual=False, blocks=(2, 2), decoder_blocks=(2,), **stages)
    # 64 and 16 voxels: two convolutions a stage; upsampled and two more; five outputs.
    assert activations(plain, (8, 8), 5) == 2 * 2 * 64 + 2 * 3 * 16 + 3 * 2 * 64 + 5 * 64
    residual = Network(residual=True, blocks=(1, 3), decoder_blocks=(1,), **stages)
    # Stem; one block; three blocks and the skip of the first; upsampled and one more; five outputs.
    assert activations(residual, (8, 8), 5) == 2 * 64 + 2 * 2 * 64 + (2 * 3 + 1) * 3 * 16 + 2 * 2 * 64 + 5 * 64
