import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from lines import Lines

from unet_jax import models
from unet_jax.data.case import Case
from unet_jax.data.slices import all_slices
from unet_jax.inference import segment
from unet_jax.inference.buckets import padded
from unet_jax.inference.network import make_probability_step, with_flips
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Wanted
from unet_jax.models.functional import split_model
from unet_jax.runtime import mesh

SHARDING = mesh.by_batch(mesh.data_mesh())
SIZE = 16


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (1, 1, 128),
        (128, 128, 128),
        (129, 20, 256),
        (256, 256, None),
        (256, 255, 256),
        (300, 512, 512),
        (513, 3, 768),
        (768, 768, 768),
        (769, 1, 1024),
        (1025, 9, 1536),
        (1537, 2000, 2048),
        (9000, 6000, 12288),
    ],
)
def test_the_side_that_a_slice_is_padded_to(rows, columns, expected):
    assert padded(rows, columns, 256) == expected
    assert padded(rows, columns, None) is None


def test_there_are_five_sides_up_to_a_thousand_pixels_and_little_is_added_to_large_pictures():
    sides = {padded(longest, 1, 0) for longest in range(1, 1025)}
    assert sides == {128, 256, 512, 768, 1024}
    assert all(padded(longest, 1, 0) <= 1.5 * longest for longest in range(513, 9000))


@pytest.fixture(scope="module")
def step():
    """A small network of two classes: where a pixel lies and what stands around it matters."""
    model = models.build("tutorial", in_channels=1, num_classes=3, width=2, depth=2, rngs=nnx.Rngs(0))
    graphdef, params, batch_stats = split_model(model)
    compiled = make_probability_step(graphdef, image_size=SIZE)

    def probability(image, sizes=None):
        return compiled(params, batch_stats, image, *([] if sizes is None else [sizes]))

    probability.compiled = compiled
    return probability


def _pictures(sizes, depth=1, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Case(str(number), str(number), rng.integers(0, 256, (depth, *size, 1), np.uint8), None)
        for number, size in enumerate(sizes)
    ]


def _segmented(step, cases, **options):
    settings = SegmentSettings(batch_size=4, threshold=0.5, sharding=SHARDING, **options)
    probability = with_flips(step, ()) if "slab" not in options else step
    wanted = [Wanted(number, case, np.arange(len(case.image))) for number, case in enumerate(cases)]
    return list(segment.segment_stream(probability, wanted, settings, keep_probabilities=True))


SIZES = [(SIZE, SIZE), (7, 30), (31, 12), (130, 40), (128, 128)]


@pytest.mark.parametrize("flips", [(), ("rows", "columns")])
def test_padded_slices_get_the_probabilities_of_those_that_are_not(flips, step):
    cases = _pictures(SIZES, depth=2)
    expected = _segmented(step, cases, flips=flips)
    found = _segmented(step, cases, flips=flips, image_size=SIZE)
    for one, other in zip(expected, found, strict=True):
        assert one.probability.shape == other.probability.shape == (*one.wanted.case.image.shape[:3], 3)
        np.testing.assert_allclose(other.probability, one.probability, atol=2e-5)
    # The network's own size is not padded.
    np.testing.assert_array_equal(found[0].probability, expected[0].probability)


def test_padded_slices_are_segmented_alike_in_any_company(step):
    cases = _pictures(SIZES)
    together = _segmented(step, cases, image_size=SIZE)
    for number, case in enumerate(cases):
        [alone] = _segmented(step, [case], image_size=SIZE)
        np.testing.assert_array_equal(alone.probability, together[number].probability)


@pytest.mark.parametrize("options", [{"tile": 20}, {"slab": 2}, {"slab": 2, "tile": 20, "flips": ("columns",)}])
def test_padded_windows_and_slabs_get_the_probabilities_of_those_that_are_not(options):
    graphdef, params, batch_stats = split_model(Lines())
    compiled = make_probability_step(graphdef, image_size=SIZE)

    def probability(image, sizes=None):
        return compiled(params, batch_stats, jnp.asarray(image), *([] if sizes is None else [sizes]))

    cases = [
        Case(case.name, "", np.repeat(case.image, 3, -1), None) for case in _pictures([(9, 40), (25, 18)], depth=3)
    ]
    expected = _segmented(probability, cases, **options)
    found = _segmented(probability, cases, image_size=SIZE, **options)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other.probability, one.probability, atol=2e-5)


def test_a_thousand_pictures_of_a_thousand_sizes_take_a_handful_of_programs(step):
    rng = np.random.default_rng(0)
    numbers = rng.choice(np.arange(20 * 200), 1000, replace=False)
    cases = _pictures([(8 + int(number) % 20, 8 + int(number) // 20) for number in numbers])
    assert len({case.image.shape for case in cases}) == 1000
    settings = SegmentSettings(batch_size=16, threshold=0.5, sharding=SHARDING, image_size=SIZE)
    before, programs = step.compiled._cache_size(), []

    def noted(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(noted)
    try:
        found = list(segment.segment_cases(step, cases, all_slices(cases), settings, title=""))
    finally:
        jax.monitoring.unregister_event_duration_listener(noted)
    assert len(found) == 1000
    assert all(mask.shape == cases[position].image.shape[:3] for position, _, mask in found)
    assert step.compiled._cache_size() - before <= 3  # of 128, of 256, and of the network's own size
    assert len(programs) <= 6
