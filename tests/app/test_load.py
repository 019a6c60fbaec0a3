"""Many visitors at once, on this machine alone and bounded: nothing lost, nothing crossed, memory flat."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from sfumato.app.server.results import FORMS
from tests.app.conftest import Served, start

VISITORS = 20
REQUESTS = 10
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross")
COLOURS = ("red", "blue", "green", "yellow", "purple", "black", "white")


class Visitor:
    """A browser's tab without the browser: it speaks to the page as Gradio's front end does."""

    def __init__(self, address: str, number: int, login: dict[str, str] | None = None) -> None:
        self.http = httpx.Client(base_url=address, timeout=240)
        self.http.get("/")
        if login is not None:
            self.http.post("/login", data=login)
        config = self.http.get("/config").json()
        self.session = secrets.token_hex(6)
        self.shown = ""
        self.neighbour = self
        self.prompt = f"a {COLOURS[number % 7]} {SHAPES[number // 7]}"
        named = {one["id"]: one["props"].get("elem_id") for one in config["components"]}
        self.listeners = {
            (named.get(target), event): one for one in config["dependencies"] for target, event in one["targets"]
        }
        self.outputs = {key: [named.get(output) for output in one["outputs"]] for key, one in self.listeners.items()}

    def ask(self, who: str, event: str, values: list[Any], data: Any = None) -> dict[str | None, Any]:
        """Send an event and wait for its end: the values of the components by id, under None what a line says."""
        key = (who, event)
        body = {
            "data": values,
            "fn_index": self.listeners[key]["id"],
            "session_hash": self.session,
            "event_data": data,
            "trigger_id": None,
        }
        joined = self.http.post("/gradio_api/queue/join", json=body)
        joined.raise_for_status()
        mine = joined.json()["event_id"]
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line.removeprefix("data:"))
                if message["msg"] == "process_completed" and message.get("event_id") == mine:
                    assert message["success"], message
                    values = list(zip(self.outputs[key], message["output"]["data"], strict=True))
                    said = [one for name, one in values if name is None and isinstance(one, dict) and "text" in one]
                    return dict(values) | {None: said[0] if said else {}}
        raise AssertionError("the answer was lost")

    def explain(self, prompt: str, seed: int) -> dict[str | None, Any]:
        return self.ask("explain", "click", ["studio/scenes", prompt, str(seed), "2", "", "", "", ""])

    def visit(self) -> Iterator[str]:
        """Ten requests of all kinds; each answer must be this visitor's own."""
        stage = self.explain(self.prompt, 1)["sf-stage-explain"]
        assert stage["panes"][0]["title"] == f"{self.prompt} · seed 1"
        yield "explained"
        one = stage["panes"][0]["image"]
        self.shown = stage["key"]
        result = self.http.get(f"/results/{stage['key']}/summary.json")
        assert result.json()["prompt"] == self.prompt
        yield "taken away"
        step = self.ask("sf-stage-explain", "pick", [None], {"step": 1, "layer": "", "head": "2"})["sf-stage-explain"]
        assert step["panes"][0]["image"] == one
        assert step["panes"][0]["words"][1]["map"] != stage["panes"][0]["words"][1]["map"]
        yield "a step and a head"
        assert self.explain("", 1)[None]["text"].startswith("the prompt is empty")
        yield "a bad prompt"
        cost = self.ask("sf-methods-explain", "price", [None], {"method": "shapley", "options": {}})
        assert "shapley" in cost["sf-methods-explain"]["costs"]
        yield "a cost"
        again = self.explain(self.prompt, 2)["sf-stage-explain"]
        assert again["panes"][0]["title"] == f"{self.prompt} · seed 2"
        assert again["panes"][0]["image"] != one
        yield "another seed"
        books = self.ask("sf-shelf", "refresh", [])["sf-shelf"]["groups"][0]["items"]
        assert [book["title"] for book in books] == [f"{self.prompt} · seed {seed}" for seed in (2, 1)]
        yield "the library"
        compared = self.ask("sf-shelf", "compare", [], {"ids": [book["id"] for book in books]})["sf-stage-library"]
        assert [pane["title"] for pane in compared["panes"]] == [book["title"] for book in books]
        yield "compared"
        theirs = self.neighbour.shown
        assert theirs not in ("", self.shown)
        for event, data in (("open", {"id": theirs}), ("compare", {"ids": [self.shown, theirs]})):
            refused = self.ask("sf-shelf", event, [], data)
            assert "no longer kept" in refused[None]["text"]
            assert self.neighbour.prompt not in json.dumps(refused)
        for form in FORMS:
            assert self.http.get(f"/results/{theirs}/{form}").status_code == 404
        assert self.neighbour.http.get(f"/results/{theirs}/image.png").status_code == 200
        yield "somebody else's"
        assert self.explain(self.prompt, 1)["sf-stage-explain"]["panes"][0]["image"] == one
        yield "the same again"


@pytest.fixture(scope="module")
def alone() -> Iterator[Served]:
    """A server of this test's own, so that its memory is that of these visitors."""
    found = start("--model", "studio/scenes")
    yield found
    found.stop()


def resident(served: Served) -> float:
    """Memory of the server in MB."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_twenty_visitors_send_two_hundred_requests(alone: Served) -> None:
    visitors = [Visitor(alone.address, number) for number in range(VISITORS)]
    for number, visitor in enumerate(visitors):
        visitor.neighbour = visitors[number - 1]
    visits = [visitor.visit() for visitor in visitors]
    half = threading.Barrier(VISITORS)
    memory: list[float] = []

    def run(number: int) -> int:
        answers = 0
        for answers, _ in enumerate(visits[number], start=1):
            if answers == REQUESTS // 2 and half.wait(timeout=600) == 0:
                memory.append(resident(alone))
        return answers

    with ExitStack() as stack, ThreadPoolExecutor(VISITORS) as pool:
        for visitor in visitors:
            stack.callback(visitor.http.close)
        answered = list(pool.map(run, range(VISITORS)))
    assert answered == [REQUESTS] * VISITORS
    memory.append(resident(alone))
    assert memory[1] < memory[0] * 1.1 + 20, memory
