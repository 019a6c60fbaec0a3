"""Several threads on one model: every result is that of one thread, bit for bit, however the others end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import sfumato
from sfumato import registry
from sfumato.caching.cache import Cache
from sfumato.caching.images import Generator
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.generation.interventions.channels import AblateChannels
from sfumato.models.fingerprint import weight_hash
from sfumato.models.turns import alone
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.pipelines import PROMPT

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
REQUEST = Request(PROMPT, seed=2, steps=2, guidance=7.5, height=16, width=16)
WORK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("daam", {"scheduler": "euler"}),
    ("daam", {"prompt": "a blue dog and a ring", "steps": 3}),
    ("df_cam", {"seed": 5, "steps": 1}),
    ("profile", {"scheduler": "ddim", "guidance": 1.0}),
)


def together(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run everything at once, each in a thread of its own."""
    ready = threading.Barrier(len(works))

    def begin(work: Callable[[], Any]) -> Any:
        ready.wait(60)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


def same(one: Explanation, other: Explanation) -> None:
    assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
    nodes = [node.path for node in one.tree.subtree]
    assert nodes == [node.path for node in other.tree.subtree]
    for path in nodes:
        mine, theirs = one.tree[path].to_dataset(), other.tree[path].to_dataset()
        for name in mine.variables:
            if "seconds" not in str(name):
                np.testing.assert_array_equal(mine[name].values, theirs[name].values, err_msg=f"{path} {name}")


def explained(model: Any, method: str, more: dict[str, Any]) -> Explanation:
    found: Explanation = sfumato.explain(model, REQUEST.with_(**more), method)
    return found


@pytest.mark.parametrize("threads", [2, 4])
def test_results_of_threads_are_those_of_one_thread(tiny_pipeline: StableDiffusionPipeline, threads: int) -> None:
    model = sfumato.wrap(tiny_pipeline)
    serial = [explained(model, *work) for work in WORK[:threads]]
    for models in ([model] * threads, [sfumato.wrap(tiny_pipeline) for _ in range(threads)]):
        works = [partial(explained, own, *work) for own, work in zip(models, WORK, strict=False)]
        for one, other in zip(serial, together(works), strict=True):
            same(one, other)


def test_pipelines_that_share_a_denoiser_take_turns(tiny_sd: Callable[..., StableDiffusionPipeline]) -> None:
    first = tiny_sd()
    parts = dict(first.components) | {"scheduler": DDIMScheduler.from_config(first.scheduler.config)}
    models = [sfumato.wrap(first), sfumato.wrap(StableDiffusionPipeline(**parts, requires_safety_checker=False))]
    serial = [explained(model, "daam", {}) for model in models]
    assert not np.array_equal(serial[0].words.values, serial[1].words.values)
    for one, other in zip(serial, together([partial(explained, model, "daam", {}) for model in models]), strict=True):
        same(one, other)


def test_changes_and_replays_of_one_thread_are_not_seen_by_another(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    change = AblateChannels("conv_in", (0, 1), steps=(1,))
    trace = generate(model, REQUEST, record=True)

    def changed() -> torch.Tensor:
        return generate(model, REQUEST, attachments=[change]).latents

    def replayed() -> torch.Tensor:
        return torch.cat([trace.replay(step, attachments=[change]) for step in (0, 1, 1)])

    works = [changed, replayed, partial(explained, model, *WORK[0]), changed]
    serial = [work() for work in works]
    found = together(works)
    same(serial.pop(2), found.pop(2))
    for one, other in zip(serial, found, strict=True):
        assert torch.equal(one, other)


def test_a_run_that_fails_lets_the_next_thread_in(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)

    def break_off(what: str, done: int, total: int) -> None:
        if done:
            raise ZeroDivisionError("broken off")

    def fails() -> str:
        with pytest.raises(ZeroDivisionError):
            sfumato.explain(model, REQUEST, progress=break_off)
        with pytest.raises(OptionError):
            sfumato.explain(model, REQUEST, nothing=1)
        return "failed"

    serial = explained(model, *WORK[1])
    failed, found, again = together([fails, partial(explained, model, *WORK[1]), fails])
    assert (failed, again) == ("failed", "failed")
    same(serial, found)


def test_an_explanation_inside_another_of_the_same_thread_does_not_wait(
    tiny_pipeline: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sfumato.wrap(tiny_pipeline)
    serial = explained(model, "daam", {})
    known, inner = find("daam"), list[Explanation]()

    def twice(*given: Any) -> list[Explanation]:
        with monkeypatch.context() as patch:
            patch.setitem(registry._methods._entries, "daam", known)
            inner.append(explained(sfumato.wrap(tiny_pipeline), "daam", {}))
        return known.explain(*given)

    monkeypatch.setitem(registry._methods._entries, "daam", replace(known, explain=twice))
    same(serial, explained(model, "daam", {}))
    same(serial, inner[0])


def test_a_run_inside_a_run_is_refused_and_a_replay_inside_it_is_not_watched(
    tiny_pipeline: StableDiffusionPipeline,
) -> None:
    model, said = sfumato.wrap(tiny_pipeline), list[str]()
    trace = generate(model, REQUEST, record=True)
    serial, output = explained(model, "daam", {}), trace.replay(1)

    def look(what: str, done: int, total: int) -> None:
        with pytest.raises(ModelError) as refused:
            explained(sfumato.wrap(tiny_pipeline), "daam", {"seed": 1})
        said.append(str(refused.value))
        assert torch.equal(trace.replay(1), output)

    same(serial, sfumato.explain(model, REQUEST, progress=look))
    assert said
    assert all("in the middle of a run" in one for one in said)


def test_a_pipeline_that_another_thread_calls_by_itself_is_not_watched(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    serial = explained(model, "daam", {})
    sample, condition = torch.zeros(1, 4, 8, 8), torch.zeros(1, 77, 32)

    def call() -> None:
        with torch.no_grad():
            tiny_pipeline.unet(sample, 1, condition)

    def disturb(what: str, done: int, total: int) -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join(60)

    same(serial, sfumato.explain(model, REQUEST, progress=disturb))


def test_what_a_model_says_of_itself_is_not_of_another_threads_run(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    own = model.complete(Request(PROMPT)).scheduler
    asking, found = list[threading.Thread](), list[str | None]()
    assert own != "euler"

    def look(what: str, done: int, total: int) -> None:
        if not asking:
            asking.append(threading.Thread(target=lambda: found.append(model.complete(Request(PROMPT)).scheduler)))
            asking[0].start()
            asking[0].join(0.05)  # would be long enough, if it did not wait

    generate(model, REQUEST.with_(scheduler="euler"), progress=look)
    asking[0].join(60)
    assert found == [own]


def test_images_are_not_kept_under_the_digest_of_weights_that_were_exchanged_for_a_check(
    tiny_sd: Callable[..., StableDiffusionPipeline], tmp_path: Any
) -> None:
    model = sfumato.wrap(tiny_sd())
    whole = weight_hash(model.pipeline)
    cache = Cache(tmp_path)
    weight = model.denoiser.get_submodule("conv_in").weight
    changed, found = threading.Event(), list[str]()

    def check() -> None:
        with alone(model.pipeline), torch.no_grad():
            weight.mul_(2)
            changed.set()
            threading.Event().wait(0.05)
            weight.div_(2)

    def make() -> Any:
        assert changed.wait(60)
        found.append(weight_hash(model.pipeline))
        return Generator(model, cache)([REQUEST])[0]

    made = together([check, make])[1]
    assert found == [whole]
    assert np.array_equal(made.pixels, np.asarray(generate(model, REQUEST).images[0].convert("RGB")))
