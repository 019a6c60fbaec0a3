"""The tab Steps in a real browser: schedules, steps, maps, the games, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.app.driving import fill, line

READY = "#sf-stepmaps .sf-stepmaps[data-ready]"
PROMPT = "a red circle left of a blue square"


@pytest.fixture
def steps_page(browser_page: Any) -> Any:
    """The tab with its form open, for a short run."""
    return opened(browser_page)


def opened(page: Any, steps: int = 4) -> Any:
    page.get_by_role("tab", name="Steps").click()
    page.click("#steps-settings > button")
    page.wait_for_selector("#sf-stepform .sf-kind")
    fill(page, "steps-prompt", PROMPT)
    fill(page, "steps-count", str(steps))
    page.wait_for_function("n => document.querySelectorAll('.sf-step').length === n", arg=steps)
    return page


def chosen(page: Any, *questions: str) -> None:
    """Ask these and nothing else."""
    for button in page.locator("#sf-stepform [data-question]").all():
        name = button.get_attribute("data-question")
        if (button.get_attribute("aria-pressed") == "true") != (name in questions):
            page.click(f"#sf-stepform [data-question={name}]")


def looked_at(page: Any, *steps: int) -> None:
    """Mark these steps and no other."""
    for step in range(page.locator(".sf-step").count()):
        button = page.locator(f".sf-step[data-step='{step}']")
        if (button.get_attribute("aria-pressed") == "true") != (step in steps):
            button.click()


def look(page: Any) -> None:
    page.click("#steps-look")
    page.wait_for_selector(READY)


def digest(page: Any, place: str) -> int:
    """Of what a canvas shows."""
    return int(
        page.evaluate(
            """where => {
            const c = document.querySelector(where);
            const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
            let sum = 0;
            for (let i = 0; i < data.length; i += 5) sum = (sum * 31 + data[i]) % 1000000007;
            return sum;
        }""",
            place,
        )
    )


def test_steps_are_shown_with_their_maps_and_one_is_checked(steps_page: Any, pictured: Callable[..., None]) -> None:
    page = steps_page
    chosen(page, "df_cam", "relevance")
    looked_at(page, 1, 2)
    page.wait_for_function(
        "() => /Costs DF-CAM: .*; relevance: /.test(document.querySelector('#sf-steps-price .sf-price').textContent)"
    )
    look(page)
    assert page.locator(".sf-cell").count() == 2 + 2 + 2
    assert page.locator(".sf-when b").all_inner_texts() == ["step 1", "step 2", "in the end"]
    page.wait_for_selector("#steps-relevance .js-plotly-plot")
    legend = page.locator("#steps-relevance .legendtext").all_text_contents()
    assert {"red", "circle", "blue", "square"} <= set(legend)
    page.click(".sf-cell[data-map=relevance][data-step='2']")
    assert page.inner_text(".sf-chosen h3").startswith("Relevance at step 2, t = ")
    whole = digest(page, ".sf-chosen canvas")
    page.select_option(".sf-word select", "red")
    assert "the word “red”" in page.inner_text(".sf-chosen h3")
    assert digest(page, ".sf-chosen canvas") != whole
    page.select_option(".sf-stepmaps .sf-controls select", "all")
    faint = digest(page, ".sf-chosen canvas")
    page.locator(".sf-stepmaps .sf-controls input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    assert digest(page, ".sf-chosen canvas") != faint
    page.click(".sf-cell[data-map=df_cam][data-step='1']")
    page.click(".sf-check .sf-primary")
    page.wait_for_selector("#steps-insertion .js-plotly-plot")
    said = page.inner_text("#sf-verdict")
    assert "DF-CAM at step 1" in said
    assert "higher is better" in said
    assert "lower is better" in said
    assert page.locator("#sf-verdict tbody th").all_inner_texts() == ["DF-CAM", "random (control)", "centre (control)"]
    assert "places taken away, % of all" in page.inner_html("#steps-deletion")
    pictured(page, "steps", full_page=True)


def test_two_schedules_lie_beside_each_other(steps_page: Any) -> None:
    page = steps_page
    chosen(page, "df_cam")
    looked_at(page, 2)
    page.click("[data-kind=early]")
    assert page.get_attribute("[data-kind=early]", "aria-checked") == "true"
    page.select_option("#sf-stepform select[id$=other]", "late")
    page.wait_for_function("() => document.querySelector('#sf-steps-price .sf-price').textContent.includes('twice')")
    look(page)
    assert page.locator(".sf-steps-pane > .sf-title").all_inner_texts() == ["Early", "Late"]
    pictures = [one.get_attribute("src") for one in page.locator(".sf-end").all()]
    assert len(set(pictures)) == 2
    first, second = (one.bounding_box() for one in page.locator(".sf-steps-pane").all())
    assert first["y"] == second["y"]


def test_a_link_opens_the_tab_and_looks_again(open_page: Callable[..., Any]) -> None:
    query = "/?look=a+red+circle&model=studio%2Fscenes&seed=3&count=4&schedule=late&at=1%2C2&ask=df_cam"
    page = open_page(query)
    page.wait_for_selector(READY)
    assert page.url.endswith(query)
    assert page.locator(".sf-when b").all_inner_texts() == ["step 1", "step 2", "in the end"]
    page.click("#steps-settings > button")
    page.wait_for_selector("[data-kind=late][aria-checked=true]")
    assert page.locator(".sf-step[aria-pressed=true]").all_inner_texts() == ["1", "2"]
    with page.expect_download() as download:
        page.click("#sf-stepmaps .sf-take >> text=HTML report")
    assert "saliency" in download.value.path().read_text(encoding="utf-8")


def test_the_form_is_used_by_keyboard(steps_page: Any) -> None:
    page = steps_page
    page.focus("[data-kind=uniform]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.kind") == "early"
    assert page.get_attribute("[data-kind=early]", "aria-checked") == "true"
    page.focus(".sf-step[data-step='0']")
    page.keyboard.press("Space")
    assert page.get_attribute(".sf-step[data-step='0']", "aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.step") == "1"
    page.wait_for_function("() => document.querySelector('#sf-steps-price .sf-price').textContent.includes('Costs')")
    assert page.evaluate("document.activeElement.dataset.step") == "1"


def test_what_cannot_be_is_said_in_one_line(steps_page: Any) -> None:
    page = steps_page
    page.click("[data-kind=window]")
    page.fill("#sf-stepform input[id$=high]", "200")
    page.fill("#sf-stepform input[id$=low]", "700")
    page.wait_for_selector("#sf-steps-price .sf-price.wrong >> text=give the larger timestep first")
    page.click("#steps-look")
    assert "give the larger timestep first" in line(page)
    page.click("[data-kind=uniform]")
    looked_at(page)
    page.click("#steps-look")
    page.wait_for_selector("text=no step is chosen; mark one or more")
    fill(page, "steps-prompt", "")
    page.click("#steps-look")
    page.wait_for_selector("text=the prompt is empty")
    fill(page, "steps-count", "100000")
    fill(page, "steps-prompt", PROMPT)
    page.click("#steps-look")
    page.wait_for_selector(".sf-line >> text=expected a whole number from 1 to 200")
    assert page.query_selector(READY) is None


def test_it_fits_a_phone(open_page: Callable[..., Any], pictured: Callable[..., None]) -> None:
    page = opened(open_page(viewport={"width": 390, "height": 844}))
    chosen(page, "df_cam", "relevance")
    look(page)
    page.wait_for_selector("#steps-relevance .js-plotly-plot")
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")
    pictured(page, "steps-phone", full_page=True)
