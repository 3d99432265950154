import json
import re
from pathlib import Path

import pytest

from configs import default
from unet_jax.errors import InputError
from unet_jax.run.resolve import resolve


@pytest.fixture
def config(tmp_path):
    config = default.get_config()
    config.data.root = str(tmp_path / "kaggle_3m")
    config.lock()
    return config


@pytest.fixture
def config_with_data(config, tmp_path):
    scan = tmp_path / "kaggle_3m" / "TCGA_CS_4941_19960909"
    scan.mkdir(parents=True)
    (scan / "TCGA_CS_4941_19960909_1.tif").write_bytes(b"")
    return config


def test_with_data_the_recipe_runs_as_it_is(config_with_data):
    resolved, messages = resolve(config_with_data, {})
    expected = config_with_data.to_dict()
    del expected["scaled_down"]
    expected["data"]["source"] = "lgg"
    assert resolved.to_dict() == expected
    [found] = messages
    assert found.endswith("holds folders of scans as of Kaggle's LGG data (config.data.source=lgg).")


def test_the_layout_decides_the_source_unless_it_is_named(config, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "kaggle_3m" / name).mkdir(parents=True)
    resolved, (found, note) = resolve(config, {})
    assert resolved.data.source == "pairs"
    assert "config.data.source=pairs" in found
    assert note.startswith("Each picture counts as a patient of its own")
    config.data.source = "nifti"
    [note] = resolve(config, {})[1]
    assert note.startswith("Each case counts as a patient of its own")
    assert resolve(config, {})[0].data.source == "nifti"


def test_a_folder_that_holds_no_layout_is_refused(config, tmp_path):
    (tmp_path / "kaggle_3m").mkdir()
    with pytest.raises(InputError, match=r"kaggle_3m: holds no layout that is known, but nothing: say where"):
        resolve(config, {})


def test_without_data_it_runs_scaled_down_on_the_phantom(config):
    resolved, _ = resolve(config, {})
    expected = config.to_dict()
    for group, values in expected["scaled_down"].items():
        expected[group] |= values
    # Of a checkout; absolute.
    expected["phantom"]["root"] = expected["data"]["root"] = str(Path("data/phantom/kaggle_3m").absolute())
    assert resolved.data.source == "phantom"
    assert resolved.to_dict() == expected


def test_the_user_is_told_what_was_scaled_and_how_to_get_the_data(config):
    resolved, (where, scaled) = resolve(config, {})
    assert config.data.root in where
    assert "https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation" in where
    assert f"model.width {config.model.width} → {resolved.model.width}" in scaled
    assert f"train.epochs {config.train.epochs} → {resolved.train.epochs}" in scaled
    assert "data.source auto → phantom" in scaled


def test_values_that_stay_are_not_reported(config):
    config.model.width = config.scaled_down.model.width
    _, (_, scaled) = resolve(config, {})
    assert "model.width" not in scaled


def test_what_the_command_line_gave_is_never_scaled(config):
    config.model.width = 48
    resolved, (_, scaled) = resolve(config, {"model.width": 48})
    assert resolved.model.width == 48
    assert resolved.train.batch_size == config.scaled_down.train.batch_size
    assert "model.width" not in scaled


def test_an_option_that_the_network_does_not_have_is_not_scaled(config):
    with config.unlocked():
        del config.model.width
    resolved, (_, scaled) = resolve(config, {})
    assert "width" not in resolved.model
    assert "model.width" not in scaled


def test_auto_given_on_the_command_line_is_still_auto(config):
    resolved, messages = resolve(config, {"data.source": "auto"})
    assert resolved.data.source == "phantom"
    assert len(messages) == 2


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ("auto", "correct the path, or set config.data.source=phantom for built-in data."),
        ("lgg", "it must hold one folder a patient: unpack https://www.kaggle.com/"),
        ("nifti", "it must hold imagesTr and labelsTr, as raw data sets of nnU-Net do: correct the path."),
    ],
)
def test_a_root_that_was_given_must_be_there(config, source, needed):
    config.data.source = source
    with pytest.raises(InputError, match=re.escape(f"found no folder {config.data.root}; {needed}")):
        resolve(config, {"data.root": config.data.root})


def test_a_folder_that_patterns_describe_is_not_said_to_be_that_of_lgg(config):
    config.data.update({"source": "patterns", "images": "a/{case}.png", "masks": "b/{case}.png"})
    message = "it must hold what config.data.images=a/{case}.png and config.data.masks=b/{case}.png describe: name it"
    with pytest.raises(InputError, match=re.escape(f"found no folder {config.data.root}; {message}")):
        resolve(config, {})


def test_a_recipe_for_lgg_never_falls_back_on_the_phantom(config):
    config.data.source = "lgg"
    with pytest.raises(InputError, match=r"found no folder .*kaggle_3m.* config\.data\.source=phantom"):
        resolve(config, {})


def test_the_phantom_at_full_size_has_its_own_root(config_with_data):
    config_with_data.data.source = "phantom"
    resolved, messages = resolve(config_with_data, {"data.source": "phantom"})
    assert resolved.data.root == str(Path(config_with_data.phantom.root).absolute())
    assert resolved.model == config_with_data.model
    assert messages == []


def test_an_unknown_source_is_refused(config):
    config.data.source = "brats"
    with pytest.raises(
        InputError, match=r"config\.data\.source is 'brats'; .* auto, lgg, .* tfds, patterns, listed, phantom\."
    ):
        resolve(config, {})


def test_the_config_that_was_asked_for_stays_as_it_was(config):
    before = config.to_dict()
    resolve(config, {})
    assert config.to_dict() == before


def with_lists(value):
    """JSON has lists where a config has tuples."""
    if isinstance(value, dict):
        return {key: with_lists(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def test_a_resolved_config_takes_no_new_key_and_survives_json(config):
    resolved, _ = resolve(config, {})
    assert resolved.is_locked
    again = json.loads(json.dumps(resolved.to_dict()))
    assert again == with_lists(resolved.to_dict())


def test_data_below_the_root_become_the_root(config, tmp_path):
    scan = tmp_path / "kaggle_3m" / "deeper" / "TCGA_CS_4941_19960909"
    scan.mkdir(parents=True)
    (scan / "TCGA_CS_4941_19960909_1.tif").write_bytes(b"")
    resolved, [found] = resolve(config, {})
    assert (resolved.data.source, resolved.data.root) == ("lgg", str(scan.parent))
    assert f"config.data.root={scan.parent}" in found


def test_a_file_in_place_of_the_root_is_said_to_be_one(config, tmp_path):
    (tmp_path / "kaggle_3m").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"kaggle_3m: is a file, and a folder is needed: unpack it"):
        resolve(config, {"data.root": config.data.root})


def test_patterns_are_read_as_they_are_given_and_what_they_leave_out_is_said(config, tmp_path):
    config.data.root = str(tmp_path)
    for name in ("a.png", "b.png", "a_1.png", "b_1.png", "b_2.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "splits_final.json").write_text("[]")
    config.data.images, config.data.masks = "{case:[ab]}.png", "{case}_1.png"
    resolved, messages = resolve(config, {"data.root", "data.images", "data.masks"})
    assert resolved.data.source == "patterns"
    assert messages[:3] == [
        "config.data.images matches 2 files and config.data.masks 2.",
        "Neither matches 1 other images, b_2.png: they are not read.",
        f"{tmp_path}/splits_final.json holds folds, which are not used: "
        f"--config.data.split_file={tmp_path}/splits_final.json takes them.",
    ]
    config.data.source = "pairs"
    with pytest.raises(InputError, match=r"source is 'pairs', and config\.data\.images and masks are patterns"):
        resolve(config, {"data.root"})


def test_what_a_known_layout_needs_gives_way_to_what_the_user_sets(config, tmp_path):
    config.data.root = str(tmp_path)
    for end in ("flair", "t1", "t1ce", "t2", "seg"):
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / f"p_{end}.nii").write_bytes(b"")
    assert resolve(config, {"data.root"})[0].data.labels == "necrosis=1, edema=2, enhancing=4"
    config.data.labels = "tumour=1+2+4"
    assert resolve(config, {"data.root"})[0].data.labels == "tumour=1+2+4"


def test_a_threshold_for_jpeg_masks_is_set_where_nobody_named_labels(config, tmp_path):
    config.data.root = str(tmp_path)
    for name in ("images/a.jpg", "masks/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    resolved, messages = resolve(config, {"data.root"})
    assert (resolved.data.source, resolved.data.mask_threshold) == ("pairs", 128)
    assert messages[0].endswith("(config.data.source=pairs, config.data.mask_threshold=128).")
    config.data.labels = "a=1, b=2"
    assert resolve(config, {"data.root"})[0].data.mask_threshold is None
