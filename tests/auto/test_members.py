import dataclasses

import jax
import numpy as np
import pytest
from nnunet_arrays import arrays, plans_of

from unet_jax.auto import members
from unet_jax.auto.members import Member
from unet_jax.data.case import Case
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Segmented, Wanted
from unet_jax.plan import cascade, run_plan
from unet_jax.plan.run_plan import RunPlan
from unet_jax.runtime.mesh import by_batch, data_mesh


@pytest.fixture
def settings():
    return SegmentSettings(batch_size=2, threshold=0.5, sharding=by_batch(data_mesh()))


def cases(count, shape=(3, 8, 8, 1)):
    rng = np.random.default_rng(0)
    for number in range(count):
        case = Case(f"c{number}", "p", rng.random(shape, np.float32), None, (1.0, 1.0, 1.0))
        yield Wanted(number, case, np.arange(shape[0]))


def brighter_than(limit):
    return lambda image: jax.nn.sigmoid(20 * (image[..., 0] - limit))


def test_every_member_segments_every_case_as_alone(settings):
    several = [Member("dark", brighter_than(0.25), settings), Member("bright", brighter_than(0.75), settings)]
    found = list(members.segment(several, cases(5), keep_probabilities=True))
    assert [each["dark"].wanted.position for each in found] == list(range(5))
    for wanted, each in zip(cases(5), found, strict=True):
        image = wanted.case.image[..., 0]
        np.testing.assert_array_equal(each["dark"].mask, image >= 0.25)
        np.testing.assert_array_equal(each["bright"].mask, image >= 0.75)
        # The mean of both probabilities, not of both masks: half way between the two limits.
        both = members.together(each, ("dark", "bright"), 0.5)
        np.testing.assert_array_equal(both.mask, image >= 0.5)
        assert members.together(each, ("bright",), 0.5) is each["bright"]


def test_of_classes_that_overlap_the_means_are_painted():
    def found(*probability):
        array = np.array(probability, np.float32).reshape(1, 1, 1, 3)
        return Segmented(next(cases(1)), np.zeros((1, 1, 1), np.uint8), array)

    each = {"x": found(0.9, 0.9, 0.1), "y": found(0.9, 0.3, 0.3)}
    # Of 0.9, 0.6 and 0.2, the first two are there, and the second is painted over the first.
    both = members.together(each, ("x", "y"), 0.5, (2, 1, 3))
    assert both.mask.tolist() == [[[1]]]
    np.testing.assert_allclose(both.probability, [[[[0.9, 0.6, 0.2]]]], rtol=1e-6)


def test_of_several_classes_the_likeliest_of_the_means():
    def found(*probability):
        array = np.array(probability, np.float32).reshape(1, 1, 1, 3)
        return Segmented(next(cases(1)), np.zeros((1, 1, 1), np.uint8), array)

    # Background is the first's choice, class 2 the second's; together class 1 is the likeliest.
    both = {"a": found(0.5, 0.4, 0.1), "b": found(0.1, 0.4, 0.5)}
    assert members.together(both, ("a", "b"), 0.5).mask.tolist() == [[[1]]]
    np.testing.assert_allclose(members.together(both, ("a", "b"), 0.5).probability.ravel(), [0.3, 0.4, 0.3])


def test_a_first_stages_mask_is_given_to_the_second_as_channels(settings, tmp_path, monkeypatch):
    """The second network here says what it was given, and only that."""
    plans, golden = plans_of(tmp_path, "real_cascade"), arrays("real_cascade")
    dataset = run_plan.describe(["CT"], ["a", "b"])
    plan = RunPlan(plans, "3d_cascade_fullres", dataset)
    case = Case("ca_1", "ca_1", golden["image"][..., None].astype(np.float32), None, (1.0, 0.9, 0.9))
    given = []

    def stream(network, wanted, settings, *, keep_probabilities=False):
        for one in wanted:
            if settings.plan is None:
                yield Segmented(one, golden["exported_lowres_seg"].astype(np.uint8), None)
            else:
                given.append(one)
                yield Segmented(one, np.zeros_like(golden["exported_lowres_seg"], np.uint8), None)

    monkeypatch.setattr(members, "segment_stream", stream)
    second = Member("second", brighter_than(0), dataclasses.replace(settings, plan=plan), previous="first")
    several = [Member("first", brighter_than(0), settings), second]
    wanted = [Wanted(0, case, np.arange(len(case.image)))]
    [found] = members.segment(several, wanted, keep_probabilities=False)
    assert list(found) == ["first", "second"]
    image = given[0].prepared.image
    np.testing.assert_array_equal(np.moveaxis(image[..., 1:], -1, 0), golden["onehot_at_inference"])
    before = cascade.from_mask(
        golden["exported_lowres_seg"], given[0].prepared.geometry, plans, plans.configurations["3d_cascade_fullres"]
    )
    assert image.shape[:3] == before.shape
