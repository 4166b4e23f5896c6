"""Derives fhirgw/fhir/facts/summary.json: the elements that R4 marks for summaries, by type and path.

    python profiles/derive_summary.py PATH-TO-DATA

PATH-TO-DATA is that of derive.py, of which this takes the reading of the package. Run again on the same data it writes
the same bytes. https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.isSummary
"""

from __future__ import annotations

import sys
from pathlib import Path

from derive import ABSTRACT, FACTS, core_definitions, lines, of_type

from fhirgw.fhir.issue import Resource


def main(data: Path, folder: Path = FACTS) -> None:
    """Write the table to the folder, and say how large it is."""
    core = list(core_definitions(data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz"))
    text = lines(summary_table(core))
    (folder / "summary.json").write_text(text, "utf-8")
    print(f"summary      {len(text):9,} bytes")


def summary_table(core: list[Resource]) -> dict[str, list[str]]:
    """Type -> the paths of those of its own elements that are part of a summary; choices as `value[x]`."""
    table = {}
    for structure in of_type(core, "StructureDefinition"):
        if structure["kind"] not in ("resource", "complex-type") or structure.get("derivation") == "constraint":
            continue
        if marked := own_summary(structure):
            table[structure["type"]] = marked
    return table


def own_summary(structure: Resource) -> list[str]:
    inherited = tuple(f"{each}." for each in ABSTRACT if each != structure["type"])
    return [
        path
        for element in structure["snapshot"]["element"]
        if (path := element["path"].partition(".")[2])
        and element.get("isSummary")
        and not element["base"]["path"].startswith(inherited)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
