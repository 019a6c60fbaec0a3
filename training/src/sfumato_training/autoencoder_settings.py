"""What the training of an autoencoder is told; apart from it, so that settings are read without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder.

    Attributes:
        steps: Optimizer steps.
        batch: Crops per step.
        crop: Height and width of a crop in pixels.
        channels: Channels of each level; n levels shrink the image by 2 ** (n - 1).
        lr: Peak learning rate, which falls linearly to 2% of it.
        l1: Weight of the absolute error beside the squared one.
        kl: Weight of the KL term, per element of the latent.
        compile: Compile the model (some minutes at the start, faster steps).
        start: An embedded model, or a folder in diffusers layout, whose autoencoder of the same channels is trained on,
            or with 0 steps taken as it is; by default it starts from nothing.
    """

    steps: int = 900
    batch: int = 32
    crop: int = 64
    channels: tuple[int, ...] = (24, 48, 64, 64)
    lr: float = 1.2e-3
    l1: float = 0.2
    kl: float = 1e-6
    compile: bool = False
    start: str = ""
