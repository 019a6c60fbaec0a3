"""Text in pictures: what no installed font can draw is written as its code point instead of an empty box."""

from __future__ import annotations

from functools import lru_cache

# Tried in this order; those that are not installed are passed over. DejaVu comes with matplotlib.
_FAMILIES = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Arial Unicode MS", "Noto Emoji", "Symbola")


@lru_cache(maxsize=1)
def families() -> tuple[str, ...]:
    """The font families that are installed, most wanted first."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return tuple(name for name in _FAMILIES if name in installed)


@lru_cache(maxsize=4096)
def drawable(character: str) -> bool:
    """Whether a font has a visible glyph for one character."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    if not character.isprintable():
        return False
    fonts = (get_font(findfont(FontProperties(family=name))) for name in families())
    return any(font.get_char_index(ord(character)) for font in fonts)


def lettered(text: str, longest: int = 60) -> str:
    """Text that can be drawn: other characters as [U+1F600], and no longer than so many characters."""
    shown = "".join(c if drawable(c) else f"[U+{ord(c):04X}]" for c in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1].rstrip() + "…"
