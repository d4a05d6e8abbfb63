"""The two kinds of failure a user meets: bad input (exit 2) and a run that failed (exit 3)."""

DONE, GATE_FAILED, BAD_INPUT, RUN_FAILED = 0, 1, 2, 3  # exit codes


class InputError(ValueError):
    """Bad input or usage: one line that names the file or key, what was expected and what to do."""


class NotApplicableError(InputError):
    """A method that cannot meet this dataset, or whose package is not installed; a matrix leaves the cell out."""


class RunError(RuntimeError):
    """A run that started on good input and failed."""


def one_line(error: BaseException) -> str:
    """What an error says, on one line; one that is not ours is named, and does not fill the screen."""
    text = " ".join(str(error).split())
    if isinstance(error, (InputError, RunError)):
        return text
    return f"{type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}"
