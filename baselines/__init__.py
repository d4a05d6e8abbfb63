"""Other people's methods behind the same two verbs, fit and predict."""

import sdseg  # noqa: F401  (makes torchvision importable before MONAI looks for it)
