"""Other people's methods behind the same two verbs, fit and predict."""

import sdseg  # makes torchvision importable before MONAI looks for it
