"""What a visitor asked for, as the form has it and as a link says it, and as requests once it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlencode

from sfumato.app.asking.inputs import MOST_TEXT, request_field, request_fields
from sfumato.errors import RequestError
from sfumato.models.model import Model
from sfumato.request import CompletedRequest, Request


@dataclass(frozen=True)
class Asked:
    """One request, or two that are compared, as text of a form.

    Attributes:
        model: Name on the page.
        prompt: What the image shows; the label, for models of labels.
        seed: Of the image.
        steps: Left empty: the model's own.
        guidance: Likewise.
        negative: What the image must not show.
        other_prompt: To compare with; empty for none.
        other_seed: To compare with; empty for none.
    """

    model: str
    prompt: str = ""
    seed: str = "0"
    steps: str = ""
    guidance: str = ""
    negative: str = ""
    other_prompt: str = ""
    other_seed: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str], model: str) -> Asked:
        """What a link asks for; what it does not say is as in an empty form."""
        given = {one.name: str(query[one.name])[:MOST_TEXT] for one in fields(cls) if one.name in query}
        return cls(**({"model": model} | given))

    @property
    def link(self) -> str:
        """The query string that says the same."""
        said = {
            name: str(value)
            for name, value in vars(self).items()
            if str(value) != "" and (name, value) != ("seed", "0")
        }
        return urlencode(said)

    def requests(self, model: Model) -> list[CompletedRequest]:
        """One request, or two to compare, completed by the model.

        Raises:
            RequestError: A field cannot be read, or is out of bounds; or there is nothing to make.
        """
        text = self.prompt.strip()
        for name, value in (("prompt", text), ("negative prompt", self.negative), ("other prompt", self.other_prompt)):
            if len(value) > MOST_TEXT:
                raise RequestError(f"the {name} has {len(value)} characters; at most {MOST_TEXT} are taken")
        if not text:
            raise RequestError(f"the prompt is empty; write {_wanted(model)}")
        common = request_fields(seed=self.seed, steps=self.steps, guidance=self.guidance)
        if self.negative.strip():
            common["negative_prompt"] = self.negative.strip()
        first = _request(model, text, common)
        other_seed = request_field("seed", self.other_seed, "the other seed")
        other_text = self.other_prompt.strip()
        if other_seed is None and not other_text:
            return [model.complete(first)]
        seed = common["seed"] if other_seed is None else other_seed
        second = _request(model, other_text or text, common | {"seed": seed})
        return [model.complete(first), model.complete(second)]


def view_of(query: Mapping[str, str]) -> dict[str, Any]:
    """What a link says of the view: word, sliders, and which step, layer and head. What cannot be read is left out."""
    found: dict[str, Any] = {}
    if query.get("word"):
        found["word"] = str(query["word"])[:200]
    for name in ("opacity", "threshold"):
        try:
            found[name] = min(1.0, max(0.0, float(query[name])))
        except (KeyError, ValueError):
            continue
    if query.get("together") == "true":
        found["together"] = True
    if query.get("at_step", "").isdecimal():
        found["step"] = int(query["at_step"][:6])
    for name in ("layer", "head"):
        if query.get(name):
            found[name] = str(query[name])[:200]
    return found


def _request(model: Model, text: str, common: Mapping[str, Any]) -> Request:
    return Request("", label=text, **common) if "words" not in model.features else Request(text, **common)


def _wanted(model: Model) -> str:
    if "words" in model.features:
        return "what the image shows, such as: a red circle"
    return "a label, such as 0011" if "label" in model.features else "anything; this model reads nothing"
