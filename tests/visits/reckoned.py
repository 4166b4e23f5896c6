"""People with package lines, for the tests of the ledger, and visits made up by dice."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.store.registration import Registration
from tests.visits.ledger_oracle import LONDON, Line, Visit

SYSTEM = "https://fhirgw.uk/fhir/CodeSystem"
COUNCIL = Registration("council-ledger", "Z99", "system/*.rs", sector="council", rate=1_000_000)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
OUTCOMES = (
    *("delivered", "partially-delivered", "missed-by-provider", "no-reply", "refused-by-person"),
    *["hospital"] * 5,
    *("cancelled-by-person-notice", "cancelled-by-provider", "respite", "not-required", "entered-in-error"),
    "cancelled-by-person-short-notice",
)
COMING = ("delivered", "partially-delivered", "no-reply", "refused-by-person")


def person(number: int) -> str:
    return f"{number:03x}00000-0000-5000-8000-{number:012x}"


def patient(id: str) -> Resource:
    return {"resourceType": "Patient", "id": id, "birthDate": "1940-03-01"}


def tie(id: str, provider: str, **elements: Any) -> Resource:
    """That somebody is looked after by a care provider."""
    whose = {
        "patient": {"reference": f"Patient/{id}"},
        "managingOrganization": {"reference": f"Organization/{provider}"},
    }
    return {"resourceType": "EpisodeOfCare", "id": f"{id}-{provider}", "status": "active", **whose, **elements}


def line(id: str, whose: str, provider: str, number: str, **more: Any) -> Resource:
    """A package line as the mappings make it: half an hour at half past eight and at six, unless `repeat` says else."""
    component = {"system": f"{SYSTEM}/service-component", "code": "home-support-or-domiciliary-care"}
    carers = {"url": "https://fhirgw.uk/fhir/StructureDefinition/ext-carers-required"}
    repeat = {"timeOfDay": ["08:30:00", "18:00:00"], "dayOfWeek": list(DAYS), "duration": 30, "durationUnit": "min"}
    made: Resource = {
        "resourceType": "ServiceRequest",
        "id": id,
        "identifier": [{"system": "https://fhirgw.uk/Id/meadow/package_line", "value": number}],
        "extension": [carers | {"valuePositiveInt": more.pop("carers", 1)}],
        "status": "active",
        "intent": "order",
        "code": {"coding": [component]},
        "subject": {"reference": f"Patient/{whose}"},
        "performer": [{"reference": f"Organization/{provider}"}],
        "occurrenceTiming": {"repeat": repeat | {"boundsPeriod": {"start": "2025-01-01"}} | more.pop("repeat", {})},
    }
    return made | more


class Dice:
    """Lines and visits of some people in one week, by a seed: as FHIR, as sent, and as the oracle reads them."""

    def __init__(self, seed: int, monday: date, people: list[str]) -> None:
        self.dice, self.monday, self.people = random.Random(seed), monday, people
        self.lines: list[Line] = []
        self.records: list[Resource] = []
        for whose in people:
            for _ in range(self.dice.choice((0, 1, 1, 2, 3))):
                self._line(whose)

    def _line(self, whose: str) -> None:
        dice, number = self.dice, len(self.lines)
        clocks = sorted(dice.sample(range(0, 1440, 15), dice.randint(1, 4)))
        first = self.monday + timedelta(days=dice.choice((-60, -1, 2, 5)))
        made: Line = {
            "id": f"{whose[:3]}{number:05x}-1111-5000-8000-000000000000",
            "person": whose,
            "provider": dice.choice(("K01", "H01")),
            "number": f"L{whose[:3]}-{number}",
            "days": dice.sample(DAYS, dice.randint(1, 7)),
            "times": [f"{clock // 60:02}:{clock % 60:02}" for clock in clocks],
            "minutes": dice.choice((15, 30, 45, 60)),
            "carers": dice.choice((1, 1, 2)),
            "from": first,
            "until": first + timedelta(days=dice.choice((1, 4, 90))),
        }
        bounds = {"boundsPeriod": {"start": made["from"].isoformat(), "end": made["until"].isoformat()}}
        times = {"timeOfDay": [f"{each}:00" for each in made["times"]], "dayOfWeek": made["days"]}
        repeat = {**bounds, **times, "duration": made["minutes"]}
        provider = {"K01": "kestrel", "H01": "heron"}[made["provider"]]
        self.lines.append(made)
        self.records.append(line(made["id"], whose, provider, made["number"], carers=made["carers"], repeat=repeat))

    def visits(self, provider: str, count: int) -> tuple[list[Visit], list[Visit]]:
        """What is sent, and what is known when it has been: a second carer is said by their own telephone."""
        sent: list[Visit] = []
        known: list[Visit] = []
        for at in range(count):
            row = {"visit": f"{self.monday}-{provider}-{at}", "version": 1, "changed": "2026-01-01T00:00:00Z"}
            made = row | self._visit()
            sent.append(made)
            if made.get("carers") and self.dice.random() < 0.2:
                other = self._carer(datetime.fromisoformat(made["carers"][0]["start"]))
                sent.append(row | {"version": 2, "carer": other})
                others = [each for each in made["carers"] if each["carer"] != other["carer"]]
                made = made | {"carers": [*others, other]}
            known.append(made)
        return sent, known

    def _visit(self) -> Visit:
        dice = self.dice
        begins = datetime(self.monday.year, self.monday.month, self.monday.day, tzinfo=LONDON).astimezone(UTC)
        start = begins + timedelta(minutes=dice.randint(-120, 169 * 60 + 60))
        made: Visit = {"person": {"id": dice.choice(self.people)}}
        outcome = dice.choice(OUTCOMES) if dice.random() < 0.35 else None
        if dice.random() < 0.85:
            ends = start + timedelta(minutes=dice.choice((15, 30, 45)))
            more: dict[str, Any] = {"carers": dice.choice((1, 2))} if dice.random() < 0.5 else {}
            more |= {"type": "medication"} if dice.random() < 0.2 else {}
            made["planned"] = {"start": written(start), "end": written(ends), **more}
        if outcome in (None, *COMING) and dice.random() < 0.8:
            number = dice.choice((1, 1, 2, 3))
            made["carers"] = [self._carer(start, at) for at in range(number)]
        if outcome:
            made["outcome"] = {"code": outcome}
        if dice.random() < 0.5 or not made.keys() & {"planned", "carers"}:
            made["claimed"] = {"start": written(start), "minutes": dice.choice((15, 30, 60))}
        if self.lines and dice.random() < 0.4:
            named = dice.choice(self.lines)
            made["line"] = {"order": dice.choice((named["number"], named["id"], "L-unknown"))}
        return made

    def _carer(self, start: datetime, at: int | None = None) -> dict[str, str]:
        """A carer, at times of their own; without a number one who may be there already."""
        dice = self.dice
        name = f"C{at}" if at is not None and dice.random() < 0.5 else f"C{at or 0}{dice.randint(1, 4)}"
        came = start + timedelta(minutes=dice.randint(-25, 30), seconds=dice.randint(0, 59))
        gone = came + timedelta(minutes=dice.randint(5, 50), seconds=dice.randint(1, 59))
        return {"carer": name, "start": written(came)} | ({"end": written(gone)} if dice.random() < 0.85 else {})


def written(moment: datetime) -> str:
    return moment.astimezone(LONDON).isoformat()
