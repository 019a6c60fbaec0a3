"""Explain: a prompt becomes an image with its words, each with its map; then any method that fits the model."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sfumato.app.asking.answers import asked, made, priced_in
from sfumato.app.asking.inputs import options_from
from sfumato.app.asking.links import Asked, view_of
from sfumato.app.charts.importance import importance_bars
from sfumato.app.pieces.jobline import jobline
from sfumato.app.pieces.methods import fitting, forms, methods_form
from sfumato.app.pieces.piece import data_of
from sfumato.app.pieces.sections import NOTHING, sections_view, shown_sections
from sfumato.app.pieces.stage import axes_of, scene, stage
from sfumato.app.registry import tab
from sfumato.app.server.results import downloads
from sfumato.app.server.visitors import Kept
from sfumato.app.server.workers import Job
from sfumato.app.server.workshop import QUIET, Seat, Workshop, refused
from sfumato.errors import SfumatoError
from sfumato.methods.daam import select
from sfumato.models.model import Model
from sfumato.registry import Method, find
from sfumato.results.explanation import Explanation

HINT = "Ask more of this image (of two, the first). Each method says what it costs before it starts."
FIRST = ("shapley", "segments", "information")
"""Methods that are offered first: which words mattered, which part goes with which, and what each tells."""


class Latest:
    """The result that each tab of a browser shows now, so that late answers about another one are noticed."""

    def __init__(self, most: int = 1000) -> None:
        self._ids: OrderedDict[str, str] = OrderedDict()
        self._most = most

    def set(self, tab: str, id: str) -> None:  # noqa: A002
        """Remember what a tab shows."""
        self._ids[tab] = id
        self._ids.move_to_end(tab)
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)

    def get(self, tab: str) -> str | None:
        """What a tab shows."""
        return self._ids.get(tab)


@dataclass(frozen=True)
class Shown:
    """What the tab shows; kept for each tab of a browser.

    Attributes:
        asked: What was asked for.
        ids: Of the results on the stage.
    """

    asked: Asked
    ids: tuple[str, ...]


@tab("Explain", place=1)
def explain_tab(workshop: Workshop, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    shown = gr.State(None)
    with gr.Row(elem_classes="sf-ask"):
        prompt = gr.Textbox(
            label="What does the image show?",
            placeholder="a red circle left of a blue square",
            elem_id="prompt",
            scale=8,
            lines=1,
            max_lines=3,
            autofocus=True,
        )
        go = gr.Button("Explain", variant="primary", elem_id="explain", scale=1, min_width=130)
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        with gr.Row():
            model = gr.Dropdown(workshop.names, value=workshop.names[0], label="Model", elem_id="model", min_width=190)
            seed = gr.Textbox("0", label="Seed", elem_id="seed", min_width=110)
            steps = gr.Textbox("", label="Steps", placeholder="usual", elem_id="steps", min_width=110)
            guidance = gr.Textbox("", label="Guidance", placeholder="usual", elem_id="guidance", min_width=110)
            negative = gr.Textbox("", label="Not to be seen", placeholder="nothing", elem_id="negative", min_width=190)
        with gr.Row():
            other_prompt = gr.Textbox(
                "", label="Compare with another prompt", placeholder="none", elem_id="other-prompt", min_width=260
            )
            other_seed = gr.Textbox(
                "", label="Compare with another seed", placeholder="none", elem_id="other-seed", min_width=190
            )
    line = jobline(workshop)
    view = stage("sf-stage-explain")
    form = methods_form("", "sf-methods-explain")
    second = jobline(workshop)
    bars = gr.Plot(visible=False, show_label=False, elem_id="importance", elem_classes="sf-plot")
    found = sections_view("sf-sections-explain")
    fields = [model, prompt, seed, steps, guidance, negative, other_prompt, other_seed]
    latest = Latest()

    def run(one: Asked, seat: Seat, chosen: dict[str, Any]) -> Iterator[dict[Any, Any]]:
        """Generate and show; the last values are those of the stage and of the methods."""
        holder: list[Model] = []

        def work(ready: Model, job: Job[Any]) -> list[Explanation]:
            holder.append(ready)
            return made(ready, one.requests(ready), job)

        def finish(results: Sequence[Explanation]) -> dict[Any, Any]:
            kept = [seat.visitor.keep(result, _title(result)) for result in results]
            note = QUIET
            try:
                value = _scene(kept, one.link, chosen)
            except SfumatoError as error:  # a link may ask for a step that was not kept
                value, note = _scene(kept, one.link, {}), refused(error)
            latest.set(seat.tab, kept[0].id)
            return {
                line: note,
                second: QUIET,
                view: value,
                shown: Shown(one, tuple(each.id for each in kept)),
                form: forms(_offered(holder[0]), HINT),
                bars: gr.Plot(value=None, visible=False),
                found: NOTHING,
            }

        yield {line: {"state": "running", "text": "starting"}}
        yield from workshop.driven(seat, one.model, work, finish, line)

    def explain(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        yield from run(Asked(*(str(value or "") for value in values)), workshop.seat(request), {})

    def arrive(request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Fill the form from a link, and run it."""
        query = dict(request.query_params)
        if "prompt" not in query:
            yield {line: QUIET}
            return
        one = Asked.from_query(query, workshop.names[0])
        if one.model in workshop.names:
            yield dict(zip(fields, vars(one).values(), strict=True))
        yield from run(one, workshop.seat(request), view_of(query))

    def pick(now: Shown | None, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        """Maps of a step, a layer, a head."""
        if now is None:
            return {line: QUIET}
        data, seat = data_of(event), workshop.seat(request)
        try:
            value = _scene([seat.visitor.find(one) for one in now.ids], now.asked.link, data)
        except SfumatoError as error:
            return {line: refused(error)}
        return {view: value, line: QUIET}

    def example(event: gr.EventData) -> str:
        return str(data_of(event).get("text", ""))[:200]

    def price(now: Shown | None, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        """What a method will cost with these options."""
        if now is None:
            return {form: gr.skip()}
        data, seat = data_of(event), workshop.seat(request)
        name = str(data.get("method", ""))
        asks = now.asked
        try:
            options = options_from(find(name), dict(data.get("options", {})))
            said = priced_in(workshop, seat, asks.model, lambda ready: asks.requests(ready)[0], name, options)
        except SfumatoError as error:
            said = str(error)
        return {form: forms(_offered(workshop.model(now.asked.model)), HINT, {name: said})}

    def ask(now: Shown | None, request: gr.Request, event: gr.EventData) -> Iterator[dict[Any, Any]]:
        """Run a method on the request that is shown."""
        if now is None:
            return
        data, seat = data_of(event), workshop.seat(request)
        name, given = str(data.get("method", "")), dict(data.get("options", {}))

        def work(ready: Model, job: Job[Any]) -> Explanation:
            return asked(ready, now.asked.requests(ready)[0], name, given, job)

        def finish(result: Explanation) -> dict[Any, Any]:
            kept = seat.visitor.keep(result, f"{name}: {_title(result)}")
            if latest.get(seat.tab) != now.ids[0]:
                return {second: {"state": "stopped", "text": f"{name} of the earlier image is done; see the Library"}}
            figure = importance_bars(result)
            value = shown_sections(result, find(name).summary.partition("?")[0] + "?")
            return {
                found: value | {"links": downloads(kept.id)},
                bars: gr.Plot(value=figure, visible=figure is not None),
            }

        yield {second: {"state": "running", "text": "starting"}}
        yield from workshop.driven(seat, now.asked.model, work, finish, second)

    outputs = [view, shown, form, bars, found, line, second]
    gr.on([go.click, prompt.submit], explain, fields, outputs, show_progress="hidden", concurrency_limit=None)
    page.load(arrive, None, [*fields, *outputs], show_progress="hidden", concurrency_limit=None)
    view.example(example, None, [prompt], show_progress="hidden").then(
        explain, fields, outputs, show_progress="hidden", concurrency_limit=None
    )
    view.pick(pick, [shown], [view, line], show_progress="hidden", trigger_mode="always_last", concurrency_limit=None)
    form.price(price, [shown], [form], show_progress="hidden", trigger_mode="always_last", concurrency_limit=None)
    form.run(ask, [shown], [found, bars, second], show_progress="hidden", concurrency_limit=None)


def _offered(model: Model) -> list[Method]:
    """The methods that fit, those that most visitors look for first."""
    found = fitting(model, without=("daam",))
    return sorted(found, key=lambda method: FIRST.index(method.name) if method.name in FIRST else len(FIRST))


def _scene(kept: Sequence[Kept], link: str, view: dict[str, Any]) -> dict[str, Any]:
    """The stage with results, at the step, layer and head of a view.

    Raises:
        SfumatoError: There is no such step, layer or head.
    """
    parts = [_selected(one.explanation, view) for one in kept]
    value = scene(parts, [one.title for one in kept], key=kept[0].id, link=link, view=view)
    return value | {"axes": axes_of(kept[0].explanation)}


def _selected(explanation: Explanation, data: dict[str, Any]) -> Explanation:
    step, layer, head = data.get("step") or 0, str(data.get("layer") or ""), str(data.get("head", ""))
    wanted: dict[str, Any] = {}
    if isinstance(step, int) and step > 0:
        wanted["steps"] = [step - 1]
    if layer:
        wanted["layers"] = f"^{re.escape(layer)}$"
    if head.isdecimal():
        wanted["heads"] = [int(head)]
    return select(explanation, **wanted) if wanted else explanation


def _title(explanation: Explanation) -> str:
    request = explanation.request
    return f"{request.prompt or request.label or 'no prompt'} · seed {request.seed}"
