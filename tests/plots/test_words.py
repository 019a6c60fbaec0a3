from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import UnknownWord
from sfumato.plots import overlay, word_overlay, word_sheet
from sfumato.plots.lettering import drawable, lettered
from tests.results import synthetic


def test_a_word_overlay_is_the_overlay_of_its_map() -> None:
    made = synthetic.explanation(images=2)
    expected = overlay(made.images[1], made.word_map("circle", 1))
    np.testing.assert_array_equal(word_overlay(made, "circle", 1), expected)
    with pytest.raises(UnknownWord):
        word_overlay(made, "zebra")


def test_the_sheet_has_the_image_and_a_panel_per_word() -> None:
    made = synthetic.explanation("red circle blue")
    sheet = np.asarray(word_sheet(made)).astype(int)
    height, width, _ = sheet.shape
    assert width > 3.5 * height / 1.6  # four panels in a row
    colourful = (sheet.max(axis=-1) - sheet.min(axis=-1) > 60).any(axis=0)  # per column
    panels = [colourful[int(i * width / 4) : int((i + 1) * width / 4)].any() for i in range(4)]
    assert panels == [True] * 4
    assert (sheet[:5] == 255).all()  # white around


def test_the_sheet_marks_words_out_of_vocabulary() -> None:
    known, unknown = synthetic.explanation("red circle"), synthetic.explanation("red circle", unknown=["circle"])
    differ = np.asarray(word_sheet(known)) != np.asarray(word_sheet(unknown))
    third = differ.shape[1] // 3
    assert not differ[:, : 2 * third].any()
    assert differ[:, 2 * third :].any()


def test_columns_can_be_chosen() -> None:
    made = synthetic.explanation("red circle blue")
    assert word_sheet(made, columns=2).width < word_sheet(made).width
    assert word_sheet(made, columns=1).height > word_sheet(made, columns=2).height


def test_the_sheet_of_another_image_differs() -> None:
    made = synthetic.explanation("red circle", images=2)
    assert not np.array_equal(word_sheet(made, 0), word_sheet(made, 1))


@pytest.mark.parametrize(
    "prompt",
    [
        "a $x_1$ 😀 שלום مرحبا 漢字 \u200b zero",
        "$ \\frac{1}{2} %s {x} <b>",
        "word " * 30,
        "x" * 3000,
    ],
)
def test_any_text_is_drawn_without_warnings(prompt: str) -> None:
    made = synthetic.explanation(prompt, grid=(4, 4), size=(16, 16), unseen=1)
    assert min(word_sheet(made).size) > 100


def test_an_empty_prompt_has_a_sheet_of_one_panel() -> None:
    sheet = word_sheet(synthetic.explanation("red").select(0))
    assert word_sheet(synthetic.explanation("")).width < sheet.width


def test_what_no_font_has_is_written_as_its_code_point() -> None:
    assert lettered("red") == "red"
    assert lettered("a\nb\u200b") == "a[U+000A]b[U+200B]"
    assert lettered("\U000e0041") == "[U+E0041]"
    assert lettered("x" * 100, 10) == "xxxxxxxxx…"


@given(st.text(max_size=80))
def test_lettering_is_drawable_and_bounded(text: str) -> None:
    shown = lettered(text, 40)
    assert len(shown) <= 40
    assert all(drawable(c) or c == " " for c in shown)


def test_drawing_leaves_no_pyplot_state_behind(root: Path) -> None:
    script = (
        "import sys; from tests.results import synthetic; from sfumato.plots import word_sheet\n"
        "assert 'matplotlib' not in sys.modules\n"
        "word_sheet(synthetic.explanation('red', grid=(4, 4)))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
