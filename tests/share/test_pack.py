import io
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from absl import flags as flags_of_absl
from ml_collections import config_flags

import unet_jax
from unet_jax.command_line import flags, modes, program
from unet_jax.data import load
from unet_jax.errors import DamageError, InputError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.files import read_json
from unet_jax.inference import ensemble
from unet_jax.run import pack_file
from unet_jax.run.config import as_json, flatten, read_config
from unet_jax.share import card
from unet_jax.share.pack import pack
from unet_jax.training.train import train


@pytest.fixture(scope="module")
def folds(settings, configure, tmp_path_factory):
    """Two folds of a cross-validation, each a run that is trained and scored."""
    folder = tmp_path_factory.mktemp("crossval") / "lgg"
    for fold in range(2):
        changes = {"train.epochs": 1, "data.folds": 2, "data.fold": fold, "model.norm": "batch"}
        train(configure(settings | changes | {"train.tensorboard": False}), folder / f"fold{fold}")
    return folder


@pytest.fixture(scope="module")
def run(folds):
    return folds / "fold0"


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "model.zip"
    pack(run, path, licence="CC-BY-4.0", case_names=True)
    return path


@pytest.fixture(scope="module")
def image(run):
    return np.asarray(load.load(read_config(run)).cases[0].image)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_pack_predicts_as_its_run_does_to_the_bit(run, packed, image):
    of_run, of_pack = unet_jax.load(run), unet_jax.load(packed)
    np.testing.assert_array_equal(of_run.probabilities(image), of_pack.probabilities(image))
    assert (of_run.step, of_run.channel_names) == (of_pack.step, of_pack.channel_names)


def test_a_pack_has_what_predicts_and_nothing_of_the_optimiser(run, packed):
    found = members(packed)
    assert {"card.md", "config.json", "data.json", "split.json", "history.jsonl", "pack.json"} <= found.keys()
    assert not [name for name in found if "training" in name or name.endswith(".png")]
    arrays = [np.load(io.BytesIO(of)) for name, of in found.items() if name.endswith(".npy")]
    assert sum(array.size for array in arrays) > 100
    assert read_json(run / "config.json")["data_fingerprint"] == json.loads(found["config.json"])["data_fingerprint"]


def test_a_pack_is_scored_as_its_run_is(run, packed, tmp_path):
    output = tmp_path / "scores"
    with pack_file.opened(packed) as folder:
        of_pack = evaluate(folder, output=output)
    of_run = read_json(run / "evaluation" / "test" / "metrics.json")
    assert of_pack["dice_per_patient"] == of_run["dice_per_patient"]
    assert (output / "report.html").exists()


def test_the_command_scores_a_pack_beside_it(packed, tmp_path, monkeypatch):
    copy = shutil.copy(packed, tmp_path / "model.zip")
    monkeypatch.setattr(modes, "use_cores_as", lambda workdir: None)  # jax has started
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["main.py", "--mode=evaluate", f"--workdir={copy}"])
    try:
        assert program.main([]) == 0
    finally:
        flags.FLAGS.unparse_flags()
    assert (tmp_path / "model_evaluation" / "test" / "metrics.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.zip", "model_evaluation"]


def test_a_pack_is_neither_resumed_nor_packed_again(packed, settings, configure, tmp_path):
    config = configure(settings | {"train.epochs": 1})
    with pytest.raises(InputError, match=r"A pack holds no state to resume from: .*initial_weights=.*model\.zip"):
        train(config, packed)
    with pytest.raises(InputError, match="is a pack already"):
        pack(packed, tmp_path / "again.zip")


def test_what_a_pack_unpacks_to_is_not_resumed_either(packed, tmp_path):
    pack_file.unpack(packed, tmp_path / "run")
    config = read_config(tmp_path / "run")
    del config["data_fingerprint"]
    with pytest.raises(InputError, match="was packed, and what resuming needs was left out"):
        train(config, tmp_path / "run")


def test_folds_in_one_pack_are_averaged(folds, image, tmp_path):
    pack(folds, tmp_path / "folds.zip")
    together = unet_jax.load(tmp_path / "folds.zip").probabilities(image)
    each = [unet_jax.load(folds / f"fold{fold}").probabilities(image) for fold in range(2)]
    np.testing.assert_allclose(together, (each[0] + each[1]) / 2, atol=1e-6)
    one = unet_jax.load(tmp_path / "folds.zip" / "fold1").probabilities(image)
    np.testing.assert_array_equal(one, each[1])
    with pytest.raises(
        InputError, match=r"holds the folds of a cross-validation: name one of them, as --workdir=.*fold0"
    ):
        evaluate(folds)


def test_folds_of_other_recipes_are_not_averaged(folds, tmp_path):
    shutil.copytree(folds, tmp_path / "folds")
    path = tmp_path / "folds" / "fold1" / "config.json"
    config = read_json(path)
    config["augment"]["transpose"] = 0.25
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"differ in config\.augment\.transpose"):
        ensemble.find(tmp_path / "folds")


def test_a_pack_names_no_case_unless_asked(run, packed, image, tmp_path, capsys):
    pack(run, tmp_path / "model.zip")
    assert "It names no case" in capsys.readouterr().out
    found = members(tmp_path / "model.zip")
    cases = {case.name for case in load.load(read_config(run)).cases}
    text = b"".join(of for name, of in found.items() if not name.endswith(".npy")).decode()
    assert cases
    assert not [name for name in cases if name in text]
    assert str(read_json(run / "config.json")["data"]["root"]) not in text
    np.testing.assert_array_equal(unet_jax.load(tmp_path / "model.zip")(image), unet_jax.load(packed)(image))
    named = b"".join(of for name, of in members(packed).items() if not name.endswith(".npy")).decode()
    assert all(name in named for name in cases)
    with pack_file.opened(tmp_path / "model.zip") as folder:
        with pytest.raises(InputError, match=r"model has no split\.json: a pack has it with --case_names alone"):
            evaluate(folder)
        root = Path(read_config(run).data.root)
        metrics = evaluate(folder, side="all", data=root, output=tmp_path / "scores")
    assert metrics["split_by"] == f"every case of {root}, cases of the run's data included"


def test_what_lies_there_is_kept_and_names_end_with_zip(run, packed, tmp_path):
    before = packed.read_bytes()
    with pytest.raises(InputError, match="exists: name another file, or add --overwrite"):
        pack(run, packed)
    assert packed.read_bytes() == before
    with pytest.raises(InputError, match=r"must end with \.zip"):
        pack(run, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        pack(tmp_path, tmp_path / "model.zip")


def test_an_array_that_was_changed_is_found_even_if_the_pack_is_sealed_again(packed, tmp_path):
    found = members(packed)
    del found["pack.json"]
    name = next(name for name in found if name.endswith(".npy"))
    found[name] = found[name][:-1] + bytes([found[name][-1] ^ 1])
    pack_file.write(tmp_path / "model.zip", found.items(), {})
    with pytest.raises(DamageError, match=r"No checkpoint in .*model\.zip/checkpoints is whole"):
        unet_jax.load(tmp_path / "model.zip")


def test_the_card_says_what_was_trained_and_how_it_scores(run, packed):
    text = members(packed)["card.md"].decode()
    metrics = read_json(run / "evaluation" / "test" / "metrics.json")
    dice = metrics["dice_per_patient"]
    assert f"{dice['mean']:.3f} mean (95 % {dice['ci95'][0]:.3f} to {dice['ci95'][1]:.3f})" in text
    assert "CC-BY-4.0" in text
    assert read_json(run / "config.json")["data_fingerprint"] in text
    assert "pre-contrast, FLAIR, post-contrast" in text
    assert "It was trained on synthetic images" in text
    for title in ("Model", "Data", "Scores", "Intended use", "Limits", "Licence", "Use", "Trained by"):
        assert f"\n## {title}\n" in text
    assert "--workdir=model.zip" in text


def test_the_cards_command_makes_the_runs_config(run, monkeypatch):
    given = [flag.strip("'") for flag in card.command_line(run)]
    assert "--config.data.folds=2" in given
    arguments = ["main.py", "--config=configs/default.py", *given]
    monkeypatch.setattr(sys, "argv", arguments)
    values = flags_of_absl.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, help_string="")
    values(arguments)
    made, found = (flatten(as_json(config.to_dict())) for config in (values["config"].value, read_config(run)))
    differing = {key for key in made.keys() | found.keys() if made.get(key) != found.get(key)}
    of_here = {"data.cache", "phantom.root", "train.tensorboard", "train.log_every_steps", "data_fingerprint"}
    of_here |= {"train.checkpoint_every_steps", "train.compilation_cache"}
    assert not {key for key in differing if not key.startswith("scaled_down.")} - of_here
