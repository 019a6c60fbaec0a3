"""Runs are resumed, refused, begun anew and told apart; whatever fails is an item of its own."""

from __future__ import annotations

import importlib
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import ModelError, OptionError, RunError, SfumatoError, StoreError
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.runs.execute import Means, Status, held, resume
from sfumato.runs.manifest import Counts, Manifest
from sfumato.runs.merging import merge
from sfumato.runs.opened import open_run
from sfumato.runs.planning import facts_of, planned
from sfumato.runs.running import conclude_run
from sfumato.runs.settings import library_versions
from sfumato.runs.worker import ModelSource
from tests.families import FAMILIES, Family
from tests.runs.driving import PROMPTS, contents, counts, drive, finding, measured, reasons, table
from tests.runs.made_up import CURED

Build = Callable[..., StableDiffusionPipeline]


def refused(error: pytest.ExceptionInfo[SfumatoError]) -> str:
    """The message, which is one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


class Killed(BaseException):
    """Stands for the end of a process."""


def stop_after(shards: int) -> Callable[[Status], None]:
    """A report that ends the run after so many shards."""
    told = iter(range(shards))

    def report(status: Status) -> None:
        if next(told, None) is None:
            raise Killed

    return report


def test_every_row_is_measured_once_and_the_same_call_again_measures_nothing(
    model: Model, tmp_path: Path, log: Path
) -> None:
    out = drive(model, tmp_path / "run")
    assert counts(out) == Counts(ok=10)
    assert [line.partition("|")[0] for line in measured(log)] == PROMPTS
    before = contents(out)
    drive(model, out)
    assert len(measured(log)) == 10
    assert contents(out) == before
    assert finding(out)["sentence"] == "10 items"
    assert {row["row"] for row in table(out)} == set(range(10))


@pytest.mark.parametrize("shards", range(4))
def test_a_stopped_run_goes_on_where_it_stopped(
    shards: int, model: Model, tmp_path: Path, whole: Path, log: Path
) -> None:
    with pytest.raises(Killed):
        drive(model, tmp_path / "run", means=Means(report=stop_after(shards)))
    assert counts(tmp_path / "run") == Counts(ok=min(10, 4 * shards), open=10 - min(10, 4 * shards))
    out = drive(model, tmp_path / "run")
    assert contents(out) == contents(whole)
    assert len(measured(log)) == 10


def test_a_run_is_resumed_by_its_folder_alone(model: Model, tmp_path: Path) -> None:
    one = drive(model, tmp_path / "one", factor=3, names=["x", "y"])
    with pytest.raises(Killed):
        drive(model, tmp_path / "two", factor=3, names=["x", "y"], means=Means(report=stop_after(1)))
    resume(tmp_path / "two", model, Means())
    assert contents(tmp_path / "two") == contents(one)


def test_the_states_of_rows_add_up_whatever_they_hold(model: Model, tmp_path: Path) -> None:
    prompts: list[Any] = [
        "a cat",
        "a cat",  # another seed
        Request("a dog", seed=3),
        Request("a dog", seed=3),  # the same item
        {"prompt": "a bird", "seed": "many"},
        7,
        {"prompt": "a fish", "images": 3},
        {"prompt": "a bee", "height": 63},
        "raise nothing",
    ]
    out = drive(model, tmp_path / "run", prompts)
    assert counts(out) == Counts(ok=7, failed=1, invalid=3)
    found = reasons(out)
    assert sorted(found) == [4, 5, 9, 10]
    assert "seed is 'many'" in found[4]
    assert "it is int" in found[5]
    assert "63" in found[9]
    with Manifest(out) as manifest:
        assert [row.line for row in manifest.rows()] == [1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 9]
        assert manifest.measured_items == 6
    same = [row for row in table(out) if row["row"] in (2, 3)]
    assert [row["word"] for row in same] == ["a", "dog", "a", "dog"]
    assert len({row["item"] for row in same}) == 1
    failures = (out / "failed.csv").read_text().splitlines()
    assert failures[0] == "row,line,item,state,reason"
    assert len(failures) == 5


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("raise nothing", "ValueError: no nothing at all"),
        ("nan here", "the image of this request is not finite"),
        ("memory gone", "MemoryError: MemoryError"),
        ("most 0", "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"),
        ("unstorable thing", "TypeError: Object of type object is not JSON serializable"),
        ("complex number", "the array values of a record has the type complex128; expected numbers or booleans"),
        ("grey picture", "the picture of a record is (8, 8) of uint8; expected (y, x, 3) of uint8"),
        ("misfit map", "the maps made of a record have the shape (2, 4, 4), for 1 rows"),
    ],
)
def test_what_fails_is_one_item_with_its_reason(prompt: str, reason: str, model: Model, tmp_path: Path) -> None:
    out = drive(model, tmp_path / "run", [*PROMPTS[:5], prompt, *PROMPTS[6:]], batch=4, shard_size=8)
    assert counts(out) == Counts(ok=9, failed=1)
    assert reasons(out) == {5: reason}
    good = drive(model, tmp_path / "good", PROMPTS, batch=4, shard_size=8)
    words = [row for row in table(out) if row["row"] != 5]
    kept = list(words[0].keys() - {"reason", "made/4x4"})
    assert [[row[name] for name in kept] for row in words] == [
        [row[name] for name in kept] for row in table(good) if row["row"] != 5
    ]


def test_a_batch_that_does_not_fit_the_memory_is_halved(model: Model, tmp_path: Path, log: Path) -> None:
    out = drive(model, tmp_path / "run", ["most 2"] * 8, batch=8, shard_size=8)
    assert counts(out) == Counts(ok=8)
    assert len(measured(log)) == 8 + 4 + 2 + 2 + 4 + 2 + 2


def test_only_what_failed_is_measured_again_and_a_success_replaces_the_failure(
    model: Model, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [*PROMPTS, "raise one", "a dog", "raise two"]
    out = drive(model, tmp_path / "run", prompts, batch=1)
    assert counts(out) == Counts(ok=11, failed=2)
    seen = len(measured(log))
    drive(model, out, prompts, batch=1)
    assert len(measured(log)) == seen
    drive(model, out, prompts, batch=1, means=Means(retry=True))
    assert counts(out) == Counts(ok=11, failed=2)
    monkeypatch.setenv(CURED, "1")
    drive(model, out, prompts, batch=1, means=Means(retry=True))
    assert [line.partition("|")[0] for line in measured(log)[seen:]] == ["raise one", "raise two"] * 2
    assert counts(out) == Counts(ok=13)
    assert not (out / "failed.csv").exists()
    good = drive(model, tmp_path / "good", prompts, batch=1)
    for name in ("items.parquet", "finding.json"):
        assert (out / name).read_bytes() == (good / name).read_bytes()


def test_what_fails_for_the_first_time_is_not_tried_again_by_the_same_retry(
    model: Model, tmp_path: Path, log: Path
) -> None:
    prompts = [f"raise {number}" for number in range(8)]
    with pytest.raises(Killed):
        drive(model, tmp_path / "run", prompts, batch=1, means=Means(report=stop_after(1)))
    drive(model, tmp_path / "run", prompts, batch=1, means=Means(retry=True))
    tried = [line.partition("|")[0] for line in measured(log)]
    assert [tried.count(one) for one in prompts] == [2] * 4 + [1] * 4


def test_a_run_in_which_all_fails_has_a_table_of_failures_and_no_finding(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["raise one", "raise two"]
    out = drive(model, tmp_path / "run", prompts)
    assert counts(out) == Counts(failed=2)
    assert sorted(path.name for path in out.iterdir()) == [
        *("failed.csv", "items.parquet", "items.sqlite", "manifest.json", "shards")
    ]
    assert [row["reason"] for row in table(out)] == ["ValueError: no one at all", "ValueError: no two at all"]
    monkeypatch.setenv(CURED, "1")
    drive(model, out, prompts, means=Means(retry=True))
    assert finding(out)["sentence"] == "2 items"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"factor": 2}, "factor is 2, there 1"),
        ({"names": ["a"]}, "names is ['a'], there []"),
        ({"batch": 3}, "batch is 3, there 2"),
        ({"shard_size": 5}, "shard size is 5, there 4"),
        ({"prompts": PROMPTS[:9]}, "the prompts are others, 9 rows, there 10"),
        ({"prompts": [*PROMPTS[:9], "a dog"]}, "the prompts are others, 10 rows, there 10"),
        ({"task": "generate"}, "task is 'generate', there 'made-up'"),
    ],
)
def test_a_run_of_other_settings_is_refused_with_what_differs(
    change: dict[str, Any], said: str, model: Model, whole: Path, tmp_path: Path
) -> None:
    before = contents(whole)
    with pytest.raises(RunError) as error:
        drive(model, whole, **change)
    assert said in refused(error)
    assert "--as-new" in str(error.value)
    assert contents(whole) == before
    if "task" not in change:
        new = drive(model, whole, **change, as_new=True)
        assert new == tmp_path / "whole-2"
        assert counts(new).ok == len(change.get("prompts", PROMPTS))
        assert contents(whole) == before


def test_a_run_of_equal_settings_is_no_new_one(model: Model, whole: Path) -> None:
    assert drive(model, whole, as_new=True) == whole


def test_a_changed_model_is_refused(model: Model, tmp_path: Path, tiny_sd: Build) -> None:
    pipeline = tiny_sd()
    out = drive(sfumato.wrap(pipeline), tmp_path / "run")
    weight = next(pipeline.unet.parameters())
    weight.flatten()[0] = 7
    changed = sfumato.wrap(pipeline)
    for again in (lambda: drive(changed, out), lambda: resume(out, changed, Means())):
        with pytest.raises(RunError, match="the model's files, settings or device are others") as error:
            again()
        refused(error)


def test_the_same_model_may_have_another_name(model: Model, whole: Path) -> None:
    drive(model, whole, means=Means(source=ModelSource("elsewhere/tiny")))
    assert counts(whole) == Counts(ok=10)


@pytest.mark.parametrize("way", ["task", "library"])
def test_a_changed_version_is_refused(way: str, model: Model, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "task":
        from dataclasses import replace

        from sfumato.runs import task

        monkeypatch.setitem(task._tasks._entries, "made-up", replace(task._tasks._entries["made-up"], version=2))
        said = "task version is 2, there 1"
    else:
        versions = library_versions() | {"torch": "99.0"}
        for place in ("execute", "planning"):
            monkeypatch.setattr(f"sfumato.runs.{place}.library_versions", lambda: versions)
        said = "torch is '99.0', there"
    for again in (lambda: drive(model, whole), lambda: resume(whole, model, Means())):
        with pytest.raises(RunError, match=said) as error:
            again()
        refused(error)


def test_what_a_million_items_take_is_computed_from_a_run(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    rows = importlib.import_module("scaling").million(whole)
    sizes = {row["of a million"]: row["amount"] for row in rows}
    with Manifest(whole) as manifest:
        shards = manifest.shards()
    assert [name for name, _, _ in shards] == sorted(f"shards/{one.name}" for one in (whole / "shards").iterdir())
    each = sum(size for _, size, _ in shards) / 10
    assert sizes["shards, GB"] == round(each * 1e6 / 1e9, 2)


def test_records_of_another_version_of_the_task_are_not_concluded(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from sfumato.runs import task

    before = contents(whole)
    monkeypatch.setitem(task._tasks._entries, "made-up", replace(task._tasks._entries["made-up"], version=2))
    for again in (lambda: conclude_run(whole), lambda: merge([whole], tmp_path / "merged")):
        with pytest.raises(RunError, match=r"are of version 1 of made-up, and this is version 2; .* --restart$"):
            again()
    assert contents(whole) == before
    assert not (tmp_path / "merged").exists()


def test_a_restart_removes_what_the_run_wrote_and_nothing_else(model: Model, tmp_path: Path) -> None:
    out = drive(model, tmp_path / "run", ["a picture", *PROMPTS])
    notes = [out / "notes.txt", out / "shards" / "notes.txt", out / "images" / "mine.png"]
    for one in notes:
        one.write_text("mine")
    drive(model, out, PROMPTS[:3], restart=True)
    assert counts(out) == Counts(ok=3)
    assert [one.read_text() for one in notes] == ["mine"] * 3
    fresh = contents(drive(model, tmp_path / "fresh", PROMPTS[:3]))
    left = contents(out)
    assert {name: left[name] for name in fresh} == fresh
    assert left.keys() - fresh.keys() == {"notes.txt", "shards/notes.txt", "images/mine.png"}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", ["thesis.txt", "inputs/photo.png", "shards/00000.npz", "finding.json"])
def test_a_folder_that_holds_something_else_is_refused(name: str, restart: bool, model: Model, tmp_path: Path) -> None:
    other = tmp_path / "run" / name
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no run") as error:
        drive(model, tmp_path / "run", restart=restart)
    refused(error)
    assert other.read_text() == "mine"
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [other]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"format": "other"}',
        '{"format": "sfumato-run", "version": 99}',
        '{"format": "sfumato-run", "version": 1}',
    ],
)
def test_a_manifest_of_something_else_is_refused_and_stays(content: str, model: Model, whole: Path) -> None:
    (whole / "manifest.json").write_text(content)
    for again in (
        lambda: drive(model, whole),
        lambda: drive(model, whole, factor=2, as_new=True),
        lambda: resume(whole, model, Means()),
        lambda: open_run(whole),
    ):
        with pytest.raises(RunError) as error:
            again()
        refused(error)
    assert (whole / "manifest.json").read_text() == content
    assert (whole / "shards" / "00000.npz").exists()
    if '"version": 1}' in content:
        drive(model, whole, restart=True)
        assert counts(whole) == Counts(ok=10)
    else:
        with pytest.raises(RunError, match=r"manifest\.json|version"):
            drive(model, whole, restart=True)
        assert (whole / "shards" / "00000.npz").exists()


def test_a_folder_without_a_run_is_no_run(model: Model, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        for look in (open_run, lambda folder: resume(folder, model, Means())):
            with pytest.raises(RunError, match="holds no run") as error:
                look(folder)
            refused(error)
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("way", ["lost", "garbage", "empty", "other tables"])
def test_a_lost_or_damaged_database_says_to_begin_anew_and_restart_does(way: str, model: Model, whole: Path) -> None:
    path = whole / "items.sqlite"
    path.unlink()
    if way == "garbage":
        path.write_bytes(b"garbage" * 1000)
    elif way == "empty":
        path.touch()
    elif way == "other tables":
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE items (name TEXT)")
        other.close()
    for again in (lambda: drive(model, whole), lambda: open_run(whole)):
        with pytest.raises(RunError, match="begin it anew with --restart") as error:
            again()
        refused(error)
    drive(model, whole, restart=True)
    assert counts(whole) == Counts(ok=10)


def test_damage_in_the_middle_of_the_database_is_one_line(model: Model, tmp_path: Path) -> None:
    out = drive(model, tmp_path / "run", [f"a cat {'x' * 3000} {number}" for number in range(40)])
    path = out / "items.sqlite"
    content = bytearray(path.read_bytes())
    content[3 * 4096 :] = b"\xff" * (len(content) - 3 * 4096)
    path.write_bytes(content)
    with pytest.raises(SfumatoError) as error:
        drive(model, out, [f"a cat {'x' * 3000} {number}" for number in range(40)])
    assert "items.sqlite" in refused(error)


def test_two_drivers_on_one_folder_are_one_too_many(model: Model, whole: Path, tmp_path: Path) -> None:
    with held(whole):
        for again in (lambda: drive(model, whole), lambda: drive(model, whole, restart=True)):
            with pytest.raises(RunError, match="another process drives the run") as error:
                again()
            refused(error)
        assert open_run(whole).counts == Counts(ok=10)
    drive(model, whole)


def test_a_run_can_be_read_while_it_runs(model: Model, tmp_path: Path) -> None:
    seen = []

    def report(status: Status) -> None:
        run = open_run(tmp_path / "run")
        seen.append(run.counts)
        assert run.counts == status.counts
        assert len(list(run.records())) == status.counts.ok
        with pytest.raises(RunError, match="it is written when a run ends"):
            _ = run.finding

    drive(model, tmp_path / "run", means=Means(report=report))
    assert [one.ok for one in seen] == [0, 4, 8, 10]


def test_clocks_that_jump_change_nothing(
    model: Model, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    told: list[Status] = []
    out = drive(model, tmp_path / "run", means=Means(report=told.append))
    assert contents(out) == contents(whole)
    assert all(one.rate > 0 and one.remaining is not None and one.remaining >= 0 for one in told[1:])


def test_what_is_unusable_leaves_no_folder(model: Model, tmp_path: Path) -> None:
    def broken() -> Any:
        yield from PROMPTS
        raise StoreError("the file of prompts ends here")

    for change, kind in (
        ({"factor": -1}, OptionError),
        ({"colour": 1}, OptionError),
        ({"batch": 0}, OptionError),
        ({"shard_size": 0}, OptionError),
        ({"prompts": []}, SfumatoError),
        ({"prompts": broken()}, StoreError),
    ):
        with pytest.raises(kind) as error:
            drive(model, tmp_path / "deep" / "run", **change)  # type: ignore[arg-type]
        refused(error)
        assert not (tmp_path / "deep").exists(), change


def test_columns_that_were_mended_are_taken_over_and_nothing_is_measured(
    model: Model, tmp_path: Path, log: Path
) -> None:
    wrong, right = ([{"prompt": one, "id": f"{start}{one}"} for one in PROMPTS[:3]] for start in ("x", "y"))
    out = drive(model, tmp_path / "run", wrong)
    assert table(out)[0]["id"] == f"x{PROMPTS[0]}"
    drive(model, out, right)
    assert table(out)[0]["id"] == f"y{PROMPTS[0]}"
    assert len(measured(log)) == 3
    assert contents(out) == contents(drive(model, tmp_path / "fresh", right))


def test_columns_of_the_user_keep_their_values_beside_those_of_the_run(model: Model, tmp_path: Path) -> None:
    mine = {"state": "Utah", "word": "kept", "item": 7, "row": 8, "colour": "red", "given.state": "Ohio"}
    prompts = [{"prompt": "a cat"} | mine, {"prompt": "raise one"} | mine, {"seed": "x"} | mine]
    out = drive(model, tmp_path / "run", prompts)
    for row in table(out):
        assert row["state"] in ("ok", "failed", "invalid")
        assert (row["given.state"], row["given.given.state"]) == ("Utah", "Ohio")
        assert (row["given.word"], row["given.item"], row["given.row"], row["colour"]) == ("kept", 7, 8, "red")
    assert [row["word"] for row in table(out)] == ["a", "cat", None, None]
    header, *failed = (out / "failed.csv").read_text().splitlines()
    assert header.count("state") == 3
    assert len(failed) == 2


def test_a_run_is_no_explanation_and_it_is_said_how_to_open_it(whole: Path) -> None:
    with pytest.raises(StoreError, match=r"is a run of many prompts; open it with sfumato\.open_run"):
        sfumato.open(whole)


def test_numbers_of_an_item_are_columns_of_all_its_rows(model: Model, tmp_path: Path) -> None:
    out = drive(model, tmp_path / "run", ["a red cat", "raise one"])
    assert [(row["word"], row["length"]) for row in table(out)] == [("a", 9), ("red", 9), ("cat", 9), (None, None)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("each", FAMILIES, ids=lambda one: one.name)
def test_a_run_can_be_planned_on_every_family(each: Family) -> None:
    facts = facts_of(each.wrapped())
    assert facts.family
    assert (facts.height > 0) == (facts.width > 0)


def test_a_task_that_a_model_cannot_answer_is_refused(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from sfumato.runs import task

    needy = replace(task._tasks._entries["made-up"], needs=frozenset({"label", "words or label"}))
    monkeypatch.setitem(task._tasks._entries, "made-up", needy)
    with pytest.raises(ModelError, match=r"made-up needs label, which .* does not have"):
        drive(model, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert planned("made-up", {}, lambda: []).task is needy
    assert json.dumps(sorted(needy.needs)) == '["label", "words or label"]'
