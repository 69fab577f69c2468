"""The one error that users see: a sentence, and exit code 2."""


class InputError(ValueError):
    """Input that cannot be used: says what is wrong, what was expected and what to do.

    Commands print its text without a traceback and exit with code 2.
    """


class TooLargeError(InputError):
    """What is asked for takes too much memory or time; those who can do without it go on."""
