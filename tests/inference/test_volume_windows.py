import itertools

import numpy as np
import pytest

from unet_jax.inference.volume_windows import batches, cut, lay_out, schedule
from unet_jax.plan import windows


def case(seed):
    """A shape, a patch and a step."""
    random = np.random.default_rng(seed)
    axes = 2 + seed % 2
    return (
        tuple(random.integers(1, 30, 3).tolist()),
        tuple(random.integers(1, 20, axes).tolist()),
        random.uniform(0.2, 1),
    )


def corners(layout):
    """The first voxel of each window."""
    return list(itertools.product(*layout.starts))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("gaussian", [True, False])
def test_shares_are_importance_over_its_sum(seed, gaussian):
    shape, patch, step = case(seed)
    layout = lay_out(shape, patch, step, gaussian=gaussian)
    weights = windows.importance(patch) if gaussian else np.ones(patch, np.float32)
    weights = weights.reshape(layout.patch).astype(np.float64)
    places = [
        tuple(slice(start, start + n) for start, n in zip(corner, layout.patch, strict=True))
        for corner in corners(layout)
    ]
    total = np.zeros(layout.padded)
    for place in places:
        total[place] += weights
    assert (total > 0).all()
    for place, parts in zip(places, itertools.product(*layout.shares), strict=True):
        z, y, x = parts
        np.testing.assert_allclose(z[:, None, None] * y[:, None] * x, weights / total[place], rtol=2e-5)


@pytest.mark.parametrize("seed", range(8))
def test_windows_are_cut_from_the_padded_image(seed):
    shape, patch, step = case(seed)
    image = np.random.default_rng(seed).normal(size=(*shape, 2)).astype(np.float32)
    layout = lay_out(shape, patch, step, gaussian=True)
    padded = np.pad(image, [*windows.centred(shape, layout.patch), (0, 0)])
    assert padded.shape[:3] == layout.padded
    found = np.concatenate([cut(image, layout, batch, 4)[: len(batch)] for batch in batches(layout, 4)])
    assert found.shape == (layout.windows, *patch, 2)
    for window, corner in zip(found, corners(layout), strict=True):
        place = tuple(slice(start, start + n) for start, n in zip(corner, layout.patch, strict=True))
        np.testing.assert_array_equal(window.reshape(*layout.patch, 2), padded[place])


def test_a_batch_that_is_not_full_ends_in_zeros():
    layout = lay_out((4, 4, 4), (4, 4, 4), 0.5, gaussian=True)
    found = cut(np.ones((4, 4, 4, 1), np.float32), layout, next(batches(layout, 3)), 3)
    assert found.sum(axis=(1, 2, 3, 4)).tolist() == [64, 0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_slices_are_finished_after_their_last_window_and_before_they_are_retired(seed):
    random = np.random.default_rng(seed)
    shape, patch, step = case(seed)
    layout = lay_out(shape, patch, step, gaussian=True)
    lower = np.sort(random.integers(0, shape[0], 17))
    upper = np.minimum(lower + 1, shape[0] - 1)
    steps, depth = schedule(layout, int(random.integers(1, 9)), lower, upper)
    assert [number for step in steps for number in step.finished] == list(range(17))
    held, added, windows_seen = set(), set(), []
    for number, step in enumerate(steps):
        # What later windows reach is unfinished.
        later = [layout.starts[0][z] for other in steps[number:] for z in other.batch[:, 0].tolist()]
        for slice_ in step.finished:
            needed = {int(lower[slice_]), int(upper[slice_])}
            assert needed <= added
            assert needed <= held
            assert not later or max(needed) < min(later)
        held -= set(step.retired)
        for z in step.batch[:, 0].tolist():
            reached = set(range(layout.starts[0][z], layout.starts[0][z] + layout.patch[0]))
            assert not reached & (added - held)
            added |= reached
            held |= reached
        windows_seen += step.batch.tolist()
        assert not held or max(held) - min(held) < depth
    assert windows_seen == list(map(list, itertools.product(*(range(len(each)) for each in layout.starts))))
