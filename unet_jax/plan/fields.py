"""Typed values out of JSON that people edit: whatever is missing, unknown or of the wrong kind is one line each."""

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unet_jax.data.names import shown
from unet_jax.errors import InputError

REQUIRED = object()
_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a value has to be.

    Attributes:
        needed: the words for it in a message, as "a number above 0".
        read: gives the value as the code wants it, or raises ValueError.
    """

    needed: str
    read: Callable[[Any], Any]


class Fields:
    """The values of a JSON object, each taken once; what is wrong is gathered in `faults`.

    Attributes:
        where: the object's place in its file, for messages; "" at the top.
        faults: lines, shared with whoever made it.
    """

    def __init__(self, values: Any, where: str, faults: list[str]):
        self.where = where
        self.faults = faults
        if not isinstance(values, dict):
            faults.append(f"{where or 'the file'} is {written(values)}: it must be an object {{…}}.")
            values = {}
        self._left = dict(values)
        self._asked = set()

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str, kind: Kind, default: Any = REQUIRED) -> Any:
        """The value of a key as `kind` reads it: None where it is unfit, `default` where it is missing and may be."""
        self._asked.add(key)
        if key not in self._left:
            if default is REQUIRED:
                self.faults.append(f"{self.place(key)} is missing: it must be {kind.needed}.")
                return None
            return default
        value = self._left.pop(key)
        try:
            return kind.read(value)
        except (ValueError, TypeError, OverflowError):
            self.faults.append(f"{self.place(key)} is {written(value)}: it must be {kind.needed}.")
            return None

    def put(self, key: str, value: Any) -> None:
        """Adds a value, as if the file had it."""
        self._left[key] = value

    def inner(self, key: str) -> "Fields":
        """The object under a key."""
        values = self.take(key, OBJECT)
        return Fields({} if values is None else values, self.place(key), self.faults if values is not None else [])

    def rest(self) -> Iterable[str]:
        """Keys that nobody took."""
        return tuple(self._left)

    def close(self) -> None:
        """Names every key that nobody took."""
        for key in self._left:
            like = difflib.get_close_matches(key, self._asked, 1)
            hint = f"did you mean {like[0]}?" if like else "remove it."
            self.faults.append(f"{self.place(key)} is unknown: {hint}")

    def place(self, key: str) -> str:
        """How messages name a key."""
        return shown(f"{self.where}.{key}" if self.where else key)


def _read_whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError
    return int(value)


def _read_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _read_size(value: Any) -> int | float:
    if _read_number(value) <= 0:
        raise ValueError
    return value


def _instance(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise ValueError
        return value

    return read


OBJECT = Kind("an object {…}", _instance(dict))
ANYTHING = Kind("anything", lambda value: value)
LIST = Kind("a list […]", _instance(list))
TEXT = Kind("a text", _instance(str))
FLAG = Kind("true or false", _instance(bool))
NUMBER = Kind("a number", _read_number)
SIZE = Kind("a number above 0", _read_size)  # which stays whole where it is


def whole(least: int) -> Kind:
    """An integer, at least `least`; 8.0 is one."""
    return _checked(f"a whole number from {least}", _read_whole, lambda value: value >= least)


def number(*, above: int | None = None, least: int | None = None) -> Kind:
    """A finite number above, or at least, something, as a float."""
    if above is not None:
        return _checked(f"a number above {above}", _read_number, lambda value: value > above)
    return _checked(f"a number from {least}", _read_number, lambda value: value >= least)


def one_of(names: Iterable[Any]) -> Kind:
    """One of a few values."""
    names = tuple(names)
    needed = " or ".join(filter(None, (", ".join(map(written, names[:-1])), written(names[-1]))))
    return _checked(
        needed, lambda value: value, lambda value: any(type(value) is type(n) and value == n for n in names)
    )


def sequence(kind: Kind, lengths: Iterable[int] = (), *, empty: bool = False) -> Kind:
    """A list of one kind of values, as a tuple; of one of `lengths` where they are given, else not empty."""
    lengths = tuple(lengths)

    def read(values: Any) -> tuple:
        if not isinstance(values, list) or (len(values) not in lengths if lengths else not (values or empty)):
            raise ValueError
        return tuple(kind.read(value) for value in values)

    return Kind(f"a list of {' or '.join(map(str, lengths))}{' ' if lengths else ''}values, each {kind.needed}", read)


def permutation(length: int) -> Kind:
    """The numbers from 0 in some order, as a tuple."""
    return _checked(
        f"the numbers 0 to {length - 1} in some order, each once",
        sequence(whole(0), [length]).read,
        lambda values: sorted(values) == list(range(length)),
    )


def or_none(kind: Kind) -> Kind:
    """A kind, or null."""
    return Kind(f"{kind.needed}, or null", lambda value: None if value is None else kind.read(value))


def _checked(needed: str, read: Callable[[Any], Any], holds: Callable[[Any], bool]) -> Kind:
    def checked(value: Any) -> Any:
        value = read(value)
        if not holds(value):
            raise ValueError
        return value

    return Kind(needed, checked)


def written(value: Any) -> str:
    """A value as JSON, cut short."""
    text = json.dumps(value, ensure_ascii=False)
    return shown(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def read_object(path: Path) -> dict:
    """The JSON object of a file.

    Raises:
        InputError: it cannot be read, is not a JSON object, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read ({error.strerror}): check the path.") from None
    except UnicodeDecodeError:
        raise InputError(f"{shown(path)} is not JSON (its bytes are not UTF-8): restore it.") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except InputError as error:
        raise InputError(f"{shown(path)}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(path)} is not JSON ({error}): correct or restore it.") from None
    if not isinstance(value, dict):
        raise InputError(f"{shown(path)} holds {written(value)}: it must be an object {{…}}.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise InputError(f"the key {', '.join(map(written, twice))} stands twice in one object: remove one.")
    return values


def raise_faults(where: str, faults: list[str]) -> None:
    """Raises the faults that were gathered, if any.

    Raises:
        InputError: there are faults; each is a line, and `where` begins the first.
    """
    if faults:
        lines = [re.sub(r"\s+", " ", line) for line in faults]
        raise InputError(f"{where}: {lines[0]}" if len(lines) == 1 else "\n  ".join([f"{where}:", *lines]))
