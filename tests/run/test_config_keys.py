import pytest
from absl import flags

from configs import default
from unet_jax.errors import InputError
from unet_jax.run.config_keys import OrNone, check_keys


def test_a_config_needs_every_key_and_no_other():
    config = default.get_config()
    check_keys(config, default.get_config())
    with config.unlocked():
        del config.train.epochs
        config.train.epoch = 3
        config.model.growth = 2  # a network's own option: the network judges it
    with pytest.raises(InputError) as error:
        check_keys(config, default.get_config())
    assert str(error.value).splitlines() == [
        "config.train.epochs is missing: start from configs/default.py.",
        "config.train.epoch is not a key; did you mean config.train.epochs?",
    ]


def test_only_a_placeholder_may_be_none():
    config = default.get_config()
    config.optim.clip_norm = None
    check_keys(config, default.get_config())
    with config.unlocked():
        config.train.epochs = None
        config.augment.gamma.probability = None
        config.model.width = None
    with pytest.raises(InputError) as error:
        check_keys(config, default.get_config())
    assert str(error.value).splitlines() == [
        "config.augment.gamma.probability is None, and needs a value, such as 0.0.",
        "config.model.width is None, and needs a value, such as 64.",
        "config.train.epochs is None, and needs a value, such as 20.",
    ]


def test_none_is_a_value_on_the_command_line():
    parser = OrNone(flags.FloatParser())
    assert (parser.parse("None"), parser.parse("0.5"), parser.flag_type()) == (None, 0.5, "float")
    with pytest.raises(ValueError, match="could not convert"):
        parser.parse("none")
