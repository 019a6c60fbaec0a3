"""What a training of faces is told: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sfumato_training.shared_settings import Denoising, Whole


@dataclass(frozen=True)
class DataConfig:
    """The training faces.

    Attributes:
        faces: How many are drawn, or taken from the folder.
        imbalance: How unequal the labels are, from 0 (equal shares) to 1 (as in the source's figure 5.2).
        folder: A folder in CelebA's layout (images beside an attribute list) to take instead of drawing; empty draws.
        workers: Processes that draw them.
    """

    faces: int = 40_000
    imbalance: float = 0.5
    folder: str = ""
    workers: int = 2


@dataclass(frozen=True)
class ReaderConfig:
    """The network that reads the four attributes from a face.

    Attributes:
        steps: Optimizer steps.
        batch: Faces per step.
        width: Channels of the first convolution.
        lr: Peak learning rate, which falls linearly to 2% of it.
    """

    steps: int = 1000
    batch: int = 128
    width: int = 16
    lr: float = 3e-3


@dataclass(frozen=True)
class DenoiserConfig(Denoising):
    """The denoiser.

    Attributes:
        dim: Channels of the first convolution.
        dim_mults: Channels of each level as a multiple of `dim`.
        loss: "l1", the source's, or "l2". What l1 learns is the median: a small part whose place is uncertain, such as
            an eye in much noise, is more likely absent at every pixel, and is never drawn.
        emphasis: By how much more the places count that the label explains best (see `data.label_effect`).
        unlabelled: Share of faces whose label is withheld, for guidance.
    """

    steps: int = 8000
    batch: int = 16
    dim: int = 24
    dim_mults: tuple[int, ...] = (1, 2, 4, 8)
    lr: float = 4e-3
    loss: Literal["l1", "l2"] = "l2"
    emphasis: float = 9.0
    unlabelled: float = 0.1


@dataclass(frozen=True)
class Config(Whole):
    """A whole training.

    Attributes:
        data, reader, denoiser: The stages.
    """

    name: str = "faces"
    data: DataConfig = field(default_factory=DataConfig)
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
