"""Results to take away: one route of our own, by the secret id of a result, for its visitor alone."""

from __future__ import annotations

import asyncio
import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sfumato.app.server.visitors import COOKIE, Gone, Visitors
from sfumato.report.page import page
from sfumato.results.explanation import Explanation
from sfumato.results.numbers import number_rows
from sfumato.results.rows import as_csv
from sfumato.writing.json_text import json_text

AT_ONCE = 2
"""Forms that are built at the same time; the others wait."""
PRIVATE = {"cache-control": "no-store"}


def results_route(visitors: Visitors) -> Callable[[Request], Any]:
    """The handler of ``/results/{id}/{name}``."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def give(request: Request) -> Response:
        visitor = visitors.of(request.cookies.get(COOKIE, ""))
        make = FORMS.get(request.path_params["name"])
        try:
            found = visitor.find(request.path_params["id"]).explanation
        except Gone as error:
            return PlainTextResponse(f"{error}\n", 404, PRIVATE)
        if make is None:
            return PlainTextResponse(f"a result can be had as: {', '.join(FORMS)}\n", 404, PRIVATE)
        kind, build = make
        async with turns:
            body = await run_in_threadpool(build, found)
        name = request.path_params["name"]
        told = PRIVATE | {"content-disposition": f'attachment; filename="{name}"'}
        return Response(body, media_type=kind, headers=told)

    return give


def _png(explanation: Explanation) -> bytes:
    buffer = io.BytesIO()
    explanation.image.save(buffer, "PNG")
    return buffer.getvalue()


def _json(explanation: Explanation) -> bytes:
    return json_text(explanation.summary()).encode()


def _csv(explanation: Explanation) -> bytes:
    return as_csv(number_rows(explanation.summary()["numbers"])).encode()


def _html(explanation: Explanation) -> bytes:
    return page(explanation).encode()


def _zarr(explanation: Explanation) -> bytes:
    """The stored folder as one zip; unpacked, ``sfumato.open`` reads it."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "explanation.zarr"
        explanation.save(folder)
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(one for one in folder.rglob("*") if one.is_file()):
                archive.write(path, path.relative_to(place))
    return buffer.getvalue()


FORMS: dict[str, tuple[str, Callable[[Explanation], bytes]]] = {
    "image.png": ("image/png", _png),
    "report.html": ("text/html; charset=utf-8", _html),
    "explanation.zarr.zip": ("application/zip", _zarr),
    "summary.json": ("application/json", _json),
    "numbers.csv": ("text/csv; charset=utf-8", _csv),
}
NAMES = {
    "image.png": "PNG",
    "report.html": "HTML report",
    "explanation.zarr.zip": "zarr (zip)",
    "summary.json": "JSON",
    "numbers.csv": "CSV",
}


def downloads(id: str) -> list[dict[str, str]]:  # noqa: A002
    """Links to all forms in which a result can be taken away."""
    return [{"text": NAMES[form], "href": f"results/{id}/{form}"} for form in FORMS]
