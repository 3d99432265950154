"""What can end a run without being a bug: each kind has an exit code, and a message that says what to do."""

from typing import ClassVar


class RunError(Exception):
    """Ends the program with its message, one line a mistake, and its exit code, without a traceback.

    The message says what was found, what was needed and what to do, and names the file, the step or the config key.
    """

    exit_code: ClassVar[int]
    # What the message is printed after.
    prefix: ClassVar[str] = "error: "


class InputError(RunError):
    """Something the user gave cannot be used."""

    exit_code = 2


class StopRequestedError(RunError):
    """A signal asked the run to stop; it has saved, and the same command resumes it. That is not an error."""

    exit_code = 3
    prefix = ""


class DamageError(RunError):
    """What a run wrote is not what is on disk now, and nothing whole is left to resume from."""

    exit_code = 4


class StorageError(RunError):
    """The disk is full, read-only or failing."""

    exit_code = 5


class NumbersError(RunError):
    """A loss, a gradient or an image is NaN or infinite."""

    exit_code = 6


class StuckError(RunError):
    """A worker process died, or the run hung."""

    exit_code = 7


class OutOfMemoryError(RunError):
    """The device or the host has too little memory for the config."""

    exit_code = 8


class BusyError(RunError):
    """Another process holds the run's folder."""

    exit_code = 9
