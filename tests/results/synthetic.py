"""Explanations made without a model: a drawn scene, and maps that are blobs where the words' objects are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sfumato.request import Request
from sfumato.results.explanation import Explanation

PROMPT = "a red circle left of a blue square"
TAGS = {
    "a": "det",
    "red": "adj",
    "blue": "adj",
    "circle": "noun",
    "square": "noun",
    "left": "noun",
    "of": "adp",
    "and": "cconj",
    ",": "punct",
}
CENTRES = {"red": (0.5, 0.28), "circle": (0.5, 0.28), "blue": (0.55, 0.73), "square": (0.55, 0.73), "left": (0.5, 0.4)}
PROVENANCE: dict[str, Any] = {
    "method": "daam",
    "options": {"tau": 0.4, "keep": []},
    "paper": "What the DAAM: Interpreting Stable Diffusion Using Cross Attention (2023)",
    "model": {"name": "studio/scenes", "family": "unet", "weights": "sha256:0123456789abcdef"},
    "versions": {"sfumato": "0.1.0", "torch": "2.13.0", "diffusers": "0.42.1"},
    "device": "cpu",
    "dtype": "float32",
    "seed": 7,
    "steps": 20,
    "guidance": 5.0,
    "seconds": 1.74,
    "created": "2026-11-21T08:00:00+00:00",
}


def scene(height: int = 128, width: int = 128) -> NDArray[np.uint8]:
    """A red circle left of a blue square, (height, width, 3)."""
    picture = Image.new("RGB", (width, height), (228, 219, 196))
    draw = ImageDraw.Draw(picture)
    y, x, r = 0.5 * height, 0.28 * width, 0.17 * min(height, width)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(202, 52, 44))
    y, x = 0.55 * height, 0.73 * width
    draw.rectangle((x - r, y - r, x + r, y + r), fill=(42, 84, 178))
    return np.asarray(picture)


def blob(centre: tuple[float, float], grid: tuple[int, int], spread: float, seed: int) -> NDArray[np.float32]:
    """A Gaussian at (y, x) fractions on a little noise, (grid)."""
    height, width = grid
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    hill = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * spread**2))
    noise = np.random.default_rng(seed).random(grid)
    return np.asarray(0.02 + 0.3 * hill + 0.03 * noise, dtype=np.float32)


def cells(n: int) -> NDArray[np.float64]:
    """Cell centres as fractions."""
    return (np.arange(n) + 0.5) / n


def word_node(
    texts: list[str], grid: tuple[int, int] = (16, 16), unseen: int = 0, images: int = 1, seed: int = 0
) -> xr.Dataset:
    """The node `words`: the last `unseen` words were cut off."""
    maps = np.zeros((images, len(texts), *grid), dtype=np.float32)
    for image in range(images):
        for i, text in enumerate(texts):
            centre = CENTRES.get(text, (0.2 + 0.6 * ((i * 37) % 10) / 10, 0.2 + 0.6 * ((i * 53) % 10) / 10))
            maps[image, i] = blob(centre, grid, 0.1 if text in CENTRES else 0.3, seed + 100 * image + i)
            maps[image, i] *= 1 + image
    seen = np.arange(len(texts)) < len(texts) - unseen
    maps[:, ~seen] = np.nan
    dims = ("image", "word", "y", "x")
    return xr.Dataset(
        {"map": (dims, maps) if images > 1 else (dims[1:], maps[0])},
        coords={
            "word": ("word", np.array(texts, dtype=object)),
            "occurrence": ("word", np.array([texts[: i + 1].count(t) for i, t in enumerate(texts)], dtype=np.int64)),
            "index": ("word", np.arange(len(texts))),
            "pos": ("word", np.array([TAGS.get(t, "x") for t in texts], dtype=object)),
            "seen": ("word", seen),
            "y": cells(grid[0]),
            "x": cells(grid[1]),
        },
        attrs={"method": "daam", "unit": "mean attention summed over steps"},
    )


def token_node(texts: list[str], grid: tuple[int, int] = (16, 16), images: int = 1) -> xr.Dataset:
    """The node `tokens`: one token per word between the start and the end token."""
    tokens = ["<|startoftext|>", *texts, "<|endoftext|>"]
    maps = np.stack([[blob((0.5, 0.5), grid, 0.4, 50 + i + j) for i in range(len(tokens))] for j in range(images)])
    dims = ("image", "token", "y", "x")
    return xr.Dataset(
        {"map": (dims, maps) if images > 1 else (dims[1:], maps[0])},
        coords={
            "token": ("token", np.array(tokens, dtype=object)),
            "index": ("token", np.arange(len(tokens))),
            "word_index": ("token", np.array([-1, *range(len(texts)), -1])),
            "y": cells(grid[0]),
            "x": cells(grid[1]),
        },
        attrs={"method": "daam"},
    )


def explanation(
    prompt: str = PROMPT,
    *,
    size: tuple[int, int] = (128, 128),
    grid: tuple[int, int] = (16, 16),
    images: int = 1,
    unseen: int = 0,
    seed: int = 7,
    tokens: bool = True,
    more: Mapping[str, xr.Dataset] | None = None,
    unknown: Sequence[str] = (),
) -> Explanation:
    """A whole explanation as method daam makes it, plus any further nodes; `unknown` words are out of vocabulary."""
    texts = prompt.split()
    pixels = np.stack([np.roll(scene(*size), 3 * i, axis=1) for i in range(images)])
    nodes = {
        "image": xr.Dataset(
            {"pixels": (("image", "y", "x", "channel"), pixels)},
            coords={
                "image": np.arange(images),
                "seed": ("image", seed + np.arange(images)),
                "channel": ["R", "G", "B"],
            },
        ),
        "words": word_node(texts, grid, unseen, images),
    }
    if tokens:
        nodes["tokens"] = token_node(texts, grid, images)
    request = Request(prompt, seed=seed, images=images, steps=20, guidance=5.0, height=size[0], width=size[1])
    notes = [f"never seen in training: {', '.join(unknown)}"] if unknown else []
    provenance = PROVENANCE | {"notes": notes, "out_of_vocabulary": list(unknown)}
    return Explanation(xr.DataTree.from_dict(nodes | dict(more or {})), request, provenance)
