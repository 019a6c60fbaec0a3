"""A page read back: its elements, ids, texts and data."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "img", "input", "br"}


@dataclass
class Element:
    """One element with its attributes and all text below it."""

    tag: str
    attrs: dict[str, str | None]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Parses a page; `broken` tells the first tag that does not close what was opened."""

    source: str
    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)
    broken: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()
        if self.open and not self.broken:
            self.broken = f"<{self.open[-1].tag}> is never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1].tag != tag:
            self.broken = self.broken or f"</{tag}> closes <{self.open[-1].tag if self.open else 'nothing'}>"
            return
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str, **attrs: str) -> list[Element]:
        """Elements of a tag with these attributes; a class matches one of several."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attrs.items()}
        return [
            e
            for e in self.elements
            if e.tag == tag
            and all(
                value in (e.attrs.get(name) or "").split() if name == "class" else e.attrs.get(name) == value
                for name, value in wanted.items()
            )
        ]

    @property
    def data(self) -> Any:
        """What the page's script draws from."""
        return json.loads(self.all("script", id="data")[0].text)

    @property
    def allowed_script(self) -> str:
        """The hash of the only script that the page lets run."""
        policy = self.all("meta", http_equiv="Content-Security-Policy")[0].attrs["content"] or ""
        found = re.search(r"script-src 'sha256-([^']+)'", policy)
        return found[1] if found else ""


def sha256(text: str) -> str:
    """As a content security policy writes it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
