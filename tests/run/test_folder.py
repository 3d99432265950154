import pytest
from ml_collections import ConfigDict

from unet_jax.errors import InputError
from unet_jax.files import write_json
from unet_jax.run import folder as run_folder


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_links_that_lead_out_of_the_folder_are_all_named(workdir, tmp_path):
    (workdir / "evaluation").mkdir()
    (workdir / "config.json").write_text("{}")
    (workdir / "newest").symlink_to("config.json")
    run_folder.check_links(workdir)
    (tmp_path / "linked").symlink_to(workdir)
    run_folder.check_links(tmp_path / "linked")
    (workdir / "evaluation" / "test").symlink_to(tmp_path)
    (workdir / "checkpoints").symlink_to("../elsewhere")
    with pytest.raises(InputError) as error:
        run_folder.check_links(workdir)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{workdir}/checkpoints: this link leads out of")
    assert second.startswith(f"{workdir}/evaluation/test: this link leads out of")


@pytest.mark.parametrize("root", ["data/phantom", "../phantom", "/no/such/phantom"])
def test_a_phantom_is_not_made_again(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"{root}: the run's data are not there: say with --data=DIR"):
        run_folder.check_data(ConfigDict({"data": {"source": "phantom", "root": root}}))
    run_folder.check_data(ConfigDict({"data": {"source": "phantom", "root": str(tmp_path)}}))


@pytest.mark.parametrize(
    ("content", "channels", "files"),
    [
        ({"channels": 4, "files": {"a.tif": {}}}, 4, {"a.tif": {}}),
        ({"channels": 1, "files": {}}, 1, {}),
        ({"a.tif": {}}, None, {"a.tif": {}}),  # the form of before version 0.1: the files alone
        ({}, None, {}),
    ],
)
def test_what_a_run_noted_of_its_data_is_read_in_both_forms(content, channels, files, workdir):
    write_json(workdir / "data.json", content)
    assert run_folder.read_data(workdir)["files"] == files
    assert run_folder.read_channels(workdir) == channels


def test_a_run_may_be_older_than_any_note_of_its_data(workdir):
    assert run_folder.read_data(workdir) is None
    assert run_folder.read_channels(workdir) is None


@pytest.mark.parametrize("content", [[], 7, {"channels": 0, "files": {}}, {"channels": "3", "files": {}}])
def test_what_is_no_note_of_data_is_refused(content, workdir):
    write_json(workdir / "data.json", content)
    with pytest.raises(InputError, match=r"data\.json(: channels is .* number from 1 on| is not a description)"):
        run_folder.read_channels(workdir)


def test_channels_are_called_as_recorded_or_as_the_layout_says(workdir):
    config = ConfigDict({"data": {"source": "lgg", "root": "nowhere", "images": None}})
    # Of before names were recorded: LGG's layout names them.
    write_json(workdir / "data.json", {"channels": 3, "files": {}})
    assert run_folder.read_channel_names(workdir, config, 3) == ("pre-contrast", "FLAIR", "post-contrast")
    assert run_folder.read_shown(workdir, config, 3) == 1
    config.data.source = "pairs"  # photographs: in their colours
    assert run_folder.read_shown(workdir, config, 3) is None
    write_json(workdir / "data.json", {"channels": 3, "channel_names": ["T1", "T2", "CT"], "shown": 2, "files": {}})
    assert run_folder.read_channel_names(workdir, config, 3) == ("T1", "T2", "CT")
    assert run_folder.read_shown(workdir, config, 3) == 2


@pytest.mark.parametrize("damage", [{"channel_names": ["T1"]}, {"channel_names": 3}, {"shown": 3}, {"shown": "T1"}])
def test_damaged_names_are_refused(damage, workdir):
    config = ConfigDict({"data": {"source": "pairs", "root": "nowhere", "images": None}})
    write_json(workdir / "data.json", {"channels": 2, "channel_names": ["T1", "T2"], "shown": 0, "files": {}} | damage)
    with pytest.raises(InputError, match=rf"data\.json: {next(iter(damage))} is"):
        run_folder.read_shown(workdir, config, 2)
