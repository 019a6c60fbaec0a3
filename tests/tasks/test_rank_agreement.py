from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import OptionError, RequestError
from sfumato.metrics import ranks, ranks_aligned, rmse
from sfumato.models.model import Model
from sfumato.runs.opened import Run
from sfumato.tasks.rank_agreement import PROMPTS, Judged, Mean, implied_shares, judged_from, means_of, paper_prompts
from tests.methods.steps import CLIP

QUICK: dict[str, Any] = {"common": {"steps": 1}, "option": (f"similarity_model={CLIP}",)}
BASELINE = "uninformative baseline (an even share)"


@pytest.fixture(scope="module")
def model(tiny_sd: Callable[..., StableDiffusionPipeline]) -> Model:
    return sfumato.wrap(tiny_sd())


@pytest.fixture(scope="module")
def table(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "ranks"
    return sfumato.run("rank_agreement", model, out=folder, prompts=paper_prompts(6)[4:], **QUICK)


def mean(table: Run, of: str, measure: str) -> dict[str, Any]:
    found = [one for one in table.finding["rows"] if (one["of"], one["measure"]) == (of, measure)]
    assert len(found) == 1
    return dict(found[0])


def published() -> list[tuple[Judged, tuple[float, ...]]]:
    """The paper's prompts with the shares that its errors imply."""
    return [(one, implied_shares(one.truth, one.published)) for one in PROMPTS if one.published is not None]


def test_any_model_can_be_evaluated(model: Model, table: Run, tmp_path: Path) -> None:
    records = list(table.records())
    assert [item.request.prompt for item, _ in records] == ["books and coffee", "Girls watching movies"]
    assert all(len(record.rows) == 3 for _, record in records)
    found = mean(table, "shapley", "RMSE")
    known = [record.values["RMSE"] for _, record in records if record.values["RMSE"] is not None]
    assert found["n"] == len(known)
    assert found["mean"] == pytest.approx(np.mean(known))
    assert found["low"] <= found["mean"] <= found["high"]
    about = table.finding["about"]
    assert (about["steps"], about["seeds"]) == (1, [0, 1])
    assert table.finding["sentence"].startswith("shapley on 2 images: ")
    with pytest.raises(OptionError, match="choose from: shapley, lime, word_gradients"):
        sfumato.run("rank_agreement", model, out=tmp_path / "run", method="daam")


def test_every_word_is_a_row_of_the_table(table: Run) -> None:
    items = table.items
    assert items["word"].tolist() == ["books", "and", "coffee", "Girls", "watching", "movies"]
    assert items["judged share"].tolist() == [0.5, 0.1, 0.4, 0.35, 0.25, 0.4]
    assert items["share"].sum() == pytest.approx(2)


def test_an_even_share_is_the_uninformative_baseline_of_the_same_prompts(table: Run) -> None:
    truths = [one.truth for one in PROMPTS[4:6]]
    error, aligned = mean(table, BASELINE, "RMSE"), mean(table, BASELINE, "ranks aligned")
    assert error["mean"] == pytest.approx(np.mean([rmse(truth, [1 / 3] * 3) for truth in truths]))
    assert aligned["mean"] == pytest.approx(1 / 3)  # a tie of all is the first rank of each
    assert (error["n"], aligned["n"]) == (2, 2)


def test_the_even_share_of_the_ten_prompts() -> None:
    even = [[1 / len(one.truth)] * len(one.truth) for one in PROMPTS]
    pairs = [(one.truth, shares) for one, shares in zip(PROMPTS, even, strict=True)]
    assert np.mean([ranks_aligned(*pair) for pair in pairs]) == pytest.approx(0.308, abs=5e-4)
    assert np.mean([rmse(*pair) for pair in pairs]) == pytest.approx(0.163, abs=5e-4)
    assert np.mean([rmse(*pair, "paper") for pair in pairs]) == pytest.approx(0.292, abs=5e-4)


def test_figures_of_the_paper_stand_under_the_measure_that_they_are() -> None:
    metrics = ("ranks aligned", "RMSE", "RMSE (paper)")
    measured = [(one, dict.fromkeys(metrics)) for one in PROMPTS]
    found = {(one.of, one.measure): one for one in means_of("shapley", measured, metrics)}
    means = {key: one.mean for key, one in found.items()}
    assert means["the paper, from its printed errors", "RMSE"] == pytest.approx(0.128, abs=5e-4)
    assert means["the paper, from its printed errors", "RMSE (paper)"] == pytest.approx(0.2161, abs=5e-5)
    assert means["the paper, from its printed errors", "ranks aligned"] == pytest.approx(0.642, abs=5e-4)
    assert means["the paper, from its printed ranks", "ranks aligned"] == pytest.approx(0.55)
    printed = {measure: mean for (of, measure), mean in means.items() if of == "the paper, averages as printed"}
    assert printed == {"ranks aligned": 0.64, "RMSE (paper)": 0.2161}  # and no RMSE
    assert found["shapley", "RMSE"] == Mean("shapley", "RMSE", None, None, None, 0)


def test_the_implied_shares_are_those_that_the_paper_shows() -> None:
    found = {one.prompt: shares for one, shares in published()}
    assert found["a cat's house"] == pytest.approx((0.13, 0.59, 0.28))
    assert found["astronauts at parties"] == pytest.approx((0.77, 0.18, 0.05))
    for one, shares in published():
        assert sum(shares) == pytest.approx(1, abs=0.005)
        assert one.published is not None
        assert (np.array(one.truth) - shares) ** 2 == pytest.approx(one.published.squared_errors, abs=1e-5)


def test_which_printed_ranks_follow_from_the_printed_errors() -> None:
    differ = [one.prompt for one, shares in published() if ranks(shares).tolist() != list(one.published.ranks)]
    assert differ == ["a lamp with flowers", "a Spanish flag", "a map without land"]


def test_the_squared_error_of_astronauts_is_that_of_the_scores_next_to_it() -> None:
    found = (np.array([0.55, 0.05, 0.4]) - [0.77, 0.18, 0.05]) ** 2
    assert PROMPTS[9].published is not None
    assert found == pytest.approx(PROMPTS[9].published.squared_errors)
    assert found[0] == pytest.approx(0.0484)  # the paper prints 2.9584


def test_prompts_of_ones_own() -> None:
    assert judged_from("a cat's house | 0.05 0.45 0.5") == Judged("a cat's house", (0.05, 0.45, 0.5))
    assert judged_from("a | b | 0.5 0.5").prompt == "a | b"


@pytest.mark.parametrize("line", ["a red circle", "a red circle |", "| 0.5 0.5", "a b | x 1", "a b |0.5,0.5"])
def test_a_line_without_shares_is_refused(line: str) -> None:
    with pytest.raises(
        RequestError, match=r"is unreadable; expected a prompt and the share of each of its words, such"
    ):
        judged_from(line)


@pytest.mark.parametrize("shares", [(0.5, 0.6), (1.2, -0.2), (math.nan, 1.0), (math.inf, 0.0), ()])
def test_shares_that_do_not_sum_to_one_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(RequestError, match="expected one of each word, 0 or more, with the sum 1"):
        Judged("a b", shares)


def test_a_prompt_without_as_many_shares_as_words_fails_and_the_rest_goes_on(model: Model, tmp_path: Path) -> None:
    file, folder = tmp_path / "own.csv", tmp_path / "run"
    file.write_text('prompt,shares\na red cat,0.5 0.5\nbooks and coffee,0.5 0.1 0.4\na cat,0.2\n"a cat | 0.2 0.8",\n')
    found = sfumato.run("rank_agreement", model, out=folder, prompts=file, **QUICK)
    assert (found.counts.ok, found.counts.failed, found.counts.invalid) == (2, 1, 1)
    failed = (folder / "failed.csv").read_text()
    assert "'a red cat' has 2 shares and 3 words as " in failed
    assert "(a, red, cat); give one share for each" in failed
    assert "the shares of 'a cat' are 0.2; expected one of each word" in failed
    means = {one["of"] for one in found.finding["rows"]}
    assert means == {"shapley", BASELINE}  # "a cat" is none of the paper's prompts


def test_the_paper_has_ten_prompts(model: Model, tmp_path: Path) -> None:
    assert [judged_from(f"{one['prompt']} | {one['shares']}").truth for one in paper_prompts(10)] == [
        one.truth for one in PROMPTS
    ]
    with pytest.raises(RequestError, match="has 10 prompts, and 11 are asked for"):
        sfumato.run("rank_agreement", model, out=tmp_path / "run", prompts=11)
    with pytest.raises(RequestError, match="holds no prompt"):
        sfumato.run("rank_agreement", model, out=tmp_path / "run", prompts=[])
