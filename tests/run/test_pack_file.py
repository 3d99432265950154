import zipfile

import numpy as np
import pytest

from unet_jax.errors import DamageError, InputError, StorageError
from unet_jax.files import sealed_json
from unet_jax.run import pack_file

MEMBERS = {"config.json": b"{}", "checkpoints/12/manifest.json": b"[1]", "checkpoints/12/model.arrays/a.npy": bytes(99)}


@pytest.fixture
def pack(tmp_path):
    path = tmp_path / "model.zip"
    pack_file.write(path, MEMBERS.items(), {"kind": "run"})
    return path


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outside(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


def test_a_pack_unpacks_to_what_was_packed_and_is_removed_afterwards(pack):
    with pack_file.opened(pack) as folder:
        assert contents(folder) == MEMBERS
        assert folder.name == "model"
    assert not folder.exists()


def test_the_same_contents_make_the_same_file(pack, tmp_path):
    again = tmp_path / "again.zip"
    pack_file.write(again, MEMBERS.items(), {"kind": "run"})
    assert again.read_bytes() == pack.read_bytes()


def test_a_folder_is_itself_and_a_run_in_a_pack_is_named_like_one(pack, tmp_path):
    with pack_file.opened(tmp_path) as folder:
        assert folder == tmp_path
    with pack_file.opened(pack / "checkpoints" / "12") as folder:
        assert (folder / "manifest.json").read_bytes() == b"[1]"
    assert pack_file.beside(tmp_path, "test") is None
    assert pack_file.beside(pack, "test") == tmp_path / "model_evaluation" / "test"
    assert pack_file.beside(pack / "fold0", "val") == tmp_path / "model_evaluation" / "fold0" / "val"


def test_errors_name_the_pack(pack):
    with pytest.raises(InputError) as caught, pack_file.opened(pack) as folder:
        raise InputError(f"{folder / 'config.json'} is odd.")
    assert str(caught.value) == f"{pack / 'config.json'} is odd."


def test_numpy_opens_it(tmp_path):
    path = tmp_path / "model.zip"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    pack_file.write(path, [("model/a.npy", (tmp_path / "a.npy").read_bytes())], {})
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["model/a"], array)


def test_any_flipped_byte_is_found(pack, tmp_path):
    whole = pack.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), 150, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        pack.write_bytes(damaged)
        try:
            with pack_file.opened(pack) as folder:
                found = contents(folder)
        except (DamageError, InputError):
            continue
        assert found == MEMBERS, position  # a date or a system's name, which nothing reads
    assert outside(tmp_path) == ["model.zip"]


def test_a_pack_that_is_cut_short_is_refused(pack):
    whole = pack.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        pack.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"model\.zip is not a pack"), pack_file.opened(pack):
            pass


def forged(path, members, listed=None, compression=zipfile.ZIP_STORED):
    """A zip whose sealed list fits, as a forger would make it."""
    import hashlib

    files = {
        name: {"bytes": len(of), "sha256": hashlib.sha256(of).hexdigest()} for name, of in (listed or members).items()
    }
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("pack.json", sealed_json({"layout": 1, "files": files}))


@pytest.mark.parametrize(
    "name",
    ["../escaped", "/tmp/escaped", "a/../../escaped", "a\\..\\escaped", "C:escaped", "..", "a//b", "a/", ".hidden"],
)
def test_names_that_lead_elsewhere_are_refused_before_anything_is_written(name, tmp_path):
    pack = tmp_path / "theirs.zip"
    forged(pack, {"config.json": b"{}", name: b"theirs"})
    with pytest.raises(InputError, match="is not a name that a pack's members have: nothing was unpacked"):
        pack_file.unpack(pack, tmp_path / "into" / "folder")
    assert outside(tmp_path) == ["theirs.zip"]


def test_a_link_among_the_members_is_only_a_file_of_its_text(tmp_path):
    pack = tmp_path / "theirs.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    forged(pack, {link: b"/etc/passwd"}, listed={"link": b"/etc/passwd"})
    with pack_file.opened(pack) as folder:
        assert not (folder / "link").is_symlink()
        assert (folder / "link").read_bytes() == b"/etc/passwd"


def test_a_bomb_is_refused_by_its_form(tmp_path):
    pack = tmp_path / "bomb.zip"
    forged(pack, {"config.json": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED)
    assert pack.stat().st_size < 10**5
    with pytest.raises(InputError, match=r"config\.json is compressed or encrypted"):
        pack_file.unpack(pack, tmp_path / "into")
    assert outside(tmp_path) == ["bomb.zip"]


def test_a_pack_that_claims_more_bytes_than_it_has_is_refused(pack, tmp_path):
    # Two members of the list share the bytes of one, as bombs of overlapping files do.
    with zipfile.ZipFile(pack) as archive:
        infos = archive.infolist()
    big = zipfile.ZipInfo("big")
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr(big, bytes(5000))
        for number in range(3):
            twin = zipfile.ZipInfo(f"twin{number}")
            twin.header_offset, twin.file_size, twin.compress_size, twin.CRC = 0, 5000, 5000, big.CRC
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    assert infos
    with pytest.raises(InputError, match="claims to hold more"):
        pack_file.unpack(pack, tmp_path / "into")


@pytest.mark.parametrize("listed", [{"config.json": b"{}"}, {"config.json": b"{}", "a": b"?", "b": b"?"}])
def test_what_the_list_does_not_have_is_refused(listed, tmp_path):
    pack = tmp_path / "theirs.zip"
    forged(pack, {"config.json": b"{}", "a": b"?"}, listed)
    with pytest.raises(DamageError, match=r"does not hold what its pack\.json lists"):
        pack_file.unpack(pack, tmp_path / "into")


def test_other_files_are_told_apart(tmp_path):
    export, plain, text = tmp_path / "tumour.zip", tmp_path / "plain.zip", tmp_path / "text.zip"
    for path, name in ((export, "network.stablehlo"), (plain, "picture.png")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"")
    text.write_text("words")
    for path, line in (
        (export, "is an export, for programs without this package"),
        (plain, r"has no pack\.json and is not a pack"),
        (text, "is not a pack"),
    ):
        with pytest.raises(InputError, match=line), pack_file.opened(path):
            pass


def test_a_pack_of_a_later_version_says_so(tmp_path):
    pack = tmp_path / "later.zip"
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr("pack.json", sealed_json({"layout": 2, "files": {}}))
    with pytest.raises(InputError, match="a later version"), pack_file.opened(pack):
        pass


def test_a_full_disk_is_said_to_be_full(pack, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack_file.Path, "mkdir", full)
    with pytest.raises(StorageError, match="bytes are needed"), pack_file.opened(pack):
        pass
