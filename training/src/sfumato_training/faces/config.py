"""What a training of faces is told: one frozen dataclass per stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["data", "reader", "denoiser"]
STAGES: tuple[Stage, ...] = ("data", "reader", "denoiser")
"""The stages in the order that a full training runs them."""


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
class DenoiserConfig:
    """The denoiser.

    Attributes:
        steps: Optimizer steps, the cooldown included; a checkpoint resumed with fewer steps cools down earlier.
        batch: Faces per step.
        dim: Channels of the first convolution.
        dim_mults: Channels of each level as a multiple of `dim`.
        muon: Train the matrices by Muon, and only the rest by AdamW.
        lr: Peak learning rate.
        beta2: Decay of AdamW's squared gradients.
        weight_decay: Of both optimizers.
        warmup: Steps of rising learning rate.
        cooldown: Last share of `steps` in which the learning rate falls linearly to 2% of `lr`.
        clip_norm: Limit of the norm of the gradient.
        ema: Decay of the averaged weights, reached by (1 + step) / (10 + step).
        loss: "l1", the source's, or "l2". What l1 learns is the median: a small part whose place is uncertain, such as
            an eye in much noise, is more likely absent at every pixel, and is never drawn.
        emphasis: By how much more the places count that the label explains best (see `data.label_effect`).
        unlabelled: Share of faces whose label is withheld, for guidance.
        compile: Compile the network (some minutes at the start, faster steps).
        samples_every: Steps between looks: a grid of samples and measurements; also after the last step; 0 for none.
        sample_steps: Denoising steps of a sample.
        sample_guidance: Guidance scale of a sample.
    """

    steps: int = 8000
    batch: int = 16
    dim: int = 24
    dim_mults: tuple[int, ...] = (1, 2, 4, 8)
    muon: bool = True
    lr: float = 4e-3
    beta2: float = 0.99
    weight_decay: float = 1e-2
    warmup: int = 50
    cooldown: float = 0.5
    clip_norm: float = 1.0
    ema: float = 0.999
    loss: Literal["l1", "l2"] = "l2"
    emphasis: float = 9.0
    unlabelled: float = 0.1
    compile: bool = False
    samples_every: int = 500
    sample_steps: int = 25
    sample_guidance: float = 2.0


@dataclass(frozen=True)
class Config:
    """A whole training.

    Attributes:
        name: Names the model, for example "faces".
        seed: Everything random follows from it, the stage and the step.
        device: "cpu" or "cuda".
        checkpoint_every: Steps between checkpoints.
        data, reader, denoiser: The stages.
    """

    name: str = "faces"
    seed: int = 0
    device: str = "cpu"
    checkpoint_every: int = 200
    data: DataConfig = field(default_factory=DataConfig)
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
