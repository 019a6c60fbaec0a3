"""The tab Explain in a real browser: from a prompt to maps, points, regions, methods, links, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.app.driving import EXPLAINED, explain, fill, image_of, line

READOUT = "#sf-stage-explain .sf-readout"


def readout(page: Any, word: str) -> str:
    """What is said of a word, once it is."""
    page.wait_for_function(
        "([where, word]) => document.querySelector(where).textContent.startsWith('“' + word)", arg=[READOUT, word]
    )
    return str(page.inner_text(READOUT))


def pixels(page: Any) -> int:
    """A digest of what the map's canvas shows."""
    return int(
        page.evaluate(
            """() => {
            const c = document.querySelector("#sf-stage-explain .sf-map");
            const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
            let sum = 0;
            for (let i = 0; i < data.length; i += 7) sum = (sum * 31 + data[i]) % 1000000007;
            return sum;
        }"""
        )
    )


def test_a_prompt_becomes_an_image_with_a_map_for_every_word(browser_page: Any, pictured: Callable[..., None]) -> None:
    page = browser_page
    pictured(page, "start")
    explain(page, "a red circle left of a blue square", steps=25)
    assert page.locator(f"{EXPLAINED} .sf-chip").all_inner_texts() == [
        "a #1", "red", "circle", "left", "of", "a #2", "blue", "square",
    ]  # fmt: skip
    assert "covers" in readout(page, "circle")
    first = pixels(page)
    page.click("button[data-word=red]")
    said = readout(page, "red")
    assert "(adj) covers" in said
    assert pixels(page) != first
    assert "word=red" in page.url
    page.hover("button[data-word=square]")
    readout(page, "square")
    page.mouse.move(5, 5)
    readout(page, "red")
    page.click("button[data-word=circle]")
    page.click("#settings > button")
    page.wait_for_selector("#seed", state="hidden")
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(5, 5)
    pictured(page, "explain", clip={"x": 0, "y": 0, "width": 1280, "height": 960}, full_page=True)


def test_sliders_steps_layers_and_heads_change_the_map(browser_page: Any) -> None:
    page = browser_page
    explain(page, "a red circle", steps=4)
    whole = readout(page, "circle")
    drawn = pixels(page)
    page.locator("input[type=range][max='4']").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("([w, old]) => document.querySelector(w).textContent !== old", arg=[READOUT, whole])
    assert pixels(page) != drawn
    one_step = page.inner_text(READOUT)
    page.select_option("select:has(option[value='3'])", "3")
    page.wait_for_function("([w, old]) => document.querySelector(w).textContent !== old", arg=[READOUT, one_step])
    assert {"at_step=1", "head=3"} <= set(page.url.partition("?")[2].split("&"))
    threshold = page.locator("input[type=range][max='95']")
    threshold.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert "at 0.50 of its peak" in page.inner_text(READOUT)


def test_a_point_and_a_region_name_the_words_that_own_them(browser_page: Any) -> None:
    page = browser_page
    explain(page, "a red circle", steps=4)
    box = page.locator("#sf-stage-explain .sf-picture").bounding_box()
    page.mouse.click(box["x"] + 100, box["y"] + 100)
    owners = page.locator("#sf-stage-explain .sf-owners")
    owners.locator("text=Whose is the point").wait_for()
    assert {one.split()[0] for one in owners.locator("li b").all_inner_texts()} == {"a", "red", "circle"}
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 180, steps=6)
    page.mouse.up()
    owners.locator("text=Whose is the region").wait_for()
    owners.locator("button.sf-owner").first.click()
    assert page.locator("button.sf-chip[aria-pressed=true]").count() == 1


def test_all_of_it_works_by_the_keyboard(browser_page: Any) -> None:
    page = browser_page
    fill(page, "prompt", "a red circle")
    page.keyboard.press("Enter")
    page.wait_for_selector(EXPLAINED)
    page.locator("button[data-word=a]").focus()
    page.keyboard.press("ArrowRight")
    readout(page, "red")
    page.keyboard.press("Enter")
    assert page.get_attribute("button[data-word=red]", "aria-pressed") == "true"
    page.locator("#sf-stage-explain .sf-picture").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.locator("text=Whose is the point").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("button.sf-chip[aria-pressed=true]").count() == 0


def test_two_prompts_are_compared_on_one_scale(browser_page: Any, pictured: Callable[..., None]) -> None:
    page = browser_page
    page.click("#settings > button")
    fill(page, "other-prompt", "a blue circle")
    explain(page, "a red circle", steps=6)
    images = page.locator("#sf-stage-explain .sf-picture > img")
    assert images.count() == 2
    assert images.nth(0).get_attribute("src") != images.nth(1).get_attribute("src")
    page.click("button[data-word=red] >> nth=0")
    assert page.locator(READOUT).nth(1).inner_text() == "“red” is not in this prompt."
    assert page.locator("select").first.input_value() == "all"
    page.click("button[data-word=circle] >> nth=0")
    pictured(page, "compare")


def test_a_link_shows_the_same_view_again(browser_page: Any, open_page: Callable[..., Any]) -> None:
    explain(browser_page, "a red circle", steps=4, seed=5)
    browser_page.click("button[data-word=red]")
    whole = readout(browser_page, "red")
    browser_page.locator("input[type=range][max='4']").focus()
    browser_page.keyboard.press("ArrowRight")
    browser_page.wait_for_function("([w, old]) => document.querySelector(w).textContent !== old", arg=[READOUT, whole])
    said = readout(browser_page, "red")
    again = open_page("/" + browser_page.url.rpartition("/")[2])
    again.wait_for_selector(EXPLAINED)
    assert readout(again, "red") == said
    assert image_of(again) == image_of(browser_page)
    assert again.input_value("#prompt textarea") == "a red circle"


def test_a_link_that_asks_for_too_much_is_one_line(open_page: Callable[..., Any]) -> None:
    assert "steps is 9999" in line(open_page("/?prompt=a+red+circle&steps=9999"))
    assert "there is no model 'evil/model' on this page" in line(open_page("/?prompt=a&model=evil/model"))


def test_a_link_to_a_step_that_is_not_there_still_shows_the_image(open_page: Callable[..., Any]) -> None:
    page = open_page("/?prompt=a+red+circle&steps=2&at_step=99&word=red")
    page.wait_for_selector(EXPLAINED)
    assert "98 was not kept" in line(page)


def test_a_bad_prompt_is_one_line_and_the_next_works(browser_page: Any) -> None:
    page = browser_page
    page.click("#explain")
    assert line(page) == "the prompt is empty; write what the image shows, such as: a red circle"
    explain(page, "a red circle", steps=2)
    assert page.locator(".sf-line.failed:visible").count() == 0


def test_markup_in_a_prompt_stays_text(browser_page: Any) -> None:
    page = browser_page
    explain(page, "<img src=x onerror=alert(1)> a circle <script>alert(2)</script>", steps=2)
    assert page.locator("#sf-stage-explain img[src=x]").count() == 0
    assert page.locator("#sf-stage-explain .sf-chip", has_text="circle").count() == 1


def test_a_method_says_its_cost_and_shows_what_it_found(browser_page: Any, pictured: Callable[..., None]) -> None:
    page = browser_page
    explain(page, "a red circle", steps=4)
    page.click("[data-method=shapley]")
    page.wait_for_function("() => document.querySelector('.sf-price').textContent.startsWith('Costs')")
    assert "8 generations" in page.inner_text(".sf-price")
    explain(page, "a red circle", steps=3)  # another image: the cost is asked for again
    page.wait_for_function("() => document.querySelector('.sf-price').textContent.startsWith('Costs')")
    page.click(".sf-go .sf-primary")
    page.wait_for_selector("#importance .js-plotly-plot")
    sections = page.locator("#sf-sections-explain section.part")
    sections.first.wait_for()
    assert sections.locator("img").count() >= 8  # the images of all parts of the prompt
    pictured(page, "importance", full_page=True)
    with page.expect_download() as download:
        page.click("#sf-sections-explain a:has-text('zarr')")
    assert download.value.suggested_filename == "explanation.zarr.zip"


def test_an_option_that_cannot_be_read_is_one_line(browser_page: Any) -> None:
    page = browser_page
    explain(page, "a red circle", steps=2)
    page.click("[data-method=information]")
    page.click(".sf-panel summary")
    page.fill(".sf-field:has(label:text-is('samples')) input", "many")
    page.wait_for_function("() => document.querySelector('.sf-price').textContent.includes('whole number')")
    page.click(".sf-go .sf-primary")
    assert "the option samples is 'many'; expected a whole number" in line(page)


def test_long_work_is_cancelled_and_the_next_works(browser_page: Any) -> None:
    page = browser_page
    page.click("#settings > button")
    fill(page, "steps", "200")
    fill(page, "prompt", "a red circle")
    page.click("#explain")
    page.wait_for_selector(".sf-line.running:visible >> text=of 200")
    page.click(".sf-line:visible button")
    page.wait_for_selector(".sf-line.stopped:visible")
    assert page.inner_text(".sf-line.stopped:visible") == "cancelled"
    explain(page, "a blue square", steps=2)


def test_two_visitors_at_once_get_each_their_own(open_page: Callable[..., Any]) -> None:
    one, other = open_page(), open_page()
    for page, prompt in ((one, "a red circle"), (other, "a blue square")):
        page.click("#settings > button")
        fill(page, "steps", "6")
        fill(page, "prompt", prompt)
    one.click("#explain")
    other.click("#explain")
    for page, word in ((one, "circle"), (other, "square")):
        page.wait_for_selector(EXPLAINED)
        assert readout(page, word)
    assert image_of(one) != image_of(other)


def test_it_fits_a_phone(open_page: Callable[..., Any], pictured: Callable[..., None]) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True)
    explain(page, "a red circle left of a blue square", steps=6)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.tap("button[data-word=red]")
    readout(page, "red")
    pictured(page, "phone")


def test_models_of_labels_have_no_words_and_say_so(browser_page: Any) -> None:
    page = browser_page
    page.click("#settings > button")
    page.click("#model input")
    page.click("text=studio/faces")
    fill(page, "steps", "3")
    fill(page, "prompt", "0011")
    page.click("#explain")
    page.wait_for_selector(EXPLAINED)
    assert "reads no words" in page.inner_text("#sf-stage-explain")
    assert page.locator("[data-method=profile]").count() == 1
    assert page.locator("[data-method=shapley]").count() == 0
