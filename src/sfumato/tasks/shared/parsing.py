"""Parts of speech and head-dependent relations of the words of a prompt, from the shipped lexicon or from spaCy.

The two sources name relations differently. The lexicon reads the captions of the scenes only, and names relations as
Universal Dependencies does (https://universaldependencies.org/u/dep/). A spaCy model reads any text, and its relations
keep the labels that it was trained with: those of English are ClearNLP's, so "on a gray background" is "prep" and
"pobj" there, "case" and "nmod" here. `Parser.name` says which of the two a result came from.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sfumato.errors import OptionError, SfumatoWarning
from sfumato.models.lexicon import pos
from sfumato.models.words import Word, split
from sfumato.studio.grammar import NUMERALS, ScenePlan, parse, say

PREFERRED = ("en_core_web_trf", "en_core_web_lg", "en_core_web_md", "en_core_web_sm")
"""The spaCy models for English that "auto" looks for, the most accurate first; any other one comes after these."""
LEXICON = "lexicon"
INSTALL = "pip install sfumato[nlp]"
DOWNLOAD = "python -m spacy download en_core_web_sm"

_SHOWN = 5
_LONGEST_REASON = 160
_BACKGROUND = -1

_DEPENDENTS: dict[str, str] = {
    "a": "det",
    "an": "det",
    "the": "det",
    "and": "cc",
    "on": "case",
    ",": "punct",
    **dict.fromkeys(NUMERALS, "nummod"),
    **dict.fromkeys(("left", "right", "of", "above", "below", "inside"), "case"),
}
"""How the words of a caption that are neither noun nor verb stand to their noun; what is not here is "amod"."""

_UNIVERSAL: dict[str, str] = {
    "NOUN": "noun",
    "PROPN": "noun",
    "ADJ": "adj",
    "NUM": "num",
    "DET": "det",
    "ADP": "adp",
    "SCONJ": "adp",
    "VERB": "verb",
    "AUX": "verb",
    "CCONJ": "cconj",
    "CONJ": "cconj",
    "PUNCT": "punct",
    "ADV": "adv",
    "PART": "adv",
    "PRON": "pron",
}
"""Our tags for the Universal POS tags; INTJ, SYM, SPACE, X and no tag at all are "x"."""


class Dependent(NamedTuple):
    """One relation between two words, by their places among the prompt's words: `dependent` hangs on `head`."""

    head: int
    dependent: int
    relation: str


@dataclass(frozen=True)
class Parse:
    """What a parser says of a prompt.

    Attributes:
        tags: The part of speech of every word, one of `sfumato.models.lexicon.TAGS`; "x" where it is not known.
        dependents: Pairs of words, in the order of the dependents; every word has one head at most.
    """

    tags: tuple[str, ...]
    dependents: tuple[Dependent, ...]


class Parser(Protocol):
    """What gives every word of a prompt a part of speech, and some of them a head.

    Attributes:
        name: What it is, for results: "lexicon" or "spacy en_core_web_sm 3.8.0".
    """

    name: str

    def __call__(self, prompt: str, words: Sequence[Word]) -> Parse:
        """Parse one prompt, given the words it was split into."""


def tagger_for(tagger: str, prompts: Sequence[str]) -> str:
    """The tagger that reads all prompts: "lexicon", or the name or folder of a spaCy model.

    Args:
        tagger: One of these, or "auto": the lexicon where every prompt is a caption of the scenes, else the best spaCy
            model for English that is installed, else the lexicon.
        prompts: What will be parsed.

    Warns:
        SfumatoWarning: "auto" falls back to the lexicon, which does not know some of the words.
    """
    if tagger != "auto":
        return tagger
    if all(parse(prompt) is not None for prompt in prompts):
        return LEXICON
    best = _best_english()
    if best is None:
        _tell_unknown(prompts)
    return best or LEXICON


def parser_of(tagger: str, prompts: Sequence[str]) -> Parser:
    """Make the parser of a name.

    Args:
        tagger: As for `tagger_for`.
        prompts: What will be parsed.

    Raises:
        OptionError: spaCy or the model is missing, cannot be loaded, or gives no parts of speech.

    Warns:
        SfumatoWarning: "auto" falls back to the lexicon, which does not know some of the words; or a model was made
            for another version of spaCy.

    Example:
        >>> caption = "a red circle"
        >>> found = parser_of("auto", [caption])(caption, split(caption, pos))
        >>> found.tags, found.dependents[0]
        (('det', 'adj', 'noun'), Dependent(head=2, dependent=0, relation='det'))
    """
    chosen = tagger_for(tagger, prompts)
    return _Lexicon() if chosen == LEXICON else _spacy_parser(chosen, prompts)


class _Lexicon:
    """Tags by the shipped lexicon; relations of the captions of the scenes, and of no other text.

    The relations follow Universal Dependencies. A caption's root is its first noun:

    - noun -> "a", "an", "the": det; noun -> "two", "three": nummod; noun -> size, texture, colour: amod.
    - "and": first noun -> second noun: conj; second noun -> "and": cc.
    - "left of", "right of", "above", "below", "inside": first noun -> second noun: nmod; second noun -> every word of
      the relation: case.
    - "touching", a participle: first noun -> "touching": acl; "touching" -> second noun: obj.
    - "on a gray background": first noun -> "background": nmod; "background" -> "on": case. It says where all things
      are, and what all conjuncts share hangs on the first.
    - ", gray background": first noun -> "background": parataxis; "background" -> ",": punct. The background stands
      beside the things: it is neither another name of them (appos) nor one more of them (conj).
    """

    name = LEXICON

    def __call__(self, prompt: str, words: Sequence[Word]) -> Parse:
        tags = tuple(pos(word.text) for word in words)
        plan = parse(prompt)
        if plan is None or [part.word for part in say(plan)] != [word.text.lower() for word in words]:
            return Parse(tags, ())
        return Parse(tags, _caption_dependents(plan))


def _caption_dependents(plan: ScenePlan) -> tuple[Dependent, ...]:
    said = say(plan)
    # which noun phrase a word belongs to: that of a thing, or the background; a relation to that of the second thing
    phrases = [_BACKGROUND if part.role != "things" else part.groups[-1] for part in said]
    noun = {phrase: place for place, phrase in enumerate(phrases)}  # a noun phrase ends with its noun
    verb = next((place for place, part in enumerate(said) if part.word == "touching"), None)
    above: dict[int, tuple[int, str]] = {}
    if 1 in noun:
        above[noun[1]] = (noun[0], "conj" if plan.relation == "and" else "nmod")
    if verb is not None:
        above[verb] = (noun[0], "acl")
        above[noun[1]] = (verb, "obj")
    if _BACKGROUND in noun:
        above[noun[_BACKGROUND]] = (noun[0], "parataxis" if plan.phrase == "comma" else "nmod")
    for place, (part, phrase) in enumerate(zip(said, phrases, strict=True)):
        if place not in above and place != noun[0]:
            above[place] = (noun[phrase], _DEPENDENTS.get(part.word, "amod"))
    return tuple(Dependent(above[place][0], place, above[place][1]) for place in sorted(above))


class _Spacy:
    """Tags and relations of a spaCy model, brought to our words by the places of their characters.

    spaCy splits text otherwise than we do ("it's" is two tokens, "ice-cream" three). A word that holds several tokens
    has the tag and the head of the one that the others hang on, or of the first. A token that holds several words, as
    "10.5" does, tags them all but for their marks and symbols, and its relations are those of the first.

    Tags are brought to those of the lexicon: proper nouns are nouns, auxiliaries are verbs, subordinating conjunctions
    are adpositions (as "since" and "as"), particles are what the lexicon says ("to" an adposition), else adverbs (as
    "not"); interjections and symbols have none.
    """

    def __init__(self, nlp: Any) -> None:
        self._nlp = nlp
        meta = nlp.meta
        self.name = f"spacy {meta['lang']}_{meta['name']} {meta['version']}"

    def __call__(self, prompt: str, words: Sequence[Word]) -> Parse:
        document = self.read(prompt)
        held = [
            [token for token in document if token.idx < word.end and word.start < token.idx + len(token)]
            for word in words
        ]
        owners: dict[int, int] = {}
        for place, tokens in enumerate(held):
            for token in tokens:
                owners.setdefault(token.i, place)
        leaders = [_leader(tokens) for tokens in held]
        tags = tuple(_tag(word, leader) for word, leader in zip(words, leaders, strict=True))
        dependents = []
        for place, leader in enumerate(leaders):
            if leader is None or owners[leader.i] != place:
                continue
            head = owners.get(leader.head.i)
            if head is not None and head != place:
                dependents.append(Dependent(head, place, leader.dep_.lower()))
        return Parse(tags, tuple(dependents))

    def read(self, prompt: str) -> Any:
        """The prompt as a spaCy document; what its components warn of, such as lemmas, is nothing that is used."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._nlp(prompt)


def _leader(tokens: list[Any]) -> Any:
    """The first token whose head is not among them (one without a head is its own), or None where there is none."""
    inside = {token.i for token in tokens}
    outward = [token for token in tokens if token.head.i == token.i or token.head.i not in inside]
    return next(iter(outward), None)


def _tag(word: Word, token: Any) -> str:
    if token is None:
        return "x"
    known = pos(word.text)
    mark = not any(character.isalnum() for character in word.text)
    if (mark and len(token) > len(word.text)) or (token.pos_ == "PART" and known != "x"):
        return known
    return _UNIVERSAL.get(token.pos_, "x")


def _spacy() -> Any:
    """Import spaCy, and put back the filters of warnings that it sets meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import spacy
        except ImportError as error:
            raise OptionError(f"spaCy is not installed; {INSTALL}, or take the tagger 'lexicon'") from error
    return spacy


def _installed() -> list[str]:
    """The spaCy models that are installed as packages; they are not imported for it, so a broken one does no harm."""
    return sorted({point.name for point in entry_points(group="spacy_models")})


def _best_english() -> str | None:
    """The installed spaCy model for English that is likely the most accurate."""
    installed = _installed()
    english = [name for name in installed if name.startswith("en_")]
    return next((name for name in (*PREFERRED, *english) if name in installed), None)


def _spacy_parser(tagger: str, prompts: Sequence[str]) -> _Spacy:
    """Load a spaCy model and see that it tags the prompts."""
    parser = _Spacy(_loaded(tagger))
    said = [prompt for prompt in prompts if prompt.strip()]
    if said and not any(parser.read(prompt).has_annotation("POS") for prompt in said):
        parts = ", ".join(parser._nlp.pipe_names) or "none"
        raise OptionError(
            f"the spaCy model {tagger!r} gives no parts of speech (its components: {parts}); take one with a tagger or "
            f"a morphologizer, such as en_core_web_sm ({DOWNLOAD}), or the tagger 'lexicon'"
        )
    return parser


def _loaded(tagger: str) -> Any:
    try:
        spacy = _spacy()
    except OptionError as error:
        raise OptionError(f"the tagger {tagger!r} would be a model of spaCy, and {error}") from error
    installed = _installed()
    if tagger not in installed and not Path(tagger).is_dir():
        raise OptionError(
            f"no spaCy model {tagger!r} is installed, nor is there such a folder; installed: "
            f"{', '.join(installed) or 'none'}; get one with {DOWNLOAD}, or take 'auto' or 'lexicon'"
        )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            nlp = spacy.load(tagger if tagger in installed else Path(tagger))
        except Exception as error:  # whatever spaCy, the model or its own libraries make of it
            reason = " ".join(str(error).split()) or type(error).__name__
            if len(reason) > _LONGEST_REASON:
                reason = reason[:_LONGEST_REASON].rstrip() + "..."
            raise OptionError(
                f"the spaCy model {tagger!r} cannot be loaded ({reason}); install what it needs, get another one with "
                f"{DOWNLOAD}, or take the tagger 'lexicon'"
            ) from error
    if any("[W095]" in str(one.message) for one in told):
        warnings.warn(
            f"the spaCy model {tagger!r} was made for another version of spaCy than {spacy.__version__}, so its tags "
            "may be worse than they should be; take a version of the model that fits",
            SfumatoWarning,
            stacklevel=4,
        )
    return nlp


def _tell_unknown(prompts: Sequence[str]) -> None:
    """Warn of the words that the lexicon does not know; letter case does not tell words apart, marks are no words."""
    words = {word.text.casefold(): word for prompt in prompts for word in split(prompt, pos) if word.pos != "punct"}
    unknown = [word.text for word in words.values() if word.pos == "x"]
    if unknown:
        remedy = DOWNLOAD if find_spec("spacy") else f"{INSTALL}, then {DOWNLOAD}"
        shown = ", ".join(map(repr, unknown[:_SHOWN])) + (", ..." if len(unknown) > _SHOWN else "")
        warnings.warn(
            f"the lexicon does not know {len(unknown)} of the {len(words)} distinct words of the prompts, which get "
            f"the tag x: {shown}; for a spaCy model, which knows them: {remedy}",
            SfumatoWarning,
            stacklevel=4,
        )
