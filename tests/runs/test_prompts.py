"""Files of prompts: every format gives the same rows, what is wrong costs its own row, and memory is bounded."""

from __future__ import annotations

import csv
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from sfumato.errors import RequestError, Unreadable
from sfumato.request import Request
from sfumato.runs.formats import BATCH, MOST_CHARACTERS
from sfumato.runs.prompts import Row, read_rows, rows_of
from sfumato.studio.grammar import parse
from tests import hostile

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "prompts.csv"
VALUES: list[dict[str, Any]] = [
    {"id": "a", "prompt": "a red circle, large", "seed": 7, "negative": "blur", "guidance": 7.5, "size": "64x96"},
    {"id": "b", "prompt": "line\nbreak", "seed": None, "negative": None, "guidance": 2.0, "size": "32"},
    {"id": "b", "prompt": 'a "quoted" ü 🎨', "seed": 0, "negative": "", "guidance": None, "size": None},
    {"id": "d", "prompt": 'a "quoted" ü 🎨', "seed": 0, "negative": "", "guidance": None, "size": None},
]


def write_csv(file: Path, rows: list[dict[str, Any]]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), delimiter="\t" if file.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_json_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
    ".csv": write_csv,
    ".tsv": write_csv,
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
    ".parquet": write_parquet,
}


def written(folder: Path, content: str | bytes, ending: str = ".csv") -> Path:
    file = folder / f"prompts{ending}"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def prompts(rows: Iterator[Row]) -> list[str | None]:
    return [None if row.request is None else row.request.prompt for row in rows]


def only(rows: Iterator[Row]) -> Row:
    (row,) = rows
    return row


def is_sound(row: Row) -> bool:
    """Whether a row is either a request or says on one printable line why not."""
    if row.request is not None:
        return row.reason == ""
    return bool(row.reason) and row.reason.isprintable() and len(row.reason) < 1500


def is_sound_or_refused(read: Callable[[], Iterator[Row]]) -> bool:
    """Whether all rows are sound and in order, or the whole is refused on one line."""
    try:
        rows = list(read())
    except (RequestError, Unreadable) as error:
        return len(str(error).splitlines()) == 1
    lines = [row.line for row in rows]
    return all(is_sound(row) for row in rows) and lines == sorted(set(lines))


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_rows(ending: str, tmp_path: Path) -> None:
    rows = list(read_rows(WRITERS[ending](tmp_path / f"a{ending}", VALUES), common={"seed": 100, "steps": 3}))

    assert [row.request for row in rows] == [
        Request("a red circle, large", "blur", seed=7, steps=3, guidance=7.5, height=64, width=96),
        Request("line\nbreak", seed=101, steps=3, guidance=2, height=32, width=32),
        Request('a "quoted" ü 🎨', seed=0, steps=3),
        Request('a "quoted" ü 🎨', seed=0, steps=3),
    ]
    assert [row.kept for row in rows] == [{"id": one} for one in "abbd"]
    assert [row.reason for row in rows] == [""] * 4
    assert [row.line for row in rows] == ([2, 3, 5, 6] if ending in (".csv", ".tsv") else [1, 2, 3, 4])


def test_python_gives_the_same_rows() -> None:
    rows = list(rows_of(VALUES, common={"seed": 100}))
    assert [row.request.seed for row in rows if row.request] == [7, 101, 0, 0]
    mixed = list(rows_of(["a", Request("b", seed=9), {"Prompt": "c", "k": [1, {"a": "ü"}]}, "", 5, "d"]))  # type: ignore[list-item]
    assert [(row.line, row.request and row.request.seed) for row in mixed] == [
        (1, 0),
        (2, 9),
        (3, 2),
        (5, None),
        (6, 4),
    ]
    assert mixed[2].kept == {"k": '[1, {"a": "ü"}]'}
    assert mixed[3].reason == "it is int; expected a prompt, a request or values by column"
    for wrong in ("a red circle", b"a", {"prompt": "a"}, Request("a"), None, 5):
        with pytest.raises(RequestError, match="expected several, such as"):
            rows_of(wrong)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="holds no prompt"):
        rows_of(["", " "])


def test_rows_of_is_lazy() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "a"

    rows = rows_of(endless())
    assert [next(rows).line for _ in range(5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("ending", [".txt", ".prompts", ""])
def test_lines_of_text(ending: str, tmp_path: Path) -> None:
    file = written(tmp_path, '\ufeffa red circle\r\n\r\n  a, "b" ü\u2028x\n\na red circle\rlast', ending)
    rows = list(read_rows(file))
    assert prompts(iter(rows)) == ["a red circle", 'a, "b" ü\u2028x', "a red circle", "last"]
    assert [row.line for row in rows] == [1, 3, 5, 6]
    assert [row.request.seed for row in rows if row.request] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        ("\ufeffid;Prompt \r\n1;a, b\r\n", ".csv"),
        ("sep=|\r\nid|prompt\n1|a, b", ".csv"),
        ("sep=\t\r\nid\tprompt\n1\ta, b", ".csv"),
        ("\n\nid\tPROMPT\n\n1\ta, b\n\n", ".csv"),
        ("id\tprompt\n1\ta, b", ".tsv"),
        (' Id ,prompt,\n1,"a, b",9\n,,\n', ".csv"),
        ('"id","prompt"\r1,"a, b"\r', ".csv"),
    ],
)
def test_dialects_of_csv(content: str, ending: str, tmp_path: Path) -> None:
    file = written(tmp_path, content, ending)
    row = only(read_rows(file))
    assert row.request == Request("a, b")
    assert row.kept == {"id": "1"}


def test_an_open_quote_costs_its_own_row(tmp_path: Path) -> None:
    file = written(tmp_path, 'id,prompt\n1,"open\n2,two\n3,"three"\n4,"four\n5,five\n')
    rows = list(read_rows(file))
    assert prompts(iter(rows)) == [None, "two", "three", None, "five"]
    assert [row.line for row in rows] == [2, 3, 4, 5, 6]
    assert "close every quote" in rows[0].reason
    many = "".join(f"{i},{'x' * 50}\n" for i in range(40_000))
    rows = list(read_rows(written(tmp_path, f'id,prompt\n1,"open\n{many}')))
    assert len(rows) == 40_001
    assert [row.request is None for row in rows[:3]] == [True, False, False]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("7.5,,a", "seed is 7.5; expected a whole number from 0"),
        ("-1,,a", "seed is -1"),
        ("9223372036854775808,,a", "seed is 9223372036854775808"),
        ("x,,a", "seed is 'x'; expected a whole number"),
        ("1,1001,a", "steps is 1001; expected a whole number from 1 to 1000"),
        ("1,inf,a", "steps is 'inf'"),
        ("1,1e300,a", "steps is 1e\\+300"),
        ("1,2", "it has 2 cells; expected 3, as the header has columns"),
        ("1,2,a,b", "it has 4 cells; expected 3"),
        ("1,2, ", "it has no prompt; expected a prompt, label, image or reference"),
        ("1,2,a\0b", "prompt contains a NUL character at place 1"),
        ('1,2,"a"b', "it is no row of CSV"),
        (f"1,2,{'x' * 100_001}", "prompt has 100,001 characters; at most 100,000"),
        (f"1,2,{'x' * 140_000}", "field larger than field limit .* a cell at most 131,072 characters"),
        (f"1,2,{'x' * 2_000_000}", "it has more than 1,048,576 characters"),
        (b"1,2,\xff", "it is no text in UTF-8; save the file as UTF-8"),
    ],
)
def test_a_wrong_row_costs_no_other(cells: str | bytes, reason: str, tmp_path: Path) -> None:
    given = cells.encode() if isinstance(cells, str) else cells
    file = written(tmp_path, b"seed,steps,prompt\n1,2,before\n" + given + b"\n,,after\n")
    before, wrong, after = read_rows(file)
    assert before.request == Request("before", seed=1, steps=2)
    assert after.request == Request("after", seed=2)
    assert (wrong.line, after.line, wrong.request) == (3, 4, None)
    assert is_sound(wrong)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(wrong.reason)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "it is no JSON"),
        ("[1]", "it is list; expected an object"),
        ("null", "it is NoneType; expected an object"),
        ('{"prompt": 5}', "prompt is int; expected text"),
        ('{"prompt": "a", "seed": "7"}', "seed is '7'; expected a whole number"),
        ('{"prompt": "a", "seed": true}', "seed is True"),
        ('{"prompt": "\\ud800"}', "prompt contains half of a surrogate pair"),
        ('{"prompt": "a", "id": "\\ud800"}', "'id' contains half of a surrogate pair"),
        ('{"prompt": "a", "\\ud800": 1}', "the name of a column contains half of a surrogate pair"),
        ('{"prompt": "a", "negative": "b", "negative_prompt": "c"}', "it has two values for negative_prompt"),
        ('{"prompt": "a", "size": "64x"}', "size is '64x'; expected height x width in pixels"),
        ('{"prompt": "a", "size": [1, 2]}', "size is \\[1, 2\\]; expected"),
        ('{"prompt": "a", "size": 64, "width": 64}', "give the size once"),
        ('{"prompt": "a", "variation": "5"}', "variation is '5'; expected another seed"),
        ('{"prompt": "a", "more_references": 5}', "more_references is int; expected a list of pictures"),
        ('{"prompt": "a", "guidance": NaN}', "guidance is nan"),
        ('{"prompt": "a", "image": 5}', "image is int"),
        ('{"prompt": "a", "image": "none.png"}', "none.png' cannot be read: No such file"),
        ('{"prompt": "a", "image": "a\\u0000b"}', "it contains a NUL character"),
        ("[" * 100_000, "it is nested more than 100 levels deep"),
        ('{"id": 3}', "it has no prompt"),
        ("9" * 5000, "it is no JSON"),
    ],
)
def test_a_wrong_line_of_json_costs_no_other(line: str, reason: str, tmp_path: Path) -> None:
    before, wrong, after = read_rows(written(tmp_path, f'"before"\n{line}\n\n{{"prompt": "after"}}', ".jsonl"))
    assert (before.request, after.request) == (Request("before"), Request("after", seed=2))
    assert (wrong.line, after.line, wrong.request) == (2, 4, None)
    assert is_sound(wrong)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(wrong.reason)


def test_what_is_kept_is_known_of_wrong_rows_too(tmp_path: Path) -> None:
    row = only(read_rows(written(tmp_path, '{"ID": 3, "seed": -1, " x ": 1.5, "prompt": "a", "y": null}', ".jsonl")))
    assert row.request is None
    assert row.kept == {"id": 3, "x": 1.5, "y": None}


@pytest.mark.parametrize("value", hostile.VALUES.values(), ids=hostile.VALUES.keys())
@pytest.mark.parametrize(
    "column", ["prompt", "seed", "size", "image", "variation", "more_references", "schedule", "id"]
)
def test_hostile_values_cost_their_own_row(column: str, value: Any) -> None:
    rows = list(
        rows_of(["a", {"prompt": "b"} | {column: value}, value, {value if isinstance(value, str) else 1: 1}, "c"])
    )
    assert all(is_sound(row) for row in rows)
    assert [row.request.prompt for row in (rows[0], rows[-1]) if row.request] == ["a", "c"]
    for name in ("seed", "prompt", "mask", "unknown"):
        assert is_sound_or_refused(partial(rows_of, ["a"], common={name: value}))


def test_paths_of_images_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "in").mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (16, 8), colour).save(tmp_path / "in" / name)
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    content = f"image,reference,more_references\nin/a.png,,\n,{tmp_path}/in/b.png,in/a.png\nin/broken.png,,\n"
    first, second, third = read_rows(written(tmp_path, content))
    assert first.request is not None
    assert second.request is not None
    assert first.request.image is not None
    assert (first.request.image.height, first.request.image.width) == (8, 16)
    assert second.request.more_references == (first.request.image,)
    assert third.request is None
    assert is_sound(third)
    assert "broken.png" in third.reason


def test_common_fields_are_those_of_rows_that_give_none(tmp_path: Path) -> None:
    file = written(tmp_path, "prompt,steps,width,negative\na,,,\nb,5,64,dark\n")
    rows = read_rows(file, common={"steps": 2, "height": 32, "negative_prompt": "blur", "guidance": None})
    assert [row.request for row in rows] == [
        Request("a", "blur", seed=0, steps=2, height=32),
        Request("b", "dark", seed=1, steps=5, height=32, width=64),
    ]
    assert only(read_rows(written(tmp_path, "seed\n4\n"), common={"prompt": ""})).request == Request("", seed=4)
    assert only(read_rows(written(tmp_path, "label,seed\n0011,\n"))).request == Request(label="0011")
    for wrong, message in (
        ({"stepz": 1}, "no field 'stepz'"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": "a"}, "seed is"),
    ):
        with pytest.raises(RequestError, match=message):
            read_rows(file, common=wrong)
    with pytest.raises(RequestError, match="expected fields of a request by name"):
        read_rows(file, common=5)  # type: ignore[arg-type]


def test_whole_numbers_that_pandas_wrote_as_fractions(tmp_path: Path) -> None:
    assert only(read_rows(written(tmp_path, "prompt,seed,images\na,7.0,2\n"))).request == Request("a", seed=7, images=2)
    file = write_parquet(tmp_path / "a.parquet", [{"prompt": "a", "seed": 7.0}, {"prompt": "b", "seed": 7.5}])
    first, second = read_rows(file)
    assert first.request == Request("a", seed=7)
    assert second.reason.startswith("seed is 7.5")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"", "a.txt' holds no prompt; write one a line"),
        ("a.txt", b"\xef\xbb\xbf \r\n\n", "holds no prompt"),
        ("a.csv", b"", "holds no prompt"),
        ("a.csv", b"prompt,seed\n", "holds no prompt"),
        ("a.jsonl", b"\n", "holds no prompt"),
        ("a.parquet", b"", "it is no whole Parquet file"),
        ("a.parquet", b"PAR1" + bytes(100) + b"PAR1", "it is no whole Parquet file"),
        ("a.csv", b"a red circle,7\n", "has no column named prompt .* its columns are 'a red circle', '7'; name"),
        ("a.csv", b",".join(b"c%d" % i for i in range(20)), "'c11' and 8 more; name"),
        ("a.csv", b"Prompt, prompt\n", "has two columns for 'prompt'; rename or remove one"),
        ("a.csv", b"prompt,negative,negative_prompt\n", "two columns for 'negative_prompt'"),
        ("a.csv", b'"prompt\na\n', "in its header, it is no row of CSV"),
        ("a.csv", b"prompt" + bytes(2_000_000), "in its header, it has more than"),
        ("a.csv", "prompt\na".encode("utf-16"), "it is no text in UTF-8; save the file as UTF-8"),
        ("a.txt", b"\x89PNG\r\n\x1a\n", "it is no text in UTF-8"),
        ("a.jsonl", b"\xff", "it is no text in UTF-8"),
        ("a.json", b'["a"]', "write one object a line and name the file .jsonl"),
        ("a.XLSX", b"PK", "save the sheet as .csv"),
    ],
)
def test_a_file_that_holds_no_prompts(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((RequestError, Unreadable), match=reason) as caught:
        read_rows(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ending", [".csv", ".txt", ".parquet"])
def test_what_is_no_file(ending: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    for name, reason in (("pipe", "it is no regular file"), ("folder", "Is a directory"), ("none", "No such file")):
        with pytest.raises(Unreadable, match=reason):
            read_rows(tmp_path / f"{name}{ending}")
    with pytest.raises(Unreadable, match="it is no regular file"):
        read_rows("/dev/zero")


def test_an_abandoned_file_is_closed(tmp_path: Path) -> None:
    file = written(tmp_path, "a\nb\n", ".txt")
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        rows = read_rows(file)
        assert next(rows).line == 1
        del rows
    assert len(os.listdir("/proc/self/fd")) == opened


def test_parquet_that_is_damaged_later_gives_what_comes_before(tmp_path: Path) -> None:
    rows = [{"prompt": f"a {i}"} for i in range(3 * BATCH)]
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=BATCH, compression="gzip")
    content = bytearray(file.read_bytes())
    last = parquet.ParquetFile(file).metadata.row_group(2).column(0)
    begin = last.dictionary_page_offset or last.data_page_offset
    content[begin : begin + last.total_compressed_size] = b"\xff" * last.total_compressed_size
    file.write_bytes(content)
    found = read_rows(file)
    assert prompts(next(found) for _ in range(2 * BATCH)) == [row["prompt"] for row in rows[: 2 * BATCH]]
    with pytest.raises(Unreadable, match=r"it is no whole Parquet file at record 513"):
        next(found)


def test_values_of_parquet_that_python_cannot_hold_cost_their_row(tmp_path: Path) -> None:
    texts = pyarrow.array([b"a", b"\xff", b"c"], pyarrow.binary()).view(pyarrow.string())
    dates = pyarrow.array([1, 2, 2**31 - 1], pyarrow.int32()).view(pyarrow.date32())
    parquet.write_table(pyarrow.table({"prompt": texts, "day": dates}), tmp_path / "a.parquet")
    first, second, third = read_rows(tmp_path / "a.parquet")
    assert (first.request, first.kept) == (Request("a"), {"day": "1970-01-02"})
    for row in (second, third):
        assert row.request is None
        assert is_sound(row)
        assert row.reason.startswith("it holds a value that cannot be read")


def test_the_example_is_of_the_grammar_of_the_embedded_model() -> None:
    rows = list(read_rows(EXAMPLE))
    assert len(rows) == 24
    assert len({row.kept["id"] for row in rows}) == 24
    for row in rows:
        assert row.request is not None, row.reason
        assert parse(row.request.prompt)


TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=30).filter(
    lambda text: text == text.strip()
)
TYPED = st.fixed_dictionaries(
    {
        "prompt": TEXTS,
        "seed": st.none() | st.integers(0, 2**62),
        "guidance": st.none() | st.floats(0, 1e6),
        "steps": st.none() | st.integers(1, 1000),
        "id": TEXTS,
    }
)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(TYPED, min_size=1, max_size=8))
def test_rows_come_back_as_they_were_written(ending: str, values: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = list(read_rows(WRITERS[ending](tmp_path / f"a{ending}", values)))
    assert [row.request for row in rows] == [
        Request(
            one["prompt"], seed=i if one["seed"] is None else one["seed"], steps=one["steps"], guidance=one["guidance"]
        )
        for i, one in enumerate(values)
    ]
    assert [row.kept for row in rows] == [{"id": one["id"]} for one in values]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".txt", ".parquet"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | st.text('a,;"\n\r\t{}[]: 0\ud800\0', max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes_are_rows_or_one_line(ending: str, content: bytes, tmp_path: Path) -> None:
    for header in (b"", b"id,prompt\n", b"prompt\n"):
        file = written(tmp_path, header + content, ending)
        assert is_sound_or_refused(partial(read_rows, file))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rights=st.lists(st.booleans(), min_size=1, max_size=30))
def test_every_row_that_is_not_empty_is_counted(rights: list[bool], tmp_path: Path) -> None:
    wrong = ["x,a", "1", '1,"a"b', "1,2,3", "1,\0", '1,"', f"1,{'x' * 140_000}"]
    lines = [f"{i},a" if right else wrong[i % len(wrong)] for i, right in enumerate(rights)]
    rows = list(read_rows(written(tmp_path, "seed,prompt\n" + "\n\n".join(lines))))
    assert [row.request is not None for row in rows] == rights
    assert [row.line for row in rows] == [2 + 2 * i for i in range(len(rights))]


def count(rows: Callable[[], Iterator[Row]]) -> tuple[int, int, float]:
    """Requests, other rows, and the most MB that Python and Arrow had in use."""
    pool = pyarrow.default_memory_pool()
    before = most = pool.bytes_allocated()
    tracemalloc.start()
    try:
        right = wrong = 0
        for row in rows():
            right, wrong = right + (row.request is not None), wrong + (row.request is None)
            most = max(most, pool.bytes_allocated())
        return right, wrong, (tracemalloc.get_traced_memory()[1] + most - before) / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "group"), [(".txt", 0), (".csv", 0), (".jsonl", 0), (".parquet", 500), (".parquet", 10_500)]
)
def test_memory_does_not_grow_with_the_file(ending: str, group: int, tmp_path: Path) -> None:
    file, text, n = tmp_path / f"a{ending}", "a red circle left of a blue square " * 280, 10_500
    if ending == ".parquet":
        table = pyarrow.table({"prompt": [f"{i} {text}" for i in range(n)]})
        parquet.write_table(table, file, row_group_size=group, compression="none")
        del table
    else:
        with file.open("w", encoding="utf-8") as opened:
            opened.write("prompt\n" if ending == ".csv" else "")
            opened.writelines(f'"{i} {text}"\n' for i in range(n))
    assert file.stat().st_size > 100e6
    right, wrong, used = count(partial(read_rows, file))
    assert (right, wrong) == (n, 0)
    assert used < 60


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".txt", ".csv", ".jsonl"])
def test_a_line_of_any_length_is_one_wrong_row(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{ending}"
    with file.open("w", encoding="utf-8") as opened:
        opened.write('prompt\n"a"\n')
        opened.writelines("x" * MOST_CHARACTERS for _ in range(100))
        opened.write('\n"b"\n')
    right, wrong, used = count(partial(read_rows, file))
    assert (right, wrong) == {".txt": (3, 1), ".csv": (2, 1), ".jsonl": (2, 2)}[ending]
    assert used < 60


@pytest.mark.soak
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_million_rows(ending: str, tmp_path: Path) -> None:
    file, n = tmp_path / f"a{ending}", 1_000_000
    if ending == ".parquet":
        ids = pyarrow.array(range(n), pyarrow.int64())
        texts = pyarrow.array([f"a red circle {i}" for i in range(n)])
        parquet.write_table(pyarrow.table({"id": ids, "prompt": texts}), file)
    else:
        line = '{{"id": {0}, "prompt": "a red circle {0}"}}\n' if ending == ".jsonl" else "{0},a red circle {0}\n"
        with file.open("w", encoding="utf-8") as opened:
            opened.write("id,prompt\n" if ending == ".csv" else "")
            opened.writelines(line.format(i) for i in range(n))
    began = time.perf_counter()
    seen = 0
    for seen, row in enumerate(read_rows(file, common={"steps": 5}), 1):
        assert row.request is not None
        assert row.request.seed == seen - 1
    print(f"{ending}: {time.perf_counter() - began:.1f} s for {n:,} rows")
    assert seen == n
