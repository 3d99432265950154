import numpy as np
import pytest

from unet_jax.errors import InputError, StorageError
from unet_jax.plan import cascade, previous_masks
from unet_jax.plan.cutting import cut
from unet_jax.plan.dataset import from_json

DESCRIPTION = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 2}, "numTraining": 1}
DATASET = from_json(DESCRIPTION | {"file_ending": ".nii.gz"}, "Dataset001_X")
LABELS = (1, 2)


def masks(*names):
    rng = np.random.default_rng(0)
    return {name: rng.integers(3, size=(4, 5 + place, 6), dtype=np.uint8) for place, name in enumerate(names)}


@pytest.fixture
def written(tmp_path):
    """Two folds' masks, one of them of a case whose name is a path."""
    made = masks("a/b", "c", "d")
    for fold, names in enumerate((["a/b", "d"], ["c"])):
        previous_masks.write(tmp_path / f"fold{fold}", [(name, made[name]) for name in names], "run 1")
    return tmp_path, made


def shapes(made):
    return {name: mask.shape for name, mask in made.items()}


def test_masks_of_all_folds_come_back_as_they_were(written):
    folder, made = written
    found = previous_masks.read(folder, shapes(made), LABELS)
    assert list(found) == list(made)
    for name, mask in made.items():
        np.testing.assert_array_equal(found[name].mask, mask)
        np.testing.assert_array_equal(found[name].channels(), cascade.one_hot(mask, DATASET))
    assert previous_masks.is_there(folder / "fold0", "run 1")
    assert not previous_masks.is_there(folder / "fold0", "run 2")
    assert not previous_masks.is_there(folder / "fold2", "run 1")


@pytest.mark.parametrize("begin", [(0, 0, 0), (-2, 1, 3), (2, 3, -4), (10, 0, 0)])
def test_a_patch_is_cut_as_that_of_the_image(written, begin):
    folder, made = written
    [(name, mask)] = list(made.items())[:1]
    found = previous_masks.read(folder, {name: mask.shape}, LABELS)[name]
    np.testing.assert_array_equal(found.cut(begin, (3, 4, 5)), cut(mask, begin, (3, 4, 5), 0))
    assert found.cut(begin, (3, 4, 5)).dtype == np.int16


def test_a_killed_writer_leaves_nothing(written, tmp_path):
    def some():
        yield "e", made["c"]
        raise StorageError("full")

    folder, made = written
    with pytest.raises(StorageError):
        previous_masks.write(folder / "fold2", some(), "run 1")
    assert sorted(path.name for path in folder.iterdir()) == ["fold0", "fold1"]


def test_what_is_missing_damaged_or_of_another_shape_is_named(written):
    folder, made = written
    wanted = shapes(made) | {"c": (9, 9, 9), "e": (1, 1, 1)}
    path = folder / "fold0" / "000001.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(InputError) as caught:
        previous_masks.read(folder, wanted, LABELS)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "have no mask of the first stage: e:" in lines[0]
    assert "masks of another shape: c:" in lines[1]
    assert "are damaged: d:" in lines[2]
