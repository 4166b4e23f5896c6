"""Whether a registration can ever work: what its scopes, purposes and roles need, and whether whom it names is held.

Refused where it is made, with what to say instead: a token that shows nothing says nothing of why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from fhirgw.access.purpose import Purpose
from fhirgw.access.scope import scopes
from fhirgw.fhir.tokens import token
from fhirgw.store.database import Connection
from fhirgw.store.registration import ODS_CODE, Registration


class Need(NamedTuple):
    """What a registration of some kind has to have; `elsewhere`: also one whose tokens say who is asking."""

    told: str
    applies: Callable[[Registration], bool]
    met: Callable[[Registration], bool]
    elsewhere: bool = False


def _context(name: str) -> Callable[[Registration], bool]:
    return lambda new: any(each.context == name for each in scopes(new.scopes))


def _purpose(*names: str) -> Callable[[Registration], bool]:
    return lambda new: bool({*names} & {*new.purposes})


def _role(name: str) -> Callable[[Registration], bool]:
    return lambda new: name in new.roles


def _has(name: str) -> Callable[[Registration], bool]:
    return lambda new: getattr(new, name) is not None


def _pseudonyms(new: Registration) -> bool:
    return new.pseudonyms


def _never(new: Registration) -> bool:
    return False


def _in_force(new: Registration) -> bool:
    return new.agreement_until is None or new.agreement_until > datetime.now(UTC)


NEEDS = (
    Need("A user scope needs who is using it: say --practitioner ID", _context("user"), _has("practitioner")),
    Need("A patient scope needs whose record it is: say --patient ID", _context("patient"), _has("patient")),
    Need("The purpose person needs whose record it is: say --patient ID", _purpose("person"), _has("patient")),
    Need(
        "Planning and research need what they rest on: say --agreement TEXT",
        _purpose("planning", "research"),
        _has("agreement"),
        True,
    ),
    Need("Pseudonyms are an agreement's: say --agreement TEXT", _pseudonyms, _has("agreement"), True),
    Need(
        "One for pseudonymised data plans and researches alone: register another for what else it is for",
        _pseudonyms,
        lambda new: {*new.purposes} <= {Purpose.PLANNING, Purpose.RESEARCH},
        True,
    ),
    Need("The agreement has ended: give --agreement-until a date to come", _has("agreement_until"), _in_force, True),
    Need(
        "No token is for the purpose emergency: register direct-care, with --role break-glass",
        _purpose("emergency"),
        _never,
        True,
    ),
    Need(
        "The purpose safeguarding needs the role that may name a case: say --role safeguarding",
        _purpose("safeguarding"),
        _role("safeguarding"),
        True,
    ),
    Need(
        "The role safeguarding needs its purpose: say --purpose safeguarding, besides what else it is for",
        _role("safeguarding"),
        _purpose("safeguarding"),
        True,
    ),
    Need("Safeguarding needs who asks: say --practitioner ID", _role("safeguarding"), _has("practitioner")),
    Need("Break-glass needs who breaks it: say --practitioner ID", _role("break-glass"), _has("practitioner")),
    Need(
        "Break-glass needs a scope of whoever breaks it: say --scope 'user/*.rs'",
        _role("break-glass"),
        _context("user"),
        True,
    ),
    Need(
        "A delegate asks for the person they act for: say --purpose person, and no other",
        _has("delegate"),
        lambda new: new.purposes == (Purpose.PERSON,),
        True,
    ),
)


def unmet(new: Registration, *, elsewhere: bool) -> Iterator[str]:
    """What a registration lacks, each with what to say."""
    for need in NEEDS:
        if (need.elsewhere or not elsewhere) and need.applies(new) and not need.met(new):
            yield need.told


def blind(new: Registration, controllers: Collection[str]) -> str | None:
    """What to say to who registers planning or research for somebody that controls nothing here; None for others."""
    shown = [each for each in new.purposes if each in (Purpose.PLANNING, Purpose.RESEARCH)]
    if not shown or new.organisation in controllers:
        return None
    told = f"For {' and '.join(shown)} it sees nobody: an agreement shows its controller's own people, and"
    return f"{told} {new.organisation} controls no records here. Register it for {' or '.join(controllers)}."


HELD = """
SELECT $1::text IS NULL OR EXISTS (SELECT FROM fhirgw.resource WHERE type = 'Patient' AND id = $1) AS patient,
       $2::text IS NULL OR EXISTS (
           SELECT FROM fhirgw.resource WHERE type = 'Practitioner' AND id = $2
           AND coalesce(body::json ->> 'active', 'true') <> 'false') AS practitioner,
       $3::text IS NULL OR EXISTS (
           SELECT FROM fhirgw.resource WHERE type IN ('RelatedPerson', 'Practitioner', 'Patient', 'Organization')
           AND type || '/' || id = $3) AS delegate,
       EXISTS (SELECT FROM fhirgw.resource WHERE type = 'Organization' AND tokens @> ARRAY[$4::bigint]) AS organisation
"""
REMEDIES = {
    "patient": "--patient: no such Patient is held: give the id of one that is",
    "practitioner": "--practitioner: no such Practitioner is held, or they are no longer active: give the id of one",
    "delegate": "--delegate: nobody of that name is held: give Type/id, as RelatedPerson/ID",
}


async def unheld(connection: Connection, new: Registration) -> list[str]:
    """Whom a registration names who is not held, each with what to do about it."""
    row = await connection.fetchrow(HELD, new.patient, new.practitioner, new.delegate, _code(new))
    return [told for name, told in REMEDIES.items() if not row[name]]


async def organisation_held(connection: Connection, new: Registration) -> bool:
    """Whether anything of its organisation's code is held: only then can records name it."""
    return bool((await connection.fetchrow(HELD, None, None, None, _code(new)))["organisation"])


def _code(new: Registration) -> int:
    return token(f"identifier|{ODS_CODE}|{new.organisation}")
