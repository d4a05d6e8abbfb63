"""Other people's checkpoints: read without executing anything, renamed, and written back.

What builds a whole model (`sdseg.weights.official`, `sdseg.weights.importing`) is imported by its own name, because
the model itself imports from here.
"""

from sdseg.weights.pretrained import load_denoiser, load_vision_encoder
from sdseg.weights.reading import read_state_dict

__all__ = ["load_denoiser", "load_vision_encoder", "read_state_dict"]
