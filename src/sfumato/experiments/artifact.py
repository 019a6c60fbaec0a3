"""Where an artifact comes from: the channel whose gradient is strongest in it, ablated and compared (figure 5.12)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.changing.channels import AblateChannels
from sfumato.errors import OptionError
from sfumato.experiments.experiment import Setting, about
from sfumato.layers import chosen, layers_of
from sfumato.masks import on_latent
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.metrics.structure import maximum_channel, resized
from sfumato.models.schedulers import nearest_steps
from sfumato.plots.curves import maps_sheet
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.stepping import region_gradients, step_with_gradients
from sfumato.trace import generate

AT = 200
SIDE = 8
"""The artifact is the block of so many parts of the image's side that differs most from the mean image."""

LEAST_ASIDE = 0.01
"""Details elsewhere are lost where more than this share of the range changes outside the artifact."""

SOURCE = (
    "Ablating the channel with the strongest gradient inside the area of an artifact removes the artifact, but also "
    "details elsewhere: channels reach many parts of the image."
)


def run(given: Setting) -> Finding:
    """For every seed: find the most unusual block, its gradient channel, and ablate that one and a random one.

    Raises:
        OptionError: There is one seed only, or the model lacks the layer.
    """
    if len(given.requests) < 2:
        raise OptionError("seeds is 1; an artifact is what differs from the other images: take 2 or more")
    known = layers_of(given.model, given.requests[0])
    own = any(layer.name == "downs.1.3" for layer in known)
    if not own and not any(layer.name == "down_blocks.1" for layer in known):
        raise OptionError(f"{given.model.source.name} has no second contracting block; take a U-Net")
    layer = chosen(["downs.1.3" if own else "down_blocks.1"], known)[0].name
    step = nearest_steps(given.model, given.requests[0], [AT])[0]
    images = [
        entry["image"]
        for entry in given.each(
            "images", lambda request: {"image": np.asarray(generate(given.model, request).images[0].convert("RGB"))}
        )
    ]
    mean = np.mean(images, axis=0)

    def work(request: Request) -> dict[str, NDArray[Any]]:
        mask = _unusual(images[given.requests.index(request)], mean)
        plain = generate(given.model, request, record={step})
        stepped = step_with_gradients(plain, step, layers=[layer])
        inside = torch.from_numpy(on_latent(mask, given.model, request))
        _, gradient = region_gradients(stepped, inside)
        maps = gradient[0].float().cpu().numpy()
        strongest = maximum_channel(maps, resized(mask, maps.shape[-2:]))
        chance = int(np.random.default_rng(request.seed).integers(len(maps)))
        changes = [AblateChannels(layer, (number,), items=(item,)) for item, number in enumerate((strongest, chance))]
        both = generate(given.model, [request, request], attachments=changes).images
        before = np.asarray(plain.images[0].convert("RGB"), np.float64)
        moved = [np.abs(np.asarray(image.convert("RGB"), np.float64) - before).max(-1) / 255 for image in both]
        return {
            "inside": np.array([one[mask].mean() for one in moved]),
            "outside": np.array([one[~mask].mean() for one in moved]),
            "moved": np.stack(moved),
            "image": before.astype(np.uint8),
            "channel": np.array(strongest),
        }

    entries = given.each("artifact", work, layer=layer, seeds=[one.seed for one in given.requests])
    inside = np.stack([entry["inside"] for entry in entries])  # (seed, which)
    outside = np.stack([entry["outside"] for entry in entries])
    found = bootstrap(inside[:, 0] - inside[:, 1])
    aside = bootstrap(outside[:, 0])
    verdict = verdict_of(lies(found, above=0), lies(aside, above=LEAST_ASIDE))
    sentence = (
        f"The gradient's channel of {layer} changes the artifact by {bootstrap(inside[:, 0])} of the range, a random "
        f"channel by {bootstrap(inside[:, 1])} (difference {found}); outside the artifact the gradient's channel "
        f"changes {aside}."
    )
    table = [
        {
            "channel": name,
            "change inside": bootstrap(inside[:, n]),
            "change outside": bootstrap(outside[:, n]),
        }
        for n, name in enumerate(("strongest gradient", "random"))
    ]
    shown = [(entry["image"], list(entry["moved"])) for entry in entries[:4]]
    figure = maps_sheet(shown, ["moved by the gradient's channel", "moved by a random channel"], None, one_scale=True)
    return Finding("artifact", SOURCE, verdict, sentence, table, figure, about(given) | {"layer": layer})


def _unusual(image: NDArray[Any], mean: NDArray[Any]) -> NDArray[np.bool_]:
    """The block that differs most from the mean image."""
    apart = np.abs(image.astype(np.float64) - mean).sum(-1)
    height, width = apart.shape
    down, across = height // SIDE, width // SIDE
    blocks = apart[: down * SIDE, : across * SIDE].reshape(SIDE, down, SIDE, across).mean(axis=(1, 3))
    row, column = np.unravel_index(int(blocks.argmax()), blocks.shape)
    mask = np.zeros((height, width), bool)
    mask[row * down : (row + 1) * down, column * across : (column + 1) * across] = True
    return mask
