"""What a training of scenes is told: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from sfumato_training.autoencoder_settings import VaeConfig

Stage = Literal["data", "vae", "clip", "unet"]
STAGES: tuple[Stage, ...] = ("data", "vae", "clip", "unet")
"""The stages in the order that a full training runs them."""


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
class UnetConfig:
    """The denoiser and its copy of the text encoder.

    Attributes:
        steps: Optimizer steps, the cooldown included; a checkpoint resumed with fewer steps cools down earlier.
        batch: Latents per step.
        channels: Channels of each level of the U-Net.
        layers: Residual blocks, each with attention, on the way down of each level; on the way up there is one more.
        heads: Attention heads of each block.
        norm_groups: Groups of each group normalisation.
        text_layers: How many first layers of the CLIP text encoder the U-Net reads.
        muon: Train the matrices of the U-Net by Muon, and only the rest by AdamW.
        lr: Peak learning rate.
        text_lr: Learning rate of the text encoder as a share of `lr`.
        beta2: Decay of AdamW's squared gradients.
        weight_decay: Of both optimizers.
        warmup: Steps of rising learning rate.
        compile: Compile the U-Net (some minutes at the start, faster steps).
        cooldown: Last share of `steps` in which the learning rate falls linearly to 2% of `lr`.
        clip_norm: Limit of the norm of the gradient.
        ema: Decay of the averaged weights, reached by (1 + step) / (10 + step).
        beta_end: Last beta of the scaled-linear noise schedule.
        empty: Share of captions replaced by the empty one, for guidance.
        drop_captions: Share of the others with words left out.
        drop_words: Chance of each word of such a caption to be left out.
        short_context: Share of batches whose context has `short_length` tokens instead of 77.
        short_length: Tokens of a short context; no caption may be longer.
        encode_batch: Images per step of encoding.
        samples_every: Steps between grids of samples, which also come after the last step; 0 draws none.
        sample_steps: Denoising steps of a sample.
        sample_guidance: Guidance scale of a sample.
    """

    steps: int = 9000
    batch: int = 64
    channels: tuple[int, ...] = (64, 128, 160)
    layers: int = 1
    heads: int = 4
    norm_groups: int = 16
    text_layers: int = 1
    muon: bool = True
    lr: float = 1.5e-3
    text_lr: float = 0.2
    beta2: float = 0.99
    weight_decay: float = 1e-2
    warmup: int = 200
    cooldown: float = 0.2
    clip_norm: float = 1.0
    ema: float = 0.999
    beta_end: float = 0.02
    empty: float = 0.1
    drop_captions: float = 0.35
    drop_words: float = 0.3
    short_context: float = 0.5
    short_length: int = 24
    encode_batch: int = 50
    compile: bool = False
    samples_every: int = 500
    sample_steps: int = 25
    sample_guidance: float = 2.0


@dataclass(frozen=True)
class Config:
    """A whole training.

    Attributes:
        name: Names the model, for example "scenes".
        seed: Everything random follows from it, the stage and the step.
        device: "cpu" or "cuda".
        checkpoint_every: Steps between checkpoints.
        data, vae, clip, unet: The stages.
    """

    name: str = "scenes"
    seed: int = 0
    device: str = "cpu"
    checkpoint_every: int = 200
    data: DataConfig = field(default_factory=DataConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)


class Shared(Protocol):
    """What the stages that every model of the scenes has in common need of its settings."""

    @property
    def seed(self) -> int:
        """Everything random follows from it."""

    @property
    def device(self) -> str:
        """Where to train."""

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""

    @property
    def data(self) -> DataConfig:
        """The scenes."""

    @property
    def vae(self) -> VaeConfig:
        """The autoencoder."""

    @property
    def clip(self) -> ClipConfig:
        """The contrastive pair."""
