import io
import zipfile

import numpy as np
import pytest

from unet_jax.data.formats import numpy_file
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.sources import Settings, reader
from unet_jax.data.formats.unlabelled import image_reader
from unet_jax.errors import InputError
from unet_jax.inference.writers import picture_masks


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def zipped(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 6), (1, 5, 6, 1)),
        ((5, 6, 3), (1, 5, 6, 3)),
        ((5, 6, 2), (1, 5, 6, 2)),
        ((4, 5, 6), (4, 5, 6, 1)),
        ((3, 5, 6), (3, 5, 6, 1)),
        ((4, 5, 6, 2), (4, 5, 6, 2)),
        ((4, 5, 6, 7), (4, 5, 6, 7)),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_axes(shape, expected, order):
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape), order=order)
    found = numpy_file.decode(saved(array), "a.npy")
    np.testing.assert_array_equal(found, array.reshape(expected))


@pytest.mark.parametrize("dtype", ["?", "u1", "<u2", ">u2", "<i2", ">i4", "i8", "f2", "<f4", ">f4", "f8"])
def test_every_number_is_read_as_it_is(dtype):
    array = np.arange(30).reshape(5, 6).astype(dtype)
    found = numpy_file.decode(saved(array), "a.npy")[0, ..., 0]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")


def test_which_array_of_an_npz_is_meant():
    image, mask = np.full((2, 3), 1), np.full((2, 3), 2)
    assert numpy_file.decode(zipped(x=image), "a.npz").max() == 1
    both = zipped(mask=mask, image=image)
    assert numpy_file.decode(both, "a.npz").max() == 1
    assert numpy_file.decode(both, "a.npz", mask=True).max() == 2
    with pytest.raises(InputError, match=r"a\.npz: holds 2 arrays \(x, y\), and none is called image, img, data"):
        numpy_file.decode(zipped(x=image, y=mask), "a.npz")


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def _claiming(shape, dtype="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _member_of(size):
    """An .npz whose member inflates to `size` zeros."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", _claiming((size,), "|u1") + bytes(size))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (saved(np.array([_Bomb()], object), allow_pickle=True), "is an array of object"),
        (zipped(image=np.array([_Bomb()], object)), "is an array of object"),
        (_claiming((10**6, 10**6)), "up to 536,870,912 are read"),
        (_claiming((100, 100)), "the file is damaged"),
        (_claiming((-1, -1)) + bytes(4), "the file is damaged"),
        (saved(np.zeros((2, 3))) + b"x", "the file is damaged"),
        (saved(np.zeros((2, 3), complex)), "is an array of complex128"),
        (saved(np.zeros(3)), "it must be"),
        (saved(np.zeros((0, 3))), "it must be"),
        (b"", "the file is damaged"),
        (b"PK\3\4nothing", "the file is damaged"),
        (_member_of(2**20), "it must be"),
        (_member_of(2**20)[:-30], "the file is damaged"),
    ],
)
def test_damaged_and_wrong_files_are_refused_by_name(data, complaint):
    with pytest.raises(InputError, match=rf"^a\.npz: .*{complaint}") as caught:
        numpy_file.decode(data, "a.npz")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("whole", [saved(np.arange(60).reshape(3, 4, 5)), zipped(image=np.arange(60).reshape(3, 4, 5))])
def test_random_damage_is_always_answered_by_an_input_error(whole):
    rng, refused = np.random.default_rng(0), 0
    for _ in range(400):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(8)
        try:
            numpy_file.decode(bytes(data[: rng.integers(len(data)) if rng.random() < 0.3 else None]), "a.npy")
        except InputError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6)])
def test_training_and_prediction_read_and_write_arrays(tmp_path, suffix, shape):
    rng = np.random.default_rng(0)
    image, mask = rng.normal(size=shape), rng.random(shape) < 0.5
    encode = saved if suffix == ".npy" else lambda array: zipped(arr_0=array)
    (tmp_path / f"a{suffix}").write_bytes(encode(image))
    (tmp_path / f"a_mask{suffix}").write_bytes(encode(mask))
    made = reader(tmp_path, "pairs", Settings(intensity="range"))
    [files] = made.find(tmp_path)
    case = made.decode(files, lambda path: read_file(tmp_path, path))
    np.testing.assert_array_equal(case.image[..., 0].reshape(shape), image.astype(np.float32))
    np.testing.assert_array_equal(case.mask.reshape(shape), mask)
    made, root = image_reader(tmp_path, Settings())
    [files] = made.find(root)
    probability = rng.random(case.mask.shape, np.float32)
    encoded = dict(picture_masks.encode(files, root, case.mask, probability))
    assert [path.name for path in encoded] == [f"a_mask{suffix}", f"a_probability{suffix}"]
    found = [numpy_file.decode(data, path, mask=True) for path, data in encoded.items()]
    np.testing.assert_array_equal(found[0][..., 0], case.mask)
    np.testing.assert_array_equal(found[1][..., 0], probability)
