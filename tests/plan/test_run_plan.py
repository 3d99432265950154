import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from volumes import write

from configs import nnunet
from unet_jax.data import labels
from unet_jax.data.case import Case
from unet_jax.data.load import DataSet, load
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.plan import foreground, make, plan_file, run_plan
from unet_jax.plan.run_plan import RunPlan
from unet_jax.plan.sources import of_cases


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("raw") / "Dataset001_Balls", cases=4)


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    """nnU-Net's 10⁸ take seconds, and decide nothing here."""
    original = run_plan.take_fingerprint
    monkeypatch.setattr(run_plan, "take_fingerprint", lambda *args, **_: original(*args, samples=10**4))


@pytest.fixture
def own(configure, root, tmp_path):
    """Makes a config of patches without a plan."""

    def make(**changes):
        given = {"data.source": "nifti", "data.root": str(root), "data.cache": str(tmp_path / "cache")}
        return configure(given | {"data.patch": (8, 8, 8)} | changes)

    return make


@pytest.fixture
def planned(root, tmp_path):
    """Makes a config that follows a plan."""

    def make(**changes):
        config = nnunet.get_config()
        config.plan.configuration = "3d_fullres"
        given = {"data.root": str(root), "data.cache": str(tmp_path / "cache")}
        config.update_from_flattened_dict(given | changes)
        return config.copy_and_resolve_references()

    return make


def resolve(config, workdir):
    return run_plan.resolve(config, load(config), workdir)


def test_the_ignored_label_is_one_more_than_the_last():
    assert run_plan.describe(["CT"], ["a", "b"], ignores=True).ignored == 3
    one = run_plan.describe(["CT"], [], ignores=True)
    assert (one.ignored, one.numbers, one.outputs) == (2, (0, 1), 2)
    assert foreground.classes(one) == [1, (-1, 0, 1)]
    assert run_plan.describe(["CT"], ["a", "b"]).ignored is None


def test_decoded_cases_are_preprocessed_with_nnunets_ignored_label():
    mask = np.array([[[0, 1, 2, labels.IGNORED]]], np.uint8)
    case = Case("a", "a", np.ones((1, 1, 4, 1), np.float32), mask)
    listing = [CaseFiles("a", "a", (Path("a.nii"),), (Path("m.nii"),))]
    digests = {Path(name): (1, "") for name in ("a.nii", "m.nii")}
    for ignores, expected in ((True, [0, 1, 2, 3]), (False, [0, 1, 2, 255])):
        data = DataSet([case], {"a": (1,), "b": (2,)}, "", digests, listing, ignores=ignores)
        assert of_cases(data)[0].open().load().mask[0, 0].tolist() == expected


def test_without_patches_there_is_no_plan(own, tmp_path):
    config = own(**{"data.patch": None})
    assert resolve(config, tmp_path) == (config, None)
    assert run_plan.read(tmp_path, config, 1, ()) is None


def test_cases_keep_their_voxels_without_a_spacing(own, tmp_path):
    _, plan = resolve(own(), tmp_path)
    assert plan.plans.transpose_forward == (0, 1, 2)
    assert not plan.configuration.images.enabled
    assert not plan.configuration.masks.enabled
    assert plan.configuration.network is None


def test_cases_are_resampled_to_a_spacing(own, tmp_path):
    _, plan = resolve(own(**{"data.spacing": (2.0, 1.5, 1.0)}), tmp_path)
    assert plan.configuration.images.enabled
    assert plan.configuration.spacing == (2.0, 1.5, 1.0)


@pytest.mark.parametrize(
    ("intensity", "dtype", "scheme"),
    [
        ("auto", np.uint8, "rgb"),
        ("auto", np.float32, "zscore"),
        ("range", np.uint8, "rgb"),
        ("range", np.float32, "none"),
        ("volume", np.uint8, "zscore"),
        ("volume", np.float32, "zscore"),
    ],
)
def test_what_intensity_means_for_patches(intensity, dtype, scheme):
    assert run_plan._scheme(intensity, np.dtype(dtype)) == scheme


def test_the_config_gets_what_it_leaves_to_the_plan(planned, tmp_path):
    config, plan = resolve(planned(), tmp_path)
    chosen = plan.configuration
    assert config.data.patch == chosen.patch_size
    assert config.data.spacing == chosen.spacing
    assert config.train.batch_size == chosen.batch_size == 2
    assert config.model.rank == 3
    assert config.model.strides == chosen.network.strides
    assert config.model.features == chosen.network.features
    # One resolution alone: nnU-Net's Dice is then that of each sample.
    assert config.loss.dice.per_sample is True
    assert plan.dataset.labels == {"background": 0, "a": 1, "b": 2}
    config_2d, _ = resolve(planned(**{"plan.configuration": "2d"}), tmp_path)
    assert (config_2d.model.rank, len(config_2d.data.patch)) == (2, 2)
    assert config_2d.loss.dice.per_sample is False


def test_what_the_config_gives_takes_the_place_of_the_plans(planned, tmp_path):
    stages = len(resolve(planned(), tmp_path)[1].configuration.network.features)
    narrow = (4,) * stages
    changes = {
        "model.features": narrow,
        "train.batch_size": 3,
        "data.patch": (8, 8, 8),
        "data.spacing": (1.5, 1.5, 1.5),
    }
    config, plan = resolve(planned(**changes), tmp_path)
    chosen = plan.configuration
    assert (chosen.network.features, chosen.batch_size) == (narrow, 3)
    assert (chosen.patch_size, chosen.spacing) == ((8, 8, 8), (1.5, 1.5, 1.5))
    assert config.model.features == narrow


def test_a_runs_plan_is_sealed_and_read_again(planned, tmp_path):
    config, plan = resolve(planned(), tmp_path)
    path = tmp_path / plan_file.NAME
    plan_file.write_sealed(path, plan.plans)
    read = run_plan.read(tmp_path, config, 1, ("a", "b"))
    assert isinstance(read, RunPlan)
    assert (read.plans, read.name) == (plan.plans, "3d_fullres")
    assert read.dataset.labels == plan.dataset.labels
    # A plan that lies there is taken, and asking again changes nothing.
    before = path.stat().st_mtime_ns
    assert resolve(planned(), tmp_path) == (config, plan)
    plan_file.write_sealed(path, plan.plans)
    assert path.stat().st_mtime_ns == before
    values = json.loads(path.read_text())
    values["configurations"]["3d_fullres"]["batch_size"] = 4
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"plan\.json is not what was written"):
        run_plan.read(tmp_path, config, 1, ("a", "b"))


def test_a_plan_without_a_network_is_read_again(own, tmp_path):
    config, plan = resolve(own(), tmp_path)
    plan_file.write_sealed(tmp_path / plan_file.NAME, plan.plans)
    assert run_plan.read(tmp_path, config, 1, ("a", "b")).plans == plan.plans


def test_a_plan_that_was_edited_is_taken_from_its_file(planned, tmp_path):
    plans = resolve(planned(), tmp_path)[1].plans
    values = plan_file.to_json(plans)
    values["configurations"]["3d_fullres"]["batch_size"] = 5
    (tmp_path / "mine.json").write_text(json.dumps(values))
    config, _ = resolve(planned(**{"plan.file": str(tmp_path / "mine.json")}), tmp_path)
    assert config.train.batch_size == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan.configuration": "3d_lowres"}, r"no configuration '3d_lowres': choose one of 2d, 3d_fullres"),
        ({"model.features": (4, 8)}, r"2 stages of features"),
        ({"data.patch": (9, 8, 8)}, r"does not divide by"),
        ({"data.patch": (8, 8)}, r"config\.data\.spacing is .*one an axis"),
        ({"data.patch": (8, 8, 0)}, r"config\.data\.patch is \(8, 8, 0\)"),
        ({"data.spacing": (1.0, 1.0, -1.0)}, r"config\.data\.spacing is"),
        ({"model": {"name": "tutorial"}}, r"start from configs/nnunet\.py"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_said(planned, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        resolve(planned(**changes), tmp_path)


def test_one_number_a_stage_is_that_of_each_axis_and_what_does_not_fit_is_a_line(planned, tmp_path):
    _, plan = resolve(planned(), tmp_path / "own")
    stages = len(plan.configuration.network.kernels)
    _, given = resolve(planned(**{"model.kernels": (3,) * stages}), tmp_path / "given")
    assert given.configuration.network.kernels == ((3, 3, 3),) * stages
    with pytest.raises(InputError, match=rf"the network has {stages} stages of features and {stages + 1} kernels"):
        resolve(planned(**{"model.kernels": (3,) * (stages + 1)}), tmp_path / "other")
    for wrong in (("3",) * stages, ((3, 3.5, 3),) * stages):
        with pytest.raises(
            InputError, match=r"config\.model\.kernels is .*: give a whole number for each stage"
        ) as found:
            resolve(planned(**{"model.kernels": wrong}), tmp_path / "wrong")
        assert len(str(found.value).splitlines()) == 1


def test_a_run_plans_as_mode_plan_does_on_raw_files_of_any_orientation(tmp_path, monkeypatch):
    """Coronal files with thick slices, whose axes are not those of the patient; every other one is mirrored."""
    root = write(tmp_path / "Dataset001_Balls", cases=4)
    for number in range(4):
        for path in (root / f"imagesTr/case_{number}_0000.nii.gz", root / f"labelsTr/case_{number}.nii.gz"):
            image = nibabel.load(path)
            sign = 1 if number % 2 else -1
            affine = np.array([[sign, 0, 0, 0], [0, 0, 1.3, 0], [0, -2.5, 0, 0], [0, 0, 0, 1]])
            nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)
    config = nnunet.get_config()
    config.plan.configuration = "3d_fullres"
    config.update_from_flattened_dict({"data.root": str(root), "data.cache": str(tmp_path / "cache")})
    original = make.take_fingerprint
    monkeypatch.setattr(make, "take_fingerprint", lambda *args, **_: original(*args, samples=10**4))
    of_mode_plan = make.make_plan(config, tmp_path / "plan")
    _, of_run = resolve(config, tmp_path / "run")
    assert of_run.plans.transpose_forward == of_mode_plan.transpose_forward
    assert of_run.configuration == of_mode_plan.configurations["3d_fullres"]
    assert config.data.axes == "file"
