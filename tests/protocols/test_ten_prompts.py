from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import OptionError
from sfumato.protocols.ten_prompts import PROMPTS, rank_table
from tests.methods.steps import CLIP


def test_any_model_can_be_judged(
    tiny_sd: Callable[..., StableDiffusionPipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.setattr("sfumato.protocols.ten_prompts.Request", lambda p, seed: sfumato.Request(p, seed=seed, steps=1))
    model = sfumato.wrap(tiny_sd())
    table = rank_table(model, judged=PROMPTS[4:6], similarity_model=CLIP)
    assert [row["prompt"] for row in table.prompts] == ["books and coffee", "Girls watching movies"]
    assert all(len(row["shares"]) == 3 for row in table.prompts)
    assert table.rows()[-1]["prompt"] == "mean"
    assert json.loads(table.to_json())["printed"]["ranks aligned"] == 0.64
    with pytest.raises(OptionError, match="choose from: shapley, lime, word_gradients"):
        rank_table(model, "daam", judged=PROMPTS[4:5])
