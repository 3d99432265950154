import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from unet_jax.inference.from_config import tta_flips, with_tta


@pytest.mark.parametrize(
    ("tta", "rows", "columns", "flips"),
    [
        (True, 0.5, 0.5, ["rows", "columns"]),
        (True, 0.0, 0.5, ["columns"]),
        (True, 0.1, 0.0, ["rows"]),
        (True, 0.0, 0.0, []),
        (False, 0.5, 0.5, []),
    ],
)
def test_the_mean_is_over_flips_that_training_has(tta, rows, columns, flips):
    config = default.get_config()
    config.eval.tta = tta
    config.augment.update({"flip_rows": rows, "flip_columns": columns})
    assert tta_flips(config) == flips

    def probability(image):
        """1 in the first row and column as the network sees them."""
        return jnp.zeros(image.shape[:-1]).at[:, 0, 0].set(1.0)

    found = np.asarray(with_tta(probability, config)(jnp.zeros((1, 3, 3, 2))))
    corners = {(0, 0)} | {(-row, -column) for row in (0, "rows" in flips) for column in (0, "columns" in flips)}
    expected = np.zeros((1, 3, 3))
    for row, column in corners:
        expected[0, row, column] = 1 / len(corners)
    np.testing.assert_allclose(found, expected)
