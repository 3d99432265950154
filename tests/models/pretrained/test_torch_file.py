import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch_files
from torch_files import Call

from unet_jax.errors import InputError
from unet_jax.models.pretrained.torch_file import Tensor, TorchFile

# Written by PyTorch: tests/golden/make_torch_file.py.
GOLDEN = Path(__file__).parents[2] / "golden" / "torch_file.pth"


def _rewrite(path, change):
    """A copy of the golden file whose records went through `change`."""
    with zipfile.ZipFile(GOLDEN) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            if (data := change(name.split("/", 1)[1], before.read(name))) is not None:
                after.writestr(name, data)
    return path


def test_tensors_of_pytorch_are_read():
    counted = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with TorchFile(GOLDEN) as file:
        weights = {key: file.array(tensor) for key, tensor in file.content["network_weights"].items()}
        assert list(weights) == ["whole", "turned", "part"]
        np.testing.assert_array_equal(weights["whole"], counted)
        np.testing.assert_array_equal(weights["turned"], counted.transpose(2, 1, 0))
        np.testing.assert_array_equal(weights["part"], counted[1, 1:, ::2])
        state = {key: file.array(tensor).tolist() for key, tensor in file.content["state_dict"].items()}
        assert state == {"weight": [[1.5, -2.0]], "bias": [0.25]}
        assert file.array(file.content["parameter"]).tolist() == [3.0]
        assert file.array(file.content["scalar"]).tolist() == 7.0
        assert file.array(file.content["empty"]).shape == (0, 3)


def test_numbers_of_every_type_are_read():
    with TorchFile(GOLDEN) as file:
        arrays = [file.array(tensor) for tensor in file.content["types"]]
    assert [str(array.dtype) for array in arrays] == ["float64", "float16", "bfloat16", "int64", "int8", "bool"]
    assert [array.astype(float).tolist() for array in arrays] == [[1.5, -2.0]] * 3 + [[1, -2]] * 2 + [[1, 1]]


def test_what_is_not_a_tensor_is_plain():
    with TorchFile(GOLDEN) as file:
        logging = file.content["logging"]
        assert logging == {"ema_fg_dice": [0.5, 0.1], "count": 3}
        assert {type(number) for number in (*logging["ema_fg_dice"], logging["count"])} == {float, int}
        expected = {"device": "cuda:0", "shape": (2, 3, 4), "fold": "all", "none": None}
        assert file.content["init_args"] == expected
        assert file.content["axes"] == (0, 1, 2)


def test_arrays_outlive_the_file(tmp_path):
    shutil.copy(GOLDEN, tmp_path / "copy.pth")
    with TorchFile(tmp_path / "copy.pth") as file:
        array = file.array(file.content["parameter"])
    (tmp_path / "copy.pth").unlink()
    array += 1
    assert array.tolist() == [4.0]


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("numpy", "ndarray"), ("nnunetv2.training", "Trainer")],
)
def test_whatever_else_a_file_names_is_refused_by_name_and_not_called(tmp_path, module, name):
    victim = tmp_path / "victim"
    torch_files.write(tmp_path / "evil.pth", {"weights": Call(module, name, (f"touch {victim}",))})
    with pytest.raises(InputError, match=rf"evil\.pth holds {module}\.{name}, which is not a tensor") as error:
        TorchFile(tmp_path / "evil.pth")
    assert "\n" not in str(error.value)
    assert not victim.exists()


def test_a_file_cannot_change_the_reader(tmp_path):
    """BUILD would set the attributes of what it is given, here of the function that makes tensors."""
    torch_files.write(tmp_path / "evil.pth", None)
    pickled = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N(X\x04\x00\x00\x00makeNdtb."
    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("evil/data.pkl", pickled)
    with pytest.raises(InputError, match="is damaged"):
        TorchFile(tmp_path / "evil.pth")
    test_tensors_of_pytorch_are_read()


def test_numpy_objects_are_refused(tmp_path):
    dtype = Call("numpy", "dtype", ("O8", False, True))
    scalar = Call("numpy._core.multiarray", "scalar", (dtype, Call("_codecs", "encode", ("12345678", "latin1"))))
    torch_files.write(tmp_path / "evil.pth", scalar)
    with pytest.raises(InputError, match="object is not a number"):
        TorchFile(tmp_path / "evil.pth")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (21, (4,), (1,)),
        (0, (2, 13), (13, 1)),
        (0, (25,), (0,)),
        (-1, (2,), (1,)),
        (5, (2,), (-5,)),
        (0, (2**40,), (0,)),
    ],
)
def test_a_tensor_does_not_reach_beyond_its_storage(offset, shape, strides):
    with TorchFile(GOLDEN) as file:
        storage = file.content["network_weights"]["whole"].storage
        with pytest.raises(InputError, match="reaches beyond its storage"):
            file.array(Tensor(storage, offset, shape, strides))


def test_every_cut_of_a_file_is_an_input_error(tmp_path):
    data = GOLDEN.read_bytes()
    for length in range(0, len(data), 97):
        (tmp_path / "cut.pth").write_bytes(data[:length])
        with pytest.raises(InputError):
            TorchFile(tmp_path / "cut.pth")


def test_a_short_record_is_damage(tmp_path):
    path = _rewrite(tmp_path / "short.pth", lambda name, data: data[:-1] if name == "data/0" else data)
    with TorchFile(path) as file, pytest.raises(InputError, match=r"data/0 has 95 bytes"):
        file.array(file.content["network_weights"]["whole"])


def test_a_missing_record_is_damage(tmp_path):
    path = _rewrite(tmp_path / "missing.pth", lambda name, data: None if name == "data/0" else data)
    with TorchFile(path) as file, pytest.raises(InputError, match="is damaged"):
        file.array(file.content["network_weights"]["whole"])


def test_a_flipped_bit_is_damage(tmp_path):
    """Of the archive's checksum, which each record has."""
    data = bytearray(GOLDEN.read_bytes())
    data[data.index(np.arange(24, dtype=np.float32).tobytes()) + 10] ^= 1
    (tmp_path / "flipped.pth").write_bytes(data)
    with TorchFile(tmp_path / "flipped.pth") as file, pytest.raises(InputError, match=r"is damaged \(Bad CRC-32"):
        file.array(file.content["network_weights"]["whole"])


def test_big_endian_numbers_are_refused(tmp_path):
    path = _rewrite(tmp_path / "big.pth", lambda name, data: b"big" if name == "byteorder" else data)
    with pytest.raises(InputError, match="big-endian"):
        TorchFile(path)


def test_other_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme", "text")
    with pytest.raises(InputError, match=r"it has no data\.pkl"):
        TorchFile(tmp_path / "other.pth")
