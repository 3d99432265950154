import numpy as np

from unet_jax.data import cache
from unet_jax.data.formats import lgg
from unet_jax.data.load import load, take_cases_from


def test_a_data_set_is_what_the_reader_found(settings, configure, phantom_files, tmp_path):
    data = load(configure(settings))
    cases, _, digests = cache.load(lgg, phantom_files, tmp_path / "cache")
    assert [case.name for case in data.cases] == [case.name for case in cases]
    for one, other in zip(data.cases, cases, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
    assert data.digests == digests
    assert (data.channels, data.classes) == (3, {})


def test_the_phantom_is_made_where_it_is_not_there_yet(settings, configure, tmp_path):
    changes = {"phantom.root": str(tmp_path / "new"), "data.cache": str(tmp_path / "cache")}
    made, shared = (load(configure(settings | change)) for change in (changes, {}))
    assert (tmp_path / "new" / "phantom.json").exists()
    assert made.digests == shared.digests
    assert made.fingerprint == shared.fingerprint


def test_cases_in_another_folder_are_read_as_what_lies_there(settings, configure, write_scan, tmp_path, capsys):
    config = configure(settings | {"data.cache": str(tmp_path / "cache")})
    mask = np.ones((2, 8, 8), np.uint8)
    write_scan(tmp_path / "other", "TCGA_AB_1234_20000101", np.full((2, 8, 8, 3), 7, np.uint8), mask)
    take_cases_from(tmp_path / "other", config)
    assert (config.data.source, config.data.root) == ("lgg", str(tmp_path / "other"))
    assert str(tmp_path / "other") in capsys.readouterr().out
    [case] = load(config).cases
    assert case.name == "TCGA_AB_1234_20000101"
    np.testing.assert_array_equal(case.mask, mask)
