"""The shape of an SDSeg model: `paper` is the released architecture, `tiny` trains on a CPU in minutes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Architecture(BaseModel):
    """Widths, depths and switches of the three networks.

    The latent grid is the image divided by 2 ** (len(codec_widths) - 1).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_channels: int = 4
    # frozen mask autoencoder, and the vision encoder, which shares its shape in the paper
    codec_widths: tuple[int, ...]
    codec_blocks: int
    codec_attention: bool
    vision_widths: tuple[int, ...]
    vision_blocks: int
    vision_attention: bool
    # denoising U-Net: one entry of `attention_levels` per width, finest level first
    unet_widths: tuple[int, ...]
    unet_blocks: int
    attention_levels: tuple[bool, ...]
    heads: int
    norm_groups: int = 32
    dropout: float = 0.2
    # Where noise is predicted, it is sqrt(1 - alpha_bar) z_t + sqrt(alpha_bar) times the U-Net's output (the
    # preconditioning of Karras 2022). At t = 999 the noise is nearly z_t itself, and what is left counts 38.7 times:
    # a network without the release's pretrained weights takes very long to learn that copy.
    precondition: bool = False

    @property
    def downsampling(self) -> int:
        """Pixels per latent cell and side (r in the paper)."""
        return 2 ** (len(self.codec_widths) - 1)

    @property
    def encoders_alike(self) -> bool:
        """Whether the vision encoder has the shape of the codec's encoder, from which it then starts (paper 2.1)."""
        vision = (self.vision_widths, self.vision_blocks, self.vision_attention)
        return vision == (self.codec_widths, self.codec_blocks, self.codec_attention)


ARCHITECTURES = {
    # LSUN-Churches LDM-8 U-Net (294,973,828 parameters with 8 input channels) on KL-f8 (83,653,863).
    "paper": Architecture(
        codec_widths=(128, 256, 512, 512),
        codec_blocks=2,
        codec_attention=True,
        vision_widths=(128, 256, 512, 512),
        vision_blocks=2,
        vision_attention=True,
        unet_widths=(192, 384, 384, 768, 768),
        unet_blocks=2,
        attention_levels=(True, True, True, True, False),
        heads=8,
    ),
    "tiny": Architecture(
        codec_widths=(16, 32, 64),
        codec_blocks=1,
        codec_attention=False,
        vision_widths=(16, 32, 48),
        vision_blocks=1,
        vision_attention=True,
        unet_widths=(32, 64, 128),
        unet_blocks=1,
        attention_levels=(False, False, True),
        heads=4,
        norm_groups=8,
        dropout=0.0,
        precondition=True,
    ),
}
