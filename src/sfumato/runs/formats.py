"""Formats of files of prompts: text, CSV, JSON lines and Parquet, each read as a stream of records of bounded size.

A record that cannot be read carries the reason, and the records after it are read all the same. A quote that is never
closed costs the one record that it begins in: the lines after that are read anew.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, TextIO, TypeVar

from sfumato.bounds import shown_path
from sfumato.errors import Unreadable
from sfumato.reading import open_bytes, parse_json, path_of

T = TypeVar("T")

MOST_CHARACTERS = 2**20
"""Of a record of text: a line, or the lines of a record of CSV."""
BATCH = 256
"""Records of Parquet that are in memory at once."""
DELIMITERS = (",", ";", "\t")
"""Of a .csv, by preference: the first that its header holds."""
REFUSED = {
    ".json": "write one object a line and name the file .jsonl",
    ".xlsx": "save the sheet as .csv (UTF-8)",
    ".xls": "save the sheet as .csv (UTF-8)",
    ".ods": "save the sheet as .csv (UTF-8)",
    ".gz": "unpack it first",
    ".zip": "unpack it first",
}
"""Endings of files that hold no prompts in a form that is read here, each with what to do."""
NOT_UTF8 = "it is no text in UTF-8; save the file as UTF-8"
TOO_LONG = f"it has more than {MOST_CHARACTERS:,} characters, which are the most that a row may have"


class Record(NamedTuple):
    """A record of a file: its values by column, or why it cannot be read.

    Attributes:
        line: Where it begins: the number of the line, or of the record of a Parquet file, from 1.
        values: By the name of the column, as the file writes it.
        reason: Why it cannot be read; empty where it can.
        is_text: Whether all values are text because the format has no types.
    """

    line: int
    values: Mapping[Any, Any]
    reason: str = ""
    is_text: bool = False


def records(file: str | os.PathLike[str], check: Callable[[Sequence[str]], None]) -> Iterator[Record]:
    """The records of a file of prompts, in the format that its ending names; other endings are read as lines of text.

    Args:
        file: Its path.
        check: Called with the names of the columns, where the file has a header; may refuse them.

    Raises:
        Unreadable: The file as a whole cannot be read.
    """
    ending = path_of(file).suffix.lower()
    if ending in REFUSED:
        raise Unreadable(
            shown_path(file),
            f"{ending} is no format of prompts (.txt, .csv, .tsv, .jsonl, .parquet); {REFUSED[ending]}",
        )
    with open_bytes(file) as opened:
        if ending == ".parquet":
            yield from _parquet(opened, shown_path(file), check)
            return
        text = io.TextIOWrapper(opened, encoding="utf-8-sig", errors="surrogateescape", newline="")
        lines = _Lines(text, shown_path(file))
        if ending in (".csv", ".tsv"):
            yield from _csv(lines, "\t" if ending == ".tsv" else None, check)
        elif ending in (".jsonl", ".ndjson"):
            yield from _json_lines(lines)
        else:
            for line, prompt, reason in _each(lines, lines):
                yield Record(line, {"prompt": (prompt or "").strip()}, reason, is_text=True)


class _TooLong(Exception):
    """A record has more characters than are read."""


class _Lines:
    """The lines of a text with their numbers; those of the current record can be read again.

    Args:
        text: Where they come from; bytes that are no UTF-8 arrive as halves of surrogate pairs.
        name: How messages call the file.
    """

    def __init__(self, text: TextIO, name: str) -> None:
        self.name = name
        self.is_utf8 = True
        self._text = text
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._number = self._size = 0
        self._has_begun = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._next()
        self._number += 1
        self._record.append(line)
        self._size += len(line)
        if self._size > MOST_CHARACTERS:
            raise _TooLong
        if not line.isascii() and not _is_utf8(line):
            if not self._has_begun:
                raise Unreadable(self.name, NOT_UTF8)
            self.is_utf8 = False
        self._has_begun = self._has_begun or not line.isspace()
        return line

    def begin(self) -> None:
        """The next line begins a record."""
        self._record, self._size, self.is_utf8 = [], 0, True

    def return_lines(self, keep: int = 1) -> None:
        """The lines of the record are read again, apart from so many at its beginning."""
        returned = self._record[keep:]
        self._again.extendleft(reversed(returned))
        self._number -= len(returned)
        del self._record[keep:]

    @property
    def first(self) -> int:
        """The number of the line that the record begins with."""
        return self._number - len(self._record) + 1

    def _next(self) -> str:
        """A line; of one that is too long no more than shows it, the rest is skipped."""
        line = self._text.readline(MOST_CHARACTERS + 1)
        if not line:
            raise StopIteration
        if len(line) > MOST_CHARACTERS:
            rest = line
            while rest and rest[-1] not in "\r\n":
                rest = self._text.readline(MOST_CHARACTERS)
        return line


def _is_utf8(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _each(lines: _Lines, source: Iterator[T]) -> Iterator[tuple[int, T | None, str]]:
    """What a source makes of lines, with the number of its first line, or why it makes nothing of them."""
    while True:
        lines.begin()
        try:
            found = next(source)
        except StopIteration:
            return
        except _TooLong:
            lines.return_lines()
            yield lines.first, None, TOO_LONG
        except csv.Error as error:
            lines.return_lines()
            yield (
                lines.first,
                None,
                f"it is no row of CSV ({error}); close every quote, write those inside a quoted cell twice, and give a "
                f"cell at most {csv.field_size_limit():,} characters",
            )
        else:
            yield lines.first, found, "" if lines.is_utf8 else NOT_UTF8


def _csv(lines: _Lines, delimiter: str | None, check: Callable[[Sequence[str]], None]) -> Iterator[Record]:
    for _, line, reason in _each(lines, lines):
        if reason:
            raise Unreadable(lines.name, f"in its header, {reason}")
        if line is not None and line.strip():
            if named := re.fullmatch(r"sep=([,;|\t])[\r\n]*", line):  # by which Excel names the delimiter
                delimiter = named[1]
                continue
            lines.return_lines(keep=0)
            delimiter = delimiter or next((one for one in DELIMITERS if one in line), ",")
            break
    header: list[str] | None = None
    for number, cells, reason in _each(lines, csv.reader(lines, delimiter=delimiter or ",", strict=True)):
        if header is None:
            if reason or not cells:
                raise Unreadable(lines.name, f"in its header, {reason or 'there is no column'}")
            check(header := cells)
        elif reason or not cells:
            yield Record(number, {}, reason, is_text=True)
        elif len(cells) != len(header):
            wrong = f"it has {len(cells)} cells; expected {len(header)}, as the header has columns"
            yield Record(number, {}, wrong if any(cells) else "", is_text=True)
        else:
            yield Record(number, dict(zip(header, cells, strict=True)), is_text=True)


def _json_lines(lines: _Lines) -> Iterator[Record]:
    for number, line, reason in _each(lines, lines):
        if reason or line is None or line.isspace():
            yield Record(number, {}, reason)
            continue
        try:
            found = parse_json(line)
        except Unreadable as error:
            yield Record(number, {}, f"{error.reason}; expected an object or a text")
            continue
        if isinstance(found, str):
            found = {"prompt": found}
        if isinstance(found, dict):
            yield Record(number, found)
        else:
            kind = type(found).__name__
            yield Record(
                number, {}, f'it is {kind}; expected an object, such as {{"prompt": "a red circle"}}, or a text'
            )


def _parquet(opened: BinaryIO, name: str, check: Callable[[Sequence[str]], None]) -> Iterator[Record]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        # read ahead, whole columns of a row group stay in memory
        file = ParquetFile(opened, buffer_size=2**20, pre_buffer=False)
        check(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=BATCH):
            for values, reason in _rows_of_batch(batch):
                number += 1
                yield Record(number, values, reason)
    except (pyarrow.ArrowException, OSError) as error:
        where = f" at record {number + 1:,}" if number else ""
        raise Unreadable(name, f"it is no whole Parquet file{where} ({str(error).partition('.')[0]})") from error


def _rows_of_batch(batch: Any) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The values of every row, or why they cannot be read: text may be no UTF-8, and a date none that Python knows."""
    try:
        found = batch.to_pylist()
    except Exception as error:  # as many kinds as there are types
        if batch.num_rows == 1:
            yield {}, f"it holds a value that cannot be read ({error})"
            return
        for index in range(batch.num_rows):
            yield from _rows_of_batch(batch.slice(index, 1))
        return
    yield from ((values, "") for values in found)
