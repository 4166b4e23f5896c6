"""Why somebody may see a kind of record of a person, or may not, and what would change it: in plain English.

Reasons never decide: fhirgw.store.visibility does. They are worked out from the same facts, so that the person's
controller can check a decision, and whoever was refused can be told what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fhirgw.access.facts import Facts, Held, Reason, Row, current, day, last
from fhirgw.access.label import SEALED
from fhirgw.access.objection import classes, dissent
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.relationship import KINDS, partly
from fhirgw.fhir.nhs import ODS_ORGANISATION

Rows = tuple[Row, ...]
TIES = {
    "council": "the person's council",
    "gp": "the person's GP practice",
    "worker": "a worker with the person's case",
    "team": "a team with the person's case",
    "care-team": "one of the person's care team",
    "referral": "who referred the person",
    "care-provider": "a care provider with a package of care",
    "late-visits": "a care provider whose package of care has ended (it may send visits for 28 days more)",
    "supplier": "a supplier of equipment or care technology",
}
AGAIN = {
    "council": "the council had the person's case",
    "gp": "the person were registered with the practice",
    "worker": "the worker had work open for the person",
    "team": "the team had work open for the person",
    "care-team": "they were in a care team of the person's that is active",
    "referral": "the referral were open",
    "care-provider": "the package of care were running",
    "late-visits": "the package of care were running",
    "supplier": "the equipment were asked for, or in the home",
}


def reasons(permit: Permit, resource_type: str, rows: Rows, facts: Facts) -> list[Reason]:
    """All that allows, and all that stands in the way, what stands in the way first."""
    found = [
        *_scopes(permit, resource_type, rows, facts),
        *BASES[Purpose(permit.purpose)](permit, resource_type, rows, facts),
        *dissent(permit, resource_type, rows, facts),
        *classes(permit, resource_type, rows),
    ]
    return sorted(dict.fromkeys(found), key=lambda reason: reason.allows)


def broken_glass(permit: Permit, resource_type: str, rows: Rows, facts: Facts) -> str | None:
    """What an emergency would change, for a practitioner who may break the glass: all but what is sealed."""
    sealed = any(rule.effect == "seal" and current(rule.starts, rule.ends, facts.now) for rule, _ in facts.rules)
    hidden = any(row.seen < row.held and not row.labels & SEALED for row in rows)
    if not facts.may_break or sealed or not hidden or not permit.covering("r", resource_type):
        return None
    return "in an emergency the practitioner broke the glass, with a written reason (half an hour, then reviewed)"


def _scopes(permit: Permit, resource_type: str, rows: Rows, facts: Facts) -> Iterator[Reason]:
    covering = permit.covering("r", resource_type)
    if permit.pseudonymous and not covering:
        told = "Its agreement is for pseudonymised data alone: these are in exports with pseudonyms, and not shown."
        yield Reason(False, told, None, "the agreement were for identifiable data")
    elif not covering:
        context = permit.scopes[0].context if permit.scopes else "system"
        remedy = f"it were registered for a scope that covers them, as {context}/*.rs does"
        yield Reason(False, "None of its scopes covers these.", None, remedy)
    elif all(row.covered for row in rows):
        return
    elif all(scope.context == "patient" for scope in covering) and permit.patient != facts.person:
        yield Reason(False, "Its scopes are for another person's record.", None, "it were launched for this person")
    else:
        spelt = ", ".join(map(str, covering))
        yield Reason(False, f"Its scopes cover some of them alone: {spelt}.", None, "a scope without that limit")


def _direct_care(permit: Permit, resource_type: str, rows: Rows, facts: Facts) -> Iterator[Reason]:
    """Of each row some tie, or control: of the rows that nothing opens, what does not open them."""
    controlled = [row for row in rows if row.controlled and not permit.in_person]
    if controlled:
        which = "this record" if len(controlled) == len(rows) else "some of these"
        yield Reason(True, f"{_asker(permit, facts)} is the controller of {which}.")
    opening = [each for each in facts.ties if not (permit.in_person and each.tie.kind == "council")]
    told = [(each, _tie(each, resource_type, rows, facts)) for each in opening]
    yield from (reason for _, reason in told if reason.allows)
    part = partly(resource_type)
    allowing = [each for each, reason in told if reason.allows]
    fewer = bool(allowing) and all(each.tie.kind in part.kinds for each in allowing)
    left = [row for row in rows if row not in controlled and not (fewer and row.own)]
    if left and fewer:
        yield from (_others(each, part.told, facts) for each in allowing)
    elif left and not allowing:
        yield from [reason for _, reason in told] or [_untied(permit, facts)]


def _others(held: Held, told: str, facts: Facts) -> Reason:
    """That a tie opens a part of a type alone."""
    as_what = TIES[held.tie.kind]
    said = f"Of these {facts.called(held.tie.party)} sees, as {as_what}, {told}."
    return Reason(False, said, held.rests_on, f"they were more than {as_what}: of the council, say")


def _untied(permit: Permit, facts: Facts) -> Reason:
    return Reason(
        False,
        f"Nothing in the record ties {_asker(permit, facts)} to the person.",
        None,
        "the record named them: in a package of care, a care team, open work or referral, or as the GP practice",
    )


def _asker(permit: Permit, facts: Facts) -> str:
    return facts.called(f"{ODS_ORGANISATION}|{permit.organisation}")


def _tie(held: Held, resource_type: str, rows: Rows, facts: Facts) -> Reason:
    _, named, kind, starts, ends = held.tie
    types, party, now = KINDS[kind], facts.called(named), facts.now
    since = f" since {day(starts)}" if starts else ""
    if starts is not None and now < starts:
        return Reason(
            False, f"{party} is {TIES[kind]}, but only from {day(starts)}.", held.rests_on, f"it were {day(starts)}"
        )
    if not current(starts, ends, now):
        assert ends is not None
        return Reason(False, f"{party} was {TIES[kind]}, until {last(ends)}.", held.rests_on, AGAIN[kind])
    part = partly(resource_type)
    if kind in part.kinds:
        if any(row.own for row in rows):
            return Reason(True, f"{party} is {TIES[kind]}{since}, which opens {part.told}.", held.rests_on)
        told = f"{party} is {TIES[kind]}{since}, which opens {part.told}, and none of these is that."
        return Reason(False, told, held.rests_on, f"they were more than {TIES[kind]}: of the care team, say")
    if types is not None and resource_type not in types:
        told = f"{party} is {TIES[kind]}{since}, which does not open these."
        more = f"they were more than {TIES[kind]}: of the care team, say"
        return Reason(False, told, held.rests_on, more if types else AGAIN[kind])
    return Reason(True, f"{party} is {TIES[kind]}{since}.", held.rests_on)


def _person(permit: Permit, resource_type: str, rows: Rows, facts: Facts) -> Iterator[Reason]:
    if permit.patient != facts.person:
        yield Reason(False, "It is somebody else's record.", None, "the person it acts for were this one")
    elif permit.delegate is None:
        yield Reason(True, "It is the person's own record.")
    if permit.delegate is None:
        return
    for delegation, rests_on in facts.delegations:
        kinds = delegation.kinds
        told = f"{delegation.delegate} acts for the person ({delegation.kind})"
        if not current(delegation.starts, delegation.ends, facts.now):
            yield Reason(False, f"{told}, but not at this time.", rests_on, "the delegation were in force")
        elif kinds is not None and resource_type not in kinds:
            yield Reason(False, f"{told}, but not for these.", rests_on, "what they were given covered these too")
        else:
            yield Reason(True, f"{told}.", rests_on)
    if not facts.delegations:
        remedy = "an active Consent named them as attorney, deputy, parent or carer (the first two verified)"
        yield Reason(False, f"{permit.delegate} does not act for the person.", None, remedy)


def _agreed(permit: Permit, resource_type: str, rows: Rows, facts: Facts) -> Iterator[Reason]:
    if any(row.controlled for row in rows):
        yield Reason(True, f"The agreement {permit.agreement} allows its controller {permit.purpose}.")
    if not all(row.controlled for row in rows):
        told = f"{_asker(permit, facts)} is not the controller of these."
        yield Reason(False, told, None, "the controller asked")
    if not facts.list_fresh:
        made = f"of {day(facts.list_made)}, and too old" if facts.list_made else "missing"
        told = f"The list of national data opt-outs is {made}, so nobody's record is used."
        yield Reason(False, told, None, "a list were loaded (`fhirgw opt-outs`)")
    if not facts.numbered:
        yield Reason(False, "The person has no NHS number, so their opt-out is not known.", None, "they had one")
    elif facts.opted_out:
        yield Reason(False, "The person has opted out of uses beyond their own care.", None, "they opted in (nhs.uk)")


def _emergency(permit: Permit, resource_type: str, rows: Rows, facts: Facts) -> Iterator[Reason]:
    if facts.granted_until is not None and facts.now < facts.granted_until:
        yield Reason(True, f"Break-glass: a grant is in force until {day(facts.granted_until)}.")
    else:
        yield Reason(False, "No break-glass grant is in force.", None, "a practitioner with the role wrote a reason")


def _safeguarding(permit: Permit, resource_type: str, rows: Rows, facts: Facts) -> Iterator[Reason]:
    if facts.case_open:
        yield Reason(True, "The person has a safeguarding case.", f"Flag/{permit.case}")
    else:
        told = f"{_asker(permit, facts)} has no safeguarding case of the person's that is open."
        yield Reason(False, told, None, "the controller of the case asked, while it is open")


BASES: dict[Purpose, Callable[[Permit, str, Rows, Facts], Iterator[Reason]]] = {
    Purpose.DIRECT_CARE: _direct_care,
    Purpose.PERSON: _person,
    Purpose.PLANNING: _agreed,
    Purpose.RESEARCH: _agreed,
    Purpose.EMERGENCY: _emergency,
    Purpose.SAFEGUARDING: _safeguarding,
    Purpose.OPERATIONS: lambda permit, resource_type, rows, facts: iter(
        [Reason(True, "Whoever runs the gateway asks.")]
    ),
}
"""What each purpose rests on. The rows are those of fhirgw.store.basis."""
