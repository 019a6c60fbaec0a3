"""The autoencoder of scenes, and the scenes as it encodes them."""

from __future__ import annotations

from typing import Any

from sfumato_training import autoencoder
from sfumato_training.images import as_tensor
from sfumato_training.latents import LATENTS, Latents, encoded, means
from sfumato_training.scenes.config import Shared
from sfumato_training.scenes.data import load_images
from sfumato_training.trainer import Work


def train_vae(work: Work[Shared]) -> None:
    """Train the autoencoder on the scenes."""
    autoencoder.train_vae(work, load_images(work.out / "data"))


def make_latents(work: Work[Shared], vae: Any, batch: int) -> Latents:
    """Encode all scenes once: (scene, channel, y, x)."""
    images = load_images(work.out / "data")
    return encoded(
        work.out / LATENTS, len(images), batch, lambda some: means(vae, as_tensor(images[some])), work.progress
    )
