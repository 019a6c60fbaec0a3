"""Who may open the page, and how: hosts, passwords, ports, the extra, strangers; and how it closes."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from sfumato.app.serving import CannotServe, allows, read_passwords, serve
from tests.app.conftest import start
from tests.app.test_load import Visitor
from tests.cli.running import run


def test_another_host_needs_passwords() -> None:
    done = run("app", "--host", "0.0.0.0", "--port", "0")
    assert "give --auth FILE" in done.error
    assert "--host 0.0.0.0" in done.error


def passwords(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "passwords"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_passwords_are_read_from_a_file_of_ones_own(tmp_path: Path) -> None:
    people = read_passwords(passwords(tmp_path, "# who\nann:correct horse\n\nbob:pass:with:colons\n"))
    assert people == {"ann": "correct horse", "bob": "pass:with:colons"}
    check = allows(people)
    assert check("ann", "correct horse")
    assert not check("ann", "correct hors")
    assert not check("eve", "")
    assert not check("", "")


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("ann:correct horse\n", 0o644, "can be read by others; keep it to yourself: chmod 600"),
        ("", 0o600, "names nobody"),
        ("ann\n", 0o600, "line 1: expected NAME:PASSWORD"),
        ("# x\nann:short\n", 0o600, "line 2: expected NAME:PASSWORD, with 8 letters"),
        (":password1\n", 0o600, "line 1"),
    ],
)
def test_a_file_that_is_no_good_is_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    with pytest.raises(CannotServe, match=said):
        read_passwords(passwords(tmp_path, text, mode))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = run("app", "--host", "0.0.0.0", "--auth", str(tmp_path / "nothing"))
    assert "cannot be read" in done.error


def test_a_port_that_is_taken_is_one_line(served: str) -> None:
    done = run("app", "--port", served.rpartition(":")[2])
    assert "cannot listen on 127.0.0.1" in done.error
    assert "take another --port" in done.error


def test_a_library_must_be_a_folder(tmp_path: Path) -> None:
    done = run("app", "--library", str(tmp_path / "nothing"))
    assert "is no folder" in done.error


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(CannotServe, match=r"pip install 'sfumato\[app\]'"):
        serve(["studio/scenes"], port=0)


def ask(address: str, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(address + path, headers={name.replace("_", "-"): v for name, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_real_server_gives_the_page_and_nothing_else(served: str) -> None:
    assert ask(served, "/")[0] == 200
    for path in ("/gradio_api/file=/etc/passwd", "/gradio_api/upload", "/docs", "/results/x/image.png"):
        assert ask(served, path)[0] == 404, path
    assert ask(served, "/", Host="evil.example")[0] == 421
    assert ask(served, "/config", Origin="https://evil.example")[0] == 403


def test_with_passwords_nothing_is_given_without_one_and_control_c_closes_it_with_work_waiting(
    tmp_path: Path, come: Callable[..., Visitor]
) -> None:
    found = start("--model", "studio/scenes", "--auth", str(passwords(tmp_path, "ann:correct horse\n")))
    try:
        assert ask(found.address, "/config")[0] == 401
        assert "What does the image show" not in ask(found.address, "/")[1]
        body = b"username=ann&password=wrong"
        request = urllib.request.Request(found.address + "/login", data=body)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        refused.value.close()
        request = urllib.request.Request(found.address + "/login", data=b"username=ann&password=correct+horse")
        with urllib.request.urlopen(request, timeout=30) as answer:
            cookies = "; ".join(one.partition(";")[0] for one in answer.headers.get_all("set-cookie") or [])
        assert ask(found.address, "/config", Cookie=cookies)[0] == 200
        for number in range(3):
            visitor = come(found.address, number, {"username": "ann", "password": "correct horse"})
            assert [sent(visitor, "mine", steps=1000).status_code for _ in range(4)] == [200] * 4
    finally:
        began = time.monotonic()
        ended = found.stop(signal.SIGINT)
    assert ended in (0, 130)
    assert time.monotonic() - began < 15  # two seconds, where nothing else runs


@pytest.fixture
def come() -> Iterator[Callable[..., Visitor]]:
    """Makes visitors, who leave at the end."""
    with ExitStack() as stack:

        def make(*given: Any) -> Visitor:
            visitor = Visitor(*given)
            stack.callback(visitor.http.close)
            return visitor

        yield make


def sent(visitor: Visitor, session: str, **more: Any) -> httpx.Response:
    """An event of Explain, without waiting for its end."""
    values = ["studio/scenes", "a red circle", "1", str(more.pop("steps", 1)), "", "", "", ""]
    listener = visitor.listeners["explain", "click"]["id"]
    event = {"data": values, "fn_index": listener, "session_hash": session, "event_data": None, "trigger_id": None}
    return visitor.http.post("/gradio_api/queue/join", json=event | more)


def messages(visitor: Visitor, session: str) -> list[str]:
    """The kinds of messages that a visitor gets of a session, up to the end of its first event."""
    with visitor.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
        if lines.status_code != 200:
            return [str(lines.status_code)]
        found = []
        for line in lines.iter_lines():
            if line.startswith("data:"):
                found.append(str(json.loads(line.removeprefix("data:"))["msg"]))
                if found[-1] == "process_completed":
                    break
        return found


def test_events_of_a_session_go_to_its_own_visitor_only(served: str, come: Callable[..., Visitor]) -> None:
    mine, other = come(served, 0), come(served, 1)
    assert sent(mine, "shared").status_code == 200
    assert messages(other, "shared") == ["404"]
    end = {"session_hash": "shared", "fn_index": mine.listeners["explain", "click"]["id"], "event_id": "0" * 32}
    assert other.http.post("/gradio_api/cancel", json=end).status_code == 200
    with other.http.stream("GET", "/gradio_api/heartbeat/shared") as beat:  # as if a tab of that name was closed
        assert beat.status_code == 200
    assert messages(mine, "shared")[-1] == "process_completed"


def test_what_is_not_of_the_page_is_refused_as_such(served: str, come: Callable[..., Visitor]) -> None:
    visitor = come(served, 0)
    refused: tuple[dict[str, Any], ...] = ({"fn_index": 9999}, {"fn_index": -1}, {"data": []})
    for more in refused:
        assert sent(visitor, "mine", **more).status_code == 400, more
    assert sent(visitor, "x" * 5000).status_code == 400
    for path in ("/assets/" + "x" * 300, "/static/" + "x" * 30_000, "/static/" + "x/" * 3000):
        assert visitor.http.get(path).status_code == 404, path
    assert messages(visitor, "unknown") == ["404"]
