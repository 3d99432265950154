import gzip
import os

from unet_jax.data.reader import uncompressed_bytes


def test_a_file_is_as_large_as_its_content(tmp_path):
    for name, data, size in (
        ("plain.nii", bytes(5000), 5000),
        ("packed.nii.gz", gzip.compress(bytes(5000)), 5000),
        ("cut.gz", b"ab", 2),
        ("empty.nii", b"", 0),
    ):
        (tmp_path / name).write_bytes(data)
        assert uncompressed_bytes(tmp_path / name) == size
    os.mkfifo(tmp_path / "pipe.gz")  # nobody waits for it
    assert uncompressed_bytes(tmp_path / "pipe.gz") == 0
    assert uncompressed_bytes(tmp_path / "missing") == 0
