"""What a training of the segmenter is told: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfumato_training.shared_settings import Descent, Whole


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
class UnetConfig(Descent):
    """The segmenter.

    Attributes:
        width: Channels of the first level, a multiple of 4.
        held_out: Scenes of held-out captions on which intersection over union is measured.
        looks_every: Steps between measurements; also after the last step; 0 for none.
    """

    steps: int = 1800
    width: int = 24
    lr: float = 3e-3
    cooldown: float = 0.6
    held_out: int = 200
    looks_every: int = 600


@dataclass(frozen=True)
class Config(Whole):
    """A whole training.

    Attributes:
        data, unet: The stages.
    """

    name: str = "segmenter"
    data: DataConfig = field(default_factory=DataConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
