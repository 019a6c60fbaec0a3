"""How long a visitor waits: for the page, for the first explained image, and for the next ones.

    .venv/bin/python benchmarks/page.py                 three rounds, each with a server of its own
    .venv/bin/python benchmarks/page.py --rounds 1 --json

A browser (Chromium) opens the page of a server that was just started, writes a prompt with all settings as they are,
and waits for the image with its maps. "first" is asked at once, while models may still be loading; "next" is another
seed. It is compared with the generation alone, as the explanation's provenance has it: what is above 1 is the page's
own share (queue, transport, drawing).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import sync_playwright

from tests.app.conftest import QUIET, installed, start
from tests.app.driving import EXPLAINED, fill

PROMPT = "a red circle left of a blue square"


def explained(page: Any, seed: int, before: str | None) -> tuple[float, float, str]:
    """Ask for a seed and wait: seconds until maps are there, those of the generation alone, and the result's key."""
    fill(page, "seed", str(seed))
    began = time.perf_counter()
    page.click("#explain")
    page.wait_for_function(
        "([where, before]) => { const e = document.querySelector(where); return e && e.dataset.ready !== before }",
        arg=[EXPLAINED, before],
    )
    waited = time.perf_counter() - began
    own = float(page.inner_text(".sf-facts").rpartition("·")[2].strip().removesuffix(" s"))
    return waited, own, str(page.get_attribute(EXPLAINED, "data-ready"))


def one_round(browser: Any) -> dict[str, float]:
    """Seconds of one visit to a new server."""
    server = start()
    try:
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(180_000)
        began = time.perf_counter()
        page.goto(server.address)
        page.wait_for_selector(".sf-examples")
        paint = time.perf_counter() - began
        page.click("#settings > button")
        fill(page, "prompt", PROMPT)
        first, _, key = explained(page, 0, None)
        later, own = [], []
        for seed in (1, 2, 3):
            waited, alone, key = explained(page, seed, key)
            later.append(waited)
            own.append(alone)
        page.context.close()
    finally:
        server.stop()
    following, alone = statistics.median(later), statistics.median(own)
    return {
        "paint": paint,
        "first": first,
        "next": following,
        "generation": alone,
        "next / generation": following / alone,
    }


def main() -> None:
    """Run the rounds and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    path = installed()
    if path is None:
        sys.exit("no browser is installed; make browser installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        rounds = [one_round(browser) for _ in range(given.rounds)]
        browser.close()
    rows = {
        name: {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
        for name in rounds[0]
        for values in [[one[name] for one in rounds]]
    }
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    print("| what | median | lowest to highest |\n| --- | --- | --- |")
    for name, row in rows.items():
        unit = "" if "/" in name else " s"
        print(f"| {name} | {row['median']:.2f}{unit} | {row['lowest']:.2f} to {row['highest']:.2f} |")


if __name__ == "__main__":
    main()
