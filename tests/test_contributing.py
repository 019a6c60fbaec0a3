"""What CONTRIBUTING.md shows as whole examples are whole: each registers, runs, and is at most 40 lines."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato import registry
from sfumato.judging.maps import saliencies
from sfumato.metrics import find_metric, metrics
from sfumato.metrics import registry as of_metrics
from sfumato.models.model import Model
from sfumato.runs import task
from sfumato.tasks.word_localisation import WordLocalisationOptions
from tests.test_documentation import ROOT, blocks


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.methods()
    metrics()
    task.tasks()
    for own in (registry._methods, of_metrics._metrics, task._tasks):
        monkeypatch.setattr(own, "_entries", dict(own._entries))


@pytest.fixture(scope="module")
def scenes() -> Model:
    return sfumato.load("studio/scenes", device="cpu")


def registered(mark: str) -> None:
    """Run the example that holds this decorator."""
    (text,) = (block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if f"\n@{mark}(" in block)
    assert len(text.splitlines()) <= 40
    exec(compile(text, "CONTRIBUTING.md", "exec", dont_inherit=True), {"__name__": "example"})


def test_a_metric() -> None:
    registered("metric")
    own, half = find_metric("energy inside").function, np.arange(64).reshape(8, 8) % 8 < 4
    assert own(half.astype(float), half) == 1
    assert own((~half).astype(float), half) == 0
    assert own(np.ones((4, 4)), half) == pytest.approx(0.5)
    peak, ring = np.zeros((8, 8)), np.ones((64, 64), bool)
    peak[4, 4], ring[30:42, 30:42] = 1, False
    assert 0 <= own(peak, ring) <= 1
    assert math.isnan(own(np.ones((8, 8)), np.zeros((8, 8))))
    assert "energy inside" in WordLocalisationOptions().metrics


def test_a_method(scenes: Model) -> None:
    registered("method")
    made = sfumato.explain(scenes, sfumato.Request("a red circle", steps=1, images=2), "contrast", window=3)
    found = made.tree["contrast"]["heat"]
    assert found.dims == ("image", "y", "x")
    grey = np.asarray(made.images[1].convert("L"), np.float64)
    assert found.values[1, 5, 7] == pytest.approx(grey[4:7, 6:9].std(), rel=1e-5)
    (map_,) = saliencies(sfumato.explain(scenes, sfumato.Request("a red circle", steps=1), "contrast"))
    assert map_.maps.shape == (1, 128, 128)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_tab(scenes: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    page = pytest.importorskip("sfumato.app.page", reason="the extra app is not installed")
    from sfumato.app import registry as of_tabs
    from sfumato.app.server.workshop import Workshop

    of_tabs.tabs()
    monkeypatch.setattr(of_tabs._tabs, "_entries", dict(of_tabs._tabs._entries))
    registered("tab")
    names = [one.name for one in of_tabs.tabs()]
    assert names.index("Runs") < names.index("Brightness")
    workshop = Workshop({"scenes": lambda: scenes})
    try:
        blocks = page.page(workshop)
        (button,) = (one for one in blocks.blocks.values() if getattr(one, "value", None) == "Measure")
        (measure,) = (one.fn for one in blocks.fns.values() if (button._id, "click") in one.targets)
        *_, last = measure("scenes", "a red circle", None)
    finally:
        workshop.close()
    del blocks, button, measure
    gc.collect()  # Gradio leaves event loops open, which is no matter of another test
    grey = np.asarray(sfumato.explain(scenes, sfumato.Request("a red circle")).image.convert("L"))
    assert list(last.values())[-1] == pytest.approx(grey.mean() / 255)


def test_a_question(scenes: Model, tmp_path: Path) -> None:
    registered("task")
    given: dict[str, Any] = {"common": {"steps": 1}, "above": 0.25}
    run = sfumato.run("brightness", scenes, out=tmp_path / "run", prompts=3, **given)
    assert run.counts.ok == 3
    (row,) = run.finding["rows"]
    assert row["bright"]["n"] == 3
    assert row["bright"]["value"] == pytest.approx(run.items["bright"].mean())
    assert sfumato.run("brightness", scenes, out=tmp_path / "run", prompts=3, **given).counts.ok == 3
