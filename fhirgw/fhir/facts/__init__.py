"""The facts of the standard, as tables: made by `profiles/derive.py`, read when first asked for.

| table | what it holds |
|---|---|
| elements | every element of each R4 type: cardinality, types, targets, binding |
| codes | the codes of the value sets that R4 binds as required |
| parameters | R4's search parameters by type; which of them make the patient compartment |
| extensions | R4's own extensions: value types, contexts, nested parts |
| rules | R4's invariants by path, and the regular expressions of its primitive types |
| profiles | R4's own profiles: vital signs, SimpleQuantity |
| terminology | the code systems and value sets carried, as FHIR pared down to what is fact (`fhirgw.terminology`) |
| ukcore | UK Core: profiles, extensions, code systems, value sets; drafts marked |
| summary | the elements that R4 marks for summaries (`profiles/derive_summary.py`) |
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson


@cache
def table(name: str) -> dict[str, Any]:
    """The named table. Shared and never to be changed. Raises FileNotFoundError for a name not listed above."""
    facts: dict[str, Any] = orjson.loads(files(__name__).joinpath(f"{name}.json").read_bytes())
    return facts
