"""Settings of a training of the transformer of scenes: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfumato_training.scenes.config import Captioned, ClipConfig, Shared
from sfumato_training.shared_settings import VaeConfig


@dataclass(frozen=True)
class TransformerConfig(Captioned):
    """The denoiser, in the layout of Flux, and the T5 encoder that is trained with it.

    Its guidance is true guidance; the relative positions of the T5 encoder let it encode the order of the words.

    Attributes:
        heads: Attention heads of the transformer.
        axes: Channels of a head that encode the index of a text token, the row and the column; their sum is the width
            of a head.
        double: Double-stream blocks: text and image have weights of their own and one softmax.
        single: Single-stream blocks: one sequence of text and image with common weights.
        text_width: Channels of the T5 encoder.
        text_heads: Its attention heads.
        length: Tokens of the context; no caption may be longer.
        relations: Share of a batch with a relation between two objects, which are hardest to learn.
        counts: Share of a batch with a number of objects. What remains is drawn as the data are.
        spread: Standard deviation of the logit-normal distribution of noise levels.
        capitals: Share of captions that begin with a capital letter.
    """

    steps: int = 8000
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
    text_lr: float = 0.3
    cooldown: float = 0.3
    spread: float = 1.0
    capitals: float = 0.2


@dataclass(frozen=True)
class Config(Shared):
    """A whole training; by default the contrastive pair is `studio/clip` as it is.

    Attributes:
        transformer: The last stage.
    """

    name: str = "scenes-mmdit"
    checkpoint_every: int = 100
    vae: VaeConfig = field(default_factory=lambda: VaeConfig(steps=2500, batch=12, channels=(24, 48, 64)))
    clip: ClipConfig = field(default_factory=lambda: ClipConfig(steps=0, start="studio/clip"))
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
