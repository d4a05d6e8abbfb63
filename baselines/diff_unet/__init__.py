"""Diff-U-Net (Xing et al. 2023): a U-Net that denoises masks, with an image encoder's features on every level.

`baselines.diff_unet.loading` reads the release's checkpoints, `baselines.diff_unet.segmenter` builds the method.
"""
