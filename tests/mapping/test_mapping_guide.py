"""mappings/README.md says what is there, and the lists of ours say the same in mappings/concepts and in profiles/."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "mappings" / "README.md").read_text()
OURS = "https://fhirgw.uk/fhir/CodeSystem/"
CONCEPTS = sorted((ROOT / "mappings" / "concepts").glob("*.yaml"))


def test_the_example_is_the_file_itself() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    text = (ROOT / "mappings" / "meadow" / "support_reason.yaml").read_text()
    assert example == text[text.index("table:") :]


def test_every_mapping_stands_in_the_table() -> None:
    table = GUIDE[GUIDE.index("| record |") :]
    listed = {name.strip() for line in table.splitlines() if "|" in line for name in line.split("|")[-2].split(",")}
    files = {path.stem for path in (ROOT / "mappings" / "meadow").glob("*.yaml")} - {"system", "codes"}
    assert listed - {"file in meadow/", "---"} == files


@pytest.mark.parametrize("file", CONCEPTS, ids=lambda file: file.stem)
def test_a_list_of_ours_is_a_code_system_of_ours(file: Path) -> None:
    concept = yaml.safe_load(file.read_text())
    for system, codes in _by_system(concept).items():
        if system.startswith(OURS):
            defined = json.loads((ROOT / "profiles" / f"CodeSystem-{system.removeprefix(OURS)}.json").read_text())
            assert {each["code"]: each["display"] for each in defined["concept"]} == codes


def _by_system(concept: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The displays of a concept's codes, by the code system each belongs to."""
    found: dict[str, dict[str, str]] = {}
    for name, said in concept["codes"].items():
        code = {"system": concept["system"], "code": name, **(said if isinstance(said, dict) else {"display": said})}
        found.setdefault(code["system"], {})[code["code"]] = code["display"]
    return found
