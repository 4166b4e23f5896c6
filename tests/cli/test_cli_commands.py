"""Each command: what it prints, for people and for machines, and the code it ends with when the input is bad."""

import gzip
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import orjson
import pytest

from fhirgw.cli.commands import COMMANDS
from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from fhirgw.systems.made_up import to_csv
from tests.cli.conftest import Command

PEOPLE = generate(10)


@pytest.fixture
def extract(tmp_path: Path) -> Path:
    """The CSV extracts of a small council."""
    to_csv(tmp_path / "meadow", LAYOUTS["meadow"], PEOPLE, lambda table, rows: None)
    return tmp_path / "meadow"


def test_help_tells_every_command_and_exit_code(command: Command) -> None:
    told = command("--help")
    assert told.code == 0
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", told.out, re.MULTILINE)
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 130):
        assert f"\n  {code} " in told.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_of_its_own(command: Command, name: str) -> None:
    told = command(name, "--help")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith(f"Usage: fhirgw {name} ")


def test_help_is_there_at_once() -> None:
    """What takes a second to import is imported by the command that needs it."""
    heavy = ("sqlalchemy", "asyncpg", "fastapi", "procrastinate", "pyarrow", "cryptography")
    asked = "import sys; sys.argv = ['fhirgw', '--help']\nfrom fhirgw.cli import main\ntry: main()\nfinally: "
    told = subprocess.run(
        [sys.executable, "-c", f"{asked}print('imported', sorted(sys.modules.keys() & set({heavy})))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.endswith("imported []\n")
    assert "Usage: " in told.stdout


def test_the_version_is_a_line_with_those_of_what_it_runs_on(command: Command) -> None:
    told = command("--version")
    ours, python, postgres = (re.escape(each) for each in (version("fhirgw"), platform.python_version(), "PostgreSQL"))
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(rf"fhirgw {ours}, Python {python}, {postgres} \d+\.\d+\S* embedded\n", told.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["sync"], "Missing argument"),
        (["sync", "medow"], "There is no system 'medow' under mappings/: did you mean 'meadow'."),
        (["generate", "--layout", "x"], "There is no layout 'x': it has harbour, meadow."),
        (["generate", "--to", "ftp:x"], "'ftp:x' is nowhere: say csv:FOLDER, database, or postgresql://"),
        (["map", "x.csv", "--mapping", "meadow/persn"], "There is no mapping 'persn' under mappings/meadow/"),
    ],
)
def test_what_is_not_understood_ends_with_2(command: Command, arguments: list[str], message: str) -> None:
    ended = command(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


def test_a_setting_that_is_not_understood_ends_with_2(command: Command) -> None:
    ended = command("migrate", FHIRGW_CONNECTIONS="many")
    assert (ended.code, ended.err) == (
        2,
        "FHIRGW_CONNECTIONS: Input should be a valid integer, unable to parse string as an integer\n",
    )


def test_check_counts_the_mappings(command: Command) -> None:
    ended = command("check")
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()[-2:]] == ["harbour", "meadow"]
    assert "person" in orjson.loads(command("check", "--json").out)["meadow"]


def test_a_database_without_tables_ends_with_4(command: Command, server_url: str, extract: Path) -> None:
    ended = command("sync", "meadow", "--from", f"csv:{extract}", FHIRGW_DATABASE_URL=server_url)
    assert (ended.code, ended.out) == (4, "")
    assert "it has no tables yet" in ended.err
    assert "Run `fhirgw migrate`." in ended.err


@pytest.mark.parametrize("arguments", [["migrate"], ["sync", "meadow"], ["export", "--to", "x"], ["generate"]])
def test_a_database_that_is_away_ends_with_4(command: Command, arguments: list[str]) -> None:
    ended = command(*arguments, FHIRGW_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert (ended.code, ended.out) == (4, "")
    assert "The database cannot be reached: it is away" in ended.err or "the database is away" in ended.err
    assert "Traceback" not in ended.err


def test_migrating_twice_is_as_good_as_once(command: Command, database: str) -> None:
    for _ in range(2):
        ended = command("migrate", FHIRGW_DATABASE_URL=database)
        assert ended.code == 0
        assert ended.out.startswith("The tables are at version ")


def test_sync_tells_what_became_of_the_rows(command: Command, database: str, extract: Path, tmp_path: Path) -> None:
    arguments = ("sync", "meadow", "--from", f"csv:{extract}")
    first = command(*arguments, FHIRGW_DATABASE_URL=database)
    assert (first.code, first.err.count("sync meadow: ")) == (0, 1)
    assert "\x1b" not in first.out + first.err
    names, *rows = [line.split() for line in first.out.split("\n\n")[0].splitlines()[2:]]
    assert names == ["table", "read", "created", "updated", "unchanged", "deleted", "refused"]
    people = next(row for row in rows if row[0] == "person")
    assert int(people[1]) == len(PEOPLE.records["person"])
    again = orjson.loads(command(*arguments, "--json", FHIRGW_DATABASE_URL=database).out)
    assert again["written"] == 0
    assert again["tables"]["person"]["read"] == len(PEOPLE.records["person"])
    assert (tmp_path / "data" / "errors" / "meadow.ndjson").exists()


def test_a_shrunken_extract_ends_with_5_until_it_is_forced(command: Command, database: str, extract: Path) -> None:
    arguments = ("sync", "meadow", "--from", f"csv:{extract}")
    assert command(*arguments, FHIRGW_DATABASE_URL=database).code == 0
    person = extract / "person.csv"
    lines = person.read_bytes().splitlines(keepends=True)
    person.write_bytes(b"".join(lines[: len(lines) // 3]))
    ended = command(*arguments, FHIRGW_DATABASE_URL=database)
    assert (ended.code, ended.out) == (5, "")
    assert "meadow, table person: the extract has" in ended.err
    assert "--force takes it and deletes what is not in it" in ended.err
    forced = command(*arguments, "--force", "--json", FHIRGW_DATABASE_URL=database)
    assert forced.code == 0
    assert orjson.loads(forced.out)["tables"]["person"]["deleted"] > 0


def cut(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_bad_input_ends_with_3_and_nothing_half_written(command: Command, database: str, extract: Path) -> None:
    arguments = ("sync", "meadow", "--from", f"csv:{extract}")
    whole = (extract / "review.csv").read_bytes()
    header, rest = whole.split(b"\n", 1)
    bad = {
        whole[: len(whole) // 2]: "cut off",
        whole.replace(b",", b";"): "the header is separated by ';', not by ','",
        whole + b"\xff\n": "(0xff) is not utf-8",
        header.replace(b"review_id", b"reviewid") + b"\n" + rest: "review_id",
        b"": "the file is empty",
    }
    for content, message in bad.items():
        (extract / "review.csv").write_bytes(content)
        ended = command(*arguments, FHIRGW_DATABASE_URL=database)
        assert (ended.code, ended.out) == (3, ""), ended
        assert message in ended.err
    (extract / "review.csv").unlink()
    ended = command(*arguments, FHIRGW_DATABASE_URL=database)
    assert (ended.code, "review" in ended.err) == (3, True)
    exported = command("export", "--to", str(extract / "out"), "--json", FHIRGW_DATABASE_URL=database)
    assert orjson.loads(exported.out)["output"] == []
    (extract / "review.csv").write_bytes(whole)
    done = command(*arguments, "--json", FHIRGW_DATABASE_URL=database)
    assert (done.code, orjson.loads(done.out)["written"] > 100) == (0, True)


def test_generate_makes_the_same_twice(command: Command, tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        ended = command(
            "generate", "--people", "5", "--seed", "7", "--layout", "harbour", "--to", f"csv:{tmp_path / name}"
        )
        assert ended.code == 0
        made.append({each.name: each.read_bytes() for each in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == len(LAYOUTS["harbour"].declared)


def test_generate_and_sync_through_the_database(command: Command, database: str) -> None:
    made = command("generate", "--people", "5", "--json", FHIRGW_DATABASE_URL=database)
    rows = orjson.loads(made.out)["rows"]
    done = orjson.loads(command("sync", "meadow", "--json", FHIRGW_DATABASE_URL=database).out)
    assert {name: counts["read"] for name, counts in done["tables"].items()}.items() <= rows.items()


def test_export_writes_what_is_asked_for(command: Command, database: str, extract: Path, tmp_path: Path) -> None:
    command("sync", "meadow", "--from", f"csv:{extract}", FHIRGW_DATABASE_URL=database)
    out = tmp_path / "out"
    ended = command("export", "--to", str(out), "--type", "Patient", "--type", "Task", FHIRGW_DATABASE_URL=database)
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()[-2:]] == ["Patient", "Task"]
    manifest = orjson.loads((out / "manifest.json").read_bytes())
    assert [each["url"] for each in manifest["output"]] == ["Patient.ndjson", "Task.ndjson"]
    patient = orjson.loads((out / "Patient.ndjson").read_bytes().splitlines()[0])["id"]
    one = command("export", "--to", str(out), "--patient", patient, "--json", FHIRGW_DATABASE_URL=database)
    counts = {each["type"]: each["count"] for each in orjson.loads(one.out)["output"]}
    assert counts["Patient"] == 1
    assert "Organization" not in counts


def test_an_export_of_what_there_is_not_is_told(command: Command, database: str, tmp_path: Path) -> None:
    ended = command("export", "--to", str(tmp_path), "--type", "Patiant", FHIRGW_DATABASE_URL=database)
    assert (ended.code, ended.err) == (3, "_type: 'Patiant' is no type this gateway holds: did you mean Patient?\n")
    (tmp_path / "file").write_bytes(b"")
    ended = command("export", "--to", str(tmp_path / "file"), FHIRGW_DATABASE_URL=database)
    assert ended.code == 6
    assert "it cannot be written (File exists). Make room or choose another folder" in ended.err


def test_map_shows_rows_as_resources_and_back(command: Command, extract: Path, tmp_path: Path) -> None:
    ended = command("map", str(extract / "organisation.csv"), "--mapping", "meadow/organisation")
    assert ended.code == 0
    resources = [orjson.loads(line) for line in ended.out.splitlines()]
    assert {each["resourceType"] for each in resources} == {"Organization"}
    (tmp_path / "resources.ndjson").write_text(ended.out)
    back = command("map", str(tmp_path / "resources.ndjson"), "--mapping", "meadow/organisation", "--back")
    names = [line.split(b",")[0].decode() for line in (extract / "organisation.csv").read_bytes().splitlines()[1:]]
    assert [orjson.loads(line)["organisation_id"] for line in back.out.splitlines()] == names


def test_map_tells_what_it_cannot_read(command: Command, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"resourceType": ')
    ended = command("map", str(broken), "--mapping", "meadow/person", "--back")
    assert ended.code == 3
    assert ended.err.startswith(f"{broken}: The body is not JSON")
    broken.write_text('{"person_id": "1"}')
    ended = command("map", str(broken), "--mapping", "meadow/person")
    assert ended.code == 3
    assert ended.err.startswith("person 1, column family_name: this column must be filled.")


def test_an_export_as_a_job(command: Command, database: str, extract: Path, tmp_path: Path) -> None:
    given = {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path), "FHIRGW_PART_MEGABYTES": "0.05"}
    command("sync", "meadow", "--from", f"csv:{extract}", **given)
    one = orjson.loads(command("export", "--to", str(tmp_path / "one"), "--json", **given).out)
    started = command("export", "run", "--to", str(tmp_path / "parts"), "--gzip", **given)
    assert started.code == 0
    assert "if it is interrupted: fhirgw export resume" in started.err
    (listed,) = orjson.loads(command("export", "ls", "--json", **given).out)
    assert (listed["state"], listed["parts"]) == ("done", listed["done"])
    manifest = orjson.loads((tmp_path / "parts" / "manifest.json").read_bytes())
    for each in one["output"]:
        files = [found["url"] for found in manifest["output"] if found["type"] == each["type"]]
        lines = b"".join(gzip.decompress((tmp_path / "parts" / name).read_bytes()) for name in files).splitlines()
        assert sorted(lines) == sorted((tmp_path / "one" / each["url"]).read_bytes().splitlines())
    assert len(manifest["output"]) > len(one["output"])
    told = command("export", "status", listed["id"], **given)
    assert "done" in told.out and "Patient" in told.out
    again = command("export", "resume", listed["id"], **given)  # there is nothing left to do
    assert again.code == 0
    full = command("export", "run", "--to", str(tmp_path / "parts"), **given)
    assert full.code == 6 and "is not an empty folder" in full.err
    nowhere = command("export", "run", "--to", str(extract / "person.csv" / "x"), **given)
    assert nowhere.code == 6 and "it cannot be written (Not a directory)" in nowhere.err
    assert len(orjson.loads(command("export", "ls", "--json", **given).out)) == 1
    (tmp_path / "parts" / "notes.txt").write_text("somebody's own")
    assert command("export", "cancel", listed["id"], **given).code == 0
    assert [each.name for each in (tmp_path / "parts").iterdir()] == ["notes.txt"]
    assert command("export", "status", listed["id"], **given).code == 2
    left = orjson.loads(command("export", "run", "--detach", "--json", **given).out)
    assert left["state"] == "running"
    assert command("worker", "--until-idle", **given).code == 0
    (done,) = orjson.loads(command("export", "ls", "--json", **given).out)
    assert (done["id"], done["state"], done["rows"]) == (left["id"], "done", sum(e["count"] for e in one["output"]))


def test_an_export_as_tables(command: Command, database: str, extract: Path, tmp_path: Path) -> None:
    given = {"FHIRGW_DATABASE_URL": database, "FHIRGW_LEASE_SECONDS": "2"}
    command("sync", "meadow", "--from", f"csv:{extract}", **given)
    out = tmp_path / "tables"
    arguments = ("export", "run", "--to", str(out), "--format", "csv", "--view", "people", "--view", "plans", "--json")
    done = orjson.loads(command(*arguments, **given).out)
    assert [each["view"] for each in done["result"]["output"]] == ["plans", "people"]
    for each in done["result"]["output"]:
        assert (out / each["key"]).read_bytes().count(b"\r\n") == each["count"] + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "xlsx"], "There is no format 'xlsx': ndjson, csv, parquet"),
        (["--format", "csv", "--view", "poeple"], "There is no view 'poeple'"),
        (["--view", "people"], "views are written as text/csv"),
        (["--pseudonymise", "falls", "--patient", "p1", "--app", "x"], "whoever picks people by who they are"),
        (["--pseudonymise", "falls"], "Pseudonyms are for an application that plans or researches"),
        (["--pseudonymise", "falls", "--app", "study", "--purpose", "research"], "national data opt-outs is missing"),
        (["--pseudonymise", "falls", "--app", "study", "--purpose", "direct-care"], "for planning and research alone"),
    ],
)
def test_what_cannot_be_exported_is_told(
    command: Command, database: str, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = {"FHIRGW_DATABASE_URL": database}
    registered = ("app", "add", "study", "--scope", "system/*.rs", "--purpose", "research", "--purpose", "direct-care")
    agreed = ("--agreement", "DARS-1", "--identifiable", "--agreement-until", "2099-01-01", "--generate")
    assert command(*registered, *agreed, **given).code == 0
    ended = command("export", "run", *arguments, **given)
    assert ended.code in (2, 3, 4, 6) and message in ended.err, ended
    assert command("export", "ls", "--json", **given).out.strip() == "[]"
