"""``sfumato compare`` and ``sfumato layers``: two profiles side by side, and what a denoiser is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import DEFAULT_MODEL, Debug, Device, Json
from sfumato.errors import StoreError
from sfumato.writing.files import replacing_file

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def compare(
    first: Annotated[str, typer.Argument(help="A result of --method profile.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another, of the same model and steps.", show_default=False)],
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Also draw both into this picture.")] = None,
    apart: Annotated[float, typer.Option(help="Normalised SSIM below which samples count as different.")] = 0.95,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare two profiles: normalised SSIM of samples, distance of attention maps and layers, where they part."""
    from sfumato.cli.tables import say_rows
    from sfumato.metrics.divergence import diverge, parts_in_words
    from sfumato.results.opening import open as open_explanation

    one, other = open_explanation(first), open_explanation(second)
    found = diverge(one, other, apart)
    if out is not None:
        from sfumato.plots.divergence import divergence_sheet

        _write_picture(divergence_sheet(one, other, found), out)
    if as_json:
        print_json({"parts_at": found.parts_at, "steps": found.rows()})
        return
    say_rows(f"{first} and {second}", found.rows())
    say(parts_in_words(found))
    if out is not None:
        say(f"the picture is in {out}")


def layers(
    model: Annotated[str, typer.Argument(help="An embedded model, a folder, or a hub id.")] = DEFAULT_MODEL,
    match: Annotated[
        list[str] | None,
        typer.Argument(help="Names or globs: * is one part of a name, ** any.", show_default="all"),
    ] = None,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the layers of a model's denoiser whose outputs are feature maps, with shape and size for each step."""
    from dataclasses import asdict

    from sfumato.cli.loading import load_model
    from sfumato.cli.tables import say_rows
    from sfumato.generation.feature_layers import chosen, layers_of
    from sfumato.request import Request

    with progress_shown() as progress:
        loaded = load_model(model, device, progress)
        known = layers_of(loaded, loaded.complete(Request()))
    found = chosen(match, known) if match else known
    if as_json:
        print_json([asdict(layer) | {"bytes": layer.bytes} for layer in found])
        return
    rows = [
        {
            "layer": layer.name,
            "kind": layer.kind,
            "channels": layer.channels,
            "grid": f"{layer.height}x{layer.width}",
            "bytes": layer.bytes,
        }
        for layer in found
    ]
    say_rows(f"{loaded.source.name}: {len(found)} layers", rows)


def _write_picture(picture: Image, file: str) -> None:
    """Write a picture to a file, whole or not at all.

    Raises:
        StoreError: It cannot be written, or its name is that of no kind of picture.
    """
    kind = PICTURES.get(Path(file).suffix.lower())
    if kind is None:
        raise StoreError(f"{file!r} is no name of a picture; give one that ends in .png")
    with replacing_file(file) as opened:
        picture.save(opened, kind)
