"""Reference: an object of one picture is painted into another; which place came from where, both ways."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from sfumato.app.asking.answers import asked
from sfumato.app.asking.correspondence import Pairs, Question
from sfumato.app.asking.garment import example, truth
from sfumato.app.asking.inputs import mask_from, picture_from, request_field, request_fields
from sfumato.app.pieces.across import across, answered
from sfumato.app.pieces.jobline import jobline
from sfumato.app.pieces.pad import drawable, mask_uri, pad
from sfumato.app.pieces.piece import data_of
from sfumato.app.pieces.price import price, told
from sfumato.app.registry import tab
from sfumato.app.server.results import downloads
from sfumato.app.server.workers import Job
from sfumato.app.server.workshop import QUIET, Workshop, refused
from sfumato.errors import RequestError, SfumatoError
from sfumato.inputs.image import Picture
from sfumato.models.model import Model
from sfumato.request import CompletedRequest, Request
from sfumato.results.explanation import Explanation

STEPS = 12
LARGEST = 512
"""Pixels of the longer side that are kept of an upload; the models read less."""
MOST_MASK = 2_000_000
"""Letters of a drawn mask; a real one has far fewer."""
GROUPS = 5
REFERENCE = {"label": "Reference: what is to be painted", "empty": "Drop a picture of an object here."}
SCENE = {"label": "Scene: where it is to go", "empty": "Drop a picture of a scene here; then draw on it."}
DRAW = "Draw where the object is to be painted."


@dataclass(frozen=True)
class Given:
    """What was given so far; kept for each tab of a browser.

    Attributes:
        reference: What is painted.
        scene: Into what.
        mask: Where, as a data URL; "" for nowhere yet.
    """

    reference: Picture | None = None
    scene: Picture | None = None
    mask: str = ""

    def check(self, features: Collection[str]) -> None:
        """Refuse what lacks something, without asking the model.

        Args:
            features: Of the model; one that is not loaded yet has none.

        Raises:
            RequestError: Something is missing.
        """
        if self.reference is None:
            raise RequestError("there is no reference; choose a picture of what is to be painted, or use the example")
        if "mask" not in features:
            return
        if self.scene is None:
            raise RequestError("there is no scene; choose a picture to paint into, or use the example")
        if not self.mask:
            raise RequestError("nothing is marked on the scene; draw where the object is to be painted")

    def request(self, model: Model, *, seed: Any, steps: Any, guidance: Any) -> CompletedRequest:
        """The request, completed by the model.

        Raises:
            RequestError: Something is missing, unreadable or out of bounds.
        """
        self.check(model.features)
        values = {"reference": self.reference} | request_fields(seed=seed, steps=steps, guidance=guidance)
        if "mask" in model.features and self.scene is not None:
            inside = mask_from(self.mask, (self.scene.height, self.scene.width))
            values |= {"image": self.scene, "mask": inside}
        return model.complete(Request(**values))


@dataclass(frozen=True)
class Painted:
    """The result that is shown, by id, and the question that it answers."""

    id: str
    question: Question


@tab("Reference", place=4)
def reference_tab(workshop: Workshop, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    given, shown = gr.State(Given()), gr.State(None)
    with gr.Row(elem_classes="sf-pads"):
        with gr.Column(min_width=260):
            thing = pad("sf-pad-reference", **REFERENCE, upload="Choose a picture")
        with gr.Column(min_width=260):
            place = pad("sf-pad-scene", **SCENE, upload="Choose a picture")
    with gr.Row(elem_classes="sf-go-row"):
        go = gr.Button("Paint it", variant="primary", elem_id="reference-paint", scale=0, min_width=150)
        sample = gr.Button("Use the example", elem_id="reference-example", scale=0, min_width=170)
    with gr.Accordion("Settings", open=False, elem_id="reference-settings"), gr.Row():
        names = _fitting(workshop)
        model = gr.Dropdown(names, value=names[0], label="Model", elem_id="reference-model", min_width=180)
        seed = gr.Textbox("0", label="Seed", elem_id="reference-seed", min_width=90)
        steps = gr.Textbox(str(STEPS), label="Steps (calls of the denoiser)", elem_id="reference-steps", min_width=140)
        guidance = gr.Textbox("", label="Guidance", placeholder="the model's own", min_width=110)
    cost = price("sf-reference-price")
    cost.value = _cost(str(STEPS))
    line = jobline(workshop)
    view = across("sf-across")
    fields = [given, model, seed, steps, guidance]

    def arrive(now: Any) -> Any:
        fit = _fitting(workshop)
        return gr.Dropdown(choices=fit, value=now if now in fit else fit[0])

    def take(now: Given, event: gr.EventData, *, scene: bool) -> dict[Any, Any]:
        """A picture that was chosen."""
        try:
            picture, note = fitted(picture_from(str(data_of(event).get("data", ""))), crop=scene)
        except SfumatoError as error:
            return {line: refused(error)}
        if scene:
            return {given: replace(now, scene=picture, mask=""), place: _scene(picture, note), line: QUIET}
        return {given: replace(now, reference=picture), thing: _reference(picture, note), line: QUIET}

    def take_reference(now: Given, event: gr.EventData) -> dict[Any, Any]:
        return take(now, event, scene=False)

    def take_scene(now: Given, event: gr.EventData) -> dict[Any, Any]:
        return take(now, event, scene=True)

    def drew(now: Given, event: gr.EventData) -> Given:
        mask = str(data_of(event).get("mask", ""))
        return replace(now, mask=mask if len(mask) <= MOST_MASK else "")

    def use() -> dict[Any, Any]:
        """The example's pictures and its mask."""
        one = example()
        reference, scene, mask = Picture.of(one.reference), Picture.of(one.scene), mask_uri(one.mask)
        return {
            given: Given(reference, scene, mask),
            thing: _reference(reference),
            place: _scene(scene, mask=mask),
        }

    def paint(
        now: Given, name: Any, number: Any, count: Any, scale: Any, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        seat = workshop.seat(request)
        known = workshop.workers[name].model if name in workshop.workers else None
        try:
            now.check(() if known is None else known.features)
        except SfumatoError as error:
            yield {line: refused(error)}
            return
        settings = {"seed": number, "steps": count, "guidance": scale}

        def work(ready: Model, job: Job[Any]) -> Explanation:
            if "reference" not in ready.features:
                raise RequestError(f"{name} reads no reference; choose another model")
            keep = ("group", "head")
            return asked(ready, now.request(ready, **settings), "i2am", {}, job, keep=keep, groups=GROUPS, budget=100.0)

        def finish(result: Explanation) -> dict[Any, Any]:
            kept = seat.visitor.keep(result, f"reference · seed {result.request.seed}")
            return _answer(Pairs(result), Question(), kept.id)

        yield {line: {"state": "running", "text": "starting"}}
        yield from workshop.driven(seat, str(name or ""), work, finish, line)

    def ask(now: Painted | None, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        """Answer about a point, from what was kept."""
        if now is None:
            return {line: QUIET}
        try:
            kept = workshop.seat(request).visitor.find(now.id)
            return _answer(Pairs(kept.explanation), Question.of(data_of(event)), now.id) | {line: QUIET}
        except SfumatoError as error:
            return {line: refused(error)}

    def _answer(pairs: Pairs, question: Question, id: str) -> dict[Any, Any]:  # noqa: A002
        value = answered(pairs, question, key=id) | {"links": downloads(id)}
        if question.side == "image" and question.x is not None and question.y is not None:
            value["truth"] = truth(pairs.explanation.request, question.x, question.y)
        return {view: value, shown: Painted(id, question)}

    slow: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
    steps.change(_cost, [steps], [cost], show_progress="hidden")
    tab.select(arrive, [model], [model], show_progress="hidden")
    thing.upload(take_reference, [given], [given, thing, line], **slow)
    place.upload(take_scene, [given], [given, place, line], **slow)
    place.drawn(drew, [given], [given], trigger_mode="always_last", **slow)
    go.click(paint, fields, [view, shown, line], **slow)
    sample.click(use, None, [given, thing, place], show_progress="hidden").then(
        paint, fields, [view, shown, line], **slow
    )
    view.ask(ask, [shown], [view, shown, line], trigger_mode="always_last", **slow)


def _cost(steps: Any) -> dict[str, Any]:
    """What painting costs, or why it cannot be asked for."""
    try:
        count = request_field("steps", steps)
    except SfumatoError as error:
        return told(str(error), wrong=True)
    calls = f"{count} denoiser calls" if count else "as many denoiser calls as the model's own steps"
    return told(f"Painting costs one generation ({calls}); asking about points afterwards costs nothing.")


def fitted(picture: Picture, *, crop: bool) -> tuple[Picture, str]:
    """A picture as the models take it: a square of moderate size, and what was done to it, in words.

    Args:
        picture: As it was given.
        crop: Cut off what is too long, as for a scene; else add to what is too short, so that nothing is lost.
    """
    image, note = picture.image, ""
    if image.width != image.height:
        short, long = sorted(image.size)
        if crop:
            left, upper = (image.width - short) // 2, (image.height - short) // 2
            image, note = image.crop((left, upper, left + short, upper + short)), "Cut to a square in the middle. "
        else:
            ground = tuple(int(one) for one in np.median(_edge(np.asarray(image)), axis=0))
            wider = Image.new("RGB", (long, long), ground)
            wider.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
            image, note = wider, "Made a square by adding to its sides. "
    if image.width > LARGEST:
        image = image.resize((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return Picture.of(image), note


def _edge(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _reference(picture: Picture, note: str = "") -> Mapping[str, Any]:
    label = REFERENCE["label"]
    return drawable(picture.image, "still", label=label, alt="The reference", hint=note, upload="Choose another")


def _scene(picture: Picture, note: str = "", *, mask: str = "") -> Mapping[str, Any]:
    return drawable(
        picture.image,
        "mask",
        label=SCENE["label"],
        alt="The scene",
        hint=note + DRAW,
        upload="Choose another",
        mask=mask,
    )


def _fitting(workshop: Workshop) -> list[str]:
    """The models that read a reference, as far as that is known; all where none does."""
    known = {name: worker.model for name, worker in workshop.workers.items()}
    fit = [name for name, model in known.items() if model is not None and "reference" in model.features]
    fit += [name for name, model in known.items() if model is None and name not in fit]
    return sorted(fit, key=lambda name: "insert" not in name) or workshop.names
