"""``--option name=value``, read by the types of a method's options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from sfumato.errors import OptionError
from sfumato.options import option_rows, parse_options, whole_numbers, written
from sfumato.registry import Method


@dataclass(frozen=True)
class Options:
    """One option of every type that the command line can read, and one that it cannot."""

    count: int = 3
    share: float | None = field(default=None, metadata={"help": "of the whole"})
    on: bool = False
    name: str = "x"
    title: str | None = None
    steps: tuple[int, ...] | None = None
    axes: tuple[Literal["step", "head"], ...] = ()
    mode: Literal["fast", "exact"] = "fast"
    shares: tuple[float, ...] = (0.5,)
    place: Path | None = None


METHOD = Method("test", "", Options, frozenset(), lambda request, options: "", "", lambda *arguments: [])


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("count=12", 12),
        ("count=-1", -1),
        ("share=0.25", 0.25),
        ("share=1e-3", 1e-3),
        ("share=none", None),
        ("share=None", None),
        ("on=true", True),
        ("on=No", False),
        ("on=1", True),
        ("name=none", "none"),
        ("name=a=b", "a=b"),
        ("title=none", None),
        ("title=", ""),
        ("steps=0,1,2", (0, 1, 2)),
        ("steps=0:10", tuple(range(10))),
        ("steps=0:10:3,20", (0, 3, 6, 9, 20)),
        ("steps=none", None),
        ("steps=4:4", ()),
        ("axes=step,head", ("step", "head")),
        ("axes=", ()),
        ("mode=exact", "exact"),
        ("shares=0.1,0.2", (0.1, 0.2)),
        (" count = 4 ", 4),
    ],
)
def test_a_value_is_read_by_the_type_of_its_option(pair: str, value: Any) -> None:
    name = pair.partition("=")[0].strip()
    found = parse_options(METHOD, [pair])
    assert found == {name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["count"], "--option is 'count'; expected name=value, such as count=value"),
        (["=3"], "expected name=value"),
        (["size=3"], "test has no option 'size'; its options are: count, share, on, name"),
        (["count=1", "count=2"], "the option count is given twice"),
        (["count=1.5"], "the option count is '1.5'; expected a whole number"),
        (["count=none"], "expected a whole number"),
        (["count=99999999999999999999999"], "expected a whole number"),
        (["share=half"], "expected a number, or none"),
        (["on=maybe"], "expected true or false"),
        (["steps=0:1000000000"], "expected whole numbers such as 0,1,2 or a range such as 0:10, or none"),
        (["steps=0:10:0"], "expected whole numbers"),
        (["steps=1,,2"], "expected whole numbers"),
        (["axes=step,layer"], "expected step or head (several with commas between)"),
        (["mode=slow"], "the option mode is 'slow'; expected fast or exact"),
        (["shares=0.1;0.2"], "expected a number (several with commas between)"),
        (["place=here"], "expected a value that only Python can give, or none"),
    ],
)
def test_what_cannot_be_read_is_named_together_with_what_is_expected(pairs: list[str], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_options(METHOD, pairs)
    assert message in str(caught.value)


def test_every_default_is_written_as_it_can_be_read_again() -> None:
    for row in option_rows(METHOD):
        if row["name"] != "place":
            text = written(row["default"]).replace("(empty)", "")
            assert parse_options(METHOD, [f"{row['name']}={text}"]) == {row["name"]: row["default"]}


def test_the_options_of_daam_can_all_be_given() -> None:
    from sfumato.registry import find

    daam = find("daam")
    given = ["layers=up_blocks", "steps=0:2", "keep=layer,head", "budget-mb=10", "normalise=yes", "threshold=0.4"]
    found = parse_options(daam, [*given, "negative=false", "parity=none", "calibration=none"])
    assert set(found) == {row["name"] for row in option_rows(daam)}
    assert daam.configure(found).keep == ("layer", "head")


@pytest.mark.parametrize("text", ["0:100001", "0:50001,0:50000", "0:99999999999999999999", "99999999999999999999:0:-1"])
def test_ranges_stand_for_no_more_numbers_than_can_be_meant(text: str) -> None:
    assert whole_numbers(text) is None


def test_ranges_stand_for_the_numbers_that_python_counts() -> None:
    assert whole_numbers("0:100000") == tuple(range(100_000))
    assert whole_numbers("0:7:3,9:2:-3,5:5,5:2") == (0, 3, 6, 9, 6, 3)


@pytest.mark.parametrize("text", ["", ":", "1:", "a", "1.0", "0:1:2:3", "²"])
def test_whole_numbers_are_plain_digits(text: str) -> None:
    assert whole_numbers(text) is None
