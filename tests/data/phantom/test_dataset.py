import csv
import hashlib

import cv2
import numpy as np
import pytest

from unet_jax.data.phantom import dataset as phantom
from unet_jax.errors import InputError, StorageError

SET = {"patients": 6, "size": 64, "slices": (12, 16)}


@pytest.fixture(scope="module")
def cases():
    """Patients 1 to 20 of one set, with 12 slices of 64 x 64 each."""
    return [phantom.generate_case(7, index, size=64, slices=12) for index in range(1, 21)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "phantom"
    phantom.write(root, seed=7, **SET)
    return root


def digests(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lacks(image):
    """The channels for which FLAIR stands in."""
    return [channel for channel in (0, 2) if np.array_equal(image[..., channel], image[..., 1])]


def test_a_seed_fixes_every_byte(written, tmp_path):
    phantom.write(tmp_path / "again", seed=7, **SET)
    assert digests(tmp_path / "again") == digests(written)


def test_fewer_patients_are_the_same_patients(written, tmp_path):
    phantom.write(tmp_path / "fewer", seed=7, **{**SET, "patients": 2})
    fewer = digests(tmp_path / "fewer")
    del fewer["data.csv"], fewer["phantom.json"]
    assert fewer.items() <= digests(written).items()


def test_a_set_is_written_once_and_no_other_is_taken_for_it(tmp_path):
    root = tmp_path / "phantom"
    phantom.write_once(root, seed=7, **SET)
    before = digests(root)
    phantom.write_once(root, seed=7, **SET)
    assert digests(root) == before
    with pytest.raises(InputError, match=r"phantom holds .*'patients': 6.* asks for .*'patients': 5"):
        phantom.write_once(root, seed=7, **SET | {"patients": 5})
    (root / "phantom.json").unlink()
    with pytest.raises(InputError, match="holds no phantom"):
        phantom.write_once(root, seed=7, **SET)


def test_other_seeds_and_patients_give_other_scans(cases):
    image, mask = cases[0]
    for seed, index in ((8, 1), (7, 2)):
        other_image, other_mask = phantom.generate_case(seed, index, size=64, slices=20)
        assert not np.array_equal(image, other_image)
        assert not np.array_equal(mask, other_mask)


def test_layout(written):
    folders = sorted(path for path in written.iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == [f"TCGA_PH_{n:04d}_20000101" for n in range(1, 7)]
    for folder in folders:
        count = len(list(folder.iterdir())) // 2
        assert 12 <= count <= 16
        stems = [f"{folder.name}_{number}" for number in range(1, count + 1)]
        assert {path.name for path in folder.iterdir()} == {
            f"{stem}{ending}.tif" for stem in stems for ending in ("", "_mask")
        }
    assert len({len(list(folder.iterdir())) for folder in folders}) > 1
    with open(written / "data.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Patient"] for row in rows] == ["_".join(folder.name.split("_")[:3]) for folder in folders]
    assert {row["source"] for row in rows} == {"synthetic"}


def test_files_hold_the_case_in_rgb_order(written):
    folder = written / "TCGA_PH_0003_20000101"
    count = len(list(folder.glob("*_mask.tif")))
    image, mask = phantom.generate_case(7, 3, size=64, slices=count)
    for number in range(1, count + 1):
        pixels = cv2.imread(str(folder / f"{folder.name}_{number}.tif"), cv2.IMREAD_COLOR_RGB)
        labels = cv2.imread(str(folder / f"{folder.name}_{number}_mask.tif"), cv2.IMREAD_UNCHANGED)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, image[number - 1])
        np.testing.assert_array_equal(labels, mask[number - 1] * 255)


def test_types_shapes_and_values(cases):
    for image, mask in cases:
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == (12, 64, 64, 3)
        assert mask.shape == (12, 64, 64)
        assert set(np.unique(mask)) == {0, 1}


def test_a_third_of_the_slices_show_tumour(cases):
    share = np.mean([mask.any(axis=(1, 2)) for _, mask in cases])
    assert 0.2 < share < 0.5


def test_no_tumour_is_tiny(cases):
    # 150 voxels at 128 x 128 are 38 at 64 x 64.
    assert min(int(mask.sum()) for _, mask in cases) >= 38


def around(mask):
    """A ring 2 to 5 pixels off the tumour: grey and white matter, of which a median ignores the odd other."""
    near, far = (np.stack([cv2.dilate(one, np.ones((n, n), np.uint8)) for one in mask]) for n in (5, 11))
    return far > near


def test_tumour_outshines_its_surroundings_in_flair(cases):
    brighter = [np.median(image[..., 1][mask > 0]) / np.median(image[..., 1][around(mask)]) for image, mask in cases]
    # By half in most patients; one in eight is close to isointense.
    assert min(brighter) > 1.0
    assert 1 <= sum(one < 1.5 for one in brighter) <= 8


def test_small_scans_are_the_same_heads_seen_with_larger_pixels():
    """Of one patient, as 50 and as 200 pixels: a pixel is the mean over what it covers, not a sample of it."""
    (small, its), (large, their) = (phantom.generate_case(7, 2, size=size, slices=3) for size in (50, 200))
    means = their.reshape(3, 50, 4, 50, 4).mean((2, 4))
    assert np.mean((means > 0.5) != its) < 0.01
    seen = large.reshape(3, 50, 4, 50, 4, 3).mean((2, 4))
    assert np.corrcoef(seen[..., 1].ravel(), small[..., 1].ravel())[0, 1] > 0.95


def test_tumour_is_dark_before_contrast_and_enhances_after(cases):
    darker = []
    for image, mask in (case for case in cases if not lacks(case[0])):
        before, after = (image[..., n] / np.median(image[..., n][around(mask)]) for n in (0, 2))
        darker.append(np.median(before[mask > 0]) < 0.95)
        assert np.percentile(after[mask > 0], 95) > np.percentile(before[mask > 0], 95)
    # All but those that are close to isointense in every sequence.
    assert np.mean(darker) > 0.75


def test_no_single_flair_threshold_finds_the_tumours(cases):
    images, masks = (np.stack(part) for part in zip(*cases, strict=True))
    truth = masks > 0
    guesses = [images[..., 1] > threshold for threshold in range(30, 200, 10)]
    dice = [2 * np.sum(guess & truth) / (guess.sum() + truth.sum()) for guess in guesses]
    assert max(dice) < 0.5


def test_tumours_go_on_from_slice_to_slice(cases):
    for _, mask in cases:
        shown = np.flatnonzero(mask.any(axis=(1, 2)))
        np.testing.assert_array_equal(shown, np.arange(shown[0], shown[-1] + 1))
        areas = mask.sum(axis=(1, 2), dtype=int)
        shared = np.sum(mask[1:] & mask[:-1], axis=(1, 2))[shown[:-1]]
        assert np.sum(shared) > 0.6 * np.sum(np.minimum(areas[1:], areas[:-1]))


def test_flair_stands_in_for_a_missing_sequence_in_every_slice(cases):
    # 20 patients at 1 in 6: 3.3 expected, and 8 or more, or none, for one seed in 27.
    missing = [lacks(image) for image, _ in cases]
    assert all(len(channels) <= 1 for channels in missing)
    assert 1 <= sum(map(len, missing)) <= 7


def test_air_is_dark_and_tissue_is_not(cases):
    for image, _ in cases:
        corners = np.concatenate([image[:, :5, :5], image[:, -5:, -5:]])
        assert corners.mean() < 12
        assert image[6, 20:44, 20:44, 1].mean() > 30


def test_a_killed_write_leaves_nothing(tmp_path, monkeypatch):
    generate = phantom.generate_case

    def fail_at_the_third(seed, index, **size):
        if index == 3:
            raise KeyboardInterrupt
        return generate(seed, index, **size)

    monkeypatch.setattr(phantom, "generate_case", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        phantom.write(tmp_path / "phantom", seed=7, **SET)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_root_is_refused_and_kept(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match=r"exists.*new folder"):
        phantom.write(tmp_path, seed=7, **SET)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("change", [{"patients": 0}, {"size": 8}, {"slices": (2, 9)}, {"slices": (9, 8)}])
def test_impossible_numbers_are_refused(tmp_path, change):
    with pytest.raises(InputError, match="cannot make"):
        phantom.write(tmp_path / "phantom", seed=7, **{**SET, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imwrite", lambda *_: False)
    with pytest.raises(StorageError, match=r"TCGA_PH_0001_20000101_1\.tif"):
        phantom.write(tmp_path / "phantom", seed=7, **SET)
    assert list(tmp_path.iterdir()) == []
