"""Nothing reaches people's data around the one predicate: read from the source, so that a new query cannot forget it.

A function that builds a query on the guarded tables either puts `visible(...)` into it, or is named below, with why.
What reads a body at all goes through `visibility.body`, which withholds what is withheld.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fhirgw

SOURCE = Path(fhirgw.__file__).parent
GUARDED = (
    *("resource", "history", "search_string", "search_number", "search_span", "identifier"),
    *("visit", "visit_said", "visit_past", "visit_left"),
)
GIVING = ("held", "superseded", "both", "versions")
"""Functions that give the tables, with what visits are rendered as."""
SCHEMA = "fhirgw.store.schema"
BUILDERS = {"select", "exists", "delete", "update", "insert", "alias", "join", "select_from", "copy_from_table"}
PREDICATES = {"visible", "_visible", "_named", "_tombstones", "_own_in", "_newest"}
"""Names that put the predicate into a query: the helpers among them are checked to call it themselves."""

RAW = re.compile(
    rf"\b(?:from|join|into|update|table|only|using|copy|analyze|truncate)\s+(?:fhirgw\.)?(?:{'|'.join(GUARDED)})(?:_[a-z]+)?\b"
    rf"|\bfhirgw\.(?:{'|'.join(GUARDED)})\b|\bfhirgw\.past_[a-z]+\b",
    re.IGNORECASE,
)

ALLOWED = {
    # who writes, and needs to know what is there to do so
    "store/load.py": "merges what a system of record delivered",
    "store/reindex.py": "writes: indexes rows again, from their own bodies",
    "store/visits.py": "joins what care providers send with what is known",
    "store/visit_whose.py": "finds whose the visits are that care providers send, of those whom they look after",
    "store/watch.py": "raises and ends alerts, by what is known of visits: writes Tasks",
    "store/identity.py": "tells which Patient a row is about while it is merged",
    # who is asked before there is a permit, or instead of one
    "store/registration.py": "the caller's own organisation, role and NHS number: what the permit is made of",
    "store/schema.py": "the tables themselves",
}
"""Modules that reach the tables without the predicate. None of their rows is an answer to anybody."""

PLACES = {
    "store/basis.py:_safeguarding": "part of the predicate: the case, by id, for its person",
    "store/basis.py:_agreed": "part of the predicate: whether a person has an NHS number",
    "store/visibility.py:_past": "part of the predicate: what is withheld of later versions",
    "store/cohort.py:_raw": "whom an export may be of: every part of it has the predicate; no answer has them",
    "store/deleted.py:TYPES": "the names of types alone, to ask the predicate about no others: in no answer",
    "store/hidden.py:CONCERNED": "the names of types alone, to ask the predicate about no others: in no answer",
    "store/hidden.py:CHANGED": "what rules rest on, to make them again as they were: in no answer",
    "store/matching.py:ordered": "part of a query that has the predicate: `select` asks it of each row, from here",
    "store/notices.py:_was": "a criterion of a trigger: part of a query that has the predicate",
    "store/membership.py:_members": "part of what is served: hands each type its condition (visible) by argument",
    "store/criterion.py:_said": "a criterion: part of a query that has the predicate, and `whole` where it must",
    "store/said.py:worth": "what a row is sorted by: part of a query that has the predicate, and `whole` where it must",
    "store/segments.py:NUMBERS": "digests by person of what the predicate asks about them: no answer has them",
    "store/segments.py:RULED": "persons whose digests are not to be relied on: no answer has them",
    "store/segments.py:STALE_KIND": "ids that an export is to read again, under the predicate: no answer has them",
    "store/explain.py:SINGLE": "for the controller and auditors: whether a person has an NHS number, opted out",
    "store/export.py:TYPES": "the names of types alone; whoever exports is told of those that have a file",
    "store/division.py:CHANGED": "how many rows changed, to divide an export by: no answer has it",
    "store/division.py:SIZE": "how large tables are, to divide an export by: no answer has it",
    "store/rendered.py:SIZE": "how large the table of visits is: whether a search is refused as too costly",
    "store/resources.py:_versions": "the versions in each table, by `_of`, which names them under the predicate",
    "store/division.py:SAMPLE": "ids to divide a table by, for the ledger: no answer has them",
    "store/examples.py:SHARED": "the command line's own: NHS numbers that lead to no one person",
    "store/examples.py:PROVIDER": "the demo's own, on the gateway's machine: organisations alone",
    "store/rarity.py:ESTIMATE": "how many rows the statistics expect: chooses a pool of connections, in no answer",
    "store/rarity.py:ALL": "the same of a type",
    "store/soundness.py:HELD": "the command line's own: whether those whom a registration names are held",
    "store/rules.py:_TURNED": "whose records are noted for withdrawal, by id: compares a version with the one before",
    "store/write.py:_in_use": "whether there is more of a person who is to be deleted: told as that, and no more",
    "store/notices.py:RESTORED": "a moment of the newest visit: from when on visits are told of",
    "store/subscription.py:HERE": "the same, for a new subscription",
    "store/visit_changes.py:CHANGED": "ids of visits: noted are those that the permit shows (notices._branch)",
    "store/visit_changes.py:ENDED": "whether a visit was written: then subscriptions are looked at, and no more",
    "store/visit_changes.py:NEWEST": "the transaction that wrote the newest visit: the same",
    "store/visit_lines.py:LINES": "which line of its own a visit is of: told is whether there is one",
    "store/visit_stays.py:MEETING": "tells a care provider what it called its own visit",
    "store/visit_stays.py:KEEP": "writes: whose carers were where; tells a care provider what it called its own visit",
    "store/write.py:VISITED": "whether a person who is to be deleted has visits: told as that, and no more",
    "store/withdrawal.py:_left": "ids that visits had in a record they left: taken out of files, and in no answer",
    "store/joined.py:_then": "whom a Group named then: every part of the export has the predicate; no answer has them",
    "store/joined.py:_current": "part of queries that have the predicate: whether a version was current at a moment",
    "store/retraction.py:HELD": "writes: what an origin takes back; no answer has it but counts, and the audit",
    "store/ods.py:_holders": "whether another organisation has an ODS code, which is public: told as that, and no more",
    "store/visits_sent.py:_SAID": "part of ARRIVED, and of what `of_week` asks under the predicate",
    "store/visits_sent.py:ARRIVED": "sample visits of a sandbox, by their planned times: in no answer but as cases",
    "store/visits_sent.py:PROVIDERS": "the codes of care providers, who are nobody's data",
    "store/opt_out.py:_replace": "writes: whom a new list of opt-outs concerns",
}
"""Functions and constants that do, each with why it may."""

BODIES = {f"store/visibility.py:{each}" for each in ("body", "whole", "names", "first_named")}
"""The only functions that name the columns a body is served from."""


class Reach(NamedTuple):
    """One place in the source that reaches a guarded table."""

    place: str
    line: int
    why: str


def reaches(module: str, source: str) -> list[Reach]:
    """Where a module reaches the tables around the predicate."""
    tree = ast.parse(source)
    tables, schemas, others = _tables(tree)
    found: list[Reach] = []
    for name, node in _parts(tree):
        inner = list(_own(node))
        guarded = any(_is_table(each, tables, schemas) for each in inner)
        predicate = any(isinstance(each, ast.Call) and _called(each) in PREDICATES for each in inner)
        queries = any(isinstance(each, ast.Call) and _builds(each, tables, schemas) for each in inner)
        place = f"{module}:{name}"
        if guarded and queries and not predicate:
            found.append(Reach(place, node.lineno, "a query without visible(...)"))
        for each in inner:
            if isinstance(each, ast.Attribute) and each.attr in ("body", "redacted") and _columns(each, others):
                found.append(Reach(place, each.lineno, f"{each.attr} that did not go through visibility.body"))
            if (text := _text(each)) is not None and RAW.search(text):
                found.append(Reach(place, each.lineno, "SQL by hand"))
    return found


def _tables(tree: ast.Module) -> tuple[set[str], set[str], set[str]]:
    """What the guarded tables are called here, and what the module they are in is; and the tables of nobody's data."""
    tables: set[str] = set()
    schemas: set[str] = set()
    others: set[str] = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.ImportFrom) and each.module == SCHEMA:
            tables |= {one.asname or one.name for one in each.names if one.name in GUARDED + GIVING}
            schemas |= {one.asname or one.name for one in each.names if one.name == "metadata"}
            others |= {one.asname or one.name for one in each.names if one.name not in GUARDED + GIVING}
        elif isinstance(each, ast.ImportFrom) and each.module == "fhirgw.store":
            schemas |= {one.asname or one.name for one in each.names if one.name == "schema"}
        elif isinstance(each, ast.Import):
            schemas |= {one.asname or one.name for one in each.names if one.name == SCHEMA}
    return tables, schemas, others - schemas


def _parts(tree: ast.Module) -> Iterator[tuple[str, ast.stmt | ast.Module]]:
    """Each function, and each statement of a module or class outside of them, by name."""
    for each in ast.walk(tree):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield each.name, each
    holders = [tree, *(each for each in ast.walk(tree) if isinstance(each, ast.ClassDef))]
    for holder in holders:
        for each in holder.body:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
                continue
            targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
            yield next((one.id for one in targets if isinstance(one, ast.Name)), "a module"), each


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a function itself: not in functions in it, nor its docstring."""
    body = getattr(node, "body", None)
    documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None
    waiting: list[ast.AST] = list(body[1:] if documented else body) if isinstance(body, list) else [node]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # words about what is above
    while waiting:
        each = waiting.pop()
        yield each
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(each)


def _is_table(each: ast.AST, tables: set[str], schemas: set[str]) -> bool:
    if isinstance(each, ast.Name):
        return each.id in tables
    if isinstance(each, ast.Attribute):
        named = isinstance(each.value, ast.Name) and each.value.id in schemas
        return (each.attr in GUARDED and named) or (each.attr == "tables" and named)
    return False


def _builds(call: ast.Call, tables: set[str], schemas: set[str]) -> bool:
    """Whether a call makes a query: of SQLAlchemy, or of a table; Matching.select is neither, and has the predicate."""
    if _called(call) not in BUILDERS:
        return False
    if isinstance(call.func, ast.Attribute):
        root = call.func.value
        return _is_table(root, tables, schemas) or (isinstance(root, ast.Name) and root.id in ("sqlalchemy", "sa"))
    return True


def _columns(each: ast.Attribute, others: set[str]) -> bool:
    """Whether it is a column of a guarded table, or of one that is handed over (`table.c.body`)."""
    columns = each.value
    if not (isinstance(columns, ast.Attribute) and columns.attr in ("c", "columns")):
        return False
    return not (isinstance(columns.value, ast.Name) and columns.value.id in others)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _text(each: ast.AST) -> str | None:
    """A text, however it is put together."""
    if isinstance(each, ast.Constant) and isinstance(each.value, str):
        return each.value
    if isinstance(each, ast.JoinedStr):
        return "".join(one.value if isinstance(one, ast.Constant) else "{}" for one in each.values)
    return None


def around() -> list[Reach]:
    """Every place in the gateway that reaches the tables around the predicate and is not allowed to."""
    found: list[Reach] = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = path.relative_to(SOURCE).as_posix()
        if module not in ALLOWED:
            found += reaches(module, path.read_text())
    return found


def test_nothing_reaches_the_tables_around_the_predicate() -> None:
    assert [each for each in around() if each.place not in BODIES | PLACES.keys()] == []


def test_what_is_allowed_is_still_there() -> None:
    """An exception that nothing needs any more would let something new in."""
    assert BODIES | PLACES.keys() == {each.place for each in around()}
    for module in ALLOWED.keys() - {"store/schema.py"}:
        assert reaches(module, (SOURCE / module).read_text()), module


def test_the_helpers_that_stand_for_the_predicate_call_it() -> None:
    for module, helper in (
        *(("store/include.py", "_visible"), ("store/resources.py", "_named"), ("store/matching.py", "select")),
        *(("store/deleted.py", "_tombstones"), ("store/everything.py", "_own_in"), ("store/meta.py", "_newest")),
    ):
        tree = ast.parse((SOURCE / module).read_text())
        (found,) = [node for name, node in _parts(tree) if name == helper]
        assert "visible" in {_called(each) for each in _own(found) if isinstance(each, ast.Call)}, module


QUERY = "from sqlalchemy import select\nfrom fhirgw.store.schema import resource, history\n"
FAULTS = {
    "a select": QUERY + "def f(permit):\n    return select(resource.c.id)",
    "a select under another name": "from sqlalchemy import select\nfrom fhirgw.store.schema import history as past\n"
    "def f(permit):\n    return select(past.c.id)",
    "a select through the module": "from sqlalchemy import select\nfrom fhirgw.store import schema\n"
    "def f(permit):\n    return select(schema.identifier.c.value)",
    "a select through the metadata": "from sqlalchemy import select\nfrom fhirgw.store.schema import metadata\n"
    "def f(permit):\n    return select(metadata.tables['fhirgw.search_string'])",
    "a select outside of functions": QUERY + "EVERYBODY = select(resource.c.id)",
    "an exists in a method": QUERY + "class A:\n    async def f(self):\n        return resource.select()\n"
    "    def g(self):\n        return exists().where(history.c.id == 'x')",
    "the predicate in another function": QUERY + "def f(p):\n    def g():\n        return visible(p)\n"
    "    return select(resource.c.id)",
    "a body": QUERY + "def f(permit):\n    return select(resource.c.body).where(visible(permit))",
    "a body of an old version": QUERY + "def f(permit):\n    return select(history.c.body).where(visible(permit))",
    "a body of what is handed over": "def f(table):\n    return table.c.redacted",
    "SQL": "async def f(connection):\n    return await connection.fetch('SELECT id FROM fhirgw.resource')",
    "SQL without the schema": "SOME = 'select * from resource r'",
    "SQL on a partition": "SOME = 'select * from fhirgw.resource_patient'",
    "SQL put together": "def f(kind):\n    return f'SELECT {kind} FROM fhirgw.history WHERE id = $1'",
    "SQL that joins": "JOINED = 'SELECT 1 FROM fhirgw.relationship JOIN fhirgw.identifier USING (id)'",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_query_around_the_predicate_is_found(fault: str) -> None:
    assert reaches("store/new.py", FAULTS[fault]) != []


@pytest.mark.parametrize(
    "sound",
    [
        QUERY + "def f(permit):\n    return select(resource.c.id, visibility.body(permit)).where(visible(permit, 'r'))",
        QUERY + "KEY = resource.c.updated",
        "ERROR = 'There is no such resource'\nNOTE = 'from the resource'",
        'def f():\n    """Reads FROM fhirgw.resource."""\n    return 1',
    ],
)
def test_a_query_with_it_is_not(sound: str) -> None:
    assert reaches("store/new.py", sound) == []
