"""The registry of metrics: one place says what a number means, and tables, tasks and docs read it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.app.pieces.cells import table
from sfumato.cli.tables import say_rows
from sfumato.errors import OptionError, SfumatoError, UnknownMetric
from sfumato.metrics import Interval, find_metric, metric, metrics, registry
from sfumato.metrics.registry import about_metrics, with_headings
from sfumato.runs.finding import Finding
from sfumato.tasks.rank_agreement import RankAgreementOptions
from sfumato.tasks.word_localisation import WordLocalisationOptions


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics()
    monkeypatch.setattr(registry._metrics, "_entries", dict(registry._metrics._entries))


def half(size: int = 8) -> np.ndarray[Any, Any]:
    mask = np.zeros((size, size), bool)
    mask[:, : size // 2] = True
    return mask


@pytest.mark.parametrize("one", metrics("map"), ids=lambda one: one.name)
def test_the_truth_scores_best_and_its_complement_worse(one: Any) -> None:
    best, other = one.function(half().astype(float), half()), one.function((~half()).astype(float), half())
    assert best == pytest.approx(one.bounds[1] if one.better == "higher" else one.bounds[0])
    assert one.bounds[0] <= other <= one.bounds[1]
    assert other < best if one.better == "higher" else other > best
    assert math.isnan(one.function(np.full((8, 8), np.nan), half()))
    assert math.isnan(one.function(np.ones((8, 8)), np.zeros((8, 8))))


@pytest.mark.parametrize("one", metrics("shares"), ids=lambda one: one.name)
def test_the_true_shares_score_best(one: Any) -> None:
    truth = [0.2, 0.5, 0.3]
    best, other = one.function(truth, truth), one.function([0.5, 0.2, 0.3], truth)
    assert best == pytest.approx(one.bounds[1] if one.better == "higher" else one.bounds[0])
    assert one.bounds[0] <= other <= one.bounds[1]
    assert (other < best) == (one.better == "higher")


def test_every_metric_says_what_it_is() -> None:
    assert {one.name for one in metrics()} >= {"AP", "pointing", "mIoU@0.4", "IMACS", "RMSE", "ranks aligned"}
    for one in metrics():
        assert one.source, one.name
        assert one.summary.endswith("."), one.name
        assert one.bounds[0] < one.bounds[1], one.name
        assert find_metric(one.name) is one


def test_an_unknown_metric_lists_all_and_a_name_is_taken_once() -> None:
    with pytest.raises(UnknownMetric, match=r"there is no metric 'ap'; choose from: AP, IMACS, .*pointing"):
        find_metric("ap")
    again = metric("AP", compares="map", better="higher", bounds=(0, 1), source="s", summary="s.")
    with pytest.raises(SfumatoError, match="a metric named 'AP' is registered already"):
        again(lambda heat, mask: 0.0)


def test_options_of_tasks_take_metrics_that_fit() -> None:
    assert WordLocalisationOptions().metrics == tuple(one.name for one in metrics("map"))
    assert RankAgreementOptions(metrics=("RMSE",)).metrics == ("RMSE",)
    with pytest.raises(UnknownMetric, match="there is no metric 'mAP'"):
        WordLocalisationOptions(metrics=("mAP",))
    with pytest.raises(OptionError, match="RMSE compares no map with a truth; choose from: AP"):
        WordLocalisationOptions(metrics=("RMSE",))
    with pytest.raises(OptionError, match="name each once"):
        RankAgreementOptions(metrics=("RMSE", "RMSE"))


def test_heads_of_tables_point_towards_better_values(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"map": "daam", "AP": Interval(0.5, 0.4, 0.6, 9), "AP, outline of nouns": 0.3, "RMSE": 0.1, "calls": 4}
    heads = ["map", "AP ↑", "AP ↑, outline of nouns", "RMSE ↓", "calls"]
    assert list(with_headings([row])[0].values()) == heads
    assert table([row])["head"] == heads
    say_rows("scores", [row])
    assert "AP ↑" in capsys.readouterr().out
    metric("error", compares="map", better="lower", bounds=(0, math.inf), unit="pixels", source="s", summary="s.")(
        lambda heat, mask: 0.0
    )
    assert with_headings([{"error": 1.0}])[0] == {"error": "error, pixels ↓"}
    assert about_metrics(["error"])["error"]["bounds"] == [0, None]


def test_a_column_of_measures_names_metrics_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"of": "lime", "measure": "RMSE", "mean": 0.2}, {"of": "lime", "measure": "other", "mean": 1.0}]
    assert [row[1] for row in table(rows)["rows"]] == ["RMSE ↓", "other"]
    say_rows("scores", rows)
    assert "RMSE ↓" in capsys.readouterr().out
    finding = Finding("x", "", None, "A sentence.", rows, None)
    assert list(json.loads(finding.to_json())["metrics"]) == ["RMSE"]


def test_a_finding_says_what_its_metrics_mean(tmp_path: Path) -> None:
    Finding("x", "", None, "A sentence.", [{"map": "daam", "AP": 0.5}], None).write(tmp_path)
    found = json.loads((tmp_path / "finding.json").read_text())
    assert list(found["metrics"]) == ["AP"]
    assert found["metrics"]["AP"]["better"] == "higher"
    assert Finding.from_json(found).rows == [{"map": "daam", "AP": 0.5}]
