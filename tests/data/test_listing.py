import os
from pathlib import Path

import pytest

from unet_jax.data import listing
from unet_jax.errors import InputError


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_files_are_found_at_any_depth_in_any_letters(tmp_path):
    _touch(tmp_path, "a.PNG", "b/c/d.png", "b/.e.png", ".f/g.png", "h.txt", "images/x.png")
    found = listing.files_under(tmp_path, (".png",))
    assert found == [Path("a.PNG"), Path("b/c/d.png"), Path("images/x.png")]
    assert listing.files_under(tmp_path, (".png",), "images") == [Path("images/x.png")]
    assert Path("h.txt") in listing.entries(tmp_path)


def test_a_broken_link_is_listed_and_a_link_within_the_root_is_not_followed(tmp_path):
    _touch(tmp_path, "a/b.png")
    (tmp_path / "c.png").symlink_to("nowhere")
    (tmp_path / "again").symlink_to("a")
    (tmp_path / "loop").symlink_to(".")
    assert listing.files_under(tmp_path, (".png",)) == [Path("a/b.png"), Path("c.png")]


def test_a_link_that_leads_to_more_files_elsewhere_is_not_passed_over(tmp_path):
    _touch(tmp_path, "elsewhere/x.PNG", "root/a.png", "notes/read.me")
    (tmp_path / "root" / "notes").symlink_to("../notes")
    assert listing.files_under(tmp_path / "root", (".png",)) == [Path("a.png")]
    (tmp_path / "root" / "more").symlink_to("../elsewhere")
    with pytest.raises(InputError, match=r"root/more: is a link to a folder outside of the data set"):
        listing.files_under(tmp_path / "root", (".png",))


def test_a_folder_is_found_in_any_letters_unless_two_could_be_meant(tmp_path):
    _touch(tmp_path, "Images/a", "images.txt")
    assert listing.folder_named(tmp_path, "images") == Path("Images")
    assert listing.folder_named(tmp_path, "masks") is None
    assert listing.folders(tmp_path / "nowhere") == []
    _touch(tmp_path, "IMAGES/a")
    with pytest.raises(
        InputError, match="holds IMAGES and Images, and each could be meant by images: rename or remove"
    ):
        listing.folder_named(tmp_path, "images")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    _touch(tmp_path, "a/b.png")
    scandir = os.scandir

    def forbidden(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(InputError, match=r"^a: cannot be read \(Permission denied\): mend its permissions"):
        listing.entries(tmp_path)
