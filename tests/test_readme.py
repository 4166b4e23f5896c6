"""The README says what is so: commands, exit codes, addresses, settings, folders and links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fhirgw.app import create_app
from fhirgw.cli.commands import COMMANDS, app
from fhirgw.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUIDES = [
    ROOT / "README.md",
    *(ROOT / name / "README.md" for name in ("mappings", "mappings/homecare", "profiles", "k8s", "tests")),
    *sorted((ROOT / "fhirgw").glob("*/README.md")),
]


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose first column has that heading, cells stripped of their ticks."""
    lines = iter(README.splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    else:
        raise AssertionError(f"no table of {heading}")
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_commands_are_the_commands() -> None:
    told = {re.findall(r"`fhirgw ([\w-]+)`", row[0])[0] for row in table("command")}
    assert told == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    asked = CliRunner().invoke(app, [name, "--help"])
    assert asked.exit_code == 0
    assert "Usage: " in asked.stdout


def test_the_exit_codes_are_those_of_the_help() -> None:
    asked = subprocess.run([sys.executable, "-m", "fhirgw", "--help"], capture_output=True, text=True, check=True)
    given = {match[0]: match[1].strip() for match in re.findall(r"^ +(\d) +(\S.*)$", asked.stdout, re.MULTILINE)}
    assert {row[0] for row in table("code")} == set(given)


def test_the_settings_are_the_settings() -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in table("variable")}
    made = Settings()
    assert told == {
        f"FHIRGW_{name.upper()}": "" if (value := getattr(made, name)) is None else _plain(value)
        for name in Settings.model_fields
    }


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_addresses_are_the_routes() -> None:
    told = {path for row in table("request") for path in re.findall(r"`(?:GET|POST) ([^`]+)`", row[0])}
    routes = {re.sub(r":\w+}", "}", getattr(route, "path", "")) for route in create_app(Settings()).routes}
    assert told == routes


def test_the_folders_are_there() -> None:
    told = {name for row in table("folder") for name in re.findall(r"`([^`]+)`", row[0])}
    for name in told - {each for each in told if each.startswith("data/")}:
        assert (ROOT / name).exists(), name


def test_the_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (demo|test|bench|lint)\b", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: str(guide.relative_to(ROOT)))
def test_links_lead_somewhere(guide: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", guide.read_text()):
        assert link.startswith("https://") or (guide.parent / link).exists(), link


def test_the_figures_are_those_of_the_benchmarks() -> None:
    sources = "".join(each.read_text() for each in (ROOT / "tests/bench").glob("*.py"))
    for row in table("figure"):
        name = row[0].partition(", ")[0]
        assert name in sources, name
        low, middle, high = (float(cell.replace(",", "")) for cell in row[1:4])
        assert low <= middle <= high


def test_the_top_level_is_as_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition("/")[0] for name in listed} == {
        *(".ci", ".gitignore", "Makefile", "README.md", "alembic", "fhirgw", "k8s", "mappings", "profiles"),
        *("pyproject.toml", "requirements.lock", "tests"),
    }
