"""An AuditEvent made from parts is the one made whole, byte for byte; what is no such access is left alone."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fhirgw.access.audit_event import Access, Seen, event
from fhirgw.access.audit_facets import facets
from fhirgw.access.audit_read import of_found, of_read
from fhirgw.access.permit import Permit
from fhirgw.fhir.canonical import encode
from tests.access.test_access_audit_event import ANNE, BERT, CARE, PERMITS, READ, VISIT, WAYS

PATIENT = replace(READ, type="Patient", asked=f"Patient/{ANNE}", seen=(Seen("Patient", ANNE, ANNE),))
ODD = replace(READ, asked="Encounter/a.b-1", seen=(Seen("Encounter", "a.b-1", "p.2"),))
SAME = replace(READ, asked=f"Encounter/{ANNE}", seen=(Seen("Encounter", ANNE, ANNE),))
LATER = replace(READ, moment=datetime(2026, 7, 1, 9, 30, tzinfo=UTC), request="another")
READS = [READ, PATIENT, ODD, LATER, WAYS[1]]
OTHERS = [
    SAME,
    replace(READ, seen=(Seen("Organization", "o1", None),), type="Organization", asked="Organization/o1"),
    replace(READ, seen=(*READ.seen, Seen("Encounter", "2", BERT))),
    replace(READ, asked=f"Encounter/{BERT}"),
    replace(READ, behalf="RRE"),
    replace(READ, parameters=("_summary",)),
    replace(READ, status=503),
    replace(READ, times=2),
    replace(READ, tried=(f"Patient/{BERT}",)),
    replace(READ, everybody=True),
    replace(READ, application="demo"),
    replace(READ, operation="everything"),
    replace(READ, permit=None),
    replace(READ, type=None),
    replace(PATIENT, seen=(Seen("Patient", ANNE, BERT),)),
]


@pytest.mark.parametrize("permit", PERMITS)
@pytest.mark.parametrize("access", READS)
def test_it_is_the_one_made_whole(access: Access, permit: Permit) -> None:
    access = replace(access, permit=permit)
    for id in (VISIT, ANNE):
        made = of_read(access, id)
        assert made is not None
        assert made.body == encode(event(access, id)).decode()
        assert made.facets == facets(event(access, id))


@pytest.mark.parametrize("access", OTHERS)
def test_another_access_is_made_whole(access: Access) -> None:
    assert of_read(access, VISIT) is None


def test_permits_that_differ_have_parts_of_their_own() -> None:
    said = {getattr(of_read(replace(READ, permit=each), VISIT), "body", "") for each in PERMITS}
    assert len(said) == len({encode(event(replace(READ, permit=each), VISIT)) for each in PERMITS})
    assert of_read(replace(READ, permit=CARE), VISIT) is not None


SEEN = [
    (),
    (Seen("Encounter", VISIT, ANNE),),
    (Seen("Encounter", "a", ANNE), Seen("Task", "t", BERT), Seen("Encounter", "b", ANNE), Seen("Patient", ANNE, ANNE)),
    (Seen("Location", "l.1", None), Seen("Task", "t-1", ANNE), Seen("Location", "l.2", None), Seen("Group", "g", None)),
]
FOUND = WAYS[6]
SEARCHES = [
    *(replace(FOUND, seen=seen) for seen in SEEN),
    *(replace(FOUND, type=None, route="/fhir", parameters=parameters, seen=SEEN[3]) for parameters in ((), ("?",))),
    replace(FOUND, interaction="create", parameters=(), seen=SEEN[1]),
    replace(FOUND, request="another", moment=datetime(2026, 7, 1, 9, 30, tzinfo=UTC)),
]


@pytest.mark.parametrize("permit", PERMITS)
@pytest.mark.parametrize("access", SEARCHES)
def test_what_was_found_is_told_as_if_made_whole(access: Access, permit: Permit) -> None:
    access = replace(access, permit=permit)
    for id in (VISIT, ANNE):
        made = of_found(access, id)
        assert made is not None
        assert made.body == encode(event(access, id)).decode()
        assert made.facets == facets(event(access, id))


@pytest.mark.parametrize(
    "access",
    [
        READ,
        *(replace(FOUND, **{name: value}) for name, value in [("behalf", "RRE"), ("status", 404), ("times", 2)]),
        *(replace(FOUND, **{name: value}) for name, value in [("operation", "x"), ("permit", None), ("tried", ("x",))]),
        *(replace(FOUND, **{name: value}) for name, value in [("everybody", True), ("types", ("Goal",))]),
        replace(FOUND, application="demo"),
        *(replace(FOUND, seen=(Seen("Task", id, ANNE),)) for id in ('a"', "a\\", "a\n", "\u00e9")),
        replace(FOUND, seen=(Seen("Task", "t", 'a"'),)),
        replace(FOUND, seen=(Seen("Task", "t", ""),)),
    ],
)
def test_what_is_more_than_that_is_made_whole(access: Access) -> None:
    assert of_found(access, VISIT) is None
