"""The two kinds of failure a user meets: bad input (exit 2) and a run that failed (exit 3)."""


class InputError(ValueError):
    """Bad input or usage: one line that names the file or key, what was expected and what to do."""


class NotApplicableError(InputError):
    """A method that cannot meet this dataset, or whose package is not installed; a matrix leaves the cell out."""


class RunError(RuntimeError):
    """A run that started on good input and failed."""
