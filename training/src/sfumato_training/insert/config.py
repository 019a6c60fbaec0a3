"""What a training of the reference model is told: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfumato_training.shared_settings import Denoising, WithVae


@dataclass(frozen=True)
class DataConfig:
    """The training pairs.

    Attributes:
        pairs: How many are drawn.
        workers: Processes that draw them.
    """

    pairs: int = 20_000
    workers: int = 2


@dataclass(frozen=True)
class UnetConfig(Denoising):
    """The denoiser and, trained with it, the encoder of references.

    Attributes:
        channels: Channels of each level of the U-Net.
        heads: Attention heads of each block.
        norm_groups: Groups of each group normalisation.
        patch: Side of a patch of the reference in pixels.
        width: Channels of the encoder, and so of the U-Net's context.
        layers: Of the encoder; a shallow one keeps in every token what its own patch shows.
        encoder_heads: Attention heads of the encoder.
        encoder_lr: Learning rate of the encoder as a share of `lr`.
        outside: Weight of errors outside the mask, where the image is given; inside it is 1.
        withheld: Share of pairs whose reference is withheld, for guidance.
        encode_batch: Pictures per step of encoding.
    """

    steps: int = 9000
    channels: tuple[int, ...] = (128, 128, 128)
    heads: int = 4
    norm_groups: int = 16
    patch: int = 16
    width: int = 128
    layers: int = 2
    encoder_heads: int = 4
    encoder_lr: float = 0.5
    warmup: int = 100
    outside: float = 0.2
    withheld: float = 0.1
    encode_batch: int = 100
    sample_guidance: float = 1.5


@dataclass(frozen=True)
class Config(WithVae):
    """A whole training.

    Attributes:
        data, unet: The stages, beside the autoencoder.
    """

    name: str = "insert"
    data: DataConfig = field(default_factory=DataConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
