"""What a training of the segmenter is told: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["data", "unet"]
STAGES: tuple[Stage, ...] = ("data", "unet")
"""The stages in the order that a full training runs them."""


@dataclass(frozen=True)
class DataConfig:
    """The training scenes.

    Attributes:
        scenes: How many are drawn.
        nested_every: Of every so many scenes one has a thing inside another, which else 5% have; 0 leaves it to chance.
        workers: Processes that draw them.
    """

    scenes: int = 8_000
    nested_every: int = 4
    workers: int = 2


@dataclass(frozen=True)
class UnetConfig:
    """The segmenter.

    Attributes:
        steps: Optimizer steps, the cooldown included; a checkpoint resumed with fewer steps cools down earlier.
        batch: Scenes per step.
        width: Channels of the first level, a multiple of 4.
        lr: Peak learning rate.
        beta2: Decay of AdamW's squared gradients.
        weight_decay: Of AdamW.
        warmup: Steps of rising learning rate.
        cooldown: Last share of `steps` in which the learning rate falls linearly to 2% of `lr`.
        clip_norm: Limit of the norm of the gradient.
        held_out: Scenes of held-out captions on which intersection over union is measured.
        looks_every: Steps between measurements; also after the last step; 0 for none.
    """

    steps: int = 1800
    batch: int = 32
    width: int = 24
    lr: float = 3e-3
    beta2: float = 0.99
    weight_decay: float = 1e-2
    warmup: int = 50
    cooldown: float = 0.6
    clip_norm: float = 1.0
    held_out: int = 200
    looks_every: int = 600


@dataclass(frozen=True)
class Config:
    """A whole training.

    Attributes:
        name: Names the model, for example "segmenter".
        seed: Everything random follows from it, the stage and the step.
        device: "cpu" or "cuda".
        checkpoint_every: Steps between checkpoints.
        data, unet: The stages.
    """

    name: str = "segmenter"
    seed: int = 0
    device: str = "cpu"
    checkpoint_every: int = 200
    data: DataConfig = field(default_factory=DataConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
