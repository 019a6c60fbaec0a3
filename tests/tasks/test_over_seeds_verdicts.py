"""What a task over seeds makes of numbers: replicated where they show the finding, not replicated where the contrary.

The numbers are made up; every seed adds the same amount to all of them, which no difference may depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import sfumato
from sfumato.models.schedulers import schedule_of
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.runs.task import Item, Record, find_task
from sfumato.tasks.artifact import unusual
from tests.labels import SIDE, tiny_labels
from tests.tasks.drawn import draw_nothing

STEPS = 20
MORE = (-0.02, -0.01, 0.0, 0.01, 0.02)
"""Of each seed."""
OUTPUTS = ["downs.0.3", "downs.1.3", "mid_block2.res_conv", "ups.0.3"]
ATTENTION = ["downs.0.2.fn", "downs.1.2.fn", "mid_attn.fn", "ups.0.2.fn"]
VALUES: dict[str, dict[str, Any]] = {
    "ablation": {"outputs": OUTPUTS, "attention": ATTENTION},
    "artifact": {"layer": "downs.1.3", "channel": 3},
    "switch": {"settled": 0.4},
}
"""What records of a task hold beside arrays."""

Entry = dict[str, NDArray[Any]]
Made = Callable[[float], Entry]
Judged = Callable[[str, Made], Finding]
GREY = np.full((SIDE, SIDE, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def times() -> NDArray[np.float64]:
    """999, 949 and so on to 0: the timesteps of the samples before and after each of 20 steps."""
    model = sfumato.wrap(tiny_labels())
    return np.array([*schedule_of(model, model.complete(Request(label="0110", steps=STEPS))), 0.0])


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    """What a task concludes from records that are made from a seed's amount."""
    draw_nothing(monkeypatch)

    def judge(name: str, made: Made) -> Finding:
        records = [
            (
                Item(Request(label="0110", steps=STEPS, seed=seed), {"other": "0111"}),
                Record(VALUES.get(name, {}), made(more)),
            )
            for seed, more in enumerate(MORE)
        ]
        task = find_task(name)
        return task.parts.conclude(records, task.configure({"seeds": len(MORE)}), {"model": "made up"})

    return judge


def sure(value: float) -> str:
    """A mean that all seeds agree on, as a sentence has it."""
    return f"{value:.3f} [{value:.3f}, {value:.3f}] (n=5)"


def local(reach: list[float], outside: list[float]) -> Made:
    def made(more: float) -> Entry:
        return {
            "area": np.array(reach) + more,
            "outside": np.array(outside) + more,
            "timestep": np.array([949.0, 699.0, 599.0, 99.0]),
            "region": np.random.default_rng(0).random((4, SIDE, SIDE)),
            "image": GREY,
            "mask": np.eye(SIDE, dtype=bool),
        }

    return made


RISING, LEVEL, FALLING = [0.1, 0.3, 0.5, 0.9], [0.4, 0.5, 0.6, 0.4], [0.9, 0.5, 0.3, 0.1]


@pytest.mark.parametrize(
    ("reach", "outside", "verdict"),
    [
        (RISING, RISING, "replicated"),
        ([0.1, 0.6, 0.5, 0.9], RISING, "replicated"),
        (LEVEL, RISING, "inconclusive"),
        (RISING, LEVEL, "inconclusive"),
        (FALLING, RISING, "not replicated"),
        (RISING, FALLING, "not replicated"),
    ],
)
def test_a_part_becomes_less_local_where_both_grow(
    judged: Judged, reach: list[float], outside: list[float], verdict: str
) -> None:
    found = judged("localisation", local(reach, outside))
    assert found.verdict == verdict
    assert (
        f"From t = 949 to 99 the effective area from which a pixel draws grows by {sure(reach[-1] - reach[0])}"
        in found.sentence
    )
    assert f"outside the mask by {sure(outside[-1] - outside[0])}" in found.sentence
    assert found.sentence.endswith("not steady.") is (reach != RISING)
    assert [row["timestep"] for row in found.rows] == [949, 699, 599, 99]


def test_a_reach_that_grows_for_some_seeds_is_not_enough(judged: Judged) -> None:
    found = judged("localisation", lambda more: local(FALLING if more >= 0 else RISING, RISING)(0))
    assert found.verdict == "inconclusive"


def ablated(downs: float, ups: float, attention: float) -> Made:
    """The layers come in the order in which they are swept; the first of them is hit hardest."""

    def made(more: float) -> Entry:
        parts = {"down": downs, "mid_": 0.5, "ups.": ups}
        values = [attention if name.endswith(".fn") else parts[name[:4]] for name in (*OUTPUTS, *ATTENTION)]
        values[OUTPUTS.index("downs.0.3")] -= 0.04
        channels = [2 if more < 0 else 7] * len(values)
        return {"ssim": np.array(values) + more, "channel": np.array(channels)}

    return made


def test_blocks_carry_the_image_more_than_attention(judged: Judged) -> None:
    found = judged("ablation", ablated(0.2, 0.6, 0.9))
    assert found.verdict == "replicated"
    # the mean of 0.16, 0.2, 0.5 and 0.6 is 0.365
    assert f"lower than in the attention layers by {sure(0.535)}" in found.sentence
    assert f"lower than in the expanding path by {sure(0.42)}" in found.sentence
    assert "the largest change is that of downs.0.3 (0.160 [" in found.sentence
    rows = {row["layer"]: row for row in found.rows}
    means = [rows[name]["normalised ssim"].mean for name in ("downs.0.3", "downs.1.3", "ups.0.3", "mid_attn.fn")]
    assert means == pytest.approx([0.16, 0.2, 0.6, 0.9])
    assert {row["most frequent channel"] for row in found.rows} == {7}


@pytest.mark.parametrize(
    ("downs", "ups", "attention", "verdict"),
    [
        (0.2, 0.6, 0.365, "inconclusive"),
        (0.2, 0.6, 0.1, "not replicated"),
        (0.6, 0.2, 0.9, "not replicated"),
        (0.6, 0.58, 0.9, "inconclusive"),
    ],
)
def test_other_layers_may_carry_the_image(
    judged: Judged, downs: float, ups: float, attention: float, verdict: str
) -> None:
    assert judged("ablation", ablated(downs, ups, attention)).verdict == verdict


@pytest.mark.parametrize("other", [(0.2, 0.6, 0.1), (0.6, 0.2, 0.9)])
def test_layers_that_carry_the_image_of_some_seeds_are_not_enough(
    judged: Judged, other: tuple[float, float, float]
) -> None:
    found = judged("ablation", lambda more: ablated(*(other if more >= 0 else (0.2, 0.6, 0.9)))(0))
    assert found.verdict == "inconclusive"


def removed(found: float, chance: float, aside: float) -> Made:
    def made(more: float) -> Entry:
        return {
            "inside": np.array([found, chance]) + more,
            "outside": np.array([aside, 0.3]) + more / 10,
            "moved": np.random.default_rng(0).random((2, SIDE, SIDE)),
            "image": GREY,
        }

    return made


@pytest.mark.parametrize(
    ("inside", "chance", "outside", "verdict"),
    [
        (0.5, 0.1, 0.2, "replicated"),
        (0.3, 0.3, 0.2, "inconclusive"),
        (0.1, 0.5, 0.2, "not replicated"),
        (0.5, 0.1, 0.005, "not replicated"),
    ],
)
def test_a_channel_makes_the_artifact_where_it_does_more_than_another_and_also_elsewhere(
    judged: Judged, inside: float, chance: float, outside: float, verdict: str
) -> None:
    found = judged("artifact", removed(inside, chance, outside))
    assert found.verdict == verdict
    assert f"(difference {sure(inside - chance)})" in found.sentence
    assert f"outside the artifact the gradient's channel changes {outside:.3f} [" in found.sentence
    assert [row["change inside"].mean for row in found.rows] == pytest.approx([inside, chance], abs=5e-4)


def test_an_artifact_of_some_seeds_is_not_enough(judged: Judged) -> None:
    found = judged("artifact", lambda more: removed(*((0.1, 0.5) if more >= 0 else (0.5, 0.1)), 0.2)(0))
    assert found.verdict == "inconclusive"


def test_the_unusual_block_is_the_one_that_differs_most() -> None:
    mean = np.full((17, 33, 3), 100.0)  # blocks of 2 x 4 pixels; the last row and column belong to none
    image = mean.copy()
    image[6:8, 20:24] = 60
    image[0, 0] = 255
    image[16] = 255
    expected = np.zeros((17, 33), bool)
    expected[6:8, 20:24] = True
    np.testing.assert_array_equal(unusual(image.astype(np.uint8), mean), expected)


def parting(times: NDArray[np.float64], *, at: float = 800, middle: float = 0.9, end: float = 0.5) -> Entry:
    """Alike down to a timestep, then apart, and more so at the end."""
    row = np.where(times > at, 0.99, middle)
    row[-1] = end
    return {"ssim": row, "attention": np.linspace(0, 1, len(times) - 1), "timestep": times}


@pytest.mark.parametrize(
    ("curve", "when", "drop", "verdict"),
    [
        ({}, 799, 0.4, "replicated"),
        ({"at": 700}, 699, 0.4, "replicated"),
        ({"at": 999}, 999, 0.4, "not replicated"),
        ({"at": 500}, 499, 0.4, "not replicated"),
        ({"end": 0.9}, 799, 0.0, "inconclusive"),
        ({"end": 0.93}, 799, -0.03, "not replicated"),
        ({"middle": 0.99, "end": 0.99}, 0, 0.0, "not replicated"),
    ],
)
def test_conditions_part_at_800_and_more_at_the_end(
    judged: Judged,
    times: NDArray[np.float64],
    curve: dict[str, float],
    when: int,
    drop: float,
    verdict: str,
) -> None:
    found = judged("divergence", lambda more: parting(times, **curve))
    assert found.verdict == verdict
    fallen = 5 if when else 0
    assert f"Samples of {fallen} of 5 seeds fall below a normalised SSIM of 0.95" in found.sentence
    assert f"on average at t = {when} [{when}, {when}]" in found.sentence
    assert f"to the end normalised SSIM falls by {sure(drop)}, to {sure(curve.get('end', 0.5))}" in found.sentence
    last = {"timestep": 0.0, "normalised ssim": curve.get("end", 0.5), "sd over seeds": 0.0}
    assert found.rows[-1] == pytest.approx(last)


def test_a_drop_of_some_seeds_is_not_enough(judged: Judged, times: NDArray[np.float64]) -> None:
    found = judged("divergence", lambda more: parting(times, end=0.93 if more >= 0 else 0.5))
    assert found.verdict == "inconclusive"


def switched(*, late: float = 0.97, early: float = 0.3) -> Made:
    """SSIM to the first condition rises with the step of the switch, that to the second falls from 0.9."""
    times = np.arange(899.0, 0, -100)

    def made(more: float) -> Entry:
        return {
            "timestep": times,
            "ssim_to_first": np.interp(times, [99, 799], [late, early]) + more,
            "ssim_to_second": np.interp(times, [99, 799], [0.2, 0.9]) + more,
        }

    return made


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        ({}, "replicated"),
        ({"late": 0.9}, "inconclusive"),
        ({"late": 0.91}, "inconclusive"),
        ({"early": 0.95}, "not replicated"),
        ({"early": 0.9}, "inconclusive"),
    ],
)
def test_an_early_switch_counts_and_a_late_one_does_not(judged: Judged, curve: dict[str, float], verdict: str) -> None:
    """Of 0.91 the seeds' interval reaches below 0.9."""
    found = judged("switch", switched(**curve))
    assert found.verdict == verdict
    assert "After 40% [40%, 40%] of the run a switch" in found.sentence
    nearer = 0.9 - curve.get("early", 0.3)
    assert f"Switched at t = 799, the outcome is nearer to the new condition by {sure(nearer)}" in found.sentence
    assert f"switched at t = 99, normalised SSIM to the old one is {curve.get('late', 0.97):.3f} [" in found.sentence
    assert [row["timestep of the switch"] for row in found.rows] == list(range(899, 0, -100))


def test_a_switch_that_counts_for_some_seeds_is_not_enough(judged: Judged) -> None:
    found = judged("switch", lambda more: switched(early=0.95 if more >= 0 else 0.3)(0))
    assert found.verdict == "inconclusive"
