"""The shipped lexicon: the part of speech of every word of the scenes and of the commonest English words."""

from __future__ import annotations

import re
import unicodedata

WORD = re.compile(r"\w+|[^\w\s]")
"""What counts as one word of a prompt: a run of word characters, or one other visible character."""

TAGS = ("noun", "adj", "num", "det", "adp", "verb", "cconj", "punct", "adv", "pron", "x")
"""The parts of speech in use, named after the Universal POS tags; "x" means unknown."""

_NOUNS = (
    "circle ring square diamond triangle star cross heart "
    "circles rings squares diamonds triangles stars crosses hearts background "
    "object objects shape shapes picture image photo photograph painting drawing scene man woman person people child "
    "dog cat bird horse house tree car street room table chair flower sky sun moon sea water mountain river city"
)
_ADJECTIVES = (
    "red green blue yellow purple orange white black gray grey pink brown teal small large striped dotted "
    "big little tiny huge new old young good bad beautiful bright dark light long short tall high low round plain "
    "colorful"
)
_NUMERALS = "one two three four five six seven eight nine ten zero dozen"
_DETERMINERS = (
    "a an the this that these those every each some any no all both another either neither such many few several much "
    "my your his her its our their"
)
_ADPOSITIONS = (
    "left right of inside above below on in at by to from with without over under into onto upon between behind beside "
    "near next through across along around against among beneath underneath outside within toward towards during "
    "before after since until about off up down like as for per"
)
_VERBS = (
    "touching is are was were be been being am has have had having do does did can could will would shall should may "
    "might must standing sitting lying holding wearing looking running walking flying riding eating facing surrounding"
)
_CONJUNCTIONS = "and or but nor yet"
_ADVERBS = "not very too also only just here there now then again always never together apart away quite almost"
_PRONOUNS = (
    "i you he she it we they me him us them who whom what which something someone nothing everything itself themselves"
)

LEXICON: dict[str, str] = {
    word: tag
    for tag, words in (
        ("noun", _NOUNS),
        ("adj", _ADJECTIVES),
        ("num", _NUMERALS),
        ("det", _DETERMINERS),
        ("adp", _ADPOSITIONS),
        ("verb", _VERBS),
        ("cconj", _CONJUNCTIONS),
        ("adv", _ADVERBS),
        ("pron", _PRONOUNS),
    )
    for word in words.split()
}
"""Every known word, in lower case, with its part of speech. Auxiliaries count as verbs."""


def split_words(text: str) -> tuple[str, ...]:
    """Split a prompt into words and punctuation marks, in order, with their letter case kept.

    >>> split_words("a red circle, gray background")
    ('a', 'red', 'circle', ',', 'gray', 'background')
    """
    return tuple(WORD.findall(text))


def pos(word: str) -> str:
    """Give the part of speech of one word (see `TAGS`); letter case does not matter.

    Args:
        word: One word as `split_words` gives it.

    Returns:
        "punct" for punctuation, "num" for digits, the lexicon's tag for a known word, otherwise "x".

    >>> pos("Circle"), pos("12"), pos(","), pos("qwxz")
    ('noun', 'num', 'punct', 'x')
    """
    known = LEXICON.get(word.lower())
    if known is not None:
        return known
    if word.isdecimal():
        return "num"
    if word and all(unicodedata.category(character)[0] == "P" for character in word):
        return "punct"
    return "x"
