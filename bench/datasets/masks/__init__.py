"""How masks are read: one decision for a whole folder, made from all of its files or stated by the user."""

from bench.datasets.masks.declared import Declared
from bench.datasets.masks.files import MaskFiles
from bench.datasets.masks.rule import MaskRule
