import pytest

from configs import default
from unet_jax.inference.settings import SegmentSettings, flips_of
from unet_jax.runtime.mesh import by_batch, data_mesh


@pytest.mark.parametrize(
    ("tta", "rows", "columns", "flips"),
    [
        (True, 0.5, 0.5, ("rows", "columns")),
        (True, 0.0, 0.5, ("columns",)),
        (True, 0.1, 0.0, ("rows",)),
        (True, 0.0, 0.0, ()),
        (False, 0.5, 0.5, ()),
    ],
)
def test_the_mean_is_over_flips_that_training_has(tta, rows, columns, flips):
    config = default.get_config()
    config.eval.tta = tta
    config.augment.update({"flip_rows": rows, "flip_columns": columns})
    assert flips_of(config) == flips


def test_the_settings_are_the_configs():
    mesh = data_mesh()
    config = default.get_config()
    config.train.batch_size = 7
    config.data.update({"image_size": 96, "neighbours": 2})
    config.eval.update({"threshold": 0.25, "tta": True})
    config.eval.postprocess.minimum_voxels = 9
    config.augment.update({"flip_rows": 0.0, "flip_columns": 0.5})
    expected = SegmentSettings(
        batch_size=7,
        threshold=0.25,
        sharding=by_batch(mesh),
        neighbours=2,
        flips=("columns",),
        postprocess={"minimum_voxels": 9, "largest_component": False},
        image_size=96,
    )
    assert SegmentSettings.of(config, mesh) == expected
    config.eval.tiles = True
    assert SegmentSettings.of(config, mesh).tile == 96
    config.data.slab = 4
    assert SegmentSettings.of(config, mesh).slab == 4
