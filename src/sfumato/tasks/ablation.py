"""Which layers carry the image: each layer's strongest channel ablated alone, over seeds (tables 5.1 and 5.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sfumato.errors import OptionError
from sfumato.explain import explain
from sfumato.generation.feature_layers import attention_layers, chosen, layers_of
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import bars_sheet
from sfumato.progress import Progress
from sfumato.request import CompletedRequest
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Claim, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.tasks.shared.over_seeds import (
    FollowingOptions,
    first_request,
    followed,
    followed_in,
    followed_in_plan,
    items_of,
    sampling_of_seeds,
)

LAST = (
    ("downs.*.3", "mid_block2.res_conv", "ups.*.3"),
    ("down_blocks.*", "mid_block", "up_blocks.*"),
)
"""The last layers of the blocks, in the names of the thesis's network and of diffusers' U-Nets."""
CLAIM = Claim(
    "Ablating the strongest channel of a block's last layer changes the image more than that of an attention layer, "
    "and in the contracting path and at high resolution more than elsewhere (normalised SSIM 0.122 for downs.0.3).",
    paper="the thesis on the diffusion profile, tables 5.1 and 5.2",
)


@task(
    "ablation",
    question="Which layers carry the image?",
    options=FollowingOptions,
    cost=Cost("a generation for each layer that is compared and one more, for each seed"),
    needs=("replay",),
    claim=CLAIM,
    model="studio/faces",
    shard=1,
)
class Ablation:
    """A sweep over the last layers of all blocks and over the attention layers of every seed."""

    def check(self, model: Model, options: FollowingOptions) -> None:
        """Refuse a model without the layers that are compared, and a mask that cannot be used.

        Raises:
            OptionError: One of these.
        """
        request = model.complete(first_request(model, options))
        followed(model, request, options.mask)
        _swept(model, request)

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: FollowingOptions) -> Iterator[Item]:
        """An item for each seed."""
        return items_of(facts, options, followed_in_plan(facts, options))

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: FollowingOptions, progress: Progress
    ) -> Sequence[Record]:
        """Sweep over the layers for one image after the other."""
        outputs, attention = _swept(model, items[0].request)
        return [_record(model, one, outputs, attention, progress) for one in items]

    def conclude(self, records: Records, options: FollowingOptions, about: Mapping[str, Any]) -> Finding:
        """The last layers of blocks next to attention layers, and both paths next to each other, over seeds."""
        found = [
            (item.request, record.values, record.arrays["ssim"], record.arrays["channel"]) for item, record in records
        ]
        requests, named, ssims, strongest = zip(*found, strict=True)
        outputs, attention = named[0]["outputs"], named[0]["attention"]
        swept = [*outputs, *attention]
        values, channels = np.stack(ssims), np.stack(strongest)  # (seed, layer)
        own, others = values[:, : len(outputs)], values[:, len(outputs) :]
        gap = bootstrap(others.mean(1) - own.mean(1))
        down = [place for place, name in enumerate(outputs) if name.startswith("down")]
        up = [place for place, name in enumerate(outputs) if name.startswith("up")]
        contracting = bootstrap(own[:, up].mean(1) - own[:, down].mean(1))
        weakest = int(values.mean(0).argmin())
        verdict = verdict_of(lies(gap, above=0), lies(contracting, above=0))
        sentence = (
            f"Normalised SSIM after ablation in the last layers is lower than in the attention layers by {gap}, and in "
            f"the contracting path lower than in the expanding path by {contracting}; the largest change is that of "
            f"{swept[weakest]} ({bootstrap(values[:, weakest])})."
        )
        table = [
            {
                "layer": name,
                "kind": "attention" if place >= len(outputs) else "last of its block",
                "most frequent channel": int(np.bincount(channels[:, place].astype(int)).argmax()),
                "normalised ssim": bootstrap(values[:, place]),
            }
            for place, name in enumerate(swept)
        ]
        figure = bars_sheet(swept, values, "normalised SSIM to the image without ablation")
        return Finding("ablation", CLAIM.text, verdict, sentence, table, figure, sampling_of_seeds(requests, about))


def _swept(model: Model, request: CompletedRequest) -> tuple[list[str], list[str]]:
    """The last layers of all blocks, and the attention layers.

    Raises:
        OptionError: The model lacks one of these.
    """
    known = layers_of(model, request)
    names = {layer.name for layer in known}
    patterns = LAST[0] if "downs.0.3" in names else LAST[1]
    if not any(name.startswith(("downs.", "down_blocks.")) for name in names):
        raise OptionError(f"{model.source.name} has no contracting and expanding path to compare; take a U-Net")
    attention = [layer.name for layer in attention_layers(model, known)]
    if not attention:
        raise OptionError(f"{model.source.name} has no attention over the image to compare with; take another model")
    return [layer.name for layer in chosen(patterns, known)], attention


def _record(
    model: Model, item: CompletedItem, outputs: Sequence[str], attention: Sequence[str], progress: Progress
) -> Record:
    """The similarity to the image without ablation and the ablated channel (layer,), the last layers first."""
    swept, mask = [*outputs, *attention], followed_in(model, item)
    found = explain(model, item.request, "ablation", sweep=tuple(swept), mask=mask, progress=progress)
    data = found.tree["sweep"].to_dataset()
    places = data["layer"].values.tolist()
    order = [places.index(name) for name in swept]
    return Record(
        {"outputs": list(outputs), "attention": list(attention)},
        {"ssim": data["normalised_ssim"].values[order], "channel": data["channel_number"].values[order]},
    )
