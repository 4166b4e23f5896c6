"""The people around a person: next of kin, carers, attorneys, advocates, key holders."""

from __future__ import annotations

from datetime import date

from fhirgw.council import county, words
from fhirgw.council.case import Case
from fhirgw.council.days import DAY
from fhirgw.council.facts import Address, Person, Relationship
from fhirgw.council.odds import Odds, between, pick
from fhirgw.council.people import Likeness

RELATION: dict[str, Odds[str]] = {
    "older": Odds({"daughter": 42, "son": 30, "other-relative": 12, "friend": 8, "grandchild": 8}),
    "learning-disability": Odds({"mother": 52, "father": 14, "sister": 16, "brother": 12, "other-relative": 6}),
    "sensory-physical": Odds({"partner": 14, "mother": 34, "sister": 18, "son": 16, "friend": 18}),
    "mental-health": Odds({"mother": 34, "father": 10, "partner": 14, "sister": 16, "brother": 10, "friend": 16}),
}
"""Who is nearest to a person of the group, if no husband or wife is."""
SPOUSE = {"female": "husband", "male": "wife"}
MEN = frozenset({"son", "husband", "father", "brother"})
WOMEN = frozenset({"daughter", "wife", "mother", "sister"})
GENERATION = {"daughter": -1, "son": -1, "grandchild": -2, "mother": 1, "father": 1}
"""How many generations older than the person."""
OLDEST = date(1931, 1, 1)
"""No carer was born before that."""
KINDRED = frozenset({"daughter", "son", "wife", "husband", "mother", "father", "brother"})
"""Who mostly bears the person's family name."""
HOUSEHOLD = frozenset({"wife", "husband", "partner", "mother", "father"})
"""Who mostly lives with the person."""
NEARBY = Odds({"neighbour": 55, "friend": 45})
CARING_HOURS = Odds({"under-20": 32, "20-49": 26, "50-99": 14, "100-over": 20, "unknown": 8})
ATTORNEY = Odds({"attorney-finance": 60, "attorney-welfare": 40})
DEPUTY = {"learning-disability": 0.05, "older": 0.01, "sensory-physical": 0.01}
"""Share who have a deputy for health and welfare, appointed by the court."""


def family(case: Case) -> None:
    """The people around the person who are not people of the council: one human may hold several roles."""
    relation = _nearest(case)
    roles = [role for role, share in (("next-of-kin", 0.7), ("emergency", 0.3)) if case.chance(share)]
    if case.group != "technology" and case.chance((county.KNOWN_CARERS - county.SUPPORTED_CARERS) / county.ADULTS):
        roles.append("carer")
    if case.group == "older" and case.chance(0.16):
        roles.append(ATTORNEY.deal(case.rng))
    elif case.chance(DEPUTY.get(case.group, 0)):
        roles.append("deputy")
    _related(case, relation, roles)
    if case.chance(0.14):
        _related(case, NEARBY.deal(case.rng), ["key-holder"])
    if case.group != "older" and case.chance(0.06):
        _related(case, "professional", ["advocate"])


def _nearest(case: Case) -> str:
    person = case.person
    if person.marital_status == "married" and person.gender in SPOUSE and case.chance(0.55):
        return SPOUSE[person.gender]
    return RELATION.get(case.group, RELATION["older"]).deal(case.rng)


def _related(case: Case, relation: str, roles: list[str]) -> None:
    rng = case.rng
    woman = relation not in MEN and (relation in WOMEN or rng.random() < 0.6)
    given = pick(rng, words.WOMEN if woman else words.MEN)
    family = case.person.family if relation in KINDRED else pick(rng, words.FAMILIES)
    together = relation in HOUSEHOLD and rng.random() < 0.6 and "previous" not in case.person.addresses
    home = case.person.addresses["home"] if together else words.address(rng)
    phone, since = words.mobile(rng), case.day(case.since, 0, 30)
    email = words.email(given, family, "post") if rng.random() < 0.4 else None
    for role in roles:
        _relate(case, None, role, relation, (given, family, phone, email, home), together, since)


def _relate(
    case: Case,
    carer: int | None,
    role: str,
    relation: str,
    who: tuple[str, str, str, str | None, Address],
    together: bool,
    since: date,
) -> Relationship:
    given, family, phone, email, home = who
    return case.council.add(
        Relationship(
            person=case.key,
            carer=carer,
            role=role,
            relation=relation,
            given=given,
            family=family,
            phone=phone,
            email=email,
            address=home,
            lives_with=together,
            caring_hours=CARING_HOURS.deal(case.rng) if role == "carer" else None,
            since=since,
            until=case.ended if case.why == "died" else None,
        )
    )


def carer_like(case: Case) -> tuple[str, Likeness, bool]:
    """What the person's carer is to them, what that settles about the carer, and whether they live together."""
    rng = case.rng
    relation = _nearest(case)
    together = relation in HOUSEHOLD and "previous" not in case.person.addresses and rng.random() < 0.8
    family = case.person.family if relation in KINDRED else pick(rng, words.FAMILIES)
    home = case.person.addresses["home"] if together else words.address(rng)
    older = GENERATION.get(relation, 0) * between(rng, 22, 34) * 365 + between(rng, -1_500, 1_500)
    born = max(case.person.born - older * DAY, OLDEST)
    woman = relation not in MEN and (relation in WOMEN or rng.random() < 0.5)
    return relation, Likeness(woman, born, family, home), together


def cared_for_by(case: Case, carer: Person, relation: str, together: bool, since: date) -> Relationship:
    """The person's relationship to an unpaid carer who is a person of the council in their own right."""
    if relation in SPOUSE.values():
        carer.marital_status = "married"
    phone = next(iter(carer.phones.values()), None) or words.mobile(case.rng)
    who = (carer.given, carer.family, phone, carer.email, carer.addresses["home"])
    return _relate(case, carer.number, "carer", relation, who, together, since)
