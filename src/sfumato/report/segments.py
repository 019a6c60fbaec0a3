"""The section of segments: the parts of the image and the words that go with them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sfumato.plots.overlays import overlay
from sfumato.plots.segments import TONES, outlined
from sfumato.report.markup import escaped, heat_picture, isolated, number, percent, picture_uri, table
from sfumato.report.sections import Section, cells, section
from sfumato.results.explanation import Explanation

_SIDE = 132


@section("segments/parts")
def parts(explanation: Explanation, path: str) -> Section:
    """The outlined image, then one tile for each part with its words."""
    node = explanation.tree[path].to_dataset()
    matches = explanation.tree["segments/matches"].to_dataset()
    names = matches["player"].values.tolist()
    pixels = np.asarray(explanation.image)
    tiles = []
    for place, mask in enumerate(node["mask"].values):
        words = [name for name, row in zip(names, matches["best"].values, strict=True) if row[place]]
        shown = np.where(mask[..., None], pixels, 236).astype(np.uint8)
        picture = Image.fromarray(shown)
        picture.thumbnail((_SIDE, _SIDE))
        label = ", ".join(isolated(word) for word in words) or '<span class="quiet">no word</span>'
        about = f"{percent(float(node['area'].values[place]))} of the image"
        if bool(node["neutral"].values[place]):
            about += " · neutral"
        alt = escaped(f"Segment {place + 1}")
        mark = f'<span class="badge" style="background:{TONES[place % len(TONES)]};color:#fff">{place + 1}</span> '
        image = f'<img alt="{alt}" src="{picture_uri(picture)}">'
        tiles.append(f'<div class="tile">{image}<b>{mark}{label}</b><span>{about}</span></div>')
    whole = f'<img class="outlined" alt="The image with its parts outlined" src="{picture_uri(outlined(explanation))}">'
    judge = matches.attrs["similarity"]
    note = (
        f"The image was cut by {node.attrs['by']}; each word goes with the parts that {judge} finds most like it. "
        "A part is neutral if no word goes better with it than no text does."
    )
    body = f'{whole}<div class="grid small smooth">{"".join(tiles)}</div>'
    return Section("Parts of the image and their words", body, note)


@section("segments/matches")
def matches(explanation: Explanation, path: str) -> Section:
    """The whole matrix, and what goes best with each word."""
    node = explanation.tree[path].to_dataset()
    numbers = node["segment"].values.tolist() if "segment" in node.coords else list(range(1, node.sizes["segment"] + 1))
    lines = []
    for name, row, score in zip(
        node["player"].values.tolist(), node["best"].values, node["score"].values.tolist(), strict=True
    ):
        chosen = ", ".join(str(n) for n, here in zip(numbers, row.tolist(), strict=True) if here)
        lines.append(
            f'<tr><th scope="row">{isolated(name)}</th><td>{chosen}</td><td class="n">{number(score, 3)}</td></tr>'
        )
    head = ("word", "goes best with", '<span class="right">cosine</span>')
    body = table(head, lines) + "<h3>Every part and word</h3>" + cells(node["similarity"])
    return Section("Words and parts in numbers", body, folded=True)


@section("segments/saliency")
def saliency(explanation: Explanation, path: str) -> Section:
    """What the prompt moves at each step, and the image boosted by it."""
    node = explanation.tree[path].to_dataset()
    boosted = Image.fromarray(node["boosted"].values)
    pictures = [(boosted, "The image, dimmed where the prompt does little", "boosted by importance")]
    for step, heat in zip(node["step"].values.tolist(), node["map"].values, strict=True):
        shown = overlay(explanation.image, heat / (float(heat.max()) or 1.0))
        pictures.append((shown, f"Saliency at step {step}", f"step {step}"))
    tiles = "".join(
        f'<div class="tile"><img alt="{escaped(alt)}" src="{picture_uri(picture)}"><b>{label}</b></div>'
        for picture, alt, label in pictures
    )
    note = (
        f"How much each place of the latent moves what the prompt adds to the denoiser's output ({node.attrs['kind']})."
    )
    return Section("Where the prompt acts", f'<div class="grid">{tiles}</div>', note)


@section("lime_image/parts")
def lime_image(explanation: Explanation, path: str) -> Section:
    """The image with what speaks for the phrase, and all weights."""
    node = explanation.tree[path].to_dataset()
    heat = node["map"].values
    phrase = str(node.attrs["phrase"])
    shown = overlay(explanation.image, np.clip(heat, 0, None))
    weights = heat_picture(heat, signed=True).convert("RGB").resize(shown.size, Image.Resampling.NEAREST)
    pictures = ((shown, f"What makes it match {phrase}", "for"), (weights, "All weights", "for and against"))
    tiles = "".join(
        f'<div class="tile"><img alt="{escaped(alt)}" src="{picture_uri(picture)}"><b>{label}</b></div>'
        for picture, alt, label in pictures
    )
    note = (
        f"LIME over {node.sizes['superpixel']} superpixels, from {node.attrs['coalitions']} coalitions: "
        f"R² {number(float(node.attrs['r2']), 2)}; {node.attrs['value']} {number(float(node.attrs['full']), 3)}."
    )
    return Section(f"What makes the image match “{phrase}”", f'<div class="grid">{tiles}</div>', note)


@section("word_gradients/pixels")
def pixels(explanation: Explanation, path: str) -> Section:
    """The image that the run started from, and where the score leans on it."""
    node = explanation.tree[path].to_dataset()
    given = Image.fromarray(node["given"].values)
    signed = heat_picture(node["attribution"].values, signed=True).convert("RGB").resize(given.size)
    pictures = (
        (given, "The image that the run started from", "given"),
        (overlay(given, node["sensitivity"].values), "Where a change of the given image matters", "sensitivity"),
        (signed, "Gradient times pixel, for and against", "for and against"),
    )
    tiles = "".join(
        f'<div class="tile"><img alt="{escaped(alt)}" src="{picture_uri(picture)}"><b>{label}</b></div>'
        for picture, alt, label in pictures
    )
    note = f"Through the encoder and all steps: the {node.attrs['value']} is {number(float(node['score']), 3)}."
    return Section("What the score leans on in the given image", f'<div class="grid">{tiles}</div>', note)
