"""Steps: what single steps of a run recover, which places and words they go by, and whether the maps can be trusted."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sfumato.app.asking.links import Asked
from sfumato.app.asking.step_requests import LINKED, START, STEPS, StepsAsked, askable, fits, steps_of, timesteps
from sfumato.app.asking.step_results import MEASURES, areas, games_cost, games_of, looked, panes_of, sentence
from sfumato.app.charts.steps import game_charts, relevance_chart
from sfumato.app.pieces.jobline import jobline
from sfumato.app.pieces.piece import data_of
from sfumato.app.pieces.price import price, told
from sfumato.app.pieces.reading import SILENT, reading, said
from sfumato.app.pieces.stepform import KINDS, formed, stepform
from sfumato.app.pieces.stepmaps import label_of, laid_out, stepmaps
from sfumato.app.registry import tab
from sfumato.app.server.results import downloads
from sfumato.app.server.workers import Job
from sfumato.app.server.workshop import QUIET, Seat, Workshop, refused
from sfumato.errors import SfumatoError
from sfumato.judging.judge import Verdict
from sfumato.models.model import Model
from sfumato.results.explanation import Explanation

AT_MOST = 6.0
"""Seconds that drawings and costs may be waited for."""
WORDS = ("What does the image show?", "a red circle left of a blue square")
LABEL = ("Which label does the image have?", "0011")
NO_PLOT = gr.Plot(value=None, visible=False)
AID = (
    "How to read it: the higher a line, the more of what the step made went by this word; dotted uprights are the "
    "steps shown above. Click a word in the legend to show or hide its line."
)
GAMES_AID = (
    "How to read it: a map that knows which places matter makes the image change soon when its places are taken away "
    "(deletion, upper curve is better), and come back soon when they are given back (insertion, lower curve is better)."
)


@dataclass(frozen=True)
class Looked:
    """What the tab shows.

    Attributes:
        asked: What was asked for.
        ids: Of the results, one for each schedule.
    """

    asked: StepsAsked
    ids: tuple[str, ...]


@tab("Steps", place=3)
def steps_tab(workshop: Workshop, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    shown = gr.State(None)
    tabs: Any = tab.parent
    with gr.Row(elem_classes="sf-ask"):
        prompt = gr.Textbox(
            label=WORDS[0],
            placeholder=WORDS[1],
            elem_id="steps-prompt",
            scale=8,
            lines=1,
            max_lines=3,
        )
        go = gr.Button("Look", variant="primary", elem_id="steps-look", scale=1, min_width=130)
    with gr.Accordion("Steps, schedule and questions", open=False, elem_id="steps-settings"):
        with gr.Row():
            model = gr.Dropdown(
                workshop.names, value=_first(workshop), label="Model", elem_id="steps-model", min_width=180
            )
            seed = gr.Textbox("0", label="Seed", elem_id="steps-seed", min_width=90)
            steps = gr.Textbox(str(STEPS), label="Steps of the run", elem_id="steps-count", min_width=110)
        form = stepform("sf-stepform")
    cost = price("sf-steps-price")
    line = jobline(workshop)
    view = stepmaps("sf-stepmaps")
    second = jobline(workshop)
    verdict = reading("sf-verdict")
    with gr.Row(elem_classes="sf-plots"):
        deletion = gr.Plot(
            visible=False, show_label=False, elem_id="steps-deletion", elem_classes="sf-plot", min_width=320
        )
        insertion = gr.Plot(
            visible=False, show_label=False, elem_id="steps-insertion", elem_classes="sf-plot", min_width=320
        )
    words = reading("sf-relevance")
    curves = gr.Plot(visible=False, show_label=False, elem_id="steps-relevance", elem_classes="sf-plot")
    fields = [model, prompt, seed, steps, form]
    first = StepsAsked.of(Asked(_first(workshop), steps=str(STEPS)), START)
    form.value = formed(timesteps(None, first, STEPS), STEPS) | {"chosen": START}

    def read(name: Any, text: Any, number: Any, count: Any, chosen: Any) -> StepsAsked:
        base = Asked(
            str(name or ""), prompt=str(text or ""), seed=str(number or ""), steps=str(count or "") or str(STEPS)
        )
        return StepsAsked.of(base, chosen.get("chosen") if isinstance(chosen, dict) else None)

    def redraw(request: gr.Request, *values: Any) -> dict[Any, Any]:
        shape, said_cost = described(workshop, workshop.seat(request), read(*values), values[-1])
        return {form: shape, cost: said_cost}

    def arrive(request: gr.Request, *values: Any) -> dict[Any, Any]:
        names = [name for name in workshop.names if _maybe(workshop, name)] or workshop.names
        chosen = values[0] if values[0] in names else names[0]
        shape, said_cost = described(workshop, workshop.seat(request), read(chosen, *values[1:]), values[-1])
        offered = gr.Dropdown(choices=names) if values[0] in names else gr.Dropdown(choices=names, value=chosen)
        return {model: offered, form: shape, cost: said_cost}

    def wanted(name: Any) -> Any:
        """What the model is told: words or a label."""
        found = workshop.workers[name].model if name in workshop.workers else None
        if found is None or "words" in found.features:
            return gr.Textbox(label=WORDS[0], placeholder=WORDS[1])
        return gr.Textbox(label=LABEL[0], placeholder=LABEL[1])

    def look(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        yield from run(read(*values), workshop.seat(request))

    def follow(request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Fill the form from a link, and run it."""
        query = dict(request.query_params)
        if LINKED not in query:
            yield {line: QUIET}
            return
        asked, seat = StepsAsked.from_query(query, _first(workshop)), workshop.seat(request)
        yield {tabs: gr.Tabs(selected="steps"), line: {"state": "running", "text": "starting"}}
        shape, said_cost = described(workshop, seat, asked, {"chosen": asked.chosen})
        yield {
            model: asked.base.model if asked.base.model in workshop.names else _first(workshop),
            prompt: asked.base.prompt,
            seed: asked.base.seed,
            steps: asked.base.steps,
            form: shape | {"reset": secrets.token_hex(4)},
            cost: said_cost,
        }
        yield from run(asked, seat)

    def run(asked: StepsAsked, seat: Seat) -> Iterator[dict[Any, Any]]:
        """Look at the steps and show them."""
        costs: list[str] = []

        def work(ready: Model, job: Job[Any]) -> list[Explanation]:
            found = looked(ready, asked, job)
            costs.extend(
                (
                    games_cost(ready, ready.complete(found[0].request)),
                    f"{asked.said(askable(ready))}. Costs {job.cost}.",
                )
            )
            return found

        def finish(results: Sequence[Explanation]) -> dict[Any, Any]:
            titles = [_titled(kind, asked) for kind in asked.kinds]
            kept = [
                seat.visitor.keep(
                    one, f"steps, {kind}: {one.request.prompt or one.request.label} · seed {one.request.seed}"
                )
                for kind, one in zip(asked.kinds, results, strict=True)
            ]
            figure = relevance_chart(results, asked.kinds, asked.at)
            return {
                view: laid_out(panes_of(results), titles, [one.image for one in results], key=kept[0].id, cost=costs[0])
                | {"link": asked.link, "links": [downloads(one.id) for one in kept]},
                shown: Looked(asked, tuple(one.id for one in kept)),
                cost: told(costs[1]),
                words: said("Which words led when?", aid=AID) if figure is not None else SILENT,
                curves: gr.Plot(value=figure, visible=figure is not None),
                verdict: SILENT,
                deletion: NO_PLOT,
                insertion: NO_PLOT,
            }

        yield {line: {"state": "running", "text": "starting"}}
        yield from workshop.driven(seat, asked.base.model, work, finish, line)

    def example(event: gr.EventData) -> str:
        return str(data_of(event).get("text", ""))[:200]

    def check(now: Looked | None, request: gr.Request, event: gr.EventData) -> Iterator[dict[Any, Any]]:
        if now is None:
            return
        data, seat = data_of(event), workshop.seat(request)
        try:
            explanation = seat.visitor.find(now.ids[_whole(data.get("pane"), len(now.ids))]).explanation
        except SfumatoError as error:
            yield {second: refused(error)}
            return
        name, measure, step = str(data.get("map", "")), str(data.get("measure", "")), data.get("step")
        step = step if type(step) is int else -1

        def work(ready: Model, job: Job[Any]) -> Verdict:
            return games_of(ready, explanation, name, step, measure, job)

        def finish(result: Verdict) -> dict[Any, Any]:
            label = label_of(name)
            figures = game_charts(result, label, MEASURES[measure])
            found = areas(result)
            head = ["area under the curve", *[row["game"] + (" ↑" if row["higher"] else " ↓") for row in found]]
            rows = [
                [label if own == name else f"{own} (control)", *[f"{row['areas'][own]:.3f}" for row in found]]
                for own in found[0]["areas"]
            ]
            aid = f"{GAMES_AID} Distances are by {MEASURES[measure]}."
            return {
                verdict: said("Does the result change where the map says?", sentence(result, label), aid, head, rows),
                deletion: gr.Plot(value=figures["deletion"], visible=True),
                insertion: gr.Plot(value=figures["insertion"], visible=True),
            }

        yield {second: {"state": "running", "text": "starting"}}
        yield from workshop.driven(seat, now.asked.base.model, work, finish, second)

    outputs = [view, shown, cost, words, curves, verdict, deletion, insertion, line]
    quick: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "concurrency_limit": None}
    gr.on([form.change, model.change, steps.change, prompt.blur], redraw, fields, [form, cost], **quick)
    model.change(wanted, [model], [prompt], show_progress="hidden")
    tab.select(arrive, fields, [model, form, cost], **quick)
    slow: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
    gr.on([go.click, prompt.submit], look, fields, outputs, **slow)
    page.load(follow, None, [tabs, *fields, *outputs], **slow)
    view.example(example, None, [prompt], show_progress="hidden").then(look, fields, outputs, **slow)
    view.check(check, [shown], [verdict, deletion, insertion, second], **slow)


def described(workshop: Workshop, seat: Seat, asked: StepsAsked, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The form with its drawings, and the cost; where the model is busy, with even distances and without the cost."""
    chosen = {"chosen": value["chosen"]} if isinstance(value, dict) and "chosen" in value else {"chosen": START}
    try:
        count = steps_of(asked.base.steps)
    except SfumatoError as error:
        return formed(timesteps(None, asked, STEPS), STEPS) | chosen, told(str(error), wrong=True)

    def work(ready: Model, job: Job[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        fit = fits(ready)
        shown = formed(timesteps(ready if fit else None, asked, count), count, askable(ready) if fit else [])
        if fit and not asked.base.prompt.strip():
            return shown, told()
        try:
            return shown, told(f"{asked.said(askable(ready))}. Costs {asked.cost(ready)}.")
        except SfumatoError as error:
            return shown, told(str(error), wrong=True)

    drawn = formed(timesteps(None, asked, count), count)
    try:
        for kind in asked.kinds:
            asked.written(kind)
        job = workshop.worker(asked.base.model).submit(seat.tab, work)
    except SfumatoError as error:
        return drawn | chosen, told(str(error), wrong=True)
    if not job.wait(AT_MOST):
        job.stop()
        return drawn | chosen, told(f"{asked.said()}. The model is busy; the cost is told when it starts.")
    if job.state != "done":
        return drawn | chosen, told(job.error, wrong=True)
    return job.value[0] | chosen, job.value[1]


def _first(workshop: Workshop) -> str:
    return workshop.names[0]


def _maybe(workshop: Workshop, name: str) -> bool:
    """Whether a model fits, or is not known yet."""
    found = workshop.workers[name].model
    return found is None or fits(found)


def _titled(kind: str, asked: StepsAsked) -> str:
    label = KINDS[kind][0]
    return f"{label}, t = {asked.high} to {asked.low}" if kind == "window" else label


def _whole(value: Any, below: int) -> int:
    return value if type(value) is int and 0 <= value < below else 0
