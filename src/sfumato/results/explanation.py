"""An explanation: the image, labelled arrays that say where it came from, the request and the provenance."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.bounds import checked_int
from sfumato.errors import SfumatoError, UnknownWord
from sfumato.request import Request
from sfumato.results import schema, store
from sfumato.results.hard_maps import TAU
from sfumato.results.importance import importance_methods, importance_rows
from sfumato.results.summary import summarise, word_rows

_LISTED_WORDS = 40


class Explanation:
    """What a method found out about one request.

    Args:
        tree: One node per kind and grid of arrays; see ``sfumato.results.schema``. It is copied and checked.
        request: What was generated.
        provenance: How: model, versions, method and its options, time. Anything that JSON can hold.

    Raises:
        SchemaError: The tree is not one that readers understand, or does not fit the request.

    Example:
        >>> import sfumato
        >>> explanation = sfumato.open("out/demo")  # doctest: +SKIP
        >>> explanation.word_map("circle").shape  # doctest: +SKIP
        (16, 16)
    """

    def __init__(self, tree: xr.DataTree, request: Request, provenance: Mapping[str, Any]) -> None:
        self.tree = schema.normalise(tree)
        self.request = request
        self.provenance: dict[str, Any] = schema.plain(provenance, "provenance")
        schema.validate(self.tree)
        if (count := self.tree["image"].sizes["image"]) != request.images:
            raise schema.SchemaError(f"the tree holds {count} images, but the request asks for {request.images}")

    @property
    def image(self) -> Image.Image:
        """The first image."""
        return self._image(0)

    @property
    def images(self) -> list[Image.Image]:
        """Every image, in the order of their seeds."""
        return [self._image(i) for i in range(self.request.images)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know first, such as words that the model never saw."""
        found = self.provenance.get("notes")
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @property
    def out_of_vocabulary(self) -> frozenset[str]:
        """The words, in lower case, that the model was never trained on, where its folder lists those that it was."""
        found = self.provenance.get("out_of_vocabulary")
        return frozenset(str(word).casefold() for word in found) if isinstance(found, list) else frozenset()

    @property
    def words(self) -> xr.Dataset:
        """The word maps: ``map`` over (word, y, x), with a leading ``image`` if there are several.

        Raises:
            SfumatoError: This explanation's method made no word maps.
        """
        if "words" not in self.tree.children:
            nodes = ", ".join(self.tree.children)
            raise SfumatoError(f"this explanation has no word maps; its nodes are: {nodes}")
        return self.tree["words"].to_dataset()

    def word_map(self, word: str | int, image: int = 0) -> xr.DataArray:
        """One word's map over (y, x), on the grid it was measured on.

        Args:
            word: Its text ("circle": the mean over all occurrences that the model saw; letter case counts only if it
                tells words apart), an occurrence ("circle#2", counted from 1), or its place in the prompt (from 0).
            image: Which image of the request.

        Raises:
            UnknownWord: The prompt has no such word, or the tokenizer cut it off before the model saw it.
        """
        words = self.words
        heat = words["map"]
        if "image" in heat.dims:
            heat = heat.isel(image=self._checked(image))
        else:
            self._checked(image)
        places = self._places(words, word)
        seen = words["seen"].values
        if not (visible := [i for i in places if seen[i]]):
            raise UnknownWord(
                f"{word!r} was not seen by the model: the tokenizer cut it off at its maximum length; "
                f"shorten the prompt, or ask for one of: {_listed(words, np.flatnonzero(seen).tolist())}"
            )
        return heat.isel(word=visible).mean("word") if len(visible) > 1 else heat.isel(word=visible[0])

    def select(self, image: int) -> Explanation:
        """The explanation of one image alone, as if only its seed had been asked for."""
        i = self._checked(image)
        nodes: dict[str, xr.Dataset] = {}
        for node in self.tree.subtree:
            dataset = node.to_dataset(inherit=False)
            if node.path == "/image":
                dataset = dataset.isel(image=[i]).assign_coords(image=[0])
            elif "image" in dataset.dims:
                dataset = dataset.isel(image=i).drop_vars("image", errors="ignore")
            nodes[node.path] = dataset
        return Explanation(xr.DataTree.from_dict(nodes), self.request.of_image(i), self.provenance)

    def summary(self, tau: float = TAU) -> dict[str, Any]:
        """All numbers, with request and provenance, ready for JSON; see ``results.summary.summarise``."""
        return summarise(self.tree, self.request, self.provenance, tau, self.out_of_vocabulary)

    def word_rows(self, image: int = 0, tau: float = TAU) -> list[dict[str, Any]]:
        """One row per word of one image, in prompt order, as the summary has them; none without word maps."""
        return word_rows(self.tree, image, tau, self.out_of_vocabulary)

    @property
    def importance_methods(self) -> list[str]:
        """The methods of this explanation that say how much each word is worth."""
        return importance_methods(self.tree)

    def importance_rows(self, method: str, image: int = 0) -> list[dict[str, Any]]:
        """One row per word or phrase of one image by one of these methods; see ``results.importance``."""
        return importance_rows(self.tree, method, image)

    def load(self) -> Explanation:
        """Read every array into memory, so that the folder may change or go; returns itself."""
        self.tree.load()
        return self

    def save(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Store as a zarr v3 folder, whole or not at all.

        Args:
            path: Name of the folder, by custom ending in ``.zarr``.
            overwrite: Replace an explanation that is there; anything else is never replaced.

        Raises:
            StoreError: It cannot be written; nothing is left behind.
        """
        store.save(self.tree, self.request, self.provenance, path, overwrite=overwrite)

    def __repr__(self) -> str:
        sizes = self.tree["image"].sizes
        count = self.request.images
        lines = [
            f"<sfumato.Explanation of {_short(self.request.subject)!r}",
            f"  {count} {'image' if count == 1 else 'images'} {sizes['x']} x {sizes['y']}, "
            f"seed {', '.join(map(str, self.request.seeds[:5]))}{', ...' if count > 5 else ''}",
        ]
        for node in self.tree.subtree:
            if node.level and node.path != "/image" and node.sizes:
                shape = ", ".join(f"{dim} {size}" for dim, size in node.sizes.items())
                method = f", {node.attrs['method']}" if "method" in node.attrs else ""
                lines.append(f"  {node.path.strip('/')}: {shape}{method}")
        if "words" in self.tree.children:
            words = self.words
            lines.append(f"  words are: {_listed(words, list(range(words.sizes['word'])))}")
        return "\n".join(lines) + ">"

    def _repr_html_(self) -> str:
        shown = self.image.copy()
        shown.thumbnail((256, 256))
        buffer = io.BytesIO()
        shown.save(buffer, "PNG")
        source = base64.b64encode(buffer.getvalue()).decode()
        prompt, text = html.escape(self.request.subject), html.escape(repr(self))
        return (
            '<div style="display:flex;gap:1em;align-items:flex-start">'
            f'<img alt="{prompt}" src="data:image/png;base64,{source}">'
            f'<pre style="margin:0;white-space:pre-wrap">{text}</pre></div>'
        )

    def _image(self, i: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self.tree["image"]["pixels"].isel(image=i).values))

    def _checked(self, image: int) -> int:
        return checked_int("image", image, 0, self.request.images - 1, SfumatoError)

    @staticmethod
    def _places(words: xr.Dataset, word: str | int) -> list[int]:
        """Where a word stands along the dimension ``word``; never empty."""
        texts: list[str] = words["word"].values.tolist()
        found: list[int] = []
        if isinstance(word, int | np.integer) and not isinstance(word, bool):
            found = np.flatnonzero(words["index"].values == word).tolist()
        elif isinstance(word, str):
            found = _same(texts, word)
            stem, mark, number = word.rpartition("#")
            if not found and mark and number.isdecimal():
                occurrence = words["occurrence"].values.tolist()
                alike = [i for i, text in enumerate(texts) if text.casefold() == stem.casefold()]
                found = [i for i in alike if occurrence[i] == int(number)]
        if not found:
            raise UnknownWord(
                f"{word!r} is not in the prompt; its words are: {_listed(words, list(range(len(texts))))}"
            )
        return found


def _same(texts: list[str], word: str) -> list[int]:
    return [i for i, text in enumerate(texts) if text == word] or [
        i for i, text in enumerate(texts) if text.casefold() == word.casefold()
    ]


def _listed(words: xr.Dataset, places: list[int]) -> str:
    """The words at these places, each with its occurrence where the prompt repeats it."""
    texts, occurrences = words["word"].values.tolist(), words["occurrence"].values.tolist()
    first = places[:_LISTED_WORDS]
    names = [f"{texts[i]}#{occurrences[i]}" if texts.count(texts[i]) > 1 else texts[i] for i in first]
    more = [f"... ({len(places)} in all)"] if len(places) > _LISTED_WORDS else []
    return ", ".join(names + more) or "none"


def _short(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
