"""The tab Process in a real browser: profile, pick layers, draw a mask, ablate, switch, compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.app.driving import fill, line

FILM = "#sf-film .sf-film[data-ready]"
CARD = "#sf-maps .sf-map-card >> nth=0"
FACE = "?process=0011&model=studio/faces&steps=4&seed=3"


def profiled(page: Any, act: Callable[[], Any]) -> None:
    """Do something that makes a profile, and wait for it."""
    before = page.get_attribute(FILM, "data-ready") if page.query_selector(FILM) else None
    act()
    page.wait_for_function(
        "([where, before]) => { const e = document.querySelector(where); return e && e.dataset.ready !== before }",
        arg=[FILM, before],
    )
    page.wait_for_selector(CARD)


def titled(page: Any, start: str) -> None:
    """Wait until the maps say that they are of some step."""
    page.wait_for_function(
        "start => document.querySelector('#sf-maps h3').textContent.startsWith(start)",
        arg=f"What the layers hold at {start}",
    )


def opened(page: Any, name: str) -> None:
    """Open a section of the tab."""
    page.click(f"#process-{name} > button")


def at_process(open_page: Callable[..., Any], **context: Any) -> Any:
    """The tab with a face model and four steps, nothing made yet."""
    page = open_page(**context)
    page.click("button[role=tab]:has-text('Process')")
    opened(page, "settings")
    page.click("#process-model input")
    page.click("[role=option]:has-text('studio/faces')")
    page.wait_for_selector("#process-bits label:has-text('smile')")
    fill(page, "process-steps", "4")
    return page


def test_labels_become_a_film_whose_slider_moves_all_views(open_page: Callable[..., Any]) -> None:
    page = at_process(open_page)
    page.wait_for_selector("#sf-process-cost:has-text('Costs one generation (4 denoiser calls)')")
    page.check("#process-bits label:has-text('smile') input")
    page.check("#process-bits label:has-text('lipstick') input")
    profiled(page, lambda: page.click("#profile"))
    assert page.inner_text("#sf-film .sf-title") == "smile, lipstick (0011) · seed 0"
    assert "process=0011" in page.url
    assert page.inner_text("#sf-film output") == "t = 249 (step 3 of 4)"
    titled(page, "t = 249")
    sample = page.get_attribute("#sf-film .sf-frame img >> nth=0", "src")
    page.focus("#sf-film input[type=range]")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#sf-film output") == "t = 499 (step 2 of 4)"
    titled(page, "t = 499")
    assert page.get_attribute("#sf-film .sf-frame img >> nth=0", "src") != sample
    page.click("#sf-film .sf-still[data-place='0'] >> nth=0")
    titled(page, "t = 999")
    page.wait_for_selector("#process-trajectory .js-plotly-plot")
    page.wait_for_selector("#process-distances .js-plotly-plot")


def test_layers_are_picked_in_the_schematic_by_mouse_and_keys_and_six_at_most(open_page: Callable[..., Any]) -> None:
    page = at_process(open_page)
    opened(page, "layers")
    for name in ("downs.0.0", "downs.1.1", "mid_attn.fn", "ups.0.3", "ups.1.1", "ups.2.0"):
        page.click(f"#sf-schematic [data-layer='{name}']")
        assert page.get_attribute(f"#sf-schematic [data-layer='{name}']", "aria-checked") == "true"
    page.click("#sf-schematic [data-layer='ups.2.1']")
    assert "At most 6 layers" in page.inner_text("#sf-schematic .sf-picked")
    page.focus("#sf-schematic [data-layer='downs.0.0']")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert page.get_attribute("#sf-schematic [data-layer='downs.0.0']", "aria-checked") == "false"
    assert page.get_attribute("#sf-schematic [data-layer='downs.0.1']", "aria-checked") == "true"
    page.focus("#sf-schematic [data-block='downs.0']")
    page.keyboard.press("Enter")
    page.click("#sf-schematic [data-inner='downs.0.1']")
    page.click("#sf-schematic [data-inner='downs.0.2.fn']")
    assert page.get_attribute("#sf-schematic [data-layer='downs.0.2']", "aria-checked") == "mixed"
    profiled(page, lambda: page.click("#profile"))
    names = [card.get_attribute("data-layer") for card in page.query_selector_all("#sf-maps .sf-map-card")]
    assert names == ["downs.0.2.fn", "downs.1.1", "mid_attn.fn", "ups.0.3", "ups.1.1", "ups.2.0"]


def test_a_channel_is_chosen_and_taken_out_and_the_image_changes(
    open_page: Callable[..., Any], pictured: Callable[..., None]
) -> None:
    page = open_page("?process=0011&model=studio/faces&steps=4&seed=3&layers=downs.0.3")
    page.wait_for_selector(CARD)
    page.wait_for_selector("#process-bits label:has-text('lipstick') input:checked")
    first = page.get_attribute(f"{CARD} >> img", "src")
    page.locator(f"{CARD} >> input").fill("7")
    page.wait_for_function("first => document.querySelector('#sf-maps img').src !== first", arg=first)
    assert "Channel 7 of 24" in page.inner_text(CARD)
    page.click(f"{CARD} >> button:has-text('without it')")
    page.wait_for_selector("#sf-ablation img")
    assert page.inner_text("#sf-ablation h3") == "Without channel 7 of downs.0.3"
    plain, without = (page.get_attribute(f"#sf-ablation img >> nth={place}", "src") for place in (0, 1))
    assert plain != without
    assert "normalised SSIM 0." in page.inner_text("#sf-ablation .sf-eyebrow")
    page.wait_for_selector("#sf-schematic-ablation [data-layer='downs.0.3'][aria-checked=true]")
    pictured(page.locator("#process-ablation"), "process-ablation")
    fill(page, "process-channel", "24")
    page.click("#process-ablate")
    assert line(page) == "downs.0.3 has channels 0 to 23; there is no channel 24"
    fill(page, "process-channel", "")
    page.click("#process-ablate")
    page.wait_for_selector(".sf-line.failed:has-text('which channel of downs.0.3')")


def test_a_mask_is_drawn_and_shows_where_that_part_drew_from(
    open_page: Callable[..., Any], pictured: Callable[..., None]
) -> None:
    page = open_page(FACE)
    page.wait_for_selector(CARD)
    opened(page, "part")
    assert page.is_disabled("#process-trace")
    frame = page.locator("#sf-process-pad .sf-picture")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    x, y = box["x"] + 0.4 * box["width"], box["y"] + 0.6 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 0.12 * box["width"], y, steps=4)
    page.mouse.up()
    page.wait_for_selector("#process-price:has-text('backward passes')")
    page.wait_for_selector(f"{CARD} >> button:has-text('in the drawn part')")
    fill(page, "process-times", "100")
    page.wait_for_selector("#process-price:has-text('then 1 steps')")
    page.click("#process-trace")
    page.wait_for_selector("#process-volume .js-plotly-plot .gl-container canvas", state="attached")
    assert "of the image" in page.inner_text("#sf-volume-steps .sf-still")
    assert page.locator("#sf-gradient-maps .sf-map-card").count() == 6
    pictured(page.locator("#process-part"), "process-part")
    page.click("#sf-process-pad button:has-text('Clear')")
    page.wait_for_selector("#process-price:has-text('Draw on the picture')")
    assert page.is_disabled("#process-trace")


def test_a_named_region_and_the_sum_alone(open_page: Callable[..., Any]) -> None:
    page = open_page(FACE)
    page.wait_for_selector(CARD)
    opened(page, "part")
    page.click("#process-region label:has-text('eyes')")
    page.wait_for_selector(f"{CARD} >> button:has-text('in eyes')")
    page.click("#process-detail label:has-text('only their sum')")
    page.wait_for_selector("#process-price:has-text('1 backward passes')")
    page.click("#process-trace")
    page.wait_for_selector("#sf-volume-steps img")
    assert not page.is_visible("#process-volume .js-plotly-plot")
    page.click("#sf-volume-steps button >> nth=1")
    page.wait_for_selector("#sf-volume-steps button:nth-child(2)[aria-pressed=true]")


def test_a_part_chosen_while_another_is_followed_stays(open_page: Callable[..., Any]) -> None:
    page = open_page(FACE)
    page.wait_for_selector(CARD)
    opened(page, "part")
    page.click("#process-region label:has-text('eyes')")
    page.wait_for_selector(f"{CARD} >> button:has-text('in eyes')")
    page.click("#process-trace")
    page.click("#process-region label:has-text('mouth')")  # before the other one has ended
    page.wait_for_selector(f"{CARD} >> button:has-text('in mouth')")
    page.wait_for_selector("#sf-volume-steps img")
    page.focus("#sf-film input[type=range]")
    page.keyboard.press("ArrowLeft")
    titled(page, "t = 499")
    assert "in mouth" in page.inner_text(CARD)
    opened(page, "settings")
    fill(page, "process-seed", "5")
    profiled(page, lambda: page.click("#profile"))
    page.wait_for_selector("#process-price:has-text('backward passes')")  # the part is kept, and priced anew
    page.wait_for_selector("#sf-volume-steps img", state="detached")


def test_another_label_from_a_step_on(open_page: Callable[..., Any], pictured: Callable[..., None]) -> None:
    page = open_page(FACE)
    page.wait_for_selector(CARD)
    opened(page, "switch")
    page.click("#process-to-bits label:has-text('male')")
    page.wait_for_selector("#process-switch-price:has-text('Costs 4 generations')")
    page.click("#process-switch-go")
    page.wait_for_selector("#process-switch-curve .js-plotly-plot")
    captions = page.locator("#sf-switch .sf-still span").all_inner_texts()
    assert captions == ["male alone", "step 1, t = 749", "step 2, t = 499", "smile, lipstick alone"]
    pictured(page.locator("#process-switch"), "process-switch")
    page.click("#process-to-bits label:has-text('male')")
    page.click("#process-to-bits label:has-text('smile')")
    page.click("#process-to-bits label:has-text('lipstick')")
    page.click("#process-switch-go")
    assert line(page) == "the other condition is the same as the first; choose another"


def test_two_profiles_are_compared(open_page: Callable[..., Any], pictured: Callable[..., None]) -> None:
    page = open_page(FACE)
    page.wait_for_selector(CARD)
    opened(page, "compare")
    page.click("#process-compare-go")
    assert "two profiles are compared" in line(page)
    opened(page, "settings")
    fill(page, "process-seed", "4")
    profiled(page, lambda: page.click("#profile"))
    page.wait_for_selector("#process-compare .sf-line.failed", state="hidden")
    page.click("#process-compare-go")
    page.wait_for_selector("#sf-comparison img")
    assert page.locator("#sf-comparison .sf-reelname").all_inner_texts() == [
        "smile, lipstick (0011) · seed 3",
        "smile, lipstick (0011) · seed 4",
    ]
    assert "part at t =" in page.inner_text("#sf-comparison .sf-eyebrow >> nth=0")
    page.wait_for_selector("#process-alike .js-plotly-plot")
    page.wait_for_selector("#process-apart .js-plotly-plot")
    pictured(page.locator("#process-compare"), "process-compare")


def test_what_cannot_be_profiled_is_said_in_one_line(open_page: Callable[..., Any]) -> None:
    seven = ",".join(f"downs.{level}.{part}" for level in (0, 1) for part in range(4))
    for query, said in (
        ("?process=&model=studio/scenes", "the prompt is empty; write what the image shows, such as: a red circle"),
        ("?process=99&model=studio/faces", "the label is '99'; expected 4 bits (bangs, male, smile, lipstick)"),
        (f"{FACE}&layers={seven}", "8 layers are chosen; at most 6 are shown at a time"),
        (f"{FACE}&layers=nosuch", "no layer matches 'nosuch'"),
        (f"{FACE}&every=9", "every is 9; this run has 4 steps"),
    ):
        page = open_page(query)
        assert said in line(page)
        assert "process" in page.url


def test_a_prompt_on_a_phone_fits_its_width(open_page: Callable[..., Any], pictured: Callable[..., None]) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.click("button[role=tab]:has-text('Process')")
    opened(page, "settings")
    page.click("#process-model input")
    page.click("[role=option]:has-text('studio/scenes')")
    page.wait_for_selector("#process-prompt textarea:visible, #process-prompt input:visible")
    fill(page, "process-steps", "4")
    fill(page, "process-prompt", "a red circle")
    opened(page, "layers")
    page.wait_for_selector("#sf-schematic svg")
    profiled(page, lambda: page.click("#profile"))
    assert page.inner_text("#sf-film .sf-title") == "a red circle · seed 0"
    page.wait_for_selector("#process-distances .js-plotly-plot")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    pictured(page, "process-phone")


def test_the_tab_on_a_screen(open_page: Callable[..., Any], pictured: Callable[..., None]) -> None:
    page = open_page("?process=0011&model=studio/faces&seed=4&steps=20")
    page.wait_for_selector(CARD)
    page.wait_for_selector("#process-distances .js-plotly-plot")
    pictured(page, "process", full_page=True)
    opened(page, "layers")
    page.click("#sf-schematic [data-layer='downs.0.0']")
    pictured(page.locator("#process-layers"), "process-schematic")
