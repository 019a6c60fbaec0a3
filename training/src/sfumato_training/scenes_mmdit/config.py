"""Settings of a training of the transformer of scenes: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sfumato_training.autoencoder_settings import VaeConfig
from sfumato_training.scenes.config import ClipConfig, DataConfig

Stage = Literal["data", "vae", "clip", "transformer"]
STAGES: tuple[Stage, ...] = ("data", "vae", "clip", "transformer")
"""The stages in the order that a full training runs them."""


@dataclass(frozen=True)
class TransformerConfig:
    """The denoiser, in the layout of Flux, and the T5 encoder that is trained with it.

    Attributes:
        steps: Optimizer steps, the cooldown included; a checkpoint resumed with fewer steps cools down earlier.
        batch: Latents per step.
        heads: Attention heads of the transformer.
        axes: Channels of a head that encode the index of a text token, the row and the column; their sum is the width
            of a head.
        double: Double-stream blocks: text and image have weights of their own and one softmax.
        single: Single-stream blocks: one sequence of text and image with common weights.
        text_width: Channels of the T5 encoder.
        text_layers: Its layers; relative positions let it encode the order of the words.
        text_heads: Its attention heads.
        length: Tokens of the context; no caption may be longer.
        relations: Share of a batch with a relation between two objects, which are hardest to learn.
        counts: Share of a batch with a number of objects. What remains is drawn as the data are.
        muon: Train the matrices of the transformer by Muon, and only the rest by AdamW.
        lr: Peak learning rate.
        text_lr: Learning rate of the T5 encoder as a share of `lr`.
        beta2: Decay of AdamW's squared gradients.
        weight_decay: Of both optimizers.
        warmup: Steps of rising learning rate.
        cooldown: Last share of `steps` in which the learning rate falls linearly to 2% of `lr`.
        clip_norm: Limit of the norm of the gradient.
        ema: Decay of the averaged weights, reached by (1 + step) / (10 + step).
        spread: Standard deviation of the logit-normal distribution of noise levels.
        empty: Share of captions replaced by the empty one, for guidance.
        drop_captions: Share of the others with words left out.
        drop_words: Chance of each word of such a caption to be left out.
        capitals: Share of captions that begin with a capital letter.
        encode_batch: Images per step of encoding.
        compile: Compile the transformer (some minutes at the start).
        samples_every: Steps between grids of samples, which also come after the last step; 0 draws none.
        sample_steps: Denoising steps of a sample.
        sample_guidance: True guidance scale of a sample.
    """

    steps: int = 8000
    batch: int = 64
    heads: int = 6
    axes: tuple[int, ...] = (8, 12, 12)
    double: int = 2
    single: int = 4
    text_width: int = 128
    text_layers: int = 2
    text_heads: int = 4
    length: int = 32
    relations: float = 0.4
    counts: float = 0.25
    muon: bool = True
    lr: float = 1.5e-3
    text_lr: float = 0.3
    beta2: float = 0.99
    weight_decay: float = 1e-2
    warmup: int = 200
    cooldown: float = 0.3
    clip_norm: float = 1.0
    ema: float = 0.999
    spread: float = 1.0
    empty: float = 0.1
    drop_captions: float = 0.35
    drop_words: float = 0.3
    capitals: float = 0.2
    encode_batch: int = 50
    compile: bool = False
    samples_every: int = 500
    sample_steps: int = 25
    sample_guidance: float = 2.0


@dataclass(frozen=True)
class Config:
    """A whole training.

    Attributes:
        name: Of the model, for example "scenes-mmdit".
        seed: Everything random follows from it, the stage and the step.
        device: "cpu" or "cuda".
        checkpoint_every: Steps between checkpoints.
        data, vae, clip, transformer: The stages; by default the contrastive pair is `studio/clip` as it is.
    """

    name: str = "scenes-mmdit"
    seed: int = 0
    device: str = "cpu"
    checkpoint_every: int = 100
    data: DataConfig = field(default_factory=DataConfig)
    vae: VaeConfig = field(default_factory=lambda: VaeConfig(steps=2500, batch=12, channels=(24, 48, 64)))
    clip: ClipConfig = field(default_factory=lambda: ClipConfig(steps=0, start="studio/clip"))
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
