"""What tests do on the page again and again."""

from __future__ import annotations

from typing import Any

EXPLAINED = "#sf-stage-explain .sf-stage[data-ready]"


def explain(page: Any, prompt: str, steps: int = 4, seed: int = 0) -> None:
    """Fill in the form of Explain, press the button, wait for the image."""
    if not page.is_visible("#seed textarea, #seed input"):
        page.click("#settings > button")
    fill(page, "seed", str(seed))
    fill(page, "steps", str(steps))
    fill(page, "prompt", prompt)
    before = page.get_attribute(EXPLAINED, "data-ready") if page.query_selector(EXPLAINED) else None
    page.click("#explain")
    page.wait_for_function(
        "([where, before]) => { const e = document.querySelector(where); return e && e.dataset.ready !== before }",
        arg=[EXPLAINED, before],
    )


def fill(page: Any, name: str, text: str) -> None:
    """Fill in a field by its id."""
    page.fill(f"#{name} textarea, #{name} input", text)


def line(page: Any) -> str:
    """The line that says what went wrong, once it is there."""
    page.wait_for_selector(".sf-line.failed:visible")
    return str(page.inner_text(".sf-line.failed:visible"))


def image_of(page: Any) -> str:
    """The image on the stage of Explain, as a data URL."""
    return str(page.get_attribute("#sf-stage-explain .sf-picture > img", "src"))
