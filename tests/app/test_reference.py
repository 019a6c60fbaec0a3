"""The tab Reference in a real browser: pictures, a drawn mask, and points asked both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sfumato.app.asking.garment import example
from tests.app.driving import fill, line

READY = "#sf-across .sf-across[data-ready]"


@pytest.fixture
def reference_page(browser_page: Any) -> Any:
    """The tab, with few steps."""
    return opened(browser_page)


def opened(page: Any, steps: int = 3) -> Any:
    page.get_by_role("tab", name="Reference").click()
    page.click("#reference-settings > button")
    fill(page, "reference-steps", str(steps))
    return page


def state(page: Any) -> str:
    return str(page.get_attribute(READY, "data-ready"))


def click(page: Any, side: str, x: float, y: float) -> str:
    """Click a point of a picture, given as shares of its sides, and wait; what is said of it."""
    before = state(page)
    picture = page.locator(f"#sf-across [data-side={side}]")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.wait_for_function("([w, b]) => document.querySelector(w)?.dataset.ready !== b", arg=[READY, before])
    return str(page.inner_text("#sf-across .sf-readout"))


def inside() -> tuple[float, float]:
    """A place of the example's garment in the scene, as shares."""
    ys, xs = example().worn.nonzero()
    middle = len(ys) // 2
    return (xs[middle] + 0.5) / 128, (ys[middle] + 0.5) / 128


def test_one_click_paints_the_example_and_points_are_answered_both_ways(
    reference_page: Any, pictured: Callable[..., None]
) -> None:
    page = reference_page
    fill(page, "reference-steps", "12")
    page.click("#reference-example")
    page.wait_for_selector(READY)
    assert page.inner_text("#sf-across .sf-readout").startswith("All of the painted part")
    assert page.locator("[data-axis=group]").count() == 1 + 5
    assert page.locator("[data-axis=head]").count() == 1 + 4
    said = click(page, "image", *inside())
    assert said.startswith("The point x ")
    assert page.locator("#sf-across [data-side=reference] .sf-mark.best").count() == 1
    assert page.locator(".sf-truth").count() == 1
    whole = page.get_attribute("#sf-across [data-side=reference]", "data-best")
    answers = {whole}
    for head in range(4):
        before = state(page)
        page.click(f"[data-axis=head][data-place='{head}']")
        page.wait_for_function("([w, b]) => document.querySelector(w)?.dataset.ready !== b", arg=[READY, before])
        answers.add(page.get_attribute("#sf-across [data-side=reference]", "data-best"))
    assert len(answers) > 1
    assert "was looked at most by" in click(page, "reference", 0.5, 0.5)
    assert page.locator("#sf-across [data-side=image] .sf-mark.best").count() == 1
    assert page.locator("#sf-across [data-side=reference] .sf-mark.asked").count() == 1
    pictured(page, "reference", full_page=True)


def test_points_are_asked_by_keyboard(reference_page: Any) -> None:
    page = reference_page
    page.click("#reference-example")
    page.wait_for_selector(READY)
    before = state(page)
    page.focus("#sf-across [data-side=reference]")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_function("([w, b]) => document.querySelector(w)?.dataset.ready !== b", arg=[READY, before])
    assert page.evaluate("document.activeElement.dataset.side") == "reference"


def test_own_pictures_are_painted_where_the_mouse_drew(reference_page: Any, tmp_path: Path) -> None:
    page = reference_page
    Image.fromarray(example().reference).crop((0, 10, 128, 118)).save(tmp_path / "thing.jpg")
    Image.fromarray(example().scene).save(tmp_path / "scene.png")
    page.set_input_files("#sf-pad-reference input[type=file]", tmp_path / "thing.jpg")
    page.wait_for_selector("text=Made a square by adding to its sides")
    page.click("#reference-paint")
    assert "there is no scene" in line(page)
    page.set_input_files("#sf-pad-scene input[type=file]", tmp_path / "scene.png")
    page.wait_for_selector("#sf-pad-scene .sf-picture.mask")
    page.click("#reference-paint")
    page.wait_for_selector("text=nothing is marked on the scene")
    box = page.locator("#sf-pad-scene .sf-picture").bounding_box()
    page.fill("#sf-pad-scene input[type=range]", "25")
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"], steps=6)
    page.mouse.up()
    page.wait_for_timeout(600)
    page.click("#reference-paint")
    page.wait_for_selector(READY)
    assert page.locator("#sf-across .sf-outline").count() == 1
    assert click(page, "image", 0.5, 0.5).startswith("The point x 6")
    before = page.inner_text("#sf-across .sf-readout")
    picture = page.locator("#sf-across [data-side=image]").bounding_box()
    page.mouse.click(picture["x"] + 4, picture["y"] + 4)
    assert "nothing was painted there" in line(page)
    assert page.inner_text("#sf-across .sf-readout") == before


def test_what_is_no_picture_is_refused_in_one_line(reference_page: Any, tmp_path: Path) -> None:
    page = reference_page
    page.click("#reference-paint")
    assert "there is no reference" in line(page)
    (tmp_path / "text.png").write_text("no picture\n" * 20)
    Image.new("1", (9000, 6000)).save(tmp_path / "giant.png")
    page.set_input_files("#sf-pad-reference input[type=file]", tmp_path / "text.png")
    page.wait_for_selector("text=the picture cannot be read")
    page.set_input_files("#sf-pad-reference input[type=file]", tmp_path / "giant.png")
    page.wait_for_selector("text=the picture is 9000 x 6000 pixels")
    assert page.locator("#sf-pad-reference img").count() == 0


def test_it_fits_a_phone(open_page: Callable[..., Any], pictured: Callable[..., None]) -> None:
    page = opened(open_page(viewport={"width": 390, "height": 844}))
    page.click("#reference-example")
    page.wait_for_selector(READY)
    click(page, "image", *inside())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    pictured(page, "reference-phone", full_page=True)
