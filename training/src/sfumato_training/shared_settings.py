"""Settings that several trainings have; apart from what trains, so that settings are read without torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Whole:
    """What a whole training is told, beside a field for each of its stages.

    Attributes:
        name: Names the model.
        seed: Everything random follows from it, the stage and the step.
        device: "cpu" or "cuda".
        checkpoint_every: Steps between checkpoints.
    """

    name: str = ""
    seed: int = 0
    device: str = "cpu"
    checkpoint_every: int = 200


@dataclass(frozen=True)
class Descent:
    """A stage whose learning rate rises, stays constant and falls.

    Attributes:
        steps: Optimizer steps, the cooldown included; a checkpoint resumed with fewer steps cools down earlier.
        batch: Items per step.
        lr: Peak learning rate.
        beta2: Decay of AdamW's squared gradients.
        weight_decay: Of all optimizers.
        warmup: Steps of rising learning rate.
        cooldown: Last share of `steps` in which the learning rate falls linearly to 2% of `lr`.
        clip_norm: Limit of the norm of the gradient.
    """

    steps: int = 0
    batch: int = 32
    lr: float = 1.5e-3
    beta2: float = 0.99
    weight_decay: float = 1e-2
    warmup: int = 50
    cooldown: float = 0.5
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Denoising(Descent):
    """A denoiser, and what is trained with it.

    Attributes:
        muon: Train the matrices of the denoiser by Muon, and only the rest by AdamW.
        ema: Decay of the averaged weights, reached by (1 + step) / (10 + step).
        compile: Compile the denoiser (some minutes at the start, faster steps).
        samples_every: Steps between looks: a grid of samples and measurements; also after the last step; 0 for none.
        sample_steps: Denoising steps of a sample.
        sample_guidance: Guidance scale of a sample.
    """

    muon: bool = True
    ema: float = 0.999
    compile: bool = False
    samples_every: int = 500
    sample_steps: int = 25
    sample_guidance: float = 2.0


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


@dataclass(frozen=True)
class WithVae(Whole):
    """A training with an autoencoder.

    Attributes:
        vae: The autoencoder.
    """

    vae: VaeConfig = field(default_factory=VaeConfig)
