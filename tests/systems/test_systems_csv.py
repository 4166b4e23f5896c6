"""CSV extracts: what is read, and every way in which a file may be unusable, with what people are told."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.systems.csv import CsvSystem
from fhirgw.systems.system import Child, ExtractError, Row

PEOPLE = b'id,name,note\n1,Ada,\n2,"O\'Brien, Zo\xc3\xab","two\nlines, ""quoted"""\n3,  ,x\n'
PHONES = b"phone,person,place,number\n1,2,10,b\n2,2,9,a\n3,1,1,c\n4,99,1,nobody's\n"


def extracts(folder: Path, **files: bytes) -> CsvSystem:
    for name, content in files.items():
        (folder / f"{name}.csv").write_bytes(content)
    return CsvSystem("meadow", folder)


async def read(system: CsvSystem, table: str = "person", *columns: str, children: tuple[Child, ...] = ()) -> list[Row]:
    async with system:
        return [row async for rows in system.extract(table, "id", columns, children, batch=2) for row in rows]


async def refusal(system: CsvSystem, *columns: str, children: tuple[Child, ...] = ()) -> ExtractError:
    with pytest.raises(ExtractError) as raised:
        await read(system, "person", *columns, children=children)
    return raised.value


async def test_rows_are_text_and_blank_cells_are_none(tmp_path: Path) -> None:
    assert await read(extracts(tmp_path, person=PEOPLE)) == [
        {"id": "1", "name": "Ada", "note": None},
        {"id": "2", "name": "O'Brien, Zoë", "note": 'two\nlines, "quoted"'},
        {"id": "3", "name": None, "note": "x"},
    ]


async def test_only_the_columns_asked_for_and_the_key(tmp_path: Path) -> None:
    rows = await read(extracts(tmp_path, person=PEOPLE), "person", "note")
    assert rows[0] == {"note": None, "id": "1"}


async def test_children_hang_under_their_parents_in_their_order(tmp_path: Path) -> None:
    system = extracts(tmp_path, person=PEOPLE, phone=PHONES)
    rows = await read(system, children=(Child("phone", "person", "place", ("number",)),))
    assert [row["phone"] for row in rows] == [
        [{"number": "c", "place": "1"}],
        [{"number": "a", "place": "9"}, {"number": "b", "place": "10"}],
        [],
    ]
    assert system.orphans == {"phone": 1}


async def test_siblings_without_an_order_come_in_the_same_one_however_the_file_is_sorted(tmp_path: Path) -> None:
    lines = PHONES.splitlines(keepends=True)
    children = (Child("phone", "person"),)
    forth = await read(extracts(tmp_path, person=PEOPLE, phone=PHONES), children=children)
    back = await read(extracts(tmp_path, phone=b"".join([lines[0], *reversed(lines[1:])])), children=children)
    assert forth == back
    assert len(forth[1]["phone"]) == 2


async def test_the_tables_their_columns_and_their_sizes(tmp_path: Path) -> None:
    system = extracts(tmp_path, person=PEOPLE, phone=PHONES)
    assert await system.tables() == {"person": ("id", "name", "note"), "phone": ("phone", "person", "place", "number")}
    assert (await system.count("person"), await system.count("phone")) == (3, 4)


async def test_one_row_by_its_key(tmp_path: Path) -> None:
    system = extracts(tmp_path, person=PEOPLE)
    assert await system.fetch("person", "id", "3", ("note",)) == {"note": "x", "id": "3"}
    assert await system.fetch("person", "id", "4") is None


async def test_other_delimiters_and_encodings(tmp_path: Path) -> None:
    (tmp_path / "person.csv").write_bytes("id;name\n1;Zoë, €\n".encode("cp1252"))
    assert await read(CsvSystem("harbour", tmp_path, ";", "windows-1252")) == [{"id": "1", "name": "Zoë, €"}]


async def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path: Path) -> None:
    rows = await read(extracts(tmp_path, person=b"\xef\xbb\xbfid,name\r\n1,Ada\r\n\r\n"))
    assert rows == [{"id": "1", "name": "Ada"}]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,4}", fullmatch=True), cells, cells), max_size=20))
async def test_whatever_a_writer_of_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "name", "note"), *rows])
    system = extracts(tmp_path_factory.mktemp("csv"), person=text.getvalue().encode())
    wanted = [[cell if cell.strip() else None for cell in row] for row in rows]
    assert [list(row.values()) for row in await read(system)] == wanted
    assert await system.count("person") == len(rows)


BAD = {
    "cut off inside a quote": (b'id,name\n1,"Ad', ":", "ends inside a quoted cell: it was cut off"),
    "cut off inside a row": (b"id,name\n1,Ada\n2\n", ":3:", "the row has 1 cells where the header has 2"),
    "cut off inside a cell": (
        b"id,name\n1,Ada\n2,Al",
        ":",
        "the last line has no line end: the file may have been cut",
    ),
    "cut off inside a character": (b"id,name\n1,Zo\xc3", ":2: ", "byte 12 (0xc3) is not utf-8: the file was cut off"),
    "a cell too many": (b"id,name\n1,Ada,x\n", ":2:", "the row has 3 cells where the header has 2"),
    "another encoding": (b"id,name\n1,Zo\xeb\n", ":2: ", "byte 12 (0xeb) is not utf-8"),
    "UTF-16": ("id,name\n1,Ada\n".encode("utf-16"), ":1: ", "byte 0 (0xff) is not utf-8. It begins like UTF-16."),
    "another delimiter": (b"id;name\n1;Ada\n", ":1:", "the header is separated by ';', not by ','"),
    "a column twice": (b"id,name,name\n", ":1:", "column 'name' is there twice"),
    "a column without a name": (b"id,,name\n", ":1:", "column 2 has no name"),
    "an empty file": (b"", ":", "the file is empty: it has not even a header"),
    "a NUL": (b"id,name\n1,A\0a\n", ":", "byte 11 is a NUL: the file is damaged, or is not text"),
    "a quote gone wild": (b'id,name\n1,"A"da\n', ":2:", "this is not CSV: ',' expected after '\"'"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_an_unusable_file_is_told_by_place_rule_and_remedy(tmp_path: Path, kind: str) -> None:
    content, place, rule = BAD[kind]
    error = await refusal(extracts(tmp_path, person=content))
    assert str(error).startswith(f"{tmp_path / 'person.csv'}{place}")
    assert rule in str(error)
    assert error.remedy


@pytest.mark.parametrize("kind", BAD)
async def test_an_unusable_child_table_is_as_bad(tmp_path: Path, kind: str) -> None:
    content, _, rule = BAD[kind]
    system = extracts(tmp_path, person=b"id,name\n1,Ada\n", phone=content)
    assert rule in str(await refusal(system, children=(Child("phone", "id"),)))


async def test_utf_8_that_passes_for_a_one_byte_encoding_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "person.csv").write_bytes("id,name\n1,Zoë\n".encode())
    error = await refusal(CsvSystem("meadow", tmp_path, ",", "windows-1252"))
    assert "the file is UTF-8, not windows-1252" in str(error)


async def test_an_encoding_is_called_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "person.csv").write_bytes(b"id,name\n1,Ada\n2,\x81\n")
    error = await refusal(CsvSystem("harbour", tmp_path, ",", "windows-1252"))
    assert f"{tmp_path / 'person.csv'}:3: byte 16 (0x81) is not windows-1252" in str(error)


async def test_nothing_is_given_of_a_file_that_was_cut_off(tmp_path: Path) -> None:
    rows = b"".join(b"%d,Ada\n" % number for number in range(1000))
    system = extracts(tmp_path, person=b"id,name\n" + rows + b'1000,"A')
    with pytest.raises(ExtractError, match="cut off"):
        async for _ in system.extract("person", "id", ()):
            pytest.fail("a row was given")


async def test_a_missing_file_and_a_missing_folder(tmp_path: Path) -> None:
    error = await refusal(extracts(tmp_path))
    assert (str(tmp_path / "person.csv"), "the file is missing", "not-found") == (error.place, error.rule, error.code)
    error = await refusal(CsvSystem("meadow", tmp_path / "nowhere"))
    assert "there is no such folder" in str(error)


async def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    error = await refusal(extracts(tmp_path, person=PEOPLE), "Nmae")
    assert str(error) == (
        f"{tmp_path / 'person.csv'}:1: there is no column 'Nmae'. "
        "Add it to the extract, or take it out of the mapping; did you mean 'name'."
    )


async def test_no_message_quotes_a_cell(tmp_path: Path) -> None:
    for content in (
        b'id,name\n1,"Secret',
        b"id,name\n1,Secret,x\n",
        b"id,name\n1,Secret\xeb\n",
        b'id,name\n1,"Secret"x\n',
    ):
        assert "Secret" not in str(await refusal(extracts(tmp_path, person=content)))


async def test_an_extract_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(ExtractError, match="a CSV extract cannot be written back to") as raised:
        await extracts(tmp_path, person=PEOPLE).apply("person", "id", "1", None, None)
    assert raised.value.code == "not-supported"
