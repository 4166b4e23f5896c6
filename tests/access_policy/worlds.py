"""Small worlds by chance: two persons with a part of a record each, odd labels, and Consents nobody would think of."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from random import Random

from tests.access_policy.oracle import Caller, Grant, Resource, World
from tests.access_policy.people import (
    ALL,
    COUNCIL,
    DELEGATES,
    GRANTED_UNTIL,
    HOMECARE,
    MOMENTS,
    MORE_DELEGATES,
    OTHER_HOMECARE,
    SURGERY,
    TODAY,
    TOMORROW,
    VERIFIED,
    YESTERDAY,
    about,
    bound,
    callers,
    consent,
    delegation,
    nhs_number,
    provision,
    record,
    security,
)

PERSONS = ("ann", "bob")
PARTIES = (HOMECARE, OTHER_HOMECARE, SURGERY, "Organization/council", "Practitioner/worker", "Practitioner/nurse")
KINDS = ("Patient", "Observation", "Encounter", "CarePlan", "Flag", "EpisodeOfCare", "Task")
SCOPES = ("system/*.rs", "system/*.r", "system/Patient.rs", "system/Observation.rs?status=final", "system/Task.s")
SCOPES += ("system/Organization.rs", "system/Encounter.rs", "system/Patient.s?address-use=home", "system/Flag.r")


def small(rng: Random) -> World:
    """A world."""
    world = World()
    for person in PERSONS:
        controller = rng.choice((COUNCIL, COUNCIL, "Z9C02"))
        kept = [each for each in record(person) if each["resourceType"] == "Patient" or rng.random() < 0.7]
        world.add(controller, *(relabelled(rng, each) for each in kept))
        world.add(controller, *(_consent(rng, person, at) for at in range(rng.choice((0, 0, 1, 1, 2, 3)))))
        delegates = DELEGATES | MORE_DELEGATES
        chosen = rng.sample(sorted(delegates), rng.randrange(3))
        world.add(controller, *(delegation(person, name, **delegates[name]) for name in chosen))
        world.grants[f"{person}-live"] = Grant(person, "doctor", "HOSP1", GRANTED_UNTIL)
        if rng.random() < 0.1:
            world.opted_out.add(nhs_number(person))
    world.add(COUNCIL, *about())
    return world


def relabelled(rng: Random, each: Resource) -> Resource:
    """The resource with other labels than it has, perhaps; a Patient is more often restricted."""
    if each["resourceType"] == "Patient":
        labels = rng.choice(([], [], ["R"], ["R", "N"], ["restricted"], ["V"], ["safeguarding"]))
    elif rng.random() < 0.7:
        return each
    else:
        labels = rng.sample(["R", "safeguarding", "third-party", "sealed", "N"], rng.randrange(3))
    bare = {name: value for name, value in each.items() if name != "meta"}
    return {**bare, **security(*labels)}


def _consent(rng: Random, person: str, at: int) -> Resource:
    by = rng.choice(("", "", "", None, "Practitioner/worker", f"RelatedPerson/{person}-attorney", HOMECARE))
    elements: dict[str, object] = {}
    if rng.random() < 0.3:
        elements["sharing"] = rng.choice(("nhs", "care-provider", "family", "council"))
    if rng.random() < 0.2:
        elements["decision"] = rng.choice(("attorney", "best-interest", "deputy"))
    if rng.random() < 0.2:
        elements["verification"] = rng.choice((VERIFIED, [{"verified": False}]))
    if rng.random() < 0.1:
        elements["status"] = "inactive"
    says = _provision(rng, person, rng.choice((0, 0, 1, 2)), ("actor", "kinds", "reasons", "label", "period"))
    return consent(person, f"c{at}", says, by, **elements)


def _provision(rng: Random, person: str, deeper: int, free: tuple[str, ...]) -> Resource:
    """A provision with some limits; exceptions in it are limited by others than it is."""
    said = [each for each in free if rng.random() < 0.35]
    limits: dict[str, object] = {}
    actors: list[str] = []
    if "actor" in said:
        actors = rng.sample([*PARTIES, f"RelatedPerson/{person}-attorney"], rng.choice((1, 1, 2)))
    if "kinds" in said:
        limits["kinds"] = rng.sample(KINDS, rng.choice((1, 2, 4)))
    if "reasons" in said:
        limits["reasons"] = rng.sample(["TREAT", "HRESCH", "HSYSADMIN", "PATRQT"], rng.choice((1, 2)))
    if "label" in said:
        limits["label"] = rng.choice(("safeguarding", "third-party"))
    if "period" in said:
        limits |= rng.choice(({"end": YESTERDAY}, {"end": TODAY}, {"start": TOMORROW}, {"end": "2026-12-31"}))
    if deeper:
        left = tuple(each for each in free if each not in said)
        limits["but"] = [_provision(rng, person, deeper - 1, left) for _ in range(rng.choice((1, 2)))]
    return provision(rng.choice(("permit", "deny", "deny")), *actors, **limits)


def asker(rng: Random) -> tuple[Caller, datetime]:
    """Somebody who asks, and when."""
    every = {**callers(), **bound(rng.choice(PERSONS))}
    caller = every[rng.choice(sorted(every))]
    if caller.purpose == "operations":
        caller = every["council"]
    if rng.random() < 0.3:
        caller = replace(caller, clearance=frozenset(rng.sample(sorted(ALL["clearance"]), rng.randrange(5))))
    if rng.random() < 0.2 and caller.scopes == ("system/*.rs",):
        caller = replace(caller, scopes=tuple(rng.sample(SCOPES, rng.randrange(1, 4))))
    return caller, rng.choice(sorted(MOMENTS.values()))
