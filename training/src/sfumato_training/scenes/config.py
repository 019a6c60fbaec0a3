"""What a training of scenes is told: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfumato_training.shared_settings import Denoising, WithVae


@dataclass(frozen=True)
class DataConfig:
    """The training scenes.

    Attributes:
        scenes: How many are drawn.
        workers: Processes that draw them.
    """

    scenes: int = 40_000
    workers: int = 2


@dataclass(frozen=True)
class ClipConfig:
    """The contrastive pair of encoders.

    Attributes:
        steps: Optimizer steps.
        batch: Pairs per step.
        width: Width of the text encoder, and so of the U-Net's context.
        text_layers: Layers of the text encoder.
        heads: Attention heads of both encoders.
        image_width: Width of the image encoder.
        image_layers: Layers of the image encoder.
        patch: Side of a patch in pixels.
        projection: Size of the shared space.
        lr: Peak learning rate, reached after `warmup` steps and then falling as a cosine to 2% of it.
        warmup: Steps of rising learning rate.
        drop_captions: Share of captions with words left out.
        drop_words: Chance of each word of such a caption to be left out.
        start: "studio/clip", or a folder of a CLIPModel of the same sizes that reads the scenes' tokens, which is
            trained on, or with 0 steps taken as it is; by default the pair starts from nothing.
    """

    steps: int = 1500
    batch: int = 256
    width: int = 128
    text_layers: int = 2
    heads: int = 4
    image_width: int = 128
    image_layers: int = 4
    patch: int = 16
    projection: int = 128
    lr: float = 1e-3
    warmup: int = 100
    drop_captions: float = 0.2
    drop_words: float = 0.3
    start: str = ""


@dataclass(frozen=True)
class Captioned(Denoising):
    """A denoiser that is told captions, and the text encoder that is trained with it.

    Attributes:
        text_layers: Layers of the text encoder.
        text_lr: Its learning rate as a share of `lr`.
        empty: Share of captions replaced by the empty one, for guidance.
        drop_captions: Share of the others with words left out.
        drop_words: Chance of each word of such a caption to be left out.
        encode_batch: Images per step of encoding.
    """

    batch: int = 64
    warmup: int = 200
    text_layers: int = 1
    text_lr: float = 0.2
    empty: float = 0.1
    drop_captions: float = 0.35
    drop_words: float = 0.3
    encode_batch: int = 50


@dataclass(frozen=True)
class UnetConfig(Captioned):
    """The denoiser and its copy of the first layers of the CLIP text encoder.

    Attributes:
        channels: Channels of each level of the U-Net.
        layers: Residual blocks, each with attention, on the way down of each level; on the way up there is one more.
        heads: Attention heads of each block.
        norm_groups: Groups of each group normalisation.
        beta_end: Last beta of the scaled-linear noise schedule.
        short_context: Share of batches whose context has `short_length` tokens instead of 77.
        short_length: Tokens of a short context; no caption may be longer.
    """

    steps: int = 9000
    channels: tuple[int, ...] = (64, 128, 160)
    layers: int = 1
    heads: int = 4
    norm_groups: int = 16
    cooldown: float = 0.2
    beta_end: float = 0.02
    short_context: float = 0.5
    short_length: int = 24


@dataclass(frozen=True)
class Shared(WithVae):
    """What every training of a model of the scenes is told.

    Attributes:
        data, clip: The stages that all have, beside the autoencoder.
    """

    data: DataConfig = field(default_factory=DataConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)


@dataclass(frozen=True)
class Config(Shared):
    """A whole training.

    Attributes:
        unet: The last stage.
    """

    name: str = "scenes"
    unet: UnetConfig = field(default_factory=UnetConfig)
