"""A part of the image, drawn or named by the model, and where it drew from: gradient volume and gradient maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from sfumato.app.asking.answers import asked, priced_in
from sfumato.app.asking.inputs import mask_from, options_from
from sfumato.app.asking.profiles import BUDGET_MB, Part, said_of
from sfumato.app.charts.process import volume_chart
from sfumato.app.pieces.film import cell, strips
from sfumato.app.pieces.jobline import jobline
from sfumato.app.pieces.maps import NOTHING, maps_view, shown_maps
from sfumato.app.pieces.pad import drawable, mask_uri, pad
from sfumato.app.pieces.piece import data_of
from sfumato.app.server.visitors import Kept
from sfumato.app.server.workers import Job
from sfumato.app.server.workshop import QUIET, Seat, refused
from sfumato.app.tabs.process_form import Process, Shown, maps_of, plot
from sfumato.errors import RequestError, SfumatoError
from sfumato.models.model import Model
from sfumato.models.notes import regions_of
from sfumato.plots.overlays import overlay
from sfumato.plots.volumes import spread_in_words
from sfumato.registry import find
from sfumato.results.explanation import Explanation

NOT_CHOSEN = "Draw on the picture, or choose a part that the model names."
WORKING_OUT = "Working out the cost …"
HINT = "Draw with the mouse or a finger. What you mark is also where the layers above look for their strongest channel."
DETAIL = {"every pixel of the part by itself": "volume", "only their sum (one pass for each step)": "region"}
METHOD = "gradient_volume"


class PartSection:
    """The section."""

    def __init__(self, it: Process) -> None:
        self.it = it
        self.volume = gr.State("")  # the id of the one that is shown
        with gr.Accordion("Where did a part of it draw from?", open=False, elem_id="process-part"):
            with gr.Row():
                with gr.Column(min_width=280):
                    self.pad = pad("sf-process-pad", empty="The picture is here after the first profile.")
                with gr.Column(min_width=280):
                    self.regions = gr.Radio(
                        [], label="A part that the model names", elem_id="process-region", visible=False
                    )
                    self.times = gr.Textbox(
                        "950,700,600,100", label="At the steps nearest to these timesteps", elem_id="process-times"
                    )
                    self.detail = gr.Radio(
                        list(DETAIL), value=next(iter(DETAIL)), label="Follow", elem_id="process-detail"
                    )
                    self.go = gr.Button(
                        "Where did this part draw from?", variant="primary", interactive=False, elem_id="process-trace"
                    )
                    self.price = gr.HTML(_said(NOT_CHOSEN), elem_id="process-price", apply_default_css=False)
            self.line = jobline(it.workshop)
            self.strip = strips("sf-volume-steps")
            self.points = plot("process-volume")
            self.maps = maps_view("sf-gradient-maps")
        found = [self.volume, self.strip, self.points, self.maps]
        self.outputs = [self.pad, self.regions, self.go, self.price, self.line, *found]
        free: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        chosen = [it.shown, self.pad, self.regions, self.go, self.price, it.maps, self.line]
        self.asks = [it.shown, self.times, self.detail]
        last: dict[str, Any] = free | {"trigger_mode": "always_last"}  # else what is done meanwhile is lost
        self.priced_after(self.pad.drawn(self._drawn, [it.shown, it.maps], chosen, **last))
        self.priced_after(self.regions.input(self._region, [it.shown, it.maps, self.regions], chosen, **last))
        gr.on([self.times.change, self.detail.change], self._priced, self.asks, [self.price], **last)
        self.go.click(self._run, self.asks, [*found, self.line], **free)
        self.strip.cell(self._cell, [self.volume], [*found, self.line], **last)
        self.maps.maps(self._look, [self.volume], [self.maps, self.line], **last)

    def priced_after(self, listener: Any) -> None:
        """Say what following the chosen part costs, as soon as a listener has ended."""
        last: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "trigger_mode": "always_last"}
        listener.then(self._priced, self.asks, [self.price], **last)

    def fresh(self, now: Shown, kept: Kept, seat: Seat) -> dict[Any, Any]:
        """The new picture to draw on; the part that was chosen stays, where the model is the same."""
        names = list(now.facts.regions)
        return {
            self.pad: self._picture(kept, now.part),
            self.regions: gr.Radio(
                choices=names, visible=bool(names), value=now.part.name if now.part and now.part.name in names else None
            ),
            self.go: gr.Button(interactive=now.part is not None),
            self.price: _said(NOT_CHOSEN if now.part is None else WORKING_OUT),
            self.line: QUIET,
        } | self._nothing()

    def _nothing(self) -> dict[Any, Any]:
        return {
            self.volume: "",
            self.strip: {"rows": []},
            self.points: gr.Plot(value=None, visible=False),
            self.maps: dict(NOTHING),
        }

    def _picture(self, kept: Kept, part: Part | None) -> dict[str, Any]:
        mask = "" if part is None else mask_uri(part.inside)
        key = f"{kept.id} {part.name if part and part.name != 'drawn' else ''}"
        alt = f"The image of {kept.title}"
        return drawable(kept.explanation.image, "mask", alt=alt, hint=HINT, key=key, mask=mask)

    def _drawn(self, now: Shown | None, maps: Any, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        if now is None:
            return {self.line: QUIET}
        data = str(data_of(event).get("mask", ""))
        try:
            kept = self.it.workshop.seat(request).visitor.find(now.id)
            image = kept.explanation.image
            part = Part("drawn", mask_from(data, (image.height, image.width), "what you drew")) if data else None
            return self._with(now, kept, part, maps) | {self.regions: gr.Radio(value=None)}
        except SfumatoError as error:
            return {self.line: refused(error), self.go: gr.Button(interactive=False)}

    def _region(self, now: Shown | None, maps: Any, name: str | None, request: gr.Request) -> dict[Any, Any]:
        if now is None or name is None:
            return {self.line: QUIET}
        try:
            kept = self.it.workshop.seat(request).visitor.find(now.id)
            known = regions_of(self.it.workshop.model(now.wanted.model).pipeline)
            if name not in known:
                raise RequestError(f"the model names no part {name!r}; it names: {', '.join(known)}")
            part = Part(name, known[name])
            if part.inside.shape != kept.explanation.image.size[::-1]:
                raise RequestError("the named parts are those of images of another size; draw the part instead")
            return self._with(now, kept, part, maps) | {self.pad: self._picture(kept, part)}
        except SfumatoError as error:
            return {self.line: refused(error)}

    def _with(self, now: Shown, kept: Kept, part: Part | None, maps: Any) -> dict[Any, Any]:
        """What a chosen part changes at once, without the model."""
        step = maps.get("step", 0) if isinstance(maps, dict) else 0
        return {
            self.it.shown: replace(now, part=part),
            self.it.maps: maps_of(kept.explanation, now.id, step, {}, part),
            self.go: gr.Button(interactive=part is not None),
            self.price: _said(NOT_CHOSEN if part is None else WORKING_OUT),
            self.line: QUIET,
        }

    def _options(self, now: Shown, times: Any, detail: Any, layers: tuple[str, ...]) -> dict[str, Any]:
        if now.part is None:
            raise RequestError("no part is chosen; " + NOT_CHOSEN[0].lower() + NOT_CHOSEN[1:])
        given = {"timesteps": str(times or ""), "mode": DETAIL.get(str(detail), "volume")}
        more = {"mask": now.part.option, "layers": layers, "budget": BUDGET_MB}
        return options_from(find(METHOD), given) | more

    def _priced(self, now: Shown | None, times: Any, detail: Any, request: gr.Request) -> str:
        if now is None or now.part is None:
            return _said(NOT_CHOSEN)
        seat = self.it.workshop.seat(request)
        try:
            options = self._options(now, times, detail, ())
        except SfumatoError as error:
            return _said(str(error))
        return _said(priced_in(self.it.workshop, seat, now.wanted.model, now.wanted.request, METHOD, options))

    def _run(self, now: Shown | None, times: Any, detail: Any, request: gr.Request) -> Iterator[dict[Any, Any]]:
        if now is None:
            return
        seat = self.it.workshop.seat(request)
        try:
            tree = seat.visitor.find(now.id).explanation.tree
            layers = tuple(tree["activations"].children) if "activations" in tree.children else ()
            options = self._options(now, times, detail, layers)
        except SfumatoError as error:
            yield {self.line: refused(error)}
            return

        def work(ready: Model, job: Job[Any]) -> Explanation:
            return asked(ready, now.wanted.request(ready), METHOD, {}, job, **options)

        def finish(result: Explanation) -> dict[Any, Any]:
            assert now.part is not None
            kept = seat.visitor.keep(said_of(result, now.part), f"{METHOD} of {now.part.name}: {now.title}")
            return {self.volume: kept.id} | self._seen(kept, 0)

        yield {self.line: {"state": "running", "text": "starting"}}
        yield from self.it.workshop.driven(seat, now.wanted.model, work, finish, self.line)

    def _seen(self, kept: Kept, place: int) -> dict[Any, Any]:
        """The steps of a volume, and one of them as points and as maps of layers."""
        explanation = kept.explanation
        figure = volume_chart(explanation, place)
        return {
            self.strip: steps_of_volume(explanation) | {"chosen": place},
            self.points: gr.Plot(value=figure, visible=figure is not None),
            self.maps: shown_maps(explanation, "gradient_maps", key=kept.id, step=place),
        }

    def _cell(self, volume: str, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        if not volume:
            return {self.line: QUIET}
        try:
            kept = self.it.workshop.seat(request).visitor.find(volume)
            count = kept.explanation.tree["gradient_volume"].sizes["step"]
            place = data_of(event).get("place")
            if not isinstance(place, int) or not 0 <= place < count:
                raise RequestError(f"there is no such step; there are {count}")
            return self._seen(kept, place) | {self.line: QUIET}
        except SfumatoError as error:
            return {self.line: refused(error)}

    def _look(self, volume: str, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        if not volume:
            return {self.line: QUIET}
        data = data_of(event)
        channels = data.get("channels")
        try:
            kept = self.it.workshop.seat(request).visitor.find(volume)
            value = shown_maps(
                kept.explanation,
                "gradient_maps",
                key=kept.id,
                step=data.get("step", 0),
                channels=channels if isinstance(channels, dict) else {},
            )
        except SfumatoError as error:
            return {self.line: refused(error)}
        return {self.maps: value, self.line: QUIET}


def steps_of_volume(explanation: Explanation) -> dict[str, Any]:
    """The value that shows, for every step, from where the part drew, over the image; the part is outlined."""
    data = explanation.tree["gradient_volume"].to_dataset()
    cells = []
    for place in range(data.sizes["step"]):
        one = data.isel(step=place)
        picture = overlay(explanation.image, above_mean(one["region"].values))
        cells.append(cell(outlined(picture, one["mask"].values), spread_in_words(one)))
    return {
        "title": "Where the part drew from, one step before",
        "note": "Bright: changing the sample there changes the part in the next one (log of the derivative, where "
        "it exceeds its mean; each picture on its own scale). The white line is around the part. Choose a step to look "
        "closer.",
        "rows": [{"label": "", "cells": cells}],
        "picks": True,
        "large": True,
    }


def above_mean(region: Any) -> Any:
    """By how many powers of ten a derivative (y, x) exceeds its mean; 0 where it does not."""
    size = np.abs(region)
    mean = float(size.mean())
    return np.log10(np.maximum(size, mean) / mean) if mean > 0 else np.zeros_like(size)


def outlined(picture: Image.Image, inside: Any) -> Image.Image:
    """A picture with a white line around a mask (y, x) on any grid."""
    mask = np.asarray(Image.fromarray(inside).resize(picture.size, Image.Resampling.NEAREST), bool)
    width = max(1, min(picture.size) // 160)
    padded = np.pad(mask, width, mode="edge")
    around = np.zeros_like(mask)
    for dy in range(2 * width + 1):
        for dx in range(2 * width + 1):
            around |= padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
    pixels = np.array(picture.convert("RGB"))
    pixels[around & ~mask] = 255
    return Image.fromarray(pixels)


def _said(text: str) -> str:
    """One line of our own or of an error, as text of the page."""
    from sfumato.report.markup import escaped

    return f'<p class="sf-price" role="status">{escaped(text)}</p>'
