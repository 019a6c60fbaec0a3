"""Names of files and folders from any text."""

from __future__ import annotations

import os
import unicodedata

LONGEST = 60


def slug(text: str, length: int = LONGEST) -> str:
    """A text as part of a file name: its letters and digits, all else as single hyphens.

    Letters of any script stay, in lower case. A text without letters is named after its first character
    ("," is "comma"). Never empty, never with a separator, a dot or a character that some file system refuses.

    Example:
        >>> slug("A red circle, left/right"), slug("../.."), slug(",")
        ('a-red-circle-left-right', 'full-stop', 'comma')
    """
    found = _joined(text, length) or _joined(_name_of(text), length)
    try:
        os.fsencode(found)
    except UnicodeEncodeError:  # a file system that takes ASCII only
        plain = unicodedata.normalize("NFKD", found).encode("ascii", "ignore").decode()
        found = _joined(plain, length) or _joined(_name_of(text), length)
    return found or "text"


def word_file(place: int, count: int, word: str, ending: str = ".png") -> str:
    """The name of the file of word ``place`` of ``count``: the number, as wide as the last one, and the word's slug.

    Example:
        >>> word_file(3, 12, "Circle")
        '03-circle.png'
    """
    start = f"{place:0{len(str(count))}d}-"
    return start + slug(word, LONGEST - len(start) - len(ending)) + ending


def _joined(text: str, length: int) -> str:
    kept = "".join(c if _stays(c) else " " for c in unicodedata.normalize("NFKC", text).casefold())
    return "-".join(unicodedata.normalize("NFC", kept).split())[:length].strip("-")


def _stays(char: str) -> bool:
    return unicodedata.category(char)[0] in "LN" or unicodedata.category(char) in {"Mn", "Mc"}


def _name_of(text: str) -> str:
    named = (unicodedata.name(c, "") for c in text if not c.isspace())
    return next((name for name in named if name), "")
