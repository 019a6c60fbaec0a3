"""Reading prompts for runs over many of them: every row of a file becomes a request, or says why it is none.

Rows are read one after the other, so the memory is bounded whatever the size of the file. A column is named like the
field of ``Request`` that it fills; upper case and surrounding blanks do not matter. ``negative`` is short for
``negative_prompt``, and ``size`` is "512x768" (height x width) or "512". All other columns are kept as they are, apart
from those without a name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sfumato.bounds import checked_text, shown, shown_path
from sfumato.errors import RequestError, Unreadable
from sfumato.reading import path_of
from sfumato.request import ABOUT, PICTURES, SIZE, Request, parse_size, with_pictures
from sfumato.runs.formats import MOST_CHARACTERS, Record, records

Kept = str | int | float | bool | None

COLUMNS: Mapping[str, Mapping[str, Any]] = {**ABOUT, "size": SIZE}
"""What columns fill: the fields of a request, and its size."""
FIELDS = {name: name for name in COLUMNS} | {about["name"]: name for name, about in COLUMNS.items() if "name" in about}
"""The same by the names of columns in lower case."""
SUBJECTS = ("prompt", "label", "image", "reference")
"""A request is about one of these at least."""
DEPENDENT = frozenset({"invert", "at", "more_references"})
"""Fields that can be checked only together with others, which rows may give."""
NONE: Mapping[str, Any] = MappingProxyType({})
COLUMNS_IN_A_MESSAGE = 12


@dataclass(frozen=True)
class Row:
    """A row of a file of prompts.

    Attributes:
        line: Where it begins: the number of the line, or of the record of a Parquet file, from 1.
        request: What it asks for; None where it is no request.
        reason: Why it is none, on one line; empty where it is one.
        kept: The columns that fill no field of a request, such as ``id``; values of other types become text.
    """

    line: int
    request: Request | None
    reason: str
    kept: Mapping[str, Kept]

    def refused(self, why: str) -> Row:
        """The same row as one that asks for nothing, with the reason."""
        return Row(self.line, None, _on_one_line(why), self.kept)


class ValidRows:
    """The rows that are requests, drawn anew in every pass.

    Attributes:
        invalid: The other rows of the last pass, so far as it has come.
    """

    def __init__(self, rows: Callable[[], Iterable[Row]]) -> None:
        self._rows = rows
        self.invalid: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        self.invalid.clear()
        for row in self._rows():
            if row.request is None:
                self.invalid.append(row)
            else:
                yield row


def read_rows(file: str | os.PathLike[str], *, common: Mapping[str, Any] = NONE) -> Iterator[Row]:
    """The rows of a file of prompts, in order, duplicates included; empty rows are left out.

    The ending names the format: .csv, .tsv, .jsonl or .ndjson (one object or one text a line) or .parquet; all else is
    read as text with one prompt a line. A row without a seed takes that of `common` (0 by default) plus its number,
    counted from 0 over all rows that are not empty, so each has its own and keeps it when another row is mended.

    Args:
        file: Its path. Paths of images in it are relative to its folder.
        common: Fields of ``Request`` for rows that do not give them.

    Raises:
        RequestError: `common` is wrong, or the file has no column of prompts or holds none.
        Unreadable: The file cannot be read. Both are raised at once; what is found later in the file, such as the
            damaged end of a Parquet file, is raised when the rows before it are read.
    """
    shared = _checked_common(common)
    folder = path_of(file).parent
    check = partial(_check_columns, common=shared, name=shown_path(file))
    return _not_empty(_rows(records(file, check), shared, folder), shown_path(file))


def rows_of(prompts: Iterable[str | Request | Mapping[str, Any]], *, common: Mapping[str, Any] = NONE) -> Iterator[Row]:
    """The same from Python: prompts, requests (taken as they are), or values by the names of columns.

    Args:
        prompts: Any number of them; they are read one after the other.
        common: As for ``read_rows``.

    Raises:
        RequestError: `common` is wrong, or there is no prompt.
    """
    if isinstance(prompts, str | bytes | Mapping | Request) or not isinstance(prompts, Iterable):
        raise RequestError(f"prompts is {shown(prompts)}; expected several, such as ['a red circle', 'a blue square']")
    return _not_empty(_rows(_python_records(prompts), _checked_common(common), None), "the list of prompts")


def _python_records(prompts: Iterable[Any]) -> Iterator[Record | Row]:
    for line, given in enumerate(prompts, 1):
        if isinstance(given, Request):
            yield Row(line, given, "", {})
        elif isinstance(given, str):
            yield Record(line, {"prompt": given})
        elif isinstance(given, Mapping):
            yield Record(line, given)
        else:
            yield Record(line, {}, f"it is {type(given).__name__}; expected a prompt, a request or values by column")


def _not_empty(rows: Iterator[Row], name: str) -> Iterator[Row]:
    first = next(rows, None)
    if first is None:
        raise RequestError(
            f"{name} holds no prompt; write one a line (.txt), or a row for each below a column named prompt (.csv)"
        )
    return chain((first,), rows)


def _rows(given: Iterable[Record | Row], common: dict[str, Any], folder: Path | None) -> Iterator[Row]:
    number = 0
    for one in given:
        if isinstance(one, Row):
            yield one
        elif one.reason or not all(_is_empty(value) for value in one.values.values()):
            yield _row(one, {**common, "seed": common["seed"] + number}, folder)
        else:
            continue
        number += 1


def _row(record: Record, common: dict[str, Any], folder: Path | None) -> Row:
    kept: dict[str, Kept] = {}
    try:
        if record.reason:
            raise RequestError(record.reason)
        given = _divide(record.values, kept)
        if not any(name in given or name in common for name in SUBJECTS):
            raise RequestError(f"it has no prompt; expected a {', '.join(SUBJECTS[:-1])} or {SUBJECTS[-1]}")
        request = Request(**common | _filled(given, folder, is_text=record.is_text))
    except (RequestError, Unreadable) as error:
        return Row(record.line, None, _on_one_line(error), kept)
    return Row(record.line, request, "", kept)


def _divide(values: Mapping[Any, Any], kept: dict[str, Kept]) -> dict[str, Any]:
    """What fills fields of a request, where it is given; what does not is added to what is kept."""
    given: dict[str, Any] = {}
    wrong: RequestError | None = None
    for column, value in values.items():
        try:
            name = checked_text("the name of a column", column, RequestError).strip()
            field = FIELDS.get(name.lower())
            if field is None:
                if name:
                    kept["id" if name.lower() == "id" else name] = _kept(name, value)
            elif field in given:
                raise RequestError(f"it has two values for {field}; give one")
            elif not _is_empty(value):
                given[field] = value
        except RequestError as error:  # the columns that follow are kept all the same
            wrong = wrong or error
    if wrong is not None:
        raise wrong
    return given


def _kept(name: str, value: Any) -> Kept:
    if value is None or isinstance(value, bool | int | float):
        return value
    try:
        nested = isinstance(value, list | tuple | dict)
        text = json.dumps(value, ensure_ascii=False, default=str) if nested else str(value)
    except (ValueError, TypeError, RecursionError):
        raise RequestError(f"{shown(name)} is {type(value).__name__}; expected text or a number") from None
    return checked_text(shown(name), text, RequestError, most=MOST_CHARACTERS)


def _filled(given: dict[str, Any], folder: Path | None, *, is_text: bool) -> dict[str, Any]:
    """The fields of a request that a row gives."""
    found = {name: _value(name, value, is_text=is_text) for name, value in given.items()}
    found = with_pictures(found, partial(_picture, folder=folder))
    if "size" in found:
        if "height" in found or "width" in found:
            raise RequestError("size was given together with height or width; give the size once")
        found["height"], found["width"] = found.pop("size")
    return found


def _value(name: str, value: Any, *, is_text: bool) -> Any:
    about = COLUMNS[name]
    if name == "size":
        return _size(value)
    if name == "more_references" and isinstance(value, str):
        return [value]
    if "read" in about and isinstance(value, str):
        return about["read"](value)
    if is_text and name not in PICTURES:
        value = _number(value.strip()) if about["kind"] in (int, float) else value.strip()
    if about["kind"] is int and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # pandas writes whole numbers as 7.0 where some are missing
    return value


def _number(text: str) -> int | float | str:
    """The number that a text writes; any other text as it is, for the request to refuse."""
    if re.fullmatch(r"[+-]?\d{1,40}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"[+-]?\d{0,40}\.?\d{1,40}(e[+-]?\d{1,3})?", text, re.ASCII | re.IGNORECASE):
        return float(text)
    return text


def _size(value: Any) -> tuple[int, int]:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else value
    if not isinstance(text, str):
        raise RequestError(f"size is {shown(value)}; expected height x width in pixels, such as 512x768")
    return parse_size(f"{text}x{text}" if re.fullmatch(r"\s*\d+\s*", text, re.ASCII) else text)


def _picture(value: Any, *, folder: Path | None) -> Any:
    """An image as ``Request`` takes it: a path relative to the file's folder becomes one from here."""
    return folder / path_of(value) if folder is not None and isinstance(value, str) else value


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and (not value or value.isspace()))


def _on_one_line(why: object) -> str:
    text = " ".join(str(why).split())
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _checked_common(common: Mapping[str, Any]) -> dict[str, Any]:
    """Fields for all rows, checked once, with images that are read once; the seed is always among them."""
    if not isinstance(common, Mapping):
        raise RequestError(f"common is {shown(common)}; expected fields of a request by name")
    given = {name: value for name, value in common.items() if value is not None}
    alone = {name: value for name, value in given.items() if name not in DEPENDENT}
    checked = Request.from_dict(alone)
    return {"seed": 0} | given | {name: getattr(checked, name) for name in alone}


def _check_columns(columns: Sequence[str], *, common: Mapping[str, Any], name: str) -> None:
    """Refuse a header with which no row could be a request."""
    seen: set[str] = set()
    for column in filter(None, (one.strip().lower() for one in columns)):
        filled = FIELDS.get(column, column)
        if filled in seen:
            raise RequestError(f"{name} has two columns for {shown(filled)}; rename or remove one")
        seen.add(filled)
    if not any(subject in seen or subject in common for subject in SUBJECTS):
        listed = ", ".join(map(shown, columns[:COLUMNS_IN_A_MESSAGE]))
        more = f" and {len(columns) - COLUMNS_IN_A_MESSAGE:,} more" if len(columns) > COLUMNS_IN_A_MESSAGE else ""
        raise RequestError(
            f"{name} has no column named prompt (nor {', '.join(SUBJECTS[1:-1])} or {SUBJECTS[-1]}); its columns are "
            f"{listed}{more}; name the column of prompts 'prompt', or write prompts without a header one a line (.txt)"
        )
