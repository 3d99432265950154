import pytest

from unet_jax.data.formats import layouts
from unet_jax.errors import InputError


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


SCAN = ("TCGA_A_1_2/TCGA_A_1_2_1.tif", "TCGA_A_1_2/TCGA_A_1_2_1_mask.tif")


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "dataset.json"], "nifti"),
        (["ImagesTR/a_0000.nii.gz"], "nifti"),
        (["lgg_mri/1.0.0/dataset_info.json"], "tfds"),
        (["dataset_info.json"], "tfds"),
        (["images/a.png", "masks/a.png"], "pairs"),
        (["Images/a.png", "MASKS/a.png"], "pairs"),
        (["train/images/a.png", "train/masks/a.png", "val/images/b.png", "val/masks/b.png"], "pairs"),
        ([*SCAN, "data.csv"], "lgg"),
        (["a.png", "a_mask.png"], "pairs"),
        (["a_mask.png"], "pairs"),
        (["anna/1.tif", "anna/1_MASK.tif"], "pairs"),
    ],
)
def test_the_source_is_guessed_from_what_lies_in_the_folder(tmp_path, names, source):
    _touch(tmp_path, *names)
    layout = layouts.find(tmp_path)
    assert (layout.source, layout.root) == (source, tmp_path)
    assert layout.note.startswith(f"Data: {tmp_path} holds ")
    assert layout.note.endswith(f"(config.data.source={source}).")


@pytest.mark.parametrize(
    ("names", "folder", "source"),
    [
        ([f"kaggle_3m/{name}" for name in SCAN], "kaggle_3m", "lgg"),
        ([f"x/y/z/{name}" for name in SCAN], "x/y/z", "lgg"),
        (["raw/Dataset001/imagesTr/a_0000.nii.gz", "raw/Dataset001/dataset.json"], "raw/Dataset001", "nifti"),
        (["set/images/a.png", "set/masks/a.png"], "set", "pairs"),
        (["set/images/a.png", "set/masks/a_mask.png"], "set", "pairs"),
    ],
)
def test_a_layout_below_the_root_is_read_there_and_said(tmp_path, names, folder, source):
    _touch(tmp_path, *names, "README.md")
    layout = layouts.find(tmp_path)
    assert (layout.source, layout.root) == (source, tmp_path / folder)
    assert (
        f"in {folder}, which is read (config.data.root={tmp_path / folder}, config.data.source={source})."
        in layout.note
    )


def test_copies_of_a_layout_are_read_once(tmp_path):
    _touch(tmp_path, *(f"{folder}/{name}" for folder in ("kaggle_3m", "lgg/kaggle_3m") for name in SCAN))
    layout = layouts.find(tmp_path)
    assert layout.root == tmp_path / "kaggle_3m"
    assert layout.note.endswith("The same files lie in lgg/kaggle_3m again, and are not read.")
    (tmp_path / "lgg" / "kaggle_3m" / SCAN[0]).write_bytes(b"other")
    with pytest.raises(InputError, match=r"holds several data sets: kaggle_3m \(.*\), lgg/kaggle_3m \(.*\): name one"):
        layouts.find(tmp_path)


def test_what_is_none_is_said_with_what_lies_there(tmp_path):
    _touch(tmp_path, "imgs/a.png", "imgs/b.png", "gt/a.nii.gz", "notes")
    with pytest.raises(InputError) as caught:
        layouts.find(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds no layout that is known, but 2 .png in imgs (a.png, …), 1 file without suffix in it "
        "(notes), 1 .nii.gz in gt (a.nii.gz); these patterns would pair 1 image with masks: "
        "--config.data.images='imgs/{case}.png' --config.data.masks='gt/{case}.nii.gz': say where images and masks lie "
        "with config.data.images and config.data.masks (docs/data.md)."
    )
    with pytest.raises(InputError, match="there is no such folder"):
        layouts.find(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="but nothing: say where"):
        layouts.find(tmp_path / "empty")


def test_two_folders_that_could_be_one_side_are_named(tmp_path):
    _touch(tmp_path, "train/a.png", "Training/b.png", "val/c.png")
    with pytest.raises(InputError, match="holds Training and train, and each could be the train side"):
        layouts.find(tmp_path)
