"""The one exception that means: the user can mend this, and the message says how."""


class InputError(Exception):
    """Something the user gave cannot be used.

    Its message says what was found, what was needed and what to do, one line a fault, and names the file or
    the config key. The command line prints it without a traceback and exits with code 2.
    """
