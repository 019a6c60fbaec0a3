"""What if something is changed on the way: a channel taken out, another condition from a step on, another profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

from sfumato.app.asking.answers import asked, priced_in
from sfumato.app.asking.inputs import number
from sfumato.app.asking.profiles import Facts, label_from, said_condition
from sfumato.app.charts.process import alike_chart, apart_chart, switch_chart
from sfumato.app.pieces.film import cell, strips
from sfumato.app.pieces.jobline import jobline
from sfumato.app.pieces.piece import data_of
from sfumato.app.pieces.schematic import picked, schematic
from sfumato.app.server.results import downloads
from sfumato.app.server.visitors import Kept
from sfumato.app.server.workers import Job
from sfumato.app.server.workshop import QUIET, Seat, refused
from sfumato.app.tabs.process_form import QUESTION, Process, Shown, plot
from sfumato.errors import RequestError, SfumatoError
from sfumato.metrics.divergence import Divergence, diverge, parts_in_words
from sfumato.models.model import Model
from sfumato.report.markup import escaped, heat_picture
from sfumato.results.explanation import Explanation

ONE = "Nothing is picked: click the layer whose channel you want to take out."
MOST_CHANNEL = 1_000_000
NO_ROWS: dict[str, Any] = {"rows": []}
FREE: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}


class AblationSection:
    """Without a channel: the image as it was, without it, and where they differ.

    Args:
        it: The tab.
        maps: Views of layers that ask for a channel to be taken out.
    """

    def __init__(self, it: Process, maps: Sequence[Any]) -> None:
        self.it = it
        with gr.Accordion("What is the image without a channel?", open=False, elem_id="process-ablation") as self.box:
            self.drawn = schematic("sf-schematic-ablation", most=1, note=ONE)
            with gr.Row(elem_classes="sf-asks"):
                self.channel = gr.Textbox(
                    "", label="Channel", placeholder="0", elem_id="process-channel", min_width=120, scale=0
                )
                self.go = gr.Button("Take it out", variant="primary", elem_id="process-ablate", min_width=150, scale=0)
            gr.HTML(_line("The channel is set to zero at every step. Costs two generations."), apply_default_css=False)
            self.line = jobline(it.workshop)
            self.strip = strips("sf-ablation")
        self.outputs = [self.box, self.drawn, self.line, self.strip]
        self.go.click(self._form, [it.shown, self.drawn, self.channel], [self.drawn, self.strip, self.line], **FREE)
        for view in maps:
            view.ablate(self._card, [it.shown], [*self.outputs, self.channel], **FREE)
            view.ablate(None, None, None, js=_to("process-ablation"))

    def fresh(self, now: Shown, kept: Kept, seat: Seat) -> dict[Any, Any]:
        """The drawing of the model; no result."""
        return {self.drawn: self._drawing(now, ()), self.strip: NO_ROWS, self.line: QUIET}

    def _drawing(self, now: Shown, chosen: Sequence[str]) -> dict[str, Any]:
        return now.facts.schematic | {"most": 1, "note": ONE, "chosen": list(chosen)}

    def _form(self, now: Shown | None, drawn: Any, channel: Any, request: gr.Request) -> Iterator[dict[Any, Any]]:
        if now is None:
            return
        try:
            layers = picked(drawn)
            if not layers:
                raise RequestError("no layer is picked; click one in the drawing")
            which = number("the channel", channel, 0, MOST_CHANNEL)
            if which is None:
                raise RequestError(f"which channel of {layers[0]}? Give its number, from 0")
        except SfumatoError as error:
            yield {self.line: refused(error)}
            return
        yield from self._without(now, layers[0], which, self.it.workshop.seat(request))

    def _card(self, now: Shown | None, request: gr.Request, event: gr.EventData) -> Iterator[dict[Any, Any]]:
        """A channel that was asked for on its map."""
        if now is None:
            return
        data = data_of(event)
        layer, channel = str(data.get("layer", ""))[:300], data.get("channel")
        if not isinstance(channel, int):
            return
        yield {
            self.box: gr.Accordion(open=True),
            self.drawn: self._drawing(now, (layer,)),
            self.channel: str(channel),
        }
        yield from self._without(now, layer, channel, self.it.workshop.seat(request))

    def _without(self, now: Shown, layer: str, channel: int, seat: Seat) -> Iterator[dict[Any, Any]]:
        def work(ready: Model, job: Job[Any]) -> Explanation:
            request = now.wanted.request(ready)
            return asked(ready, request, "ablation", {}, job, channels=(f"{layer}:{channel}",))

        def finish(result: Explanation) -> dict[Any, Any]:
            kept = seat.visitor.keep(result, f"without {layer}:{channel}: {now.title}")
            return {
                self.strip: ablated(result, layer, channel) | {"links": downloads(kept.id)},
                self.drawn: self._drawing(now, (layer,)),
            }

        yield {self.line: {"state": "running", "text": "starting"}, self.strip: NO_ROWS}
        yield from self.it.workshop.driven(seat, now.wanted.model, work, finish, self.line)


def ablated(explanation: Explanation, layer: str, channel: int) -> dict[str, Any]:
    """The value that shows an ablation."""
    data = explanation.tree["ablation"].to_dataset()
    share, alike = float(data["changed"].values.mean()), float(data["normalised_ssim"])
    much = "hardly anything" if alike > 0.98 else "some of it" if alike > 0.8 else "much of it"
    return {
        "title": f"Without channel {channel} of {layer}",
        "note": f"normalised SSIM {alike:.3f} (1 is the same picture): the image loses {much}; {share:.0%} of its "
        "pixels changed.",
        "rows": [
            {
                "label": "",
                "cells": [
                    cell(explanation.image, "as it was"),
                    cell(data["picture"].values, f"without it: normalised SSIM {alike:.3f}"),
                    cell(
                        heat_picture(data["moved"].values),
                        f"change, at most {float(data['moved'].max()):.0%} of the range",
                    )
                    | {"coarse": True},
                ],
            }
        ],
        "large": True,
    }


class SwitchSection:
    """Another condition from a step on."""

    def __init__(self, it: Process) -> None:
        self.it = it
        with gr.Accordion(
            "What if it is told something else on the way?", open=False, elem_id="process-switch"
        ) as self.box:
            with gr.Row(elem_classes="sf-asks"):
                self.prompt = gr.Textbox("", label="Go on with", elem_id="process-to", scale=5, min_width=220)
                self.bits = gr.CheckboxGroup(
                    [], label="Go on with", visible=False, elem_id="process-to-bits", scale=5, min_width=220
                )
                self.at = gr.Slider(
                    1, 2, value=1, step=1, label="from this step on", elem_id="process-at", scale=4, min_width=200
                )
            self.along = gr.Checkbox(
                True,
                label="and try about ten other steps, to see until when it matters",
                elem_id="process-along",
            )
            with gr.Row(elem_classes="sf-asks sf-left"):
                self.go = gr.Button("Switch", variant="primary", elem_id="process-switch-go", min_width=150, scale=0)
            self.price = gr.HTML("", elem_id="process-switch-price", apply_default_css=False)
            self.line = jobline(it.workshop)
            self.strip = strips("sf-switch")
            self.curve = plot("process-switch-curve")
        self.outputs = [self.box, self.prompt, self.bits, self.at, self.price, self.line, self.strip, self.curve]
        asks = [it.shown, self.prompt, self.bits, self.at, self.along]
        self.go.click(self._run, asks, [self.strip, self.curve, self.line], **FREE)
        gr.on(
            [self.at.release, self.along.change, self.prompt.blur, self.bits.change, self.box.expand],
            self._priced,
            asks,
            [self.price],
            trigger_mode="always_last",
            **FREE,
        )

    def fresh(self, now: Shown, kept: Kept, seat: Seat) -> dict[Any, Any]:
        """Fields for what the model reads; no result."""
        bits, steps = now.facts.reads == "bits", int(kept.explanation.request.steps or 0)
        return {
            self.box: gr.Accordion(visible=now.facts.reads != "nothing" and steps >= 3),
            self.prompt: gr.Textbox(visible=not bits, placeholder=QUESTION.get(now.facts.reads, "")),
            self.bits: gr.CheckboxGroup(choices=list(now.facts.attributes), visible=bits),
            self.at: gr.Slider(maximum=max(2, steps - 2), value=max(1, (steps - 1) // 2)),
            self.price: "",
            self.line: QUIET,
            self.strip: NO_ROWS,
            self.curve: gr.Plot(value=None, visible=False),
        }

    def _options(self, now: Shown, prompt: Any, bits: Any, at: Any, along: Any, steps: int) -> dict[str, Any]:
        other = label_from(now.facts.attributes, bits or ()) if now.facts.reads == "bits" else str(prompt or "").strip()
        if not other:
            raise RequestError("the other condition is empty; write what the image is to become")
        if other == now.wanted.condition.strip():
            raise RequestError("the other condition is the same as the first; choose another")
        chosen = number("the step", at, 1, max(1, steps - 2)) or 1
        spread = {max(1, min(steps - 2, round(place * steps / 10))) for place in range(1, 10)} if along else set()
        return {"to": other, "at": tuple(sorted({chosen, *spread}))}

    def _priced(self, now: Shown | None, prompt: Any, bits: Any, at: Any, along: Any, request: gr.Request) -> str:
        if now is None:
            return ""
        seat = self.it.workshop.seat(request)
        try:
            steps = int(seat.visitor.find(now.id).explanation.request.steps or 0)
            options = self._options(now, prompt, bits, at, along, steps)
        except SfumatoError as error:
            return _line(str(error))
        return _line(priced_in(self.it.workshop, seat, now.wanted.model, now.wanted.request, "switch", options))

    def _run(
        self, now: Shown | None, prompt: Any, bits: Any, at: Any, along: Any, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        if now is None:
            return
        seat = self.it.workshop.seat(request)
        try:
            steps = int(seat.visitor.find(now.id).explanation.request.steps or 0)
            options = self._options(now, prompt, bits, at, along, steps)
            number("the step", at, 1, max(1, steps - 2))
        except SfumatoError as error:
            yield {self.line: refused(error)}
            return

        def work(ready: Model, job: Job[Any]) -> Explanation:
            now.wanted.request(ready, condition=options["to"])  # a wrong one is refused before the first image
            return asked(ready, now.wanted.request(ready), "switch", {}, job, **options)

        def finish(result: Explanation) -> dict[Any, Any]:
            kept = seat.visitor.keep(result, f"to {said_condition(now.facts, options['to'])}: {now.title}")
            return {
                self.strip: switched(result, now.facts) | {"links": downloads(kept.id)},
                self.curve: gr.Plot(value=switch_chart(result), visible=True),
            }

        yield {self.line: {"state": "running", "text": "starting"}}
        yield from self.it.workshop.driven(seat, now.wanted.model, work, finish, self.line)


def switched(explanation: Explanation, facts: Facts) -> dict[str, Any]:
    """The value that shows the outcome of every switch between those of either condition alone."""
    data = explanation.tree["switch"].to_dataset()
    request = explanation.request
    first, second = (said_condition(facts, one) for one in (request.prompt or str(request.label), data.attrs["to"]))
    times, steps = data["timestep"].values, data["step"].values
    cells = [cell(data["second"].values, f"{second} alone")]
    cells += [
        cell(picture, f"step {step}, t = {time:.0f}")
        for picture, time, step in zip(data["picture"].values, times, steps, strict=True)
    ]
    cells.append(cell(data["first"].values, f"{first} alone"))
    settled = float(data["settled"])
    said = (
        f"After {settled:.0%} of the run a switch leaves the image as it was (normalised SSIM of "
        f"{data.attrs['alike']:g} or more)."
        if settled < 1
        else "Every switch that was tried changes the image."
    )
    note = f"From the left: the sooner the switch, the more the image is that of {second}. {said}"
    return {"title": f"From {first} to {second} on the way", "note": note, "rows": [{"label": "", "cells": cells}]}


class ComparisonSection:
    """Two profiles of this visitor beside each other."""

    def __init__(self, it: Process) -> None:
        self.it = it
        with gr.Accordion("Two profiles side by side", open=False, elem_id="process-compare"):
            gr.HTML(
                _line("Profile another seed or condition above; then choose two here. Nothing is computed again."),
                apply_default_css=False,
            )
            with gr.Row(elem_classes="sf-asks"):
                self.first = gr.Dropdown([], label="This profile", elem_id="process-first", min_width=220, scale=4)
                self.second = gr.Dropdown([], label="with this one", elem_id="process-second", min_width=220, scale=4)
                self.go = gr.Button("Compare", variant="primary", elem_id="process-compare-go", min_width=130, scale=0)
            self.line = jobline(it.workshop)
            self.strip = strips("sf-comparison")
            with gr.Row(elem_classes="sf-charts"):
                self.alike = plot("process-alike")
                self.apart = plot("process-apart")
        self.outputs = [self.first, self.second, self.line]
        found = [self.strip, self.alike, self.apart, self.line]
        self.go.click(self._compare, [self.first, self.second], found, **FREE)

    def fresh(self, now: Shown, kept: Kept, seat: Seat) -> dict[Any, Any]:
        """All profiles that are kept; the two newest are chosen."""
        profiles = [one for one in seat.visitor.results() if "samples" in one.explanation.tree.children]
        choices = [(f"{one.number}. {one.title}", one.id) for one in profiles]
        ids = [id for _, id in choices]  # noqa: A001
        return {
            self.first: gr.Dropdown(choices=choices, value=ids[1] if len(ids) > 1 else None),
            self.second: gr.Dropdown(choices=choices, value=ids[0] if len(ids) > 1 else None),
            self.line: QUIET,
        }

    def _compare(self, first: Any, second: Any, request: gr.Request) -> dict[Any, Any]:
        visitor = self.it.workshop.seat(request).visitor
        try:
            if not first or not second:
                raise RequestError("two profiles are compared; choose both, or profile another one first")
            if first == second:
                raise RequestError("these are the same profile; choose two")
            one, other = visitor.find(str(first)), visitor.find(str(second))
            found = diverge(one.explanation, other.explanation)
        except SfumatoError as error:
            return {self.line: refused(error)}
        apart = apart_chart(found)
        return {
            self.strip: beside(one, other, found),
            self.alike: gr.Plot(value=alike_chart(found), visible=True),
            self.apart: gr.Plot(value=apart, visible=apart is not None),
            self.line: QUIET,
        }


def beside(one: Kept, other: Kept, found: Divergence) -> dict[str, Any]:
    """The value that shows the samples of two profiles at the steps that both kept."""
    rows = []
    for number_, kept in enumerate((one, other)):
        data = kept.explanation.tree["samples"].to_dataset()
        keys = list(zip(data["step"].values.tolist(), data["timestep"].values.tolist(), strict=True))
        cells = []
        for step, time, alike in zip(
            found.steps["step"].values.tolist(),
            found.steps["timestep"].values.tolist(),
            found.steps["normalised_ssim"].values,
            strict=True,
        ):
            picture = data["picture"].values[keys.index((step, time))]
            said = f"t = {time:.0f}" if not number_ else f"normalised SSIM {alike:.2f}"
            cells.append(cell(np.asarray(picture), said))
        rows.append({"label": kept.title, "cells": cells})
    words = parts_in_words(found)
    return {"title": "Samples of both, step by step", "note": words[0].upper() + words[1:] + ".", "rows": rows}


def _line(text: str) -> str:
    return f'<p class="sf-price">{escaped(text)}</p>'


def _to(elem_id: str) -> str:
    """A script that brings something into view."""
    return f"() => {{ document.getElementById('{elem_id}').scrollIntoView({{ behavior: 'smooth', block: 'start' }}); }}"
