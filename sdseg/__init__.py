"""SDSeg: latent-diffusion segmentation with a single reverse step (MICCAI 2024), ours to measure others against."""

from sdseg.torchvision_ops import declare_missing_operators

# Must precede every import of diffusers, which imports torchvision where it is installed.
declare_missing_operators()
