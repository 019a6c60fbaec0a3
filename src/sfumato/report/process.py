"""Sections of the generative process: its sheets as pictures, and tables of what was changed."""

from __future__ import annotations

from sfumato.plots.sheets import SHEETS
from sfumato.report.markup import escaped, isolated, number, picture_uri, table
from sfumato.report.sections import Section, section
from sfumato.results.explanation import Explanation

_TEXTS = {
    "profile": (
        "How the image came to be",
        "Samples, clean estimates and the summed outputs of the attention layers, step by step.",
    ),
    "layers": ("Layers", "The channel with the largest sum in each layer, at a late step."),
    "gradients": ("Gradient maps of layers", "Where each layer's strongest channel moves the masked part."),
    "gradient_volume": (
        "Gradient volume",
        "Which places of a sample made the masked part of the next one: a point for every value above the mean; below, "
        "the sum over the mask.",
    ),
    "gradient_maps": ("Gradient maps of layers", "From the same backward passes as the volume."),
    "ablation": ("Ablation", "The image as it was, with the ablation, and where they differ."),
    "trust": (
        "How far can this be trusted?",
        "Each check compares a number of the explanation with the same number of an uninformative baseline. Passed and "
        "failed mean that the 95% interval of the difference excludes zero and rests on five items or more.",
    ),
    "removal": (
        "Without each word",
        "The same seed without the word: the image should change where the word's map is high. Below, the rank "
        "correlation of map and change, and in brackets that of the other words' maps.",
    ),
    "randomisation": (
        "With random weights",
        "Blocks of the denoiser get random weights, the last ones first. A map that stays as it was does not show what "
        "the model learned.",
    ),
    "sweep": ("One channel at a time", "The image with one channel of each layer ablated."),
    "switch": ("Switching the condition", "The outcome when the other condition takes over at a step."),
    "saliency": ("Saliency of steps", "What each step recovers, and which places of its latent matter for that."),
    "i2am": (
        "Reference and image",
        "Forward maps lie on the image (where the reference acted), backward maps on the reference (what was looked "
        "at): integrated, over groups of steps, by head and by layer. The frame is around what the forward map finds.",
    ),
    "i2am_points": ("Points and patches", "What a point of the image looked at, and which places looked at a patch."),
    "causal": (
        "Covering patches of the reference",
        "Where the image changes when a patch is covered and it is made again from the same noise, beside the places "
        "whose attention looked at the patch.",
    ),
    "relevance": ("Which words led at each step", "Relevance through all attention layers, and where it lies."),
}


def sheet(explanation: Explanation, name: str, more: str = "") -> Section:
    """A section with one of the sheets of `sfumato.plots.sheets`, and HTML below it."""
    title, note = _TEXTS[name]
    picture = SHEETS[name][1](explanation)
    image = f'<img class="sheet" alt="{escaped(title)}" src="{picture_uri(picture)}">'
    return Section(title, image + more, note)


@section("samples")
def samples(explanation: Explanation, path: str) -> Section:
    """The whole process on one sheet."""
    return sheet(explanation, "profile")


@section("clean", "trajectory", "attention_map", "mask")
def on_the_sheet(explanation: Explanation, path: str) -> Section | None:
    """Shown on the sheet of the process, where there is one."""
    return None


@section("activations/*", "gradients/*", "gradient_maps/*")
def layers(explanation: Explanation, path: str) -> Section | None:
    """All layers on one sheet, at the place of the first."""
    kind = path.partition("/")[0]
    first = next(iter(explanation.tree[kind].children))
    name = {"activations": "layers"}.get(kind, kind)
    return sheet(explanation, name) if path == f"{kind}/{first}" else None


@section("gradient_volume")
def gradient_volume(explanation: Explanation, path: str) -> Section:
    """Volumes as points."""
    return sheet(explanation, "gradient_volume")


@section("ablation")
def ablation(explanation: Explanation, path: str) -> Section:
    """Before and after."""
    return sheet(explanation, "ablation")


@section("ablated_layers/*")
def ablated_layers(explanation: Explanation, path: str) -> Section | None:
    """The arrays are in the store."""
    return None


@section("sweep")
def sweep(explanation: Explanation, path: str) -> Section:
    """Images, and the table of layers, channels and normalised SSIM."""
    data = explanation.tree["sweep"].to_dataset()
    rows = zip(
        data["layer"].values.tolist(),
        data["channel_number"].values.tolist(),
        data["normalised_ssim"].values,
        strict=True,
    )
    lines = [
        f'<tr><th scope="row">{isolated(layer)}</th><td class="n">{channel}</td>'
        f'<td class="n">{number(value, 3)}</td></tr>'
        for layer, channel, value in rows
    ]
    return sheet(explanation, "sweep", table(("layer", "channel", "normalised SSIM"), lines))


@section("switch")
def switch(explanation: Explanation, path: str) -> Section:
    """Pictures and curves, and the table of switches."""
    data = explanation.tree["switch"].to_dataset()
    names = ("step", "timestep", "normalised_ssim_to_first", "normalised_ssim_to_second")
    lines = [
        f'<tr><th scope="row">{step}</th>'
        + "".join(f'<td class="n">{number(value, 3)}</td>' for value in values)
        + "</tr>"
        for step, *values in zip(*(data[name].values.tolist() for name in names), strict=True)
    ]
    settled = f'<p class="quiet">Settled after {number(float(data["settled"]), 3)} of the run.</p>'
    head = ("switched at step", "timestep", "normalised SSIM to the first", "normalised SSIM to the second")
    return sheet(explanation, "switch", table(head, lines) + settled)
