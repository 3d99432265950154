import pytest
from nnunet_answers import data_set

from unet_jax.plan.dataset import from_json as dataset_of
from unet_jax.plan.fingerprint import from_json as fingerprint_of
from unet_jax.plan.planner import Settings, plan

# Of a data set's plan by a preset, what some line has to say.
SAID = {
    ("hippocampus", "default"): [
        "Spacing 1 × 1 × 1 mm (axes as they are read): the median of 260 cases along each axis.",
        "Axes stay in the order in which they are read.",
        "Channel 0 (MRI) is normalised by zscore, as its name is not one of ct, nonorm,",
        "3d_fullres: patch 40 × 56 × 40, the median case, padded: a batch of 2 counts 1.92e+07",
        "and 8 GB 5.6e+08.",
        "3d_fullres: batch size 9: memory allows 58, and 5% of all voxels are 9 patches; it is the smaller.",
        "There is no 3d_lowres, as a patch of 3d_fullres covers 139% of the median case, not less than 25%.",
    ],
    ("liver", "resenc_l"): [
        "Channel 0 (CT) is normalised by ct, by its name.",
        "3d_lowres is there as a patch of 3d_fullres covers",
        "the finest at which a patch covers 25%",
        "3d_cascade_fullres sees the masks of 3d_lowres beside the image.",
    ],
    ("aniso_clamp", "default"): [
        "along axis 0, whose voxels are more than 3 times as long as the others' and more than 3 times fewer, the 10th "
        "percentile, 0.9, instead of the median, 8, but no finer than the other axes.",
        "3d_fullres: patch 48 × 224 × 224, reduced from 80 × 256 × 256 in 5 steps",
    ],
    ("acdc", "default"): ["the 10th percentile, 5, instead of the median, 10."],
    ("rgb_png_1500", "default"): [
        "There is not a configuration of volumes, as the median case has one slice.",
        "Channel 2 (rgb_to_0_1) is normalised by rgb, by its name.",
        "it is the smaller, but at least 2.",
    ],
    ("brats_regions", "resenc_m"): ["within the body alone, as cropping leaves 37% of the median case, under 75%."],
}


def reasons(name, settings, **dataset):
    answers = data_set(name)
    dataset = dataset_of(answers["dataset"] | dataset, name)
    return plan(fingerprint_of(answers["fingerprint"]), dataset, settings).reasons


@pytest.mark.parametrize("name", SAID, ids=" ".join)
def test_what_is_said(name):
    found = reasons(name[0], Settings(name[1]))
    for words in SAID[name]:
        assert any(words in line for line in found), (words, found)


def test_given_spacing_and_number_of_cases():
    found = reasons("liver", Settings(spacing=(1.0, 3.0, 2.0), memory_gb=80.0), numTraining=7)
    assert found[0].startswith("The fingerprint is of 131 cases and dataset.json has numTraining 7:")
    assert found[1] == "Spacing 1 × 3 × 2 mm (axes as they are read): as given."
    assert found[2] == "Axes are taken in the order 1, 0, 2: the one of the largest spacing first."
    assert not any("\n" in line for line in found)


def test_reasons_name_the_numbers_of_the_plan():
    answers = data_set("liver")
    found = plan(fingerprint_of(answers["fingerprint"]), dataset_of(answers["dataset"], "liver"))
    for name in ("2d", "3d_fullres", "3d_lowres"):
        each = found.configurations[name]
        patch = " × ".join(map(str, each.patch_size))
        assert any(line.startswith(f"{name}: patch {patch},") for line in found.reasons)
        assert any(line.startswith(f"{name}: batch size {each.batch_size}:") for line in found.reasons)
        assert any(line.startswith(f"{name}: {len(each.network.features)} stages,") for line in found.reasons)
