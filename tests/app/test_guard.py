"""What stands before the page: hosts, origins, paths, sizes, the cookie, the sessions."""

from __future__ import annotations

import json
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from sfumato.app.server.events import CANCEL, DATA, HEARTBEAT, JOIN, Queue, session_of
from sfumato.app.server.guard import LOCAL, Guard
from sfumato.app.server.visitors import COOKIE

QUEUE = Queue({0: 1, 7: 0}, lambda session: False)
EVENT = {"data": [], "fn_index": 7, "session_hash": "mine", "event_data": None, "trigger_id": None}
EVENT_BODY = json.dumps(EVENT).encode()
KEYS = ("a" * 43, "b" * 43)


class Inner:
    """An application that reads the whole body and says which requests it saw."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more, lost = b"", True, False
        while more:
            message = await receive()
            lost = message["type"] == "http.disconnect"
            body += message.get("body", b"")
            more = message.get("more_body", False) and not lost
        self.seen.append({"scope": scope, "body": body, "lost": lost})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"fine"})


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run what waits for nothing, also where a browser's loop is running already."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something")


def ask(
    path: str = "/",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    chunks: tuple[bytes, ...] = (b"",),
    query: str = "",
    queue: Queue = QUEUE,
) -> tuple[int, dict[str, str], str, Inner]:
    """Send one request through the guard: status, headers, body, and what came through."""
    given = {"host": "127.0.0.1:7860"} | (headers or {})
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": number + 1 < len(chunks)}
        for number, chunk in enumerate(chunks)
    ]
    sent: list[Any] = []
    inner = Inner()

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    finish(Guard(inner, LOCAL, queue, most=1000)(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"].decode(), inner


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "localhost:7860", "LOCALHOST:7860", "[::1]:7860"])
def test_the_page_is_given_under_its_own_names(host: str) -> None:
    assert ask(headers={"host": host})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "10.0.0.1:7860"])
def test_another_name_that_leads_here_is_refused(host: str) -> None:
    status, _, body, inner = ask(headers={"host": host})
    assert status == 421
    assert len(body.splitlines()) == 1
    assert inner.seen == []


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9999", "null", "http://[x"])
def test_another_origin_may_not_use_the_page(origin: str) -> None:
    status, _, _, inner = ask(JOIN, method="POST", headers={"origin": origin})
    assert status == 403
    assert inner.seen == []


def test_the_own_origin_may() -> None:
    assert ask(JOIN, method="POST", headers={"origin": "http://127.0.0.1:7860"}, chunks=(EVENT_BODY,))[0] == 200


def test_a_script_of_another_site_is_refused_and_a_link_there_is_not() -> None:
    foreign = {"sec-fetch-site": "cross-site"}
    assert ask(headers=foreign | {"sec-fetch-mode": "no-cors"})[0] == 403
    assert ask(headers=foreign | {"sec-fetch-mode": "navigate"})[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://evil.example",
        "/gradio_api/component_server",
        "/gradio_api/call/explain",
        "/gradio_api/run/explain",
        "/monitoring",
        "/docs",
        "/gradio_api/mcp/sse",
        "/configx",
        "/login_x",
        "/gradio_api/queue/joinX",
        "//assets/x",
        "/./config",
    ],
)
def test_what_the_page_does_not_need_is_not_there(path: str) -> None:
    status, _, _, inner = ask(path)
    assert status == 404
    assert inner.seen == []


def test_other_methods_are_refused() -> None:
    assert ask(method="DELETE")[0] == 405


def test_a_body_that_says_it_is_too_large_is_refused() -> None:
    assert ask(JOIN, method="POST", headers={"content-length": "1001"})[0] == 413
    assert ask(JOIN, method="POST", headers={"content-length": "-1"})[0] == 413
    assert ask(JOIN, method="POST", headers={"content-length": "1000"}, chunks=(EVENT_BODY,))[0] == 200


def test_a_body_that_does_not_say_so_is_cut_off() -> None:
    *_, inner = ask("/gradio_api/reset", method="POST", chunks=(b"a" * 600, b"b" * 600))
    assert inner.seen[0]["lost"]
    assert len(inner.seen[0]["body"]) < 1000
    status, _, _, inner = ask(JOIN, method="POST", chunks=(b"a" * 600, b"b" * 600))
    assert status == 400
    assert inner.seen == []


FILE = {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    "body",
    [
        {"data": [FILE], "fn_index": 0},
        {"data": [{"path": "http://evil.example/x", "meta": {}}], "fn_index": 0},
        {"data": [{"chosen": {"deep": ["a", [FILE]]}}], "fn_index": 0},
        {"data": [], "event_data": FILE},
    ],
)
def test_an_event_that_names_a_file_is_refused(body: Any) -> None:
    written = json.dumps(EVENT | body).replace("path", "\\u0070ath").encode()
    for sent in (json.dumps(EVENT | body).encode(), written):
        status, _, said, inner = ask(JOIN, method="POST", chunks=(sent[:9], sent[9:]))
        assert status == 400
        assert "files cannot be named" in said
        assert inner.seen == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 900])
def test_an_event_that_is_none_is_refused(body: bytes) -> None:
    assert ask(JOIN, method="POST", chunks=(body,))[0] == 400


def test_an_event_of_plain_values_comes_through_whole() -> None:
    values = ["a path", {"path": "x"}, {"meta": 1}, None, 2.5, "Straße \U0001f600"]
    body = json.dumps(EVENT | {"data": [values], "fn_index": 0, "event_data": {"at": [1, 2]}}).encode()
    *_, inner = ask(JOIN, method="POST", headers={"content-length": "999"}, chunks=(body[:20], body[20:]))
    came = json.loads(inner.seen[0]["body"])
    assert came.pop("session_hash") != "mine"
    assert came == {"data": [values], "event_data": {"at": [1, 2]}, "fn_index": 0, "trigger_id": None}
    lengths = [int(value) for name, value in inner.seen[0]["scope"]["headers"] if name == b"content-length"]
    assert lengths == [len(inner.seen[0]["body"])]


def test_names_of_hosts_are_compared_as_browsers_write_them() -> None:
    for given, asked in (("MyBox.local", "mybox.local:80"), ("fe80::1", "[fe80::1]:80"), ("[fe80::1]", "[fe80::1]")):
        assert Guard(Inner(), [given], QUEUE)._refusal({"path": "/", "method": "GET"}, {"host": asked}) is None


def test_a_new_visitor_gets_a_cookie_that_scripts_cannot_read() -> None:
    _, headers, _, inner = ask()
    assert headers["set-cookie"].startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax"} <= set(headers["set-cookie"].split("; "))
    key = headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert (b"cookie", f"{COOKIE}={key}".encode()) in inner.seen[0]["scope"]["headers"]
    assert "set-cookie" not in ask(headers={"cookie": f"{COOKIE}={key}"})[1]


@pytest.mark.parametrize("value", ["", "short", "x" * 44, "../../etc/passwd" + "x" * 27, "a b" + "x" * 40])
def test_a_cookie_that_is_none_of_ours_is_replaced(value: str) -> None:
    assert "set-cookie" in ask(headers={"cookie": f"{COOKIE}={value}"})[1]


def test_the_browser_is_told_to_load_nothing_from_elsewhere() -> None:
    _, headers, _, _ = ask()
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http:" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_sockets_are_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    finish(Guard(Inner(), LOCAL, QUEUE)({"type": "websocket", "headers": [], "path": "/"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fn_index", 9999),
        ("fn_index", -1),
        ("fn_index", True),
        ("fn_index", 7.0),
        ("fn_index", None),
        ("fn_index", "7"),
        ("data", None),
        ("data", {"0": 1}),
        ("data", [1]),
        ("event_data", float("nan")),
        ("event_data", [float("inf")]),
        ("event_data", ["\ud800"]),
        ("event_data", {"\udfff": 1}),
        ("trigger_id", "1"),
        ("trigger_id", [1]),
        ("session_hash", None),
        ("session_hash", ""),
        ("session_hash", 5),
        ("session_hash", "x" * 65),
    ],
)
def test_an_event_that_the_page_would_not_send_is_refused_in_one_line(field: str, value: Any) -> None:
    body = json.dumps(EVENT | {field: value}).encode()
    status, _, said, inner = ask(JOIN, method="POST", chunks=(body,))
    assert status == 400
    assert len(said.splitlines()) == 1
    assert inner.seen == []


@pytest.mark.parametrize("body", [b"[]", b"5", b"NaN", b"null", b'"x"', b"1" * 999])
def test_what_is_json_and_no_event_is_refused(body: bytes) -> None:
    for path in (JOIN, CANCEL):
        assert ask(path, method="POST", chunks=(body,))[0] == 400


def test_only_what_a_page_sends_comes_through() -> None:
    more = {"event_id": "x" * 300, "batched": True, "simple_format": True, "oauth_token": "x"}
    *_, inner = ask(JOIN, method="POST", chunks=(json.dumps(EVENT | more).encode(),))
    assert set(json.loads(inner.seen[0]["body"])) == set(EVENT)


def came_through(path: str, key: str, queue: Queue = QUEUE) -> list[str]:
    """The session that Gradio is told of, in everything that names one as "mine"."""
    cookie = {"cookie": f"{COOKIE}={key}"}
    if path in (JOIN, CANCEL):
        *_, inner = ask(path, method="POST", headers=cookie, chunks=(EVENT_BODY,))
        return [json.loads(one["body"])["session_hash"] for one in inner.seen]
    if path == DATA:
        *_, inner = ask(DATA, headers=cookie, query="session_hash=mine", queue=queue)
        return [one["scope"]["query_string"].decode().partition("=")[2] for one in inner.seen]
    *_, inner = ask(f"{HEARTBEAT}mine", headers=cookie)
    return [one["scope"]["path"].removeprefix(HEARTBEAT) for one in inner.seen]


def test_a_session_is_its_visitors_wherever_it_is_named() -> None:
    known = Queue({7: 0}, lambda session: True)
    mine, other = (
        {name for path in (JOIN, CANCEL, DATA, HEARTBEAT) for name in came_through(path, key, known)} for key in KEYS
    )
    assert len(mine) == len(other) == 1
    assert mine != other
    assert mine == {session_of(KEYS[0], "mine")}


def test_a_session_that_has_no_events_is_refused_and_the_log_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = []  # not by caplog: a server that ran in this process has configured the log of its own
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "warning", lambda *line: lines.append(line))
    queue = Queue({7: 0}, lambda session: session == session_of(KEYS[0], "mine"))
    assert came_through(DATA, KEYS[0], queue)
    assert not came_through(DATA, KEYS[1], queue)
    guard, answers = Guard(Inner(), LOCAL, queue), list[Any]()

    async def send(message: Any) -> None:
        answers.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    lines.clear()
    for number in range(300):
        query = f"session_hash={number}".encode()
        headers = [(b"host", b"127.0.0.1"), (b"cookie", f"{COOKIE}={KEYS[1]}".encode())]
        scope = {"type": "http", "method": "GET", "path": DATA, "query_string": query, "headers": headers}
        finish(guard(scope, receive, send))
    assert {one["status"] for one in answers if "status" in one} == {404}
    assert len(lines) == 1


@pytest.mark.parametrize(
    "path", ["/assets/" + "x" * 256, "/static/" + "x/" * 500, "/results/" + "é" * 128 + "/image.png"]
)
def test_names_that_no_file_has_are_not_there(path: str) -> None:
    status, _, _, inner = ask(path)
    assert status == 404
    assert inner.seen == []
    assert ask("/assets/" + "x" * 255)[0] == 200
