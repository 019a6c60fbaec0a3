"""The measures: semantic (CLIP, other features), in the model's own spaces (VAE, latent), of pixels (SSIM)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sfumato.caching.cache import Cache, digest
from sfumato.caching.images import Generation
from sfumato.errors import ModelError, OptionError
from sfumato.models.fingerprint import weight_hash
from sfumato.models.model import Model
from sfumato.similarity.judges import clip_for, notes_on, of_the_studio

KIND = "scores"
SEES = {
    "features": "by what that network sees in them",
    "vae": "place by place, by what the autoencoder keeps, not by what they show",
    "latent": "place by place, not by what they show",
    "ssim": "place by place, not by what they show",
}
"""What each measure but CLIP's looks at."""
Compare = Callable[[Sequence[Generation], Generation], NDArray[np.float64]]


@dataclass(frozen=True)
class Similarity:
    """A measure, ready to be used.

    Attributes:
        name: Which measure.
        source: The network that it uses, or "" for none.
        compare: Images and one to compare them with, to (image,): 1 for the same image.
        weights: Digest of the network, or of what else the numbers depend on; "" for nothing.
        notes: What a reader should know about the judge.
    """

    name: str
    source: str
    compare: Compare
    weights: str = ""
    notes: Sequence[str] = ()

    def scores(self, made: Sequence[Generation], target: Generation, cache: Cache) -> NDArray[np.float64]:
        """What ``compare`` says of each image (image,), taken from the cache where it was said before."""
        about = {"measure": self.name, "source": self.source, "weights": self.weights, "target": target.key}
        keys = [digest(about | {"image": one.key}) for one in made]
        found = {key: entry["value"] for key in dict.fromkeys(keys) if (entry := cache.get(KIND, key)) is not None}
        missing = {key: one for key, one in zip(keys, made, strict=True) if key not in found}
        if missing:
            for key, value in zip(missing, self.compare([*missing.values()], target), strict=True):
                found[key] = np.asarray(value)
                if np.isfinite(value):
                    cache.put(KIND, key, {"value": found[key]})
        return np.array([found[key] for key in keys], np.float64)


def similarity(name: str, model: Model, source: str | None = None) -> Similarity:
    """Prepare a measure.

    Args:
        name: One of ``MEASURES``.
        model: The model whose images are compared; "vae" uses its encoder.
        source: A folder or hub id of a CLIPModel for "clip" (see `clip_for` for what judges without one), of any image
            model with pooled or token features (DINO, say) for "features".

    Raises:
        OptionError: There is no such measure, or it takes no source.
        ModelError: The network cannot be read, or the model lacks what the measure needs.
    """
    if name not in MEASURES:
        raise OptionError(f"similarity is {name!r}; choose from: {', '.join(MEASURES)}")
    if source is not None and name not in {"clip", "features"}:
        raise OptionError(
            f"similarity {name!r} uses no other model; leave out similarity_model, or take 'clip' or 'features'"
        )
    found = MEASURES[name](model, source)
    if name == "clip" or of_the_studio(model):
        return found
    by = f"{name} ({found.source})" if name == "features" else name
    return replace(found, notes=(f"images are compared by {by}, as chosen: {SEES[name]}",))


def _clip(model: Model, source: str | None) -> Similarity:
    clip = clip_for(model, source, option="similarity_model", instead="similarity=latent, vae or ssim")

    def compare(made: Sequence[Generation], target: Generation) -> NDArray[np.float64]:
        directions = clip.images([target.pixels, *(one.pixels for one in made)]).double()
        return np.asarray((directions[1:] @ directions[0]).cpu().numpy())

    weights = digest({"weights": clip.weights, "prepared": clip.preparation})
    return Similarity("clip", clip.source, compare, weights, notes_on(model, clip))


def _features(model: Model, source: str | None) -> Similarity:
    if source is None:
        raise OptionError(
            "similarity 'features' needs similarity_model: a folder or hub id of an image model, such as a DINO"
        )
    network, processor = _image_model(source)
    if network.main_input_name != "pixel_values" or hasattr(network, "text_model"):
        raise ModelError(f"{source!r} is no model of images alone; for a CLIP take similarity='clip'")

    def compare(made: Sequence[Generation], target: Generation) -> NDArray[np.float64]:
        pixels = processor(images=[target.pixels, *(one.pixels for one in made)], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            output = network(pixel_values=pixels)
        pooled = (
            output.pooler_output
            if getattr(output, "pooler_output", None) is not None
            else output.last_hidden_state[:, 0]
        )
        directions = F.normalize(pooled.double(), dim=-1)
        return np.asarray((directions[1:] @ directions[0]).numpy())

    return Similarity(
        "features", source, compare, digest({"weights": weight_hash(network), "prepared": processor.to_dict()})
    )


def _vae(model: Model, source: str | None) -> Similarity:
    encode = getattr(getattr(model.pipeline, "vae", None), "encode", None)
    if encode is None:
        raise ModelError(f"similarity 'vae' needs a model with an autoencoder, which {model.source.name} does not have")
    weights = next(model.pipeline.vae.parameters())

    @torch.no_grad()
    def compare(made: Sequence[Generation], target: Generation) -> NDArray[np.float64]:
        latents = []
        for one in [target, *made]:
            pixels = torch.from_numpy(one.pixels.copy()).permute(2, 0, 1)[None].to(weights) / 127.5 - 1
            latents.append(encode(pixels).latent_dist.mean.float().cpu().numpy()[0])
        return cosines(latents[1:], latents[0])

    return Similarity("vae", model.source.name, compare, weight_hash(model.pipeline.vae))


def _latent(model: Model, source: str | None) -> Similarity:
    return Similarity("latent", "", lambda made, target: cosines([one.latent for one in made], target.latent))


def _ssim(model: Model, source: str | None) -> Similarity:
    from skimage.metrics import structural_similarity

    def compare(made: Sequence[Generation], target: Generation) -> NDArray[np.float64]:
        return np.array([structural_similarity(one.pixels, target.pixels, channel_axis=-1) for one in made])

    return Similarity("ssim", "", compare, f"scikit-image {version('scikit-image')}")


def cosines(values: Sequence[NDArray[Any]], target: NDArray[Any]) -> NDArray[np.float64]:
    """The cosine between arrays, each as one long vector, and a target; 0 for one that is 0 everywhere."""
    rows = np.stack([value.ravel() for value in values]).astype(np.float64)
    wanted = target.ravel().astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted)
    found: NDArray[np.float64] = np.divide(rows @ wanted, lengths, out=np.zeros(len(rows)), where=lengths > 0)
    return found


@lru_cache(maxsize=2)
def _image_model(source: str) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModel

    try:
        network = AutoModel.from_pretrained(source, use_safetensors=True).eval().requires_grad_(False)
        return network, AutoImageProcessor.from_pretrained(source, use_fast=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"the image model {source!r} cannot be read ({line}); give a folder or a hub id") from error


MEASURES: dict[str, Callable[[Model, str | None], Similarity]] = {
    "clip": _clip,
    "vae": _vae,
    "latent": _latent,
    "ssim": _ssim,
    "features": _features,
}
