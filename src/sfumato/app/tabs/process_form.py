"""What the sections of the tab Process share: its form, the views of a profile, and what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from sfumato.app.asking.profiles import MOST_LAYERS, Facts, Part, Wanted, facts_of, label_from, names_of, what_it_reads
from sfumato.app.pieces.film import film
from sfumato.app.pieces.jobline import jobline
from sfumato.app.pieces.maps import NOTHING, maps_view, shown_maps
from sfumato.app.pieces.price import price
from sfumato.app.pieces.schematic import picked, schematic
from sfumato.app.server.visitors import Kept
from sfumato.app.server.workshop import Seat, Workshop
from sfumato.errors import SfumatoError
from sfumato.models.model import Model
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation

EXAMPLES = (
    ("studio/faces", "0011", "a face: smile and lipstick"),
    ("studio/scenes", "a red circle left of a blue square", "a red circle left of a blue square"),
    ("studio/faces", "0100", "a face: male"),
)
NOTE = f"Nothing is picked: some attention layers are shown. At most {MOST_LAYERS} can be picked."
QUESTION = {
    "words": "What does the image show?",
    "bits": "What does the image have?",
    "label": "Which label does the image have?",
    "nothing": "This model reads nothing: it makes an image of noise alone",
}


@dataclass(frozen=True)
class Shown:
    """What the tab shows; kept for each tab of a browser.

    Attributes:
        wanted: The profile that was asked for.
        facts: Of its model.
        id: Of the profile.
        title: Of the profile.
        part: Of the image, where one is chosen.
    """

    wanted: Wanted
    facts: Facts
    id: str
    title: str
    part: Part | None = None


class Section(Protocol):
    """A question about the profile that is shown, with components of its own."""

    outputs: Any

    def fresh(self, now: Shown, kept: Kept, seat: Seat) -> dict[Any, Any]:
        """Values of its components for a new profile."""
        ...


class Process:
    """The components that sections of the tab share.

    Args:
        workshop: The models.
        tab: The tab itself.
    """

    def __init__(self, workshop: Workshop, tab: gr.Tab) -> None:
        self.workshop = workshop
        self.tabs: Any = tab.parent
        self.facts: dict[str, Facts] = {}
        self.shown = gr.State(None)
        names = workshop.names
        with gr.Row(elem_classes="sf-ask sf-ask-process"):
            self.prompt = gr.Textbox(
                label=QUESTION["words"],
                placeholder="a red circle left of a blue square",
                elem_id="process-prompt",
                scale=8,
                lines=1,
                max_lines=3,
            )
            self.bits = gr.CheckboxGroup([], label=QUESTION["bits"], visible=False, elem_id="process-bits", scale=8)
            self.go = gr.Button("Profile it", variant="primary", elem_id="profile", scale=1, min_width=130)
        with gr.Accordion("Settings", open=False, elem_id="process-settings"), gr.Row():
            self.model = gr.Dropdown(names, value=names[0], label="Model", elem_id="process-model", min_width=180)
            self.seed = gr.Textbox("0", label="Seed", elem_id="process-seed", min_width=90)
            self.steps = _number("Steps", "process-steps")
            self.guidance = _number("Guidance", "process-guidance")
            self.every = gr.Textbox(
                "", label="Keep every so many steps", placeholder="about ten", elem_id="process-every", min_width=150
            )
        with gr.Accordion("Layers to look into", open=False, elem_id="process-layers") as self.layers:
            self.drawn = schematic("sf-schematic", most=MOST_LAYERS, note=NOTE)
        self.cost = price("sf-process-cost")
        self.line = jobline(workshop)
        offered = [{"model": m, "condition": c, "text": t} for m, c, t in EXAMPLES if m in names]
        self.film = film("sf-film", offered)
        self.maps = maps_view("sf-maps")
        with gr.Row(elem_classes="sf-charts"):
            self.trajectory = plot("process-trajectory")
            self.distances = plot("process-distances")
        self.fields = [self.model, self.prompt, self.bits, self.seed, self.steps, self.guidance, self.every, self.drawn]

    def wanted(
        self, model: str, prompt: str, bits: Sequence[str], seed: str, steps: str, guidance: str, every: str, drawn: Any
    ) -> Wanted:
        """What the form asks for."""
        attributes = self.attributes(model)
        condition = label_from(attributes, bits or ()) if attributes else str(prompt or "")
        return Wanted(
            model=str(model),
            condition=condition,
            seed=str(seed or ""),
            steps=str(steps or ""),
            guidance=str(guidance or ""),
            every=str(every or ""),
            layers=picked(drawn) if isinstance(drawn, dict) and drawn.get("model") == model else (),
        )

    def attributes(self, model: str) -> tuple[str, ...]:
        """The bits of a model's labels, where it has any and is loaded."""
        try:
            return what_it_reads(self.workshop.model(model)).attributes
        except SfumatoError:
            return ()

    def known(self, name: str, model: Model, request: CompletedRequest) -> Facts:
        """Facts of a model, found once; runs in its worker."""
        if name not in self.facts:
            self.facts[name] = facts_of(model, request)
        return self.facts[name]

    def condition_fields(self, facts: Facts, condition: str | None) -> dict[Any, Any]:
        """The fields of the form that fit what a model reads."""
        bits = facts.reads == "bits"
        shown = gr.Textbox(visible=not bits, label=QUESTION[facts.reads], interactive=facts.reads != "nothing")
        toggles = gr.CheckboxGroup(choices=list(facts.attributes), visible=bits, label=QUESTION["bits"])
        if condition is None:
            return {self.prompt: shown, self.bits: toggles}
        on = names_of(facts.attributes, condition) if bits else []
        text = "" if bits else condition
        return {
            self.prompt: gr.Textbox(
                value=text, visible=not bits, label=QUESTION[facts.reads], interactive=facts.reads != "nothing"
            ),
            self.bits: gr.CheckboxGroup(choices=list(facts.attributes), value=on, visible=bits, label=QUESTION["bits"]),
        }

    def drawing(self, model: str, facts: Facts, chosen: Sequence[str]) -> dict[str, Any]:
        """The schematic of a model with layers picked."""
        known = {layer.name for layer in facts.layers}
        kept = [name for name in chosen if name in known]
        return facts.schematic | {"model": model, "most": MOST_LAYERS, "note": NOTE, "chosen": kept}


def kept_steps(explanation: Explanation) -> int:
    """How many steps a profile kept, without the finished image."""
    return int(explanation.tree["samples"].sizes["step"]) - 1


def maps_of(
    explanation: Explanation, key: str, step: Any, channels: dict[str, Any], part: Part | None
) -> dict[str, Any]:
    """Maps of the layers of a profile; nothing where it kept none."""
    if "activations" not in explanation.tree.children:
        return dict(NOTHING)
    return shown_maps(explanation, "activations", key=key, step=step, channels=channels, part=part)


def _number(label: str, elem_id: str) -> gr.Textbox:
    return gr.Textbox("", label=label, placeholder="the model's own", elem_id=elem_id, min_width=110)


def plot(elem_id: str) -> gr.Plot:
    """A chart, not there at first."""
    return gr.Plot(visible=False, show_label=False, elem_id=elem_id, elem_classes="sf-plot", min_width=320)
