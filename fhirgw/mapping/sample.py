"""A mapping tried on a row of its own making, and the outcome judged as if a stranger had sent it.

What a mapping may produce is found out when it is checked, once, as R4 and by the profile it claims; what it
does produce is then not judged row by row.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhirgw.mapping.mapping import Children, Mapping, Row
from fhirgw.mapping.refusal import RefusedRow
from fhirgw.validation import validate


def sample(mapping: Mapping) -> Row:
    """A row with every column filled by what its field takes."""
    row: Row = dict.fromkeys(mapping.columns, "1001")
    row |= {each.column: each.leaf.sample for each in reversed(mapping.fields)}
    row |= {column: values[0] for column, values in mapping.when.items() if values is not None}
    return row | {each.table: [_child(each, row[mapping.key])] for each in mapping.children}


def judged(mapping: Mapping) -> Iterator[str]:
    """What is wrong with the resource the sample makes; nothing where it is sound."""
    try:
        resource = mapping.to_fhir(sample(mapping))
    except RefusedRow as refused:
        yield from (f"refuses its own sample, {issue.diagnostics}" for issue in refused.issues)
        return
    for issue in validate(resource):
        if issue.severity == "error":
            yield f"makes an unsound {mapping.type}: {issue.diagnostics}" + (
                f" (at {issue.expression})" if issue.expression else ""
            )


def _child(children: Children, parent: str) -> Row:
    row: Row = {children.order: "1", children.parent: parent}
    fields = [*children.fields, *([children.itself] if children.itself else [])]
    return row | {each.column: each.leaf.sample for each in reversed(fields)}
