import io
import json
import shutil

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from unet_jax.data import cache, load, splits, tfds_lgg
from unet_jax.data.formats import layouts, sources
from unet_jax.data.formats.tfds_records import Records
from unet_jax.errors import InputError
from unet_jax.run import history, resume
from unet_jax.run.config import read_config
from unet_jax.run.verify import verify
from unet_jax.training.train import train

SETTINGS = sources.Settings()


@pytest.fixture
def built(phantom_as_tfds, tmp_path):
    """A copy to be spoilt."""
    return shutil.copytree(phantom_as_tfds, tmp_path / "tfds" / "lgg_mri" / "1.0.0")


def _load(root, source, folder):
    return cache.load(sources.reader(root, source, SETTINGS), root, folder / "cache")


def _change(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_cases_are_those_of_the_files_in_the_same_order(phantom_files, built, tmp_path):
    ours, fingerprint, digests = _load(built, "tfds", tmp_path)
    theirs, other, _ = _load(phantom_files, "lgg", tmp_path)
    assert [(case.name, case.patient) for case in ours] == [(case.name, case.patient) for case in theirs]
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.mask, two.mask)
        assert (one.image.dtype, one.mask.dtype, one.spacing) == (two.image.dtype, two.mask.dtype, two.spacing)
    assert fingerprint != other
    assert len(digests) == sum(len(case.image) for case in theirs)
    assert splits.make(ours) == splits.make(theirs)


def test_either_folder_is_guessed_and_gives_the_same_fingerprint(phantom_files, built, tmp_path):
    data_dir = built.parents[1]
    for root in (built, data_dir):
        note = f"Data: {root} holds lgg_mri, built with TFDS (config.data.source=tfds)."
        assert layouts.find(root) == layouts.Layout("tfds", root, note)
    fingerprints = {_load(root, "tfds", tmp_path)[1] for root in (built, data_dir)}
    # Built anew in other files, as TFDS shuffles them into more shards.
    builder = tfds_lgg.LggMri(data_dir=tmp_path / "again")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=phantom_files, num_shards=3))
    fingerprints.add(_load(tmp_path / "again", "tfds", tmp_path)[1])
    assert len(fingerprints) == 1


def test_the_loss_curve_is_that_of_the_files(phantom_files, phantom_as_tfds, settings, configure, tmp_path):
    histories, scores = [], []
    for source, root in (("lgg", phantom_files), ("tfds", phantom_as_tfds)):
        own = {"data.source": source, "data.root": str(root), "train.epochs": 1}
        workdir = tmp_path / source
        train(configure(settings | own), workdir)
        records = history.read(workdir)
        histories.append([{key: record[key] for key in record if "second" not in key} for record in records])
        scores.append(json.loads((workdir / "evaluation/test/metrics.json").read_text())["dice_per_patient"])
    assert len(histories[0]) > 5
    assert any("loss" in record for record in histories[0])
    assert histories[0] == histories[1]
    assert scores[0] == scores[1]
    assert (tmp_path / "lgg/split.json").read_text() == (tmp_path / "tfds/split.json").read_text()

    cases = load.load(read_config(tmp_path / "tfds")).cases
    assert verify(tmp_path / "tfds") == sum(len(case.image) for case in cases)


def _rebuilt(built, change):
    """The data set written anew, with one thing changed in each example that `change` knows."""

    class LggMri(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds_lgg.FEATURES)

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            source = tfds_lgg.LggMri(data_dir=built.parents[1]).as_data_source(split="all")
            for position, example in enumerate(source):
                png = cv2.imencode(".png", np.ascontiguousarray(example["image"][..., ::-1]))[1].tobytes()
                changed = change(example | {"image": png, "position": position})
                del changed["position"]
                yield position, changed | {"image": io.BytesIO(changed["image"])}

    folder = built.parents[2] / "changed"
    LggMri(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_one_changed_pixel_is_found_and_its_slice_named(phantom_files, built, settings, configure, tmp_path):
    config = configure(settings | {"data.source": "tfds", "data.root": str(built)})
    data = load.load(config)
    resume.record(tmp_path / "run", config, data)
    name = Records(built).listing[2].images[1]

    def change(example):
        if f"{example['case'].decode()}_{example['slice']}" == name.name:
            mask = example["mask"].copy()
            mask[0, 0] ^= 1
            return example | {"mask": mask}
        return example

    assert verify(tmp_path / "run") == len(data.digests)
    with pytest.raises(InputError) as error:
        verify(tmp_path / "run", data=_rebuilt(built, change))
    assert str(error.value).splitlines()[1:] == [f"  {name.as_posix()}: has another content"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mask": np.full((32, 32), 2, np.uint8)}, "its mask does not fit the image, or is not of 0 and 1"),
        ({"mask": np.zeros((32, 31), np.uint8)}, "its mask does not fit the image"),
        ({"image": b"no picture"}, r"is not a TIFF, PNG or JPEG"),
        ({"image": cv2.imencode(".png", np.zeros((32, 32), np.uint8))[1].tobytes()}, r"the image is uint8 \(32, 32\)"),
        ({"case": "twice", "slice": 1}, "twice/twice_1: two records are this slice"),
        ({"patient": "T_other_1"}, "its slices are of several patients"),
        ({"case": "../out"}, "cannot be a case's name"),
    ],
)
def test_what_no_builder_writes_is_answered(built, tmp_path, change, expected):
    root = _rebuilt(built, lambda example: example | (change if example["position"] in (5, 6) else {}))
    with pytest.raises(InputError, match=expected):
        _load(root, "tfds", tmp_path)


def test_damage_is_found_by_name(built, tmp_path):
    shard = built / "lgg_mri-train.array_record-00000-of-00001"
    data = bytearray(shard.read_bytes())
    image = data.index(b"\x89PNG")
    data[image + 60] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"1\.0\.0: the TFDS data set is damaged \(.*build the data set again"):
        _load(built, "tfds", tmp_path)
    shard.write_bytes(bytes(data[:1000]))
    with pytest.raises(InputError, match="the TFDS data set is damaged"):
        _load(built, "tfds", tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match=f"No such file or directory.*{shard.name}"):
        _load(built, "tfds", tmp_path)


def test_shards_that_lie_elsewhere_are_refused(built, tmp_path):
    shard = built / "lgg_mri-train.array_record-00000-of-00001"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"{shard.name}: lies outside of "):
        _load(built, "tfds", tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0.0", "splits": 3}', '{"version": "2.0.0"}'])
def test_a_description_that_is_none_is_answered_in_one_line(built, tmp_path, content):
    (built / "dataset_info.json").write_text(content)
    with pytest.raises(InputError) as error:
        _load(built, "tfds", tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_nothing_that_the_folder_names_is_imported(built, tmp_path, monkeypatch):
    """TFDS's own builder of a folder imports the module that features.json names; ours does not read it."""
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'sung')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("features.json", "dataset_info.json"):
        text = (built / name).read_text()
        text = text.replace("tensorflow_datasets.core.features.features_dict.FeaturesDict", "planted.Song")
        (built / name).write_text(text.replace('"moduleName": "', '"moduleName": "planted.'))
    assert "planted.Song" in (built / "features.json").read_text()
    assert len(_load(built, "tfds", tmp_path)[0]) == 8
    assert not (tmp_path / "sung").exists()
    with pytest.raises(Exception, match=r"planted\.Song"):
        tfds.builder_from_directory(built)
    assert (tmp_path / "sung").exists()


def test_a_folder_without_it_is_told_what_to_do(tmp_path):
    for path in ("lgg_mri/2.0.0/dataset_info.json", "dataset_info.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
        with pytest.raises(InputError, match=r"neither a folder lgg_mri/1\.0\.0 .* python -m unet_jax\.data\.tfds_lgg"):
            Records(tmp_path)
