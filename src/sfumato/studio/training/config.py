"""What a training is told: one frozen dataclass per stage, read from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from sfumato.errors import TrainingError

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
    """

    steps: int = 900
    batch: int = 32
    crop: int = 64
    channels: tuple[int, ...] = (24, 48, 64, 64)
    lr: float = 1.2e-3
    l1: float = 0.2
    kl: float = 1e-6
    compile: bool = False


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


@dataclass(frozen=True)
class UnetConfig:
    """The denoiser and its copy of the text encoder.

    Attributes:
        steps: Optimizer steps, the cooldown included; a checkpoint resumed with fewer steps cools down earlier.
        batch: Latents per step.
        channels: Channels of each level of the U-Net.
        heads: Attention heads of each block.
        norm_groups: Groups of each group normalisation.
        text_layers: How many first layers of the CLIP text encoder the U-Net reads.
        muon: Train the matrices of the U-Net by Muon, and only the rest by AdamW.
        lr: Peak learning rate.
        text_lr: Learning rate of the text encoder as a share of `lr`.
        beta2: Decay of AdamW's squared gradients.
        weight_decay: Of both optimizers.
        warmup: Steps of rising learning rate.
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

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, as they are stored beside the checkpoints."""
        return dataclasses.asdict(self)


def load_config(path: Path | None = None) -> Config:
    """Read a training's config.

    Args:
        path: A TOML file; by default the one that trained the shipped model.

    Raises:
        TrainingError: The file cannot be read, has an unknown name or a value of the wrong type.
    """
    try:
        if path is None:
            text = resources.files("sfumato.studio").joinpath("configs/scenes.toml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"the training config {path} cannot be read: {error}") from error
    return config_from(values)


def config_from(values: dict[str, Any]) -> Config:
    """Build a config from plain values, as in the TOML file.

    Raises:
        TrainingError: A name is unknown or a value has the wrong type.
    """
    stages: dict[str, Any] = {"data": DataConfig, "vae": VaeConfig, "clip": ClipConfig, "unet": UnetConfig}
    parts = {name: _filled(kind, values.get(name, {}), f"[{name}] ") for name, kind in stages.items()}
    top = {name: value for name, value in values.items() if name not in stages}
    config: Config = dataclasses.replace(_filled(Config, top, ""), **parts)
    return config


def _filled(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise TrainingError(f"{where}must be a table of settings, not {values!r}")
    defaults = kind()
    given: dict[str, Any] = {}
    for name, value in values.items():
        if not hasattr(defaults, name) or name.startswith("_") or name == "to_dict":
            known = ", ".join(part.name for part in dataclasses.fields(kind))
            raise TrainingError(f"{where}{name} is no setting; the settings are: {known}")
        default = getattr(defaults, name)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(default, tuple) and isinstance(value, list) and all(type(part) is int for part in value):
            value = tuple(value)
        if type(value) is not type(default):
            raise TrainingError(f"{where}{name} must be {type(default).__name__}, like {default!r}; got {value!r}")
        given[name] = value
    return kind(**given)
