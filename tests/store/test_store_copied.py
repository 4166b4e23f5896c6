"""Rows of a binary COPY as lines, held against the format as PostgreSQL's manual has it, and against the server."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from fhirgw.store.copied import Lines
from tests.put import connected

CELLS = st.none() | st.binary(max_size=12)
ROWS = st.integers(1, 3).flatmap(lambda columns: st.lists(st.lists(CELLS, min_size=columns, max_size=columns)))


def spelt(rows: list[list[bytes | None]]) -> bytes:
    """https://www.postgresql.org/docs/18/sql-copy.html, Binary Format"""
    made = b"PGCOPY\n\xff\r\n\0" + struct.pack("!II", 0, 3) + b"ext"
    for row in rows:
        made += struct.pack("!h", len(row))
        for cell in row:
            made += struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
    return made + struct.pack("!h", -1)


@given(ROWS, st.data())
def test_every_row_is_a_line_however_it_comes_in_pieces(rows: list[list[bytes | None]], data: st.DataObject) -> None:
    text = spelt(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    lines = Lines()
    found = [
        line for low, high in zip([0, *cuts], [*cuts, len(text)], strict=True) for line in lines.of(text[low:high])
    ]
    assert found == [b"\x02".join(cell or b"" for cell in row) for row in rows]


async def test_what_the_server_writes_is_read(database: str) -> None:
    found: list[bytes] = []
    lines = Lines()
    connection = await connected(database)

    async def output(data: bytes) -> None:
        found.extend(lines.of(data))

    query = "SELECT repeat(chr(233), n), nullif(n, 8)::text FROM generate_series(1, 3000, 7) n ORDER BY n"
    await connection.copy_from_query(query, output=output, format="binary")
    await connection.close()
    assert found == [f"{'é' * n}\x02{'' if n == 8 else n}".encode() for n in range(1, 3001, 7)]
