import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unet_jax import models
from unet_jax.models.functional import forward, split_model
from unet_jax.models.transfer import Interface, changing_axes, lines, transfer
from unet_jax.run.manifest import named_leaves

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 3, 4)).astype(np.float32)  # rows, columns, channels, features
FLAIR = Interface(("T1", "FLAIR", "T2"), ())


def to_channels(here, inputs, there=FLAIR):
    own = {"first": np.full((3, 3, inputs, 4), 9.0, np.float32)}
    found = transfer(own, {"first": KERNEL}, {"first": 2}, {}, here, there)
    return found.arrays["first"], found


@pytest.mark.parametrize("inputs", [1, 2, 5])
def test_without_names_every_channel_gets_the_scaled_mean(inputs):
    made, found = to_channels(Interface(None, ()), inputs)
    for channel in range(inputs):
        np.testing.assert_allclose(made[:, :, channel], KERNEL.sum(2) / inputs, rtol=1e-6)
    np.testing.assert_allclose(made.sum(2), KERNEL.sum(2), rtol=1e-5)
    assert found.adapted == {"first": f"from 3 channels to {inputs}, {inputs} as the mean"}


def test_without_names_as_many_channels_are_copied():
    made, found = to_channels(Interface(None, ()), 3)
    np.testing.assert_array_equal(made, KERNEL)
    assert found.copied == ["first"]


def test_channels_of_one_name_keep_their_kernel_and_the_others_share_the_rest():
    made, found = to_channels(Interface(("DWI", "FLAIR", "ADC"), ()), 3)
    np.testing.assert_array_equal(made[:, :, 1], KERNEL[:, :, 1])
    for channel in (0, 2):
        np.testing.assert_allclose(made[:, :, channel], (KERNEL[:, :, 0] + KERNEL[:, :, 2]) / 2, rtol=1e-6)
    assert found.adapted == {"first": "from 3 channels to 3, FLAIR by name, 2 as the mean"}


def test_another_order_is_put_right_by_name():
    made, _ = to_channels(Interface(("T2", "T1", "FLAIR"), ()), 3)
    np.testing.assert_array_equal(made, KERNEL[:, :, [2, 0, 1]])


def test_a_channel_that_the_source_has_nothing_for_starts_at_0():
    made, found = to_channels(Interface(("T1", "FLAIR", "T2", "DWI"), ()), 4)
    np.testing.assert_array_equal(made[:, :, :3], KERNEL)
    assert not made[:, :, 3].any()
    assert found.adapted["first"].endswith("1 at 0")


def test_neighbouring_slices_are_matched_slice_by_slice():
    here, there = (Interface(names, (), 3) for names in (("b", "a"), ("a", "b")))
    source = RNG.normal(size=(1, 1, 6, 2)).astype(np.float32)
    found = transfer({"first": np.zeros_like(source)}, {"first": source}, {"first": 2}, {}, here, there)
    np.testing.assert_array_equal(found.arrays["first"], source[:, :, [1, 0, 3, 2, 5, 4]])


def test_classes_of_one_name_are_copied_and_the_others_are_fresh():
    here, there = (Interface(None, names) for names in (("core", "cyst"), ("edema", "core")))
    own, source = ({"bias": np.arange(3.0) + add} for add in (0, 10))
    found = transfer(own, source, {}, {"bias": 0}, here, there)
    np.testing.assert_array_equal(found.arrays["bias"], [10, 12, 2])
    assert found.adapted == {"bias": "background, core by name, cyst fresh"}


def test_the_logit_of_one_class_is_none_of_several():
    here, there = Interface(None, ("edema", "core")), Interface(None, ())
    found = transfer({"bias": np.zeros(3)}, {"bias": np.ones(1)}, {}, {"bias": 0}, here, there)
    assert (found.fresh, found.arrays["bias"].tolist()) == (["bias"], [0, 0, 0])


def test_classes_that_overlap_have_no_background_and_go_with_their_like():
    several = Interface(None, ("whole", "core"), overlap=True)
    own, source = {"bias": np.zeros(2)}, {"bias": np.array([1.0, 2.0])}
    found = transfer(own, source, {}, {"bias": 0}, several, Interface(None, ("core", "whole"), overlap=True))
    assert found.arrays["bias"].tolist() == [2, 1]
    for other in (Interface(None, ("whole", "core")), Interface(None, ("cyst", "node"), overlap=True)):
        assert transfer(own, {"bias": np.ones(3 - other.overlap)}, {}, {"bias": 0}, several, other).fresh == ["bias"]


def test_what_has_another_shape_is_fresh_and_what_has_no_place_is_left():
    own = {"a": np.zeros((2, 2)), "b": np.zeros(3)}
    source = {"a": np.ones((2, 3)), "b": np.ones(3), "c": np.ones(1)}
    found = transfer(own, source, {}, {}, FLAIR, FLAIR)
    assert (found.copied, found.fresh, found.left) == (["b"], ["a"], ["c"])
    assert [line.split(":")[0] for line in lines(found, "runs/x")] == ["Starting from runs/x", "  fresh", "  left out"]


def shapes_of(name, **options):
    def shapes(inputs, outputs):
        model = nnx.eval_shape(lambda: models.build(name, inputs, outputs, nnx.Rngs(0), **options))
        return {path: leaf.shape for path, leaf in named_leaves(split_model(model)[1]).items()}

    return shapes


@pytest.mark.parametrize(
    ("name", "options", "seeing", "saying"),
    [
        ("tutorial", {"width": 2, "depth": 2}, {"encoder/0/conv1/kernel"}, {"head/kernel", "head/bias"}),
        (
            "tutorial",
            {"width": 2, "depth": 3, "deep_supervision": True},
            {"encoder/0/conv1/kernel"},
            {"head/kernel", "head/bias", "side_heads/0/kernel", "side_heads/0/bias"},
        ),
        ("resnext50_unet", {}, {"encoder/stem/kernel"}, {"head/kernel", "head/bias"}),
    ],
)
def test_first_layers_and_heads_are_found_by_their_shapes(name, options, seeing, saying):
    found = changing_axes(shapes_of(name, **options), 3, 1)
    assert (set(found[0]), set(found[1])) == (seeing, saying)
    assert set(found[0].values()) == {2}


def test_an_image_that_is_the_same_in_all_channels_is_answered_as_before():
    options = {"width": 2, "depth": 2}
    nets = {count: split_model(models.build("tutorial", count, 1, nnx.Rngs(count), **options)) for count in (3, 2)}
    own, source = (jax.device_get(named_leaves({"params": nets[count][1]})) for count in (2, 3))
    seeing, saying = changing_axes(shapes_of("tutorial", **options), 2, 1)
    seeing, saying = ({f"params/{path}": axis for path, axis in each.items()} for each in (seeing, saying))
    found = transfer(own, source, seeing, saying, Interface(None, ()), Interface(None, ()))
    _, form = jax.tree.flatten(nets[2][1])
    params = jax.tree.unflatten(form, list(map(jnp.asarray, found.arrays.values())))
    image = jnp.asarray(np.random.default_rng(1).random((1, 8, 8, 1)), jnp.float32)
    two = forward(nnx.merge(nets[2][0], params, {}), image.repeat(2, -1))
    three = forward(nnx.merge(*nets[3]), image.repeat(3, -1))
    np.testing.assert_allclose(two, three, atol=1e-5)
