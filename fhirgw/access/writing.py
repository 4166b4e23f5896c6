"""Who may write what. Nobody empowers themselves: what opens a record is written by the council that controls it.

| who | writes |
|---|---|
| the controlling council's own systems | everything but the audit |
| its staff, by those systems (a token that names them) | the same, but nothing that opens a record to themselves |
| its other applications, other organisations | what grants nothing, without labels and sources, in their own name |
| the person | their own OWN, in their own name, without words on who is acting for them or has verified it |
| who acts for the person | DELEGATED, in their own name |
| planning, research, emergency, safeguarding | nothing: they are purposes to read for |

An alert of homecare visits (fhirgw.access.alerted) is the gateway's; the council's systems change its state alone.

What a resource grants is not a matter of its type alone: it is the relationships, directives and delegations that rest
on it (fhirgw.access.relationship, fhirgw.access.consent), and the safeguarding case that a Flag is. Whoever may not
write those may change, bring or remove none.

Long, because the rules of this table are to be read in one place.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from fhirgw.access import alerted
from fhirgw.access.attribution import anothers
from fhirgw.access.consent import Delegation, Directive, delegations, directives
from fhirgw.access.label import RESTRICTED, SAFEGUARDING, SEALED, labels
from fhirgw.access.permit import WORDS, Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.relationship import Tie, ties
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue, Resource

NEVER = ("AuditEvent",)
"""Written by the gateway, by nobody else."""

KEPT = {
    "Patient": "who a person is, and which records are theirs",
    "Consent": "who may see what",
    "RelatedPerson": "who may act for somebody",
    "Organization": "which organisation a caller is",
    "Practitioner": "which member of staff a caller is",
    "PractitionerRole": "which team a caller is of",
    "HealthcareService": "what a team is known by",
    "Location": "where the council's services are",
    "Questionnaire": "what is asked of everybody",
    "Provenance": "whose word a record is",
    "Group": "who is listed with whom, and for whom to see",
}
"""Types that only the controlling council's systems write, and what each decides."""

WHO_IS_WHO = ("Organization", "Practitioner", "PractitionerRole")
"""Of those, what says who the staff are: the council's systems write it by themselves."""
COUNCILS = "council"
"""The tie of a person to their council, on which its applications rest and no member of its staff."""

OWN = ("Consent", "Communication", "QuestionnaireResponse")
"""What a person writes in their own record: what they decide, say and answer."""
DELEGATED = ("Communication", "QuestionnaireResponse")
"""What those write who act for them: a consent would be for themselves."""

SILENT = ("security", "source")
"""What meta says that decides who sees a resource, or whose word it is."""

VOICES = {"Communication": ("sender",), "QuestionnaireResponse": ("author", "source")}
"""Where a type says whose word it is, to those who read it."""
LIFTED = {"restrict": RESTRICTED, "seal": SEALED}
"""Directives that are about everybody without the clearance for a class."""


class Case(NamedTuple):
    """That a Flag is a safeguarding case: it opens a record to whoever names it (fhirgw.store.basis).

    As the Flag has them: of whom, and for how long.
    """

    subject: bytes
    period: bytes


Grant = Tie | Directive | Delegation | Case


@lru_cache(maxsize=4096)
def origin(permit: Permit) -> str:
    """By what name the store knows what somebody wrote: no system of record has such a one.

    An application of an organisation; for the purpose person also who asked by it, because many come by one. Until
    November 2026 it was the application alone, which may be an issuer that speaks for many: what has such an origin
    is its controller's to change, and nobody else's.
    """
    named = [permit.registration, permit.organisation]
    if permit.purpose == Purpose.PERSON:
        named.append(permit.delegate or f"Patient/{permit.patient}")
    return f"app:{'|'.join(quote(each, safe='/:') for each in named)}"


def council(permit: Permit) -> bool:
    """Whether the caller is a system of the council whose records these are."""
    return permit.keeps


def vouches(permit: Permit) -> bool:
    """Whether the caller may refer to what is not held here, or not to be seen: it sends its own records as they are.

    Both are taken alike, and which it was is not told. Anybody else is refused both alike.
    """
    return council(permit) and not permit.in_person


def check_imports(permit: Permit) -> None:
    """Raises FhirError(forbidden) for who may not import: the controlling council's own systems, by themselves, may.

    What is imported opens and closes records like anything written, and keeps the ids it has.
    """
    if not vouches(permit):
        told = "Only the controlling council's own systems import, for direct care and in nobody's name"
        raise FhirError(Issue("forbidden", told))


def check_type(permit: Permit, verb: str, kind: str) -> None:
    """Raises FhirError(forbidden) for a type that the permit's holder does not write, whatever is in it.

    `verb` is a letter of `cud`. The token and the type alone decide it.
    """
    permit.require(verb, kind)
    if kind in NEVER:
        raise _refusal(f"{kind} is written by the gateway alone", kind)
    if permit.purpose == Purpose.PERSON:
        allowed = DELEGATED if permit.delegate else OWN
        if kind not in allowed:
            raise _refusal(f"A person's application writes {', '.join(allowed)}; the council keeps the rest", kind)
    elif permit.purpose != Purpose.DIRECT_CARE:
        raise _refusal(f"The purpose {permit.purpose} is one to read for: write under {Purpose.DIRECT_CARE}", kind)
    elif permit.in_person and kind in WHO_IS_WHO:
        raise _refusal(f"{kind} says {KEPT[kind]}: nobody says that of themselves, so no member of staff does", kind)
    elif kind in KEPT and not council(permit):
        told = f"{kind} says {KEPT[kind]}: only the controlling council's own systems {WORDS[verb]} it"
        raise _refusal(told, kind)


def check(permit: Permit, before: Resource | None, after: Resource | None) -> None:
    """Raises FhirError(forbidden) unless the permit's holder may make `before` into `after` (None: it is not there).

    That the holder may see `before` and whom it is about, and that a scope covers it, is asked elsewhere
    (fhirgw.store.writing).
    """
    alerted.check(before, after)
    if council(permit):
        if permit.in_person:
            _not_oneself(permit, before, after)
        return
    _unlabelled(before, after)
    kind = (after or before or {})["resourceType"]
    if permit.purpose == Purpose.PERSON:
        if after is not None:
            _own_words(permit, kind, before or {}, after)
        if kind == "Consent" and after is not None:
            _own_consent(permit, after)
        return
    if after is not None and (name := anothers(permit.parties, before or {}, after)):
        told = f"{name} says which organisation did this: name your own, by a reference to it or by its ODS code"
        raise _refusal(told, name)
    if _grants(before) != _grants(after):
        told = f"This {kind} decides who may see the person's record: only the controlling council's own systems say so"
        raise _refusal(told, kind)


def covered(permit: Permit, verb: str, kind: str, tokens: Collection[int], patient: str | None) -> bool:
    """Whether some scope covers a resource as it will be: nobody writes out of their scope, or moves anything out.

    A person, and who acts for them, writes in that person's record, whatever the scope's context.
    """
    if permit.purpose == Purpose.PERSON and patient != permit.patient:
        return False
    return any(
        (scope.context != "patient" or patient == permit.patient)
        and all(any(token in tokens for token in each.any_of) for each in scope.criteria())
        for scope in permit.covering(verb, kind)
    )


def owns(permit: Permit, brought: str, controller: str | None) -> bool:
    """Whether a resource is for the caller to change: its controller's, or what the same application brought."""
    controls = permit.purpose == Purpose.DIRECT_CARE and controller == permit.organisation
    return controls or brought == origin(permit)


def _not_oneself(permit: Permit, before: Resource | None, after: Resource | None) -> None:
    """Staff write what opens records, but not to themselves or their team, nor take back what keeps it from those.

    The tie to the council is not in question: it opens nothing to its staff.
    """
    old, new = _grants(before), _grants(after)
    opened = [each for each in new - old if _opens(each)] + [each for each in old - new if not _opens(each)]
    opened += [each for each in old - new if isinstance(each, Case)]
    if any(_concerns(permit, each) for each in opened):
        told = "This would open the record to whoever writes it: somebody else has to, or the system by itself"
        raise _refusal(told, (after or before or {})["resourceType"])


def _concerns(permit: Permit, rule: Grant) -> bool:
    """Whether a rule is about whoever asks.

    One that names nobody is about everybody whom it can keep out or let in; a case, about any of those who may name it.
    """
    if isinstance(rule, Case):
        return True
    if isinstance(rule, Delegation):
        return rule.delegate in permit.parties
    if isinstance(rule, Tie):
        return rule.party in permit.parties and rule.kind != COUNCILS
    if rule.effect in LIFTED:
        return not permit.clearance & LIFTED[rule.effect]
    if rule.party is None:
        return rule.purpose in (None, permit.purpose)
    return rule.party in permit.parties


def _opens(rule: Grant) -> bool:
    return not isinstance(rule, Directive) or rule.effect == "permit"


def _own_words(permit: Permit, kind: str, before: Resource, after: Resource) -> None:
    """What a person, or who acts for them, says is in their own name: anybody else's would be believed."""
    own = {"reference": permit.delegate or f"Patient/{permit.patient}"}
    for name in VOICES.get(kind, ()):
        if after.get(name) not in (None, own, before.get(name)):
            told = f"{name} says whose word it is: the reference {own['reference'].partition('/')[0]}/[id] of"
            told += " whoever writes it and no more, or leave it out"
            raise _refusal(told, f"{kind}.{name}")


def _own_consent(permit: Permit, consent: Resource) -> None:
    """A person's Consent is in their own name, and what has verified it is not for them to say."""
    if "verification" in consent:
        raise _refusal("A person's own Consent is verified by others: leave it out", "Consent.verification")
    own = f"Patient/{permit.patient}"
    if any(each.get("reference") != own for each in consent.get("performer", ())):
        raise _refusal("A person's own Consent is theirs: performer names nobody else", "Consent.performer")


def _unlabelled(before: Resource | None, after: Resource | None) -> None:
    for name in SILENT:
        if after is not None and _meta(after).get(name) != (_meta(before).get(name) if before else None):
            kind = after["resourceType"]
            raise _refusal(f"meta.{name} is the controlling council's to say: leave it as it is", f"{kind}.meta.{name}")


def _grants(resource: Resource | None) -> frozenset[Grant]:
    """What rests on a resource."""
    if resource is None:
        return frozenset()
    return frozenset((*ties(resource), *directives(resource), *delegations(resource), *_cases(resource)))


def _cases(resource: Resource) -> list[Case]:
    """The safeguarding case that a Flag is while it is active; whether its period is over, time will tell."""
    if resource["resourceType"] != "Flag" or resource.get("status") != "active":
        return []
    if not labels(resource) & SAFEGUARDING:
        return []
    return [Case(encode(resource.get("subject", {})), encode(resource.get("period", {})))]


def _meta(resource: Resource) -> Resource:
    found: Resource = resource.get("meta", {})
    return found


def _refusal(diagnostics: str, expression: str) -> FhirError:
    return FhirError(Issue("forbidden", diagnostics, expression))
