"""Reads what `torch.save` wrote, without PyTorch and without executing anything.

A file is a ZIP archive of a pickle and of a record of raw numbers for each storage (PyTorch's format since 1.6). The
pickle may make tensors, numbers, texts and plain containers; whatever else it names is refused by that name. So do
`torch.load(…, weights_only=True)` and its list of what is safe.
"""

import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from unet_jax.errors import InputError

# PyTorch's names of storages → the type of their numbers.
STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Storage(NamedTuple):
    """A record of the archive: its name, and type and number of its elements."""

    record: str
    dtype: type
    size: int


class Tensor(NamedTuple):
    """A tensor that is not read yet.

    Attributes:
        storage: where its numbers lie.
        offset: of its first element in the storage.
        shape: of the array.
        strides: elements from one to the next along each axis.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile:
    """An open file: `content` is what was saved, with a `Tensor` for each tensor, and `array` reads one of them."""

    def __init__(self, path: Path):
        """Opens and unpickles it.

        Raises:
            InputError: it is not such a file, is damaged, or holds what may not be in it.
        """
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a file that torch.save wrote since PyTorch 1.6 ({error}).") from None
        try:
            self._prefix = self._find_prefix()
            if self._prefix + "byteorder" in self._archive.namelist() and self._read("byteorder") != b"little":
                raise InputError(f"{path}: its numbers are big-endian: save it again on another machine.")
            self.content = _Unpickler(self._archive.open(self._prefix + "data.pkl"), str(path)).load()
        except InputError:
            self.close()
            raise
        except Exception as error:  # pickle and zipfile raise nearly anything for a damaged file
            self.close()
            raise InputError(f"{path} is damaged ({type(error).__name__}: {error}): fetch it again.") from None

    def __enter__(self) -> "TorchFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def array(self, tensor: Tensor) -> np.ndarray:
        """The numbers of a tensor, in an array of their own.

        Raises:
            InputError: the file does not have them all.
        """
        storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
        size = np.dtype(storage.dtype).itemsize
        last = tensor.offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        whole = min(shape, default=1) > 0
        if min((tensor.offset, *shape, *strides)) < 0 or (whole and max(last + 1, math.prod(shape)) > storage.size):
            raise InputError(f"{self.path} is damaged: a tensor of {shape} reaches beyond its storage.")
        try:
            data = self._read(f"data/{storage.record}")
        except (KeyError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{self.path} is damaged ({error}): fetch it again.") from None
        if len(data) != storage.size * size:
            raise InputError(f"{self.path} is damaged: data/{storage.record} has {len(data)} bytes: fetch it again.")
        numbers = np.frombuffer(data, storage.dtype)[tensor.offset :]
        return np.lib.stride_tricks.as_strided(numbers, shape, [stride * size for stride in strides]).copy()

    def _find_prefix(self) -> str:
        found = [name for name in self._archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(found) != 1:
            raise InputError(f"{self.path} is not a file that torch.save wrote: it has no data.pkl.")
        return found[0].removesuffix("data.pkl")

    def _read(self, name: str) -> bytes:
        """A record, which PyTorch stores as it is: a compressed one could unpack to any size."""
        entry = self._archive.getinfo(self._prefix + name)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile(f"{name} is compressed")
        return self._archive.read(entry)


class _Dict(dict):
    """A dictionary that takes no attributes: PyTorch gives its state dictionaries some."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _NumpyType:
    """What numpy's pickles make of a dtype, limited to numbers."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str, *_):
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self._order = {"<": "<", ">": ">"}.get(state[1], "=")

    def number(self, data: bytes) -> int | float | bool:
        dtype = np.dtype(self._order + self._code)
        if dtype.kind not in "biuf":
            raise InputError(f"a numpy {dtype} is not a number")
        return np.frombuffer(data, dtype, 1)[0].item()


def _encode(text: str, coding: str) -> bytes:
    if coding != "latin1":
        raise ValueError(f"bytes are written as {coding}")
    return text.encode("latin1")


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_) -> Tensor:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    return Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Maker(NamedTuple):
    """A function that a pickle can call and, unlike the function itself, not change."""

    make: Callable

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


# What a pickle may name, and what stands for it here.
ALLOWED = {
    ("collections", "OrderedDict"): _Maker(_Dict),
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Maker(lambda tensor, *_: tensor),
    ("torch", "device"): _Maker(lambda *name: ":".join(map(str, name))),
    ("torch", "Size"): _Maker(lambda sizes=(): tuple(sizes)),
    ("numpy", "dtype"): _Maker(_NumpyType),
    ("numpy.core.multiarray", "scalar"): _Maker(lambda kind, data: kind.number(data)),
    ("numpy._core.multiarray", "scalar"): _Maker(lambda kind, data: kind.number(data)),
    ("_codecs", "encode"): _Maker(_encode),
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, where: str):
        super().__init__(file, encoding="utf-8")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return name
        if (module, name) not in ALLOWED:
            raise InputError(
                f"{self._where} holds {module}.{name}, which is not a tensor, a number, a text or a plain container: "
                "it is not read, as doing so could execute anything."
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        kind, name, record, _, size = pid
        if kind != "storage":
            raise ValueError(f"{kind!r} is not a storage")
        return Storage(str(record), STORAGES[name], int(size))
