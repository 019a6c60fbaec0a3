"""Process: how an image came out of noise, step by step and layer by layer, and what happens when it is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from sfumato.app.asking.answers import AT_MOST, asked, configured
from sfumato.app.asking.profiles import MOST_LAYERS, Facts, Wanted, label_from, said_condition, what_it_reads
from sfumato.app.charts.process import distance_chart, trajectory_chart
from sfumato.app.pieces.film import frames
from sfumato.app.pieces.piece import data_of
from sfumato.app.pieces.price import told
from sfumato.app.pieces.schematic import EMPTY as NOT_DRAWN
from sfumato.app.registry import tab
from sfumato.app.server.results import downloads
from sfumato.app.server.workers import Job
from sfumato.app.server.workshop import QUIET, Seat, Workshop, refused
from sfumato.app.tabs.process_changes import AblationSection, ComparisonSection, SwitchSection
from sfumato.app.tabs.process_form import NOTE, Process, Section, Shown, kept_steps, maps_of
from sfumato.app.tabs.process_part import PartSection
from sfumato.errors import SfumatoError
from sfumato.models.model import Model
from sfumato.registry import find
from sfumato.results.explanation import Explanation


@tab("Process", place=2)
def process_tab(workshop: Workshop, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    it = Process(workshop, tab)
    with gr.Column(visible=False, elem_id="process-more") as more:
        gr.HTML('<h3 class="sf-heading">Ask more of this image</h3>', apply_default_css=False)
        part_section = PartSection(it)
        ablation = AblationSection(it, [it.maps, part_section.maps])
        sections: list[Section] = [part_section, ablation, SwitchSection(it), ComparisonSection(it)]
    results = [it.shown, it.film, it.maps, it.trajectory, it.distances, more, it.line, it.drawn]
    results += [one for section in sections for one in section.outputs]

    def run(one: Wanted, seat: Seat, before: Shown | None) -> Iterator[dict[Any, Any]]:
        """Profile and show."""

        def work(ready: Model, job: Job[Any]) -> tuple[Explanation, Facts]:
            request = one.request(ready)
            facts = it.known(one.model, ready, request)
            return asked(ready, request, "profile", {}, job, **one.options(facts)), facts

        def finish(found: tuple[Explanation, Facts]) -> dict[Any, Any]:
            explanation, facts = found
            kept = seat.visitor.keep(explanation, title_of(explanation, facts))
            part = before.part if before is not None and before.wanted.model == one.model else None
            if part is not None and part.inside.shape != explanation.image.size[::-1]:
                part = None
            now = Shown(one, facts, kept.id, kept.title, part)
            trajectory, distances = trajectory_chart(explanation), distance_chart(explanation)
            shown = {
                it.shown: now,
                it.film: frames(explanation, key=kept.id, title=kept.title, link=one.link, links=downloads(kept.id)),
                it.maps: maps_of(explanation, kept.id, kept_steps(explanation) - 1, {}, part),
                it.trajectory: gr.Plot(value=trajectory, visible=trajectory is not None),
                it.distances: gr.Plot(value=distances, visible=distances is not None),
                it.drawn: it.drawing(one.model, facts, one.layers),
                more: gr.Column(visible=True),
            }
            for section in sections:
                shown |= section.fresh(now, kept, seat)
            return shown

        yield {it.line: {"state": "running", "text": "starting"}}
        yield from workshop.driven(seat, one.model, work, finish, it.line)

    def profile(request: gr.Request, before: Shown | None, *values: Any) -> Iterator[dict[Any, Any]]:
        yield from run(it.wanted(*values), workshop.seat(request), before)

    def example(before: Shown | None, request: gr.Request, event: gr.EventData) -> Iterator[dict[Any, Any]]:
        """Fill the form with an example, and run it."""
        data, seat = data_of(event), workshop.seat(request)
        one = Wanted(str(data.get("model", ""))[:200], str(data.get("condition", ""))[:200])
        yield from filled(one, seat)
        yield from run(one, seat, before)

    def arrive(before: Shown | None, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Fill the form from a link, and run it."""
        query = dict(request.query_params)
        if "process" not in query:
            yield {it.line: QUIET}
            return
        one, seat = Wanted.from_query(query, workshop.names[0]), workshop.seat(request)
        yield {it.tabs: gr.Tabs(selected="process")}
        yield from filled(one, seat)
        yield from run(one, seat, before)

    def filled(one: Wanted, seat: Seat) -> Iterator[dict[Any, Any]]:
        """Wait for the model, then fill the form."""

        def finish(facts: Facts) -> dict[Any, Any]:
            numbers = {it.seed: one.seed, it.steps: one.steps, it.guidance: one.guidance, it.every: one.every}
            return {it.model: one.model} | numbers | it.condition_fields(facts, one.condition)

        yield from workshop.driven(seat, one.model, lambda ready, job: what_it_reads(ready), finish, it.line)

    def changed(name: str, request: gr.Request, event: gr.EventData) -> Iterator[dict[Any, Any]]:
        """At first, and with another model: ask for what that one reads, as soon as it is loaded."""
        arrived = event.target is not it.model
        if arrived and "process" in request.query_params:  # a link fills the form itself
            yield {it.line: QUIET}
            return

        def finish(facts: Facts) -> dict[Any, Any]:
            drawn = {"empty": NOT_DRAWN, "most": MOST_LAYERS, "note": NOTE, "chosen": []}
            known = it.facts.get(name)
            return it.condition_fields(facts, None) | {it.drawn: it.drawing(name, known, ()) if known else drawn}

        if (ready := workshop.worker(name).model) is not None:
            yield finish(what_it_reads(ready)) | {it.line: QUIET}
            return
        seat = workshop.seat(request)
        yield from workshop.driven(seat, name, lambda ready, job: what_it_reads(ready), finish, it.line)

    def draw(name: str, drawn: Any, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Draw the denoiser when somebody wants to see it."""
        if isinstance(drawn, dict) and drawn.get("model") == name:
            yield {it.line: QUIET}
            return

        def work(ready: Model, job: Job[Any]) -> Facts:
            reads = ready.features & {"words", "label"}
            some = Wanted(name, "a" if "words" in reads else label_from(what_it_reads(ready).attributes, ()) or "0")
            return it.known(name, ready, some.request(ready))

        def finish(facts: Facts) -> dict[Any, Any]:
            return {it.drawn: it.drawing(name, facts, ())}

        yield from workshop.driven(workshop.seat(request), name, work, finish, it.line)

    def told_cost(request: gr.Request, *values: Any) -> dict[str, Any]:
        """What a profile costs with these settings, or why there will be none."""
        one = it.wanted(*values)

        def work(ready: Model, job: Job[Any]) -> str:
            asked_of = one if one.condition.strip() or "words" not in ready.features else replace(one, condition="a")
            completed = asked_of.request(ready)
            options = one.options(it.known(one.model, ready, completed))
            return configured(ready, completed, find("profile"), options)[1]

        try:
            job = workshop.worker(one.model).submit(workshop.seat(request).tab, work)
        except SfumatoError as error:
            return told(str(error), wrong=True)
        if not job.wait(AT_MOST):
            job.stop()
            return told("The model is busy; the cost is told when the profile starts.")
        return told(f"Costs {job.value}.") if job.state == "done" else told(job.error, wrong=True)

    def look(now: Shown | None, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        """Maps of another step or channel."""
        if now is None:
            return {it.line: QUIET}
        data = data_of(event)
        channels = data.get("channels")
        try:
            kept = workshop.seat(request).visitor.find(now.id)
            chosen = channels if isinstance(channels, dict) else {}
            value = maps_of(kept.explanation, now.id, data.get("step"), chosen, now.part)
        except SfumatoError as error:
            return {it.line: refused(error)}
        return {it.maps: value, it.line: QUIET}

    free: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
    for started in (
        gr.on([it.go.click, it.prompt.submit], profile, [it.shown, *it.fields], results, **free),
        it.film.example(example, [it.shown], [*results, *it.fields], **free),
        page.load(arrive, [it.shown], [it.tabs, *results, *it.fields], **free),
    ):
        part_section.priced_after(started)
    it.layers.expand(draw, [it.model, it.drawn], [it.drawn, it.line], **free)
    fields = [it.prompt, it.bits, it.drawn, it.line]  # one listener for both, so that the last one to come is right
    gr.on([page.load, it.model.input], changed, [it.model], fields, trigger_mode="always_last", **free)
    priced = [tab.select, it.model.change, it.prompt.blur, it.bits.change]
    priced += [one.change for one in (it.seed, it.steps, it.guidance, it.every)]
    gr.on(priced, told_cost, it.fields, [it.cost], trigger_mode="always_last", **free)
    it.drawn.picked(told_cost, it.fields, [it.cost], trigger_mode="always_last", **free)
    it.maps.maps(look, [it.shown], [it.maps, it.line], trigger_mode="always_last", **free)


def title_of(explanation: Explanation, facts: Facts) -> str:
    """A profile in one line."""
    request = explanation.request
    said = said_condition(facts, request.prompt or str(request.label or "no prompt"))
    bits = f" ({request.label})" if facts.reads == "bits" else ""
    return f"{said}{bits} · seed {request.seed}"
