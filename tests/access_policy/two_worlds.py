"""Two worlds that a caller cannot tell apart: they differ in what the caller may not see, and in nothing else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from tests.access_policy.oracle import NOT_SAID, SHOWN, Caller, Judge, Key, Resource, World
from tests.access_policy.people import COUNCIL, NHS_NUMBER, NOW, consent, provision, record, security, to
from tests.put import STAMP


@dataclass
class Stored:
    """A world, when each of its resources was stored, and which of them had an older version that differs."""

    world: World
    updated: dict[Key, datetime]
    older: dict[Key, Resource]


def twins(world: World, caller: Caller, rng: Random, now: datetime = NOW) -> tuple[Stored, Stored]:
    """The world twice; in the second whatever the caller may not see is another, and there is more of it."""
    judge = Judge(world, caller, now)
    updated = {key: STAMP + timedelta(hours=at % 7) for at, key in enumerate(world.resources)}
    older = {key: {**each, "language": "cy"} for key, each in world.resources.items() if key[0] in ("Flag", "CarePlan")}
    other = World(grants=world.grants, opted_out=set(world.opted_out))
    later, before = dict(updated), dict(older)
    for key, each in world.resources.items():
        hidden = judge.why(each) != SHOWN and judge.why(each, "s") != SHOWN
        made = changed(each, rng) if hidden else elsewhere(each) if judge.served(each) is not each else each
        other.add(world.controllers[key], made)
        if hidden and key[0] != "Patient" and rng.random() < 0.7:
            later[key] = updated[key] + timedelta(minutes=rng.randrange(1, 10_000))
            before[key] = {**made, "language": "en"}
    for each in strangers():
        other.add("Z9C77", each)
        later[each["resourceType"], each["id"]] = STAMP
    _check(judge, Judge(other, caller, now))
    return Stored(world, updated, older), Stored(other, later, before)


def changed(each: Resource, rng: Random) -> Resource:
    """A resource that the caller does not see, saying something else; it still ties whom it tied."""
    made = deepcopy(each)
    if each["resourceType"] == "Patient":
        made["name"] = [{"family": "Someone", "given": ["Else"]}]
        made["birthDate"] = f"19{rng.randrange(10, 99)}-01-01"
        made["gender"] = "other"
        return made
    if each["resourceType"] in ("Observation", "Encounter", "Flag", "QuestionnaireResponse", "CarePlan"):
        made["status"] = "unknown"
        made["effectiveDateTime" if each["resourceType"] == "Observation" else "language"] = "2026-01-01"
    if each["resourceType"] not in ("Consent", "QuestionnaireResponse"):
        made["identifier"] = [{"system": "https://example.org/Id/secret", "value": f"{rng.randrange(1000)}"}]
    made["language"] = "en"
    return made


def elsewhere(each: Resource) -> Resource:
    """A Patient whose whereabouts the caller is not told, living somewhere else."""
    made = {name: value for name, value in each.items() if name not in NOT_SAID}
    made["address"] = [{"use": "temp", "city": "Leeds", "postalCode": "LS1 1AA"}]
    made["telecom"] = [{"system": "email", "value": "elsewhere@example.org"}]
    kept = {name: each[name] for name in ("generalPractitioner", "managingOrganization")}
    made |= kept  # whom they tie may be the caller
    made["generalPractitioner"] = [*kept["generalPractitioner"], to("Organization", "hospital")]
    made["text"] = {"status": "generated", "div": "<div>Leeds</div>"}
    return made


def strangers() -> list[Resource]:
    """People of a council that nobody here has to do with: one who looks like those one does see."""
    found: list[Resource] = []
    for person in ("zoe", "abe", "none2"):
        own = record(person, "farcouncil", "farsurgery")
        far = {"running": "far", "ended": "far", "ending": "far", "longended": "far", "coming": "far"}
        for each in own:
            spelt = each.get("managingOrganization", {}).get("reference", "")
            if each["resourceType"] == "EpisodeOfCare":
                each["managingOrganization"] = to("Organization", far.get(spelt.partition("/")[2], "far"))
            for name in ("performer", "requester", "owner", "participant", "extension"):
                if each["resourceType"] != "Patient":
                    each.pop(name, None)
            found.append(each)
        found.append(consent(person, "c9", provision("deny")))
    found[0]["identifier"] = [{"system": NHS_NUMBER, "value": "9000000000"}]
    found.append({"resourceType": "Flag", "id": "odd", "status": "active", **security("sealed")})
    return found


def _check(one: Judge, other: Judge) -> None:
    """That the two are what they claim to be: the caller sees the same of both, and there is something hidden."""
    for verb in "rs":
        assert one.seen(verb) == other.seen(verb)
    hidden = {key for key in one.world.resources if one.world.resources[key] != other.world.resources[key]}
    assert len(hidden) > 10, hidden
    assert len(other.world.resources) > len(one.world.resources)
    assert COUNCIL in other.world.controllers.values()
