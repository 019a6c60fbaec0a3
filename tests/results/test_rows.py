"""Tables as JSON and CSV: an interval is four numbers with the same names in both."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from PIL import Image

from sfumato.metrics import bootstrap
from sfumato.results.interval import Interval, decimal
from sfumato.results.rows import as_csv
from sfumato.runs.finding import Finding
from sfumato.writing.json_text import json_value
from tests.results.synthetic import scene

ROWS = [
    {"map": "daam", "AP": bootstrap([0.25, 0.5]), "calls": 12},
    {"map": "random", "AP": bootstrap([]), "calls": None},
]


def test_an_interval_is_value_low_high_and_n_in_json_and_csv() -> None:
    first, second = json.loads(json.dumps(json_value(ROWS), allow_nan=False))
    assert first["AP"] == {"value": 0.375, "low": 0.25, "high": 0.5, "n": 2}
    assert second["AP"] == {"value": None, "low": None, "high": None, "n": 0}
    read = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert list(read[0]) == ["map", "AP.value", "AP.low", "AP.high", "AP.n", "calls"]
    assert [float(read[0][f"AP.{part}"]) for part in ("value", "low", "high", "n")] == [0.375, 0.25, 0.5, 2]
    assert [read[1][column] for column in ("AP.value", "AP.low", "AP.n", "calls")] == ["", "", "0", ""]


def test_a_finding_has_numbers_where_it_shows_intervals() -> None:
    about = {"AUC by tau": {"0.4": Interval(0.5, 0.4, 0.6, 9)}}
    found = json.loads(Finding("one", "source", True, "sentence", ROWS, Image.fromarray(scene()), about).to_json())
    assert found["rows"] == json_value(ROWS)
    assert found["about"]["AUC by tau"]["0.4"] == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8764, "0.876"),
        (0.0, "0.000"),
        (-0.00123, "-0.0012"),
        (1.2e-7, "1.2e-07"),
        (12.0, "12.000"),
        (math.nan, "nan"),
    ],
)
def test_a_small_number_keeps_two_digits(value: float, text: str) -> None:
    assert decimal(value) == text


def test_an_interval_reads_as_it_did() -> None:
    assert str(Interval(0.5, 0.25, 0.75, 3)) == "0.500 [0.250, 0.750] (n=3)"
    assert Interval(0.5, 0.25, 0.75, 3).brief == "0.500 [0.250, 0.750]"
