"""``sfumato methods`` and ``sfumato models``."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from sfumato.registry import find
from sfumato.registry import methods as registered
from tests.cli.running import run


def test_every_method_is_listed_with_its_question() -> None:
    shown = run("methods")
    assert shown.code == 0
    for method in registered():
        assert method.name in shown.out
        assert method.summary.split("?")[0] in " ".join(shown.out.split())


def test_methods_as_json() -> None:
    found = json.loads(run("methods", "--json").out)
    assert [method["name"] for method in found] == [method.name for method in registered()]


def test_a_method_shows_its_options_with_their_defaults_and_help() -> None:
    daam = find("daam")
    shown = " ".join(run("methods", "daam").out.split())
    for option in fields(daam.options):
        assert option.name in shown
    assert daam.paper in shown
    listed = {row["name"]: row for row in json.loads(run("methods", "daam", "--json").out)["options"]}
    assert listed["budget_mb"]["default"] == 256
    assert listed["keep"] == {
        "name": "keep",
        "default": [],
        "expected": "step or layer or head (several with commas between)",
        "help": "axes of the maps to keep for later selection: step, layer, head",
    }


def test_a_method_says_what_it_needs_of_a_model() -> None:
    assert "needs a model with: replay, words or label or reference" in run("methods", "information").out
    assert "needs a model with: nothing in particular" in run("methods", "lime_image").out
    assert json.loads(run("methods", "switch", "--json").out)["needs"] == ["replay", "words or label"]


def test_an_unknown_method_names_the_known_ones() -> None:
    assert run("methods", "magic").error == "error: there is no method 'magic'; choose from: " + ", ".join(
        method.name for method in registered()
    )


CARD = """---
license: apache-2.0
---
# studio/scenes

A small model of scenes: shapes and
colours. It ships inside.

## Measured
| what | measured |
| --- | --- |
| objects right | 91.3% |
| retrieval top-1 | 95.0% [90.0%, 99.0%] (n = 120, aim 95%) |

## Limits
| none | of these |
"""


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of embedded models that holds one."""
    folder = tmp_path / "scenes"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "weights.safetensors").write_bytes(bytes(2_000_000))
    monkeypatch.setattr("sfumato.models.loading.STUDIO", tmp_path)
    return folder


def test_a_model_is_shown_with_its_size_steps_and_quality(weights: Path) -> None:
    (weights / "README.md").write_text(CARD)
    (weights / "sfumato.json").write_text(json.dumps({"defaults": {"steps": 20}}))
    assert json.loads(run("models", "--json").out) == [
        {
            "name": "studio/scenes",
            "about": "A small model of scenes: shapes and colours.",
            "measured": {"objects right": "91.3%", "retrieval top-1": "95.0% [90.0%, 99.0%] (n = 120, aim 95%)"},
            "steps": 20,
            "megabytes": 2.0,
        }
    ]
    lines = run("models").out.splitlines()
    assert lines[:3] == [
        "studio/scenes: A small model of scenes: shapes and colours.",
        "2.0 MB on disk, 20 steps by default",
        "measured: objects right 91.3%, retrieval top-1 95.0%",
    ]


def test_a_model_without_a_card_is_shown_all_the_same(weights: Path) -> None:
    assert run("models").out.splitlines()[:2] == ["studio/scenes", "2.0 MB on disk, 50 steps by default"]


def test_an_installation_without_models_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.models.loading.STUDIO", tmp_path)
    shown = run("models")
    assert (shown.code, shown.out) == (0, "")
    assert "sfumato train scenes" in shown.err
    assert json.loads(run("models", "--json").out) == []
