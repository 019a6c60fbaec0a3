"""What a visitor keeps, and that nobody else can have it."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sfumato.app.server import visitors
from sfumato.app.server.visitors import Gone, Visitors
from sfumato.errors import SfumatoError
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.images import image_node


def explanation(side: int = 8) -> Explanation:
    pixels = np.zeros((1, side, side, 3), np.uint8)
    return Explanation(xr.DataTree.from_dict({"/image": image_node(pixels, [0])}), Request("a circle"), {})


def test_a_result_is_found_by_its_id_and_by_nobody_else() -> None:
    everybody = Visitors()
    one, other = everybody.of("one"), everybody.of("other")
    kept = one.keep(explanation(), "a circle")
    assert one.find(kept.id) is kept
    assert everybody.of("one").find(kept.id) is kept
    with pytest.raises(Gone, match="no longer kept"):
        other.find(kept.id)
    with pytest.raises(Gone):
        one.find("another")
    assert len(kept.id) >= 20


def test_the_oldest_results_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "MOST_RESULTS", 3)
    visitor = Visitors().of("one")
    kept = [visitor.keep(explanation(), str(number)) for number in range(4)]
    assert [one.title for one in visitor.results()] == ["3", "2", "1"]
    with pytest.raises(Gone):
        visitor.find(kept[0].id)


def test_what_was_looked_at_lately_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "MOST_RESULTS", 2)
    visitor = Visitors().of("one")
    first, second = (visitor.keep(explanation(), name) for name in "ab")
    visitor.find(first.id)
    visitor.keep(explanation(), "c")
    assert visitor.find(first.id) is first
    with pytest.raises(Gone):
        visitor.find(second.id)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "MOST_BYTES", 30_000)
    visitor = Visitors().of("one")
    for _ in range(10):
        visitor.keep(explanation(64), "12 kB")
    assert sum(one.size for one in visitor.results()) <= 30_000
    with pytest.raises(SfumatoError, match="takes 0.0492 MB, a visitor may keep 0.03 MB; ask for less"):
        visitor.keep(explanation(128), "49 kB")


def test_copies_of_saved_results_are_found_again_and_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "MOST_RESULTS", 3)
    everybody = Visitors()
    visitor = everybody.of("one")
    assert visitor.copy("a") is None
    first = visitor.keep(explanation(), "made here")
    copy = visitor.keep(explanation(), "saved", source="a")
    assert visitor.copy("a") is copy
    assert everybody.of("other").copy("a") is None
    for place in "bcd":
        visitor.keep(explanation(), place, source=place)
    assert visitor.find(first.id) is first
    assert visitor.copy("a") is None
    assert [one.title for one in visitor.results()] == ["d", "c", "made here"]


def test_those_who_were_idle_for_long_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = Visitors()
    kept = everybody.of("old").keep(explanation(), "a circle")
    monkeypatch.setattr(visitors, "IDLE", -1.0)
    everybody.of("new").keep(explanation(), "a square")
    assert len(everybody) == 1
    with pytest.raises(Gone):
        everybody.of("old").find(kept.id)


def test_there_are_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "MOST_VISITORS", 5)
    everybody = Visitors()
    for number in range(20):
        everybody.of(str(number)).keep(explanation(), "a circle")
    assert len(everybody) == 5
    assert everybody.of("19").results()
    assert not everybody.of("0").results()


def test_who_keeps_nothing_pushes_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "MOST_VISITORS", 2)
    everybody = Visitors()
    kept = everybody.of("one").keep(explanation(), "a circle")
    for number in range(50):
        assert everybody.of(str(number)).results() == []
        with pytest.raises(Gone):
            everybody.of(str(number)).find(kept.id)
    assert everybody.of("one").find(kept.id) is kept
    assert len(everybody) == 1


def test_all_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "MOST_TOTAL", 40_000)
    everybody = Visitors()
    for number in range(10):
        everybody.of(str(number)).keep(explanation(64), "12 kB")
    assert len(everybody) == 3
