import pytest

from unet_jax.crossval.crossval import crossval


@pytest.fixture(scope="package")
def chosen(settings, configure, tmp_path_factory):
    """A cross-validation of two folds whose networks are hardly trained."""
    folder = tmp_path_factory.mktemp("runs") / "chosen"
    recipe = {
        "train.epochs": 1,
        "data.folds": 2,
        "optim.learning_rate": 0.02,
        "eval.choose": ("threshold", "minimum_voxels"),
    }
    crossval(configure(settings | recipe), folder)
    return folder
