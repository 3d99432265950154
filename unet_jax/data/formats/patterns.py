"""Patterns that say where the files of a data set lie, and which case, slice and channel each of them is.

A pattern is a path from the data set's root, in which

    {case} {patient} {eye}   any text within a folder's or file's name is a field of this name
    {patient:[0-9]+}         so is what matches this regular expression
    {channel:flair|t1|t2}    one of these words, in the order of the channels
    {label:left|right}       of masks, one of these words: the file is of this class, in the order of the classes
    {slice}                  a number
    *  ?  **/                any text within a name, one character of it, any folders

A field that stands twice must have the same text twice. All else is text as it stands, in capital or small letters.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath

from unet_jax.errors import InputError

IMAGES, MASKS = "config.data.images", "config.data.masks"
CHANNEL, LABEL, SLICE, PATIENT = "channel", "label", "slice", "patient"
# What a field matches where the pattern says nothing else.
ANY, NUMBER = "[^/]+", "[0-9]+"
NAME = re.compile("[a-z][a-z0-9_]*")
# A list of channels or labels with none of these is words, in capital or small letters, and no regular expression.
REGEX_SIGNS = re.compile(r"[\\\[\](){}*?^$]")
EXAMPLE = "images/{case}.png"

# What the fields of a pattern are in one path.
Fields = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A pattern, compiled.

    Attributes:
        text: as it was given.
        key: of the config, for messages.
        regex: what a path from the root matches in full, with a group a field.
        fields: their names, in order.
        channels: the words of `channel`, in order; None where the pattern has no such list.
        labels: those of `label`.
        fixed: how many characters stand as they are: of two patterns that match a path, the one with more says more.
    """

    text: str
    key: str
    regex: re.Pattern[str]
    fields: tuple[str, ...]
    channels: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    fixed: int

    def match(self, path: PurePath) -> Fields | None:
        """The fields of a path from the root; None where the pattern does not match it."""
        found = self.regex.fullmatch(composed(path.as_posix()))
        return found.groupdict() if found else None

    def render(self, fields: Fields) -> str:
        """The path of these fields; `*` and fields that are missing stay as they are written."""
        parts = (fields.get(part.name, part.text) if part.name else part.text for part in _parts(self.text, self.key))
        return "".join(parts)

    def __str__(self):
        return f"{self.key}={self.text!r}"


@dataclasses.dataclass(frozen=True)
class _Part:
    """A piece of a pattern.

    Attributes:
        text: as it stands in the pattern.
        name: of a field; empty for other pieces.
        regex: what a field matches; None where the pattern does not say.
    """

    text: str
    name: str = ""
    regex: str | None = None


def parse(text: str, key: str) -> Pattern:
    """Compiles a pattern.

    Args:
        text: the pattern.
        key: of the config, for messages.

    Raises:
        InputError: it is not a pattern; the message names the piece.
    """
    text = composed(text).removeprefix("./")
    where = f"{key}={text!r}"
    if text.startswith("/") or re.match("[A-Za-z]:", text) or ".." in text.split("/"):
        raise InputError(f"{where}: leads out of config.data.root: write the path from that folder, as in {EXAMPLE!r}.")
    regex, fields, lists, fixed = [], [], {}, 0
    for part in _parts(text, key):
        if part.name in fields:
            regex.append(f"(?P={part.name})")
        elif part.name:
            of_field, words = _of_field(part)
            lists[part.name] = words
            fields.append(part.name)
            _check_regex(of_field, part, where)
            regex.append(f"(?P<{part.name}>{of_field})")
        elif part.text in WILD:
            regex.append(WILD[part.text])
        else:
            regex.append(f"(?i:{re.escape(part.text)})")
            fixed += len(part.text)
    if not fields:
        raise InputError(f"{where}: has no field: write {{case}} where the case's name stands, as in {EXAMPLE!r}.")
    return Pattern(text, key, re.compile("".join(regex)), tuple(fields), lists.get(CHANNEL), lists.get(LABEL), fixed)


def parse_pair(images: str | None, masks: str | None) -> tuple[Pattern, Pattern]:
    """The patterns of images and masks, which must fit each other.

    Raises:
        InputError: one is missing or none, or a field is in one of them alone.
    """
    if not images or not masks:
        given, missing = (IMAGES, MASKS) if images else (MASKS, IMAGES)
        raise InputError(f"{given} is set and {missing} is not: set both, as in {EXAMPLE!r} and 'masks/{{case}}.png'.")
    one, two = parse(images, IMAGES), parse(masks, MASKS)
    if one.text == two.text:
        raise InputError(f"{one} is {MASKS} as well: say in what their paths differ, as in '{{case}}_mask.png'.")
    if CHANNEL in two.fields:
        raise InputError(f"{two}: has the field {{channel}}, which images alone have: write * where it stands.")
    if LABEL in two.fields and LABEL not in one.fields and two.labels is None:
        raise InputError(f"{two}: {{label}} needs the classes' names in their order, as in {{label:left|right}}.")
    spare = [name for name in two.fields if name not in (*one.fields, LABEL)]
    if spare:
        raise InputError(f"{two}: the field {{{spare[0]}}} is not in {one}: add it there, or write * in its place.")
    lacking = [name for name in one.fields if name not in (*two.fields, CHANNEL)]
    if lacking:
        raise InputError(
            f"{one}: the field {{{lacking[0]}}} is not in {two}, so that images and masks do not pair: add it "
            "there, or write * in its place."
        )
    return one, two


def class_of(images: Pattern, masks: Pattern) -> Callable[[PurePath], str] | None:
    """Which of the classes that `masks` lists a file of it is of; None where a file may hold all classes.

    A field `label` that images have as well tells cases apart, as any other.
    """
    if masks.labels is None or LABEL in images.fields:
        return None
    words = {word.casefold(): word for word in masks.labels}
    return lambda path: words[masks.match(path)[LABEL].casefold()]


def of_descriptions(text: str) -> Pattern:
    """The pattern of DICOM's descriptions of series, which are not paths: a slash is a character as any other.

    Args:
        text: with `{channel:…}` as its only field.

    Raises:
        InputError: it has no list of channels, or other fields.
    """
    pattern = parse(text, IMAGES)
    if pattern.channels is None or set(pattern.fields) != {CHANNEL}:
        raise InputError(
            f"{pattern}: of DICOM it is for the SeriesDescription, and its only field is a list of channels, as in "
            "'*{channel:FLAIR|T1}*'."
        )
    return dataclasses.replace(pattern, regex=re.compile(pattern.regex.pattern.replace("[^/]", ".")))


def composed(text: str) -> str:
    """Text with its accents in one character each: macOS writes them as two in the names of files."""
    return unicodedata.normalize("NFC", text)


def suffix(pattern: Pattern) -> str:
    """What its files' names end in, from the first dot behind all fields and wildcards on, in small letters."""
    tail = re.split(r"[}*?/]", pattern.text)[-1]
    return (
        "".join(Path(f"x{tail}").suffixes[-2:]).lower() if ".nii" in tail.lower() else Path(f"x{tail}").suffix.lower()
    )


WILD = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_WILD = re.compile(r"\*\*/|\*\*|\*|\?")


def _parts(text: str, key: str) -> Iterator[_Part]:
    """The pieces of a pattern; a field's regular expression may have braces in pairs."""
    where, position = f"{key}={text!r}", 0
    while position < len(text):
        if text[position] == "{":
            end = _closing(text, position)
            if end is None:
                raise InputError(f"{where}: the brace at {text[position:]!r} is not closed: write fields as {{case}}.")
            name, colon, regex = text[position + 1 : end].partition(":")
            if not NAME.fullmatch(name) or (colon and not regex):
                raise InputError(
                    f"{where}: {text[position : end + 1]!r} is not a field: write it as {{case}} or "
                    "{patient:[0-9]+}, with a name in small letters."
                )
            yield _Part(text[position : end + 1], name, regex if colon else None)
            position = end + 1
        elif wild := _WILD.match(text, position):
            yield _Part(wild[0])
            position = wild.end()
        elif text[position] in "}\\":
            remedy = "write / between folders" if text[position] == "\\" else "remove it, or open it as in {case}"
            raise InputError(f"{where}: {text[position]!r} stands by itself at {text[position:]!r}: {remedy}.")
        else:
            end = re.compile(r"[{}*?\\]|$").search(text, position).start()
            yield _Part(text[position:end])
            position = end


def _closing(text: str, start: int) -> int | None:
    """Where the brace that opens at `start` is closed; braces behind a backslash do not count."""
    depth, position = 0, start
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] in "{}":
            depth += 1 if text[position] == "{" else -1
            if not depth:
                return position
        position += 1
    return None


def _of_field(part: _Part) -> tuple[str, tuple[str, ...] | None]:
    """The regular expression of a field, and the words of a list of channels or labels."""
    if part.regex is None:
        return (NUMBER if part.name == SLICE else ANY), None
    if part.name in (CHANNEL, LABEL) and not REGEX_SIGNS.search(part.regex):
        words = tuple(part.regex.split("|"))
        # The longest first: "t1ce" is not "t1" with something behind it.
        longest = sorted(words, key=len, reverse=True)
        return f"(?i:{'|'.join(map(re.escape, longest))})", words
    return part.regex, None


def _check_regex(regex: str, part: _Part, where: str) -> None:
    try:
        groups = re.compile(regex).groupindex
    except re.error as error:
        raise InputError(f"{where}: {part.text!r} is not a regular expression ({error}).") from error
    if groups:
        raise InputError(f"{where}: {part.text!r} has a group with a name: write (?:…) in its place.")
