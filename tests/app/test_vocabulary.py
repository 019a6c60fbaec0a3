"""Words that the model never learned are named on the page, wherever words are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from sfumato.app.asking.step_results import panes_of
from sfumato.app.pieces.film import frames
from sfumato.app.pieces.sections import shown_sections
from sfumato.app.pieces.stage import scene
from sfumato.app.pieces.stepmaps import laid_out
from tests.app.driving import explain
from tests.results import synthetic

NOTE = "never seen in training: circle, <b>\u202e"
SHOWN = "never seen in training: circle, <b>[U+202E]"
"""Text that a visitor wrote, as it is sent to a script, which sets it as text."""


def explanation() -> Any:
    samples = xr.Dataset(
        {"picture": (("step", "y", "x", "channel"), np.zeros((2, 8, 8, 3), np.uint8))},
        coords={"step": [0, 1], "timestep": ("step", [500.0, 0.0])},
    )
    made = synthetic.explanation("red circle", unknown=["circle"], more={"samples": samples})
    made.provenance["notes"] = [NOTE]
    return made


def test_the_stage_names_them_and_marks_the_word() -> None:
    (pane,) = scene([explanation()], ["title"], key="k", link="")["panes"]
    assert pane["notes"] == [SHOWN]
    red, circle = pane["words"]
    assert (red["note"], red["caveat"]) == ("", "")
    assert circle["note"] == "out of vocabulary"
    assert "never trained on this word" in circle["caveat"]
    assert circle["map"] is not None  # there is a map, and it must not be taken for a finding


def test_two_images_have_notes_of_their_own() -> None:
    value = scene([explanation(), synthetic.explanation("red")], ["one", "other"], key="k", link="")
    assert [pane["notes"] for pane in value["panes"]] == [[SHOWN], []]


def test_the_parts_of_a_method_the_film_and_the_steps_name_them() -> None:
    made = explanation()
    assert shown_sections(made)["notes"] == [SHOWN]
    assert frames(made, key="k", title="t", link="", links=[])["notes"] == [SHOWN]
    steps = laid_out(panes_of([made]), ["title"], [made.image], key="k", cost="")
    assert steps["panes"][0]["notes"] == [SHOWN]


def test_the_stage_has_the_unit_of_the_maps() -> None:
    node = synthetic.word_node(["red"])
    node.attrs["unit"] = "nats per position"
    made = synthetic.explanation("red", tokens=False, more={"words": node})
    assert scene([made], ["title"], key="k", link="")["panes"][0]["unit"] == "nats per position"


def test_the_page_says_so(browser_page: Any, pictured: Callable[..., None]) -> None:
    page = browser_page
    explain(page, "an astronaut riding a horse on the moon", steps=4)
    notes = page.inner_text("#sf-stage-explain .sf-notes")
    assert notes.startswith("never seen in training: ")
    assert {"astronaut", "horse", "moon"} <= set(notes.partition(": ")[2].split(", "))
    assert "Out of vocabulary: the model was never trained on this word" in page.inner_text(
        "#sf-stage-explain .sf-readout"
    )
    assert page.locator("button[data-word=horse] small").inner_text() == "out of vocabulary"
    pictured(page, "out-of-vocabulary")
