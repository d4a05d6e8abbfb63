"""The two kinds of failure a user meets: bad input (exit 2) and a run that failed (exit 3)."""


class InputError(ValueError):
    """Bad input or usage: one line that names the file or key, what was expected and what to do."""


class RunError(RuntimeError):
    """A run that started on good input and failed."""
