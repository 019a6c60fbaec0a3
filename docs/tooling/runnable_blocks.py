"""A hook of mkdocs: a block marked "python run", which the tests run, is shown as any other Python block."""

from __future__ import annotations

from typing import Any

MARK = "```python run\n"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take the mark off before the page is rendered."""
    return markdown.replace(MARK, "```python\n")
