"""Tags and relations of words: the captions' own grammar, spaCy pipelines made here, and the choice between them."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import OptionError, SfumatoWarning
from sfumato.models.lexicon import TAGS, pos
from sfumato.models.words import names, split
from sfumato.studio.grammar import RELATIONS
from sfumato.studio.scenes import caption_of, held_out_captions, scene_plan
from sfumato.tasks.shared import parsing
from sfumato.tasks.shared.parsing import Parse, Parser, parser_of

LEXICON = parser_of("lexicon", ())
POS = {
    "a": "DET", "the": "DET", "dog": "NOUN", "cat": "NOUN", "ice": "NOUN", "cream": "NOUN", "paris": "PROPN",
    "it": "PRON", "'s": "AUX", "do": "AUX", "n't": "PART", "to": "PART", "not": "PART", "eats": "VERB", "red": "ADJ",
    "two": "NUM", "10.5": "NUM", "quickly": "ADV", "on": "ADP", "because": "SCONJ", "and": "CCONJ", "oh": "INTJ",
    "-": "PUNCT", ",": "PUNCT", '"': "PUNCT", "$": "SYM", "qwxz": "X",
}  # fmt: skip
ARCS: dict[str, dict[str, tuple[str, str]]] = {
    "it's a dog, not ice-cream": {
        "it": ("'s", "nsubj"), "a": ("dog", "det"), "dog": ("'s", "attr"), ",": ("dog", "PUNCT"),
        "not": ("cream", "neg"), "ice": ("cream", "compound"), "-": ("cream", "punct"), "cream": ("dog", "appos"),
    },
    "the 10.5": {"the": ("10.5", "det")},
    "on 10.5": {"10.5": ("on", "pobj")},
    "cats don't  eat": {"cats": ("eat", "nsubj"), "do": ("eat", "aux"), "n't": ("eat", "neg"), " ": ("eat", "dep")},
}  # fmt: skip
"""For some texts, the head and the label of their tokens."""


def relations(prompt: str, found: Parse) -> set[str]:
    """The dependents in words: "circle red amod"."""
    said = names(split(prompt, pos))
    assert len(set(found.dependents)) == len(found.dependents)
    return {f"{said[head]} {said[dependent]} {relation}" for head, dependent, relation in found.dependents}


def tags(parser: Parser, prompt: str) -> list[str]:
    words = split(prompt, pos)
    found = parser(prompt, words).tags
    assert len(found) == len(words)
    assert set(found) <= set(TAGS)
    return [f"{word.text}/{tag}" for word, tag in zip(words, found, strict=True)]


def parsed(parser: Parser, prompt: str) -> set[str]:
    return relations(prompt, parser(prompt, split(prompt, pos)))


@pytest.fixture
def no_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)


SUBJECTS = {
    "an orange star": {"star an det", "star orange amod"},
    "a small striped red circle": {"circle a det", "circle small amod", "circle striped amod", "circle red amod"},
    "three large black crosses": {"crosses three nummod", "crosses large amod", "crosses black amod"},
    "a red ring and a blue heart": {
        "ring a det", "ring red amod", "heart a#2 det", "heart blue amod", "ring heart conj", "heart and cc",
    },
    "a red ring left of a red ring": {
        "ring a det", "ring red amod", "ring#2 a#2 det", "ring#2 red#2 amod", "ring ring#2 nmod", "ring#2 left case",
        "ring#2 of case",
    },
    "a red star right of a blue heart": {
        "star a det", "star red amod", "heart a#2 det", "heart blue amod", "star heart nmod", "heart right case",
        "heart of case",
    },
    **{
        f"a red star {relation} a dotted blue ring": {
            "star a det", "star red amod", "ring a#2 det", "ring dotted amod", "ring blue amod", "star ring nmod",
            f"ring {relation} case",
        }
        for relation in ("above", "below", "inside")
    },
    "a red star touching a blue heart": {
        "star a det", "star red amod", "heart a#2 det", "heart blue amod", "star touching acl", "touching heart obj",
    },
}  # fmt: skip


@pytest.mark.parametrize("caption", SUBJECTS)
def test_the_relations_of_every_kind_of_caption(caption: str) -> None:
    assert parsed(LEXICON, caption) == SUBJECTS[caption]


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize(
    ("phrase", "added"),
    [
        (", gray background", {"background , punct", "background gray amod", "{} background parataxis"}),
        (
            " on a teal background",
            {"background on case", "background {a} det", "background teal amod", "{} background nmod"},
        ),
        (
            " on the pink background",
            {"background on case", "background the det", "background pink amod", "{} background nmod"},
        ),
    ],
)
def test_the_relations_of_every_background(subject: str, phrase: str, added: set[str]) -> None:
    said = subject.split()
    noun = next(word for word in said if pos(word) == "noun")
    before = said.count("a")
    article = "a" if before == 0 else f"a#{before + 1}"
    expected = SUBJECTS[subject] | {one.format(noun, a=article) for one in added}
    assert parsed(LEXICON, subject + phrase) == expected


def test_every_relation_is_tested() -> None:
    assert all(any(f" {relation} " in subject for subject in SUBJECTS) for relation in RELATIONS)


@given(st.integers(0, 2**32 - 1))
def test_a_caption_is_a_tree_without_crossing_arcs(seed: int) -> None:
    caption = caption_of(scene_plan(seed))
    words = split(caption, pos)
    found = LEXICON(caption, words)
    above = {dependent: head for head, dependent, _ in found.dependents}
    (root,) = set(range(len(words))) - set(above)
    assert len(found.dependents) == len(above) == len(words) - 1
    assert [place for _, place, _ in found.dependents] == sorted(above)
    assert found.tags[root] == "noun"
    assert "noun" not in found.tags[:root]
    for place in above:
        path = [place]
        while path[-1] in above:
            path.append(above[path[-1]])
            assert len(path) <= len(words), f"a circle in {caption!r}"
        assert path[-1] == root
    spans = [sorted(arc) for arc in above.items()]
    assert not any(a < c < b < d for a, b in spans for c, d in spans)
    assert "x" not in found.tags


def test_the_lexicon_tags_any_text_and_relates_only_captions() -> None:
    assert tags(LEXICON, "Two cats, qwxz & ice-cream") == [
        "Two/num", "cats/x", ",/punct", "qwxz/x", "&/punct", "ice-cream/x",
    ]  # fmt: skip
    assert parsed(LEXICON, "two cats") == set()
    assert parsed(LEXICON, "A  RED circle ,Gray background") == {
        "circle A det", "circle RED amod", "background , punct", "background Gray amod",
        "circle background parataxis",
    }  # fmt: skip
    assert LEXICON("", ()) == Parse((), ())
    few = split("a red circle", pos)[1:]
    assert LEXICON("a red circle", few) == Parse(("adj", "noun"), ())  # words that are not the caption's


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pipeline that tags the words of POS and joins the tokens of ARCS."""
    import spacy
    from spacy.language import Language

    @Language.component("sfumato_test_arcs")
    def join(document: Any) -> Any:
        warnings.warn("[W000] something of no matter here", stacklevel=1)
        arcs = ARCS.get(document.text, {})
        tokens = {token.text: token for token in document}
        for text, (head, label) in arcs.items():
            tokens[text].head, tokens[text].dep_ = tokens[head], label
        return document

    nlp = spacy.blank("en", meta={"name": "ruled", "version": "1.2.3"})
    ruler: Any = nlp.add_pipe("attribute_ruler")
    for word, tag in POS.items():
        ruler.add([[{"LOWER": word}]], {"POS": tag})
    nlp.add_pipe("sfumato_test_arcs")
    folder = tmp_path_factory.mktemp("spacy") / "ruled"
    nlp.to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def parser(ruled: Path) -> Parser:
    return parser_of(str(ruled), ["a dog"])


@pytest.fixture(autouse=True)
def no_other_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the models that are installed where the tests run."""

    def found(group: str) -> list[EntryPoint]:
        here = distributions(path=[str(tmp_path)])
        return [point for one in here for point in one.entry_points if point.group == group]

    monkeypatch.setattr(parsing, "entry_points", found)


@pytest.fixture
def installed(ruled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs the pipeline under names, as packages of spaCy models are."""
    there: dict[str, Any] = {}

    def install(*models: str) -> None:
        version = "1.2.3"
        for model in models:
            there[model] = sys.modules.pop(model, None)
            package, about = tmp_path / model, tmp_path / f"{model}-{version}.dist-info"
            about.mkdir()
            data = package / f"{model}-{version}"
            shutil.copytree(ruled, data)
            meta = json.loads((data / "meta.json").read_text()) | {"name": model.partition("_")[2]}
            for folder in (package, data):
                (folder / "meta.json").write_text(json.dumps(meta))
            (package / "__init__.py").write_text(
                "from spacy.util import load_model_from_init_py\n"
                "def load(**overrides):\n    return load_model_from_init_py(__file__, **overrides)\n"
            )
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {model}\nVersion: {version}\n")
            (about / "entry_points.txt").write_text(f"[spacy_models]\n{model} = {model}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for model, module in there.items():
        sys.modules.pop(model, None)
        if module is not None:
            sys.modules[model] = module


def test_a_pipeline_is_named_with_its_version_and_not_with_its_folder(parser: Parser) -> None:
    assert parser.name == "spacy en_ruled 1.2.3"


def test_universal_tags_become_ours(parser: Parser) -> None:
    said = "a dog eats Paris quickly on two red , oh $ qwxz because and it unheard"
    assert tags(parser, said) == [
        "a/det", "dog/noun", "eats/verb", "Paris/noun", "quickly/adv", "on/adp", "two/num", "red/adj", ",/punct",
        "oh/x", "$/x", "qwxz/x", "because/adp", "and/cconj", "it/pron", "unheard/x",
    ]  # fmt: skip
    assert tags(parser, "not to") == ["not/adv", "to/adp"]  # particles: as the lexicon has them


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ('a  dog\n"eats"   \t cat', ["a/det", "dog/noun", '"/punct', "eats/verb", '"/punct', "cat/noun"]),
        ("  dog \n", ["dog/noun"]),
        ("dog 🐶🔥 cat❤️red", ["dog/noun", "🐶🔥/x", "cat/noun", "❤️/x", "red/x"]),
        ("10.5 dog", ["10/num", "./punct", "5/num", "dog/noun"]),  # one token, three words
        ("dog😀, the cat", ["dog/noun", "😀/x", ",/punct", "the/det", "cat/noun"]),
        ("it's", ["it's/pron"]),  # nobody says which token the others hang on: the first
        ("ice-cream", ["ice-cream/noun"]),
        ("don't", ["don't/verb"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_tokens_are_brought_to_words_by_their_characters(parser: Parser, prompt: str, expected: list[str]) -> None:
    assert tags(parser, prompt) == expected
    assert parsed(parser, prompt) == set()


def test_a_word_of_many_tokens_has_the_tag_and_the_head_of_the_one_the_others_hang_on(parser: Parser) -> None:
    prompt = "it's a dog, not ice-cream"
    assert tags(parser, prompt) == ["it's/verb", "a/det", "dog/noun", ",/punct", "not/adv", "ice-cream/noun"]
    assert parsed(parser, prompt) == {
        "dog a det", "it's dog attr", "dog , punct", "ice-cream not neg", "dog ice-cream appos",
    }  # fmt: skip


def test_a_word_whose_tokens_hang_on_another_word_has_one_head(parser: Parser) -> None:
    assert tags(parser, "cats don't  eat")[1] == "don't/verb"
    assert parsed(parser, "cats don't  eat") == {"eat cats nsubj", "eat don't aux"}


def test_the_first_word_of_a_token_has_its_relations(parser: Parser) -> None:
    assert parsed(parser, "on 10.5") == {"on 10 pobj"}
    assert parsed(parser, "the 10.5") == {"10 the det"}


@given(st.text(st.sampled_from("aZ é'’-.,:;\"()10\n🐶❤️\u200d日<|>&$+#/@"), max_size=24))
def test_any_text_gives_a_tag_for_every_word_and_one_head_at_most(parser: Parser, prompt: str) -> None:
    words = split(prompt, pos)
    found = parser(prompt, words)
    assert len(found.tags) == len(words)
    assert set(found.tags) <= set(TAGS)
    places = [place for _, place, _ in found.dependents]
    assert len(set(places)) == len(places)
    assert all(0 <= head < len(words) and head != place for head, place, _ in found.dependents)


def test_a_trained_pipeline_tags_and_relates(tmp_path: Path) -> None:
    import spacy
    from spacy.tokens import Doc
    from spacy.training import Example

    prompt = "A small dog sits on the ice-cream"
    nlp = spacy.blank("en", meta={"name": "trained"})
    nlp.add_pipe("morphologizer")
    nlp.add_pipe("parser", config={"min_action_freq": 1})
    truth = Doc(
        nlp.vocab,
        words=["A", "small", "dog", "sits", "on", "the", "ice", "-", "cream"],
        spaces=[True, True, True, True, True, True, False, False, False],
        pos=["DET", "ADJ", "NOUN", "VERB", "ADP", "DET", "NOUN", "PUNCT", "NOUN"],
        heads=[2, 2, 3, 3, 3, 8, 8, 8, 4],
        deps=["det", "amod", "nsubj", "ROOT", "prep", "det", "compound", "punct", "pobj"],
    )
    assert truth.text == prompt
    examples = [Example(nlp.make_doc(prompt), truth)]
    spacy.util.fix_random_seed(0)
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(30):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(tmp_path / "trained")

    parser = parser_of(str(tmp_path / "trained"), [prompt])

    assert tags(parser, prompt) == [
        "A/det", "small/adj", "dog/noun", "sits/verb", "on/adp", "the/det", "ice-cream/noun",
    ]  # fmt: skip
    assert parsed(parser, prompt) == {
        "dog A det", "dog small amod", "sits dog nsubj", "sits on prep", "ice-cream the det", "on ice-cream pobj",
    }  # fmt: skip


def fails(tagger: str, prompts: Sequence[str] = ("a dog",)) -> str:
    with pytest.raises(OptionError) as failure:
        parser_of(tagger, prompts)
    message = str(failure.value)
    assert "\n" not in message
    return message


def test_a_missing_model_is_named_with_what_there_is(installed: Callable[..., None]) -> None:
    message = fails("en_core_web_xl")
    assert message.startswith(
        "no spaCy model 'en_core_web_xl' is installed, nor is there such a folder; installed: none"
    )
    assert "python -m spacy download en_core_web_sm" in message
    installed("en_core_web_sm", "en_other")
    assert "installed: en_core_web_sm, en_other;" in fails("numpy")  # a package, but not a model


@pytest.mark.usefixtures("no_spacy")
def test_missing_spacy_names_the_extra() -> None:
    message = fails("en_core_web_sm")
    assert "'en_core_web_sm'" in message
    assert "spaCy is not installed; pip install sfumato[nlp]" in message
    assert parser_of("lexicon", ["a dog"]).name == "lexicon"


def test_a_folder_without_a_model_says_why(tmp_path: Path, ruled: Path) -> None:
    assert "meta.json" in fails(str(tmp_path))
    (tmp_path / "meta.json").write_text((ruled / "meta.json").read_text())
    (tmp_path / "config.cfg").write_text(
        (ruled / "config.cfg").read_text().replace("sfumato_test_arcs", "of_another_package")
    )
    message = fails(str(tmp_path))
    assert "cannot be loaded ([E002]" in message
    assert "of_another_package" in message
    assert len(message) < 400 + len(str(tmp_path))


def test_a_model_without_parts_of_speech_is_refused(tmp_path: Path) -> None:
    import spacy

    nlp = spacy.blank("en")
    nlp.to_disk(tmp_path / "blank")
    assert "gives no parts of speech (its components: none)" in fails(str(tmp_path / "blank"), ["", "a dog"])
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "sentences")
    assert "(its components: sentencizer); take one with a tagger" in fails(str(tmp_path / "sentences"))


def test_one_tagged_prompt_is_enough_and_none_asks_for_nothing(ruled: Path) -> None:
    assert parser_of(str(ruled), ["unheard", "", "a dog"]).name == "spacy en_ruled 1.2.3"
    assert parser_of(str(ruled), []).name == "spacy en_ruled 1.2.3"
    assert "gives no parts of speech" in fails(str(ruled), ["unheard"])


def test_a_model_of_another_version_of_spacy_is_told_in_one_line(ruled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(ruled, folder)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"spacy_version": ">=3.0.0,<3.1.0"}))
    with pytest.warns(SfumatoWarning, match="was made for another version of spaCy") as told:
        parser_of(str(folder), ["a dog"])
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert told[0].filename == __file__


def test_captions_of_the_scenes_take_the_lexicon_whatever_is_installed(installed: Callable[..., None]) -> None:
    installed("en_core_web_sm")
    captions = held_out_captions(20)
    assert parser_of("auto", captions).name == "lexicon"
    assert parser_of("auto", ()).name == "lexicon"
    assert parser_of("auto", [*captions, "a dog"]).name == "spacy en_core_web_sm 1.2.3"


def test_auto_prefers_the_more_accurate_model(installed: Callable[..., None]) -> None:
    installed("de_core_news_lg", "en_an_other")
    assert parser_of("auto", ["a dog"]).name == "spacy en_an_other 1.2.3"
    installed("en_core_web_sm", "en_core_web_md")
    assert parser_of("auto", ["a dog"]).name == "spacy en_core_web_md 1.2.3"
    installed("en_core_web_lg")
    assert parser_of("auto", ["a dog"]).name == "spacy en_core_web_lg 1.2.3"
    installed("en_core_web_trf")
    assert parser_of("auto", ["a dog"]).name == "spacy en_core_web_trf 1.2.3"
    assert parser_of("en_core_web_sm", ["a dog"]).name == "spacy en_core_web_sm 1.2.3"


def test_auto_without_a_model_says_which_words_nobody_knows() -> None:
    prompts = ["A zebra, two zebras & a Zebra", "an okapi, a kudu", "an eland, a gnu, an ibex", "a red circle"]
    with pytest.warns(SfumatoWarning) as told:
        parser = parser_of("auto", prompts)
    assert parser.name == "lexicon"
    assert len(told) == 1
    assert told[0].filename == __file__
    message = str(told[0].message)
    assert "does not know 7 of the 12 distinct words of the prompts, which get the tag x" in message
    assert "'zebras', 'okapi', 'kudu', 'eland', ...; for" in message
    assert message.endswith("python -m spacy download en_core_web_sm")
    assert "pip install" not in message


@pytest.mark.usefixtures("no_spacy")
def test_auto_without_spacy_says_how_to_get_it() -> None:
    with pytest.warns(
        SfumatoWarning, match=r"1 of the 2 distinct words .*: 'gnu'; .*pip install sfumato\[nlp\], then py"
    ):
        assert parser_of("auto", ["a gnu", "A gnu"]).name == "lexicon"


def test_auto_says_nothing_where_the_lexicon_knows_every_word() -> None:
    assert parser_of("auto", ["a dog and two circles!", ""]).name == "lexicon"
