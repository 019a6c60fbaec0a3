from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import ModelError
from sfumato.models.lexicon import LEXICON, split_words
from sfumato.studio import tokenizer as module
from sfumato.studio.grammar import caption_of
from sfumato.studio.scenes import held_out_captions, scene_plan
from sfumato.studio.tokenizer import (
    END,
    MAX_LENGTH,
    START,
    load_tokenizer,
    pieces_of,
    scene_words,
    vocabulary,
    write_tokenizer,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


@pytest.mark.parametrize("word", scene_words())
def test_words_of_the_scenes_fall_into_their_pieces(tokenizer: Any, word: str) -> None:
    pieces = pieces_of(word)
    assert tokenizer.tokenize(word) == [*pieces[:-1], pieces[-1] + "</w>"]


def test_some_words_take_several_tokens_and_most_take_one() -> None:
    lengths = {word: len(pieces_of(word)) for word in scene_words()}
    assert lengths["circle"] == lengths["touching"] == lengths[","] == 1
    assert lengths["triangle"] == lengths["diamond"] == lengths["striped"] == lengths["background"] == 2
    assert lengths["crosses"] == lengths["hearts"] == 2
    assert lengths["triangles"] == 3


def test_every_caption_consists_of_known_words() -> None:
    captions = [caption_of(scene_plan(seed)) for seed in range(2000)] + list(held_out_captions(50))
    used = {word for caption in captions for word in split_words(caption)}
    assert used == set(scene_words())
    assert all(word == "," or word in LEXICON for word in used)


def test_ids_are_numbered_without_gaps_and_end_with_the_special_tokens(tokenizer: Any) -> None:
    tokens, _ = vocabulary(scene_words())
    assert sorted(tokens.values()) == list(range(len(tokens)))
    assert len(tokenizer) == len(tokens)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (len(tokens) - 2, len(tokens) - 1)


def test_prompts_are_framed_and_padded_as_stable_diffusion_expects(tokenizer: Any) -> None:
    ids = tokenizer("a red circle", padding="max_length", truncation=True).input_ids
    start, end = tokenizer.convert_tokens_to_ids([START, END])
    assert tokenizer.model_max_length == MAX_LENGTH == len(ids) == 77
    assert ids[0] == start
    assert ids[4:] == [end] * 73
    assert end not in ids[:4]


def _spelled(tokenizer: Any, text: str) -> str:
    """Put the bytes that tokens stand for together again."""
    byte_of = {character: byte for character, byte in zip(module._byte_characters(), _byte_order(), strict=True)}
    tokens = tokenizer.tokenize(text)
    return bytes(byte_of[character] for token in tokens for character in token.removesuffix("</w>")).decode("utf-8")


def _byte_order() -> list[int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + [byte for byte in range(256) if byte not in printable]


def _without_spaces(text: str) -> str:
    return "".join(character for character in text if not character.isspace())


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40).filter(lambda text: "<|" not in text))
def test_any_text_comes_back_from_its_tokens(tokenizer: Any, text: str) -> None:
    expected = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    assert _without_spaces(_spelled(tokenizer, text)) == _without_spaces(expected)


@pytest.mark.parametrize("text", ["Été", "🦊🌈", "שלום", "a\u200bb", "\x00", "zebra crossing", "RED Circle"])
def test_texts_of_all_kinds_come_back(tokenizer: Any, text: str) -> None:
    spelled = _spelled(tokenizer, text)
    assert _without_spaces(spelled) == _without_spaces(unicodedata.normalize("NFC", text).lower())


def test_contradicting_pieces_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPLIT_WORDS", {"abx": ("a", "bx")})
    with pytest.raises(ModelError, match="abx"):
        vocabulary(("abc", "abx"))


def test_the_files_are_those_of_transformers(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
    }
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "CLIPTokenizer"
