"""What a training of the reference model is told: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sfumato_training.autoencoder_settings import VaeConfig

Stage = Literal["data", "vae", "unet"]
STAGES: tuple[Stage, ...] = ("data", "vae", "unet")
"""The stages in the order that a full training runs them."""


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
class UnetConfig:
    """The denoiser and, trained with it, the encoder of references.

    Attributes:
        steps: Optimizer steps, the cooldown included; a checkpoint resumed with fewer steps cools down earlier.
        batch: Pairs per step.
        channels: Channels of each level of the U-Net.
        heads: Attention heads of each block.
        norm_groups: Groups of each group normalisation.
        patch: Side of a patch of the reference in pixels.
        width: Channels of the encoder, and so of the U-Net's context.
        layers: Of the encoder; a shallow one keeps in every token what its own patch shows.
        encoder_heads: Attention heads of the encoder.
        muon: Train the matrices by Muon, and only the rest by AdamW.
        lr: Peak learning rate.
        encoder_lr: Learning rate of the encoder as a share of `lr`.
        beta2: Decay of AdamW's squared gradients.
        weight_decay: Of both optimizers.
        warmup: Steps of rising learning rate.
        cooldown: Last share of `steps` in which the learning rate falls linearly to 2% of `lr`.
        clip_norm: Limit of the norm of the gradient.
        ema: Decay of the averaged weights, reached by (1 + step) / (10 + step).
        outside: Weight of errors outside the mask, where the image is given; inside it is 1.
        withheld: Share of pairs whose reference is withheld, for guidance.
        encode_batch: Pictures per step of encoding.
        compile: Compile the U-Net (some minutes at the start, faster steps).
        samples_every: Steps between looks: a grid of samples and measurements; also after the last step; 0 for none.
        sample_steps: Denoising steps of a sample.
        sample_guidance: Guidance scale of a sample.
    """

    steps: int = 9000
    batch: int = 32
    channels: tuple[int, ...] = (128, 128, 128)
    heads: int = 4
    norm_groups: int = 16
    patch: int = 16
    width: int = 128
    layers: int = 2
    encoder_heads: int = 4
    muon: bool = True
    lr: float = 1.5e-3
    encoder_lr: float = 0.5
    beta2: float = 0.99
    weight_decay: float = 1e-2
    warmup: int = 100
    cooldown: float = 0.5
    clip_norm: float = 1.0
    ema: float = 0.999
    outside: float = 0.2
    withheld: float = 0.1
    encode_batch: int = 100
    compile: bool = False
    samples_every: int = 500
    sample_steps: int = 25
    sample_guidance: float = 1.5


@dataclass(frozen=True)
class Config:
    """A whole training.

    Attributes:
        name: Names the model, for example "insert".
        seed: Everything random follows from it, the stage and the step.
        device: "cpu" or "cuda".
        checkpoint_every: Steps between checkpoints.
        data, vae, unet: The stages.
    """

    name: str = "insert"
    seed: int = 0
    device: str = "cpu"
    checkpoint_every: int = 200
    data: DataConfig = field(default_factory=DataConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
