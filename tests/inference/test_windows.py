import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Assembly, Wanted
from unet_jax.runtime.mesh import by_batch, data_mesh

rng = np.random.default_rng(0)


def _assembly(shape, slices=None, *, threshold=0.5, keep=True, **options):
    case = Case("a", "a", rng.uniform(0, 1, (*shape, 1)).astype(np.float32), None)
    wanted = Wanted(0, case, np.arange(shape[0]) if slices is None else np.array(slices))
    settings = SegmentSettings(batch_size=1, threshold=threshold, sharding=by_batch(data_mesh()), **options)
    return Assembly(wanted, settings, keep=keep)


def _answer(assembly, function):
    """Every window's answer, by `function` of its pixels; the result comes with the last one and not before."""
    results = [assembly.add(window, function(assembly.cut(window))) for window in assembly.windows]
    assert results[:-1] == [None] * (len(results) - 1)
    return results[-1]


@pytest.mark.parametrize(
    ("length", "tile", "starts"),
    [
        (8, 8, [0]),
        (5, 8, [0]),
        (9, 8, [0, 1]),
        (12, 8, [0, 4]),
        (13, 8, [0, 2, 5]),
        (16, 8, [0, 4, 8]),
        (5, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_tiles_cover_an_axis_at_most_half_a_tile_apart(length, tile, starts):
    assembly = _assembly((1, length, 3), tile=tile)
    found = [window.rows for window in assembly.windows if window.columns.start == 0]
    assert [span.start for span in found] == starts
    assert all(span.stop - span.start == min(tile, length) for span in found)


@pytest.mark.parametrize(("slab", "tile"), [(None, None), (None, 4), (3, None), (3, 4), (9, 20)])
@pytest.mark.parametrize("keep", [True, False])
def test_of_several_classes_the_likeliest_is_taken(slab, tile, keep):
    assembly = _assembly((6, 11, 9), slab=slab, tile=tile, threshold=0.99, keep=keep)
    image = assembly.wanted.case.image[..., 0]

    def of_each(part):
        """Background, and two classes that share the rest unevenly."""
        return np.stack([1 - part, 0.6 * part, 0.4 * part], -1)

    def answer(part):
        missing = slab - len(part) if slab else 0
        return of_each(np.pad(part[..., 0], [(0, missing), (0, 0), (0, 0)]) if slab else part[..., 0])

    found = _answer(assembly, answer)
    expected = of_each(image)
    np.testing.assert_array_equal(found.mask, expected.argmax(-1))
    assert set(np.unique(found.mask)) == {0, 1}
    if keep:
        np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    else:
        assert found.probability is None


@pytest.mark.parametrize(("slab", "tile"), [(None, None), (None, 4), (3, None), (3, 4), (1, 5), (9, 20)])
def test_what_depends_on_each_pixel_alone_comes_out_as_it_is(slab, tile):
    assembly = _assembly((6, 11, 9), slab=slab, tile=tile)
    image = assembly.wanted.case.image[..., 0]

    def filled(part):
        found = part[..., 0]
        missing = (slab or 0) - len(found) if slab else 0
        return np.pad(found, [(0, max(missing, 0)), (0, 0), (0, 0)]) if slab else found

    done = _answer(assembly, filled)
    np.testing.assert_allclose(done.probability, image, rtol=1e-5)
    np.testing.assert_array_equal(done.mask, done.probability >= 0.5)


def test_overlapping_tiles_are_averaged_with_gaussian_weights():
    """Tiles of 4 rows that start at 0, 2 and 4 of 8; the answer to each is its own number."""
    weights = np.maximum(np.exp(-0.5 * ((np.arange(4) - 1.5) / 0.5) ** 2), 1e-3)
    total, weight = np.zeros(8), np.zeros(8)
    for number, start in enumerate((0, 2, 4)):
        total[start : start + 4] += weights * number / 2
        weight[start : start + 4] += weights
    answers = iter((0, 0.5, 1))
    done = _answer(_assembly((1, 8, 3), tile=4), lambda part: np.full(part.shape[:2], next(answers), np.float32))
    np.testing.assert_allclose(done.probability[0], np.tile((total / weight)[:, None], 3), rtol=1e-5)


def test_only_wanted_slices_come_out_and_windows_without_any_are_left_out():
    assembly = _assembly((9, 4, 4), [0, 8], slab=3)
    assert [window.slices.start for window in assembly.windows] == [0, 6]
    done = _answer(assembly, lambda part: part[..., 0])
    np.testing.assert_allclose(done.probability, assembly.wanted.case.image[[0, 8], ..., 0], rtol=1e-6)


def test_sums_of_finished_slices_are_dropped():
    assembly = _assembly((50, 4, 4), slab=4, keep=False)
    held = []
    for window in assembly.windows:
        done = assembly.add(window, assembly.cut(window)[..., 0])
        held.append(len(assembly._sums))
    assert max(held) <= 4
    assert held[-1] == 0
    assert done.probability is None
