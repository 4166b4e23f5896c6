"""What the council knows before it knows anybody: organisations, places, teams, and the workers in them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from random import Random

from fhirgw.council import county, words
from fhirgw.council.council import Council
from fhirgw.council.days import DAY
from fhirgw.council.facts import Address, Location, Organisation, Role, Team, Worker
from fhirgw.council.odds import Odds, between, pick

BODIES = (
    ("council", "Saltings County Council", "Z9C01"),
    ("icb", "Mid Saltings Integrated Care Board", "Z9I01"),
    ("icb", "North East Saltings Integrated Care Board", "Z9I02"),
    ("icb", "West Saltings Integrated Care Board", "Z9I03"),
    ("nhs-trust", "Estuary Hospitals NHS Trust", "Z9T01"),
    ("nhs-trust", "North Saltings Hospitals NHS Trust", "Z9T02"),
    ("nhs-trust", "West Saltings Hospital NHS Trust", "Z9T03"),
    ("mental-health-trust", "Saltings Partnership NHS Trust", "Z9M01"),
    ("reablement", "Saltings Reablement Limited", "Z9R01"),
    ("reablement", "Tideway Reablement in Lieu", "Z9R02"),
    ("reablement", "Copse Reablement in Lieu", "Z9R03"),
    ("technology", "Lookout Care Technology", "Z9X01"),
    ("equipment", "Saltings Community Equipment", "Z9X02"),
    ("voluntary", "Saltings Carers Together", "Z9V01"),
    ("voluntary", "Marshland Advocacy", "Z9V02"),
    ("voluntary", "Neighbours of Fenhythe", "Z9V03"),
    ("guardian", "Office of the Public Guardian", None),
    ("guardian", "Court of Protection", None),
)
"""Bodies of which there is one, or a few, at any size of council; ODS codes that nobody holds, and none for courts."""

HOSPITALS = (
    ("Estuary General Hospital", "Z9T01"),
    ("Ashmere Hospital", "Z9T01"),
    ("Brackney Hospital", "Z9T01"),
    ("Colneford Royal Hospital", "Z9T02"),
    ("Kingsbrook Hospital", "Z9T03"),
)
"""Five sites of three acute trusts, as in Essex."""

TEAMS = (
    ("access", "Saltings Connect", 6),
    ("locality", "Older Adults North", 9),
    ("locality", "Older Adults South", 9),
    ("locality", "Older Adults Mid", 9),
    ("locality", "Older Adults West", 9),
    ("learning-disability", "Learning Disability North", 9),
    ("learning-disability", "Learning Disability South", 9),
    ("sensory-physical", "Physical and Sensory Impairment", 8),
    ("mental-health", "Adult Mental Health", 7),
    ("occupational-therapy", "Occupational Therapy", 8),
    ("hospital", "Hospital Discharge East", 5),
    ("hospital", "Hospital Discharge West", 5),
    ("reablement", "Reablement", 4),
    ("carers", "Carers", 4),
    ("safeguarding", "Safeguarding Adults", 4),
    ("technology", "Care Technology", 5),
)
"""Kind, name, and share of the workers."""

PROFESSIONS: dict[str, Odds[str]] = defaultdict(
    lambda: Odds({"social-worker": 60, "assessor": 40}),
    {
        "occupational-therapy": Odds({"occupational-therapist": 1}),
        "reablement": Odds({"reablement-worker": 60, "occupational-therapist": 40}),
        "technology": Odds({"technician": 70, "assessor": 30}),
        "safeguarding": Odds({"social-worker": 1}),
    },
)
POSTS: dict[str, Odds[str]] = defaultdict(
    lambda: Odds({"practitioner": 80, "senior": 15, "manager": 5}),
    {
        "social-worker": Odds({"practitioner": 70, "senior": 18, "manager": 6, "best-interests": 6}),
        "technician": Odds({"practitioner": 1}),
    },
)

CARE_PROVIDERS = (
    ("homecare", ("Homecare", "Care at Home", "Support Services", "Domiciliary Care")),
    ("residential", ("House", "Lodge", "Court", "Grange")),
    ("nursing", ("Nursing Home", "Manor", "Care Centre")),
)


@dataclass(slots=True)
class Directory:
    """Who and what there is to name: all by kind, workers by team and by profession."""

    organisations: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    locations: dict[str, list[Location]] = field(default_factory=lambda: defaultdict(list))
    teams: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    workers: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    professions: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def reference(council: Council, rng: Random) -> Directory:
    """Fill the council's reference records, and say what there is."""
    directory = Directory()
    trusts = _bodies(council, rng, directory)
    _places(council, rng, directory, trusts)
    _practices(council, rng, directory)
    _care_providers(council, rng, directory)
    _teams(council, rng, directory)
    return directory


def _organisation(
    council: Council,
    rng: Random,
    directory: Directory,
    kind: str,
    name: str,
    ods: str | None,
    parent: int | None = None,
) -> Organisation:
    regulated = kind in {"homecare", "residential", "nursing", "reablement"}
    organisation = council.add(
        Organisation(
            name=name,
            kind=kind,
            ods=ods,
            cassr="900" if kind == "council" else None,
            parent=parent,
            phone=words.landline(rng),
            email=words.email("office", name.replace(" ", ""), "saltings" if kind == "council" else "care"),
            address=words.address(rng),
        )
    )
    if regulated:
        organisation.cqc_provider = f"1-999{organisation.number:06}"
        organisation.cqc_location = f"1-998{organisation.number:06}"
    directory.organisations[kind].append(organisation.number)
    return organisation


def _bodies(council: Council, rng: Random, directory: Directory) -> dict[str, Organisation]:
    made = (_organisation(council, rng, directory, kind, name, ods) for kind, name, ods in BODIES)
    return {str(organisation.ods): organisation for organisation in made}


def _location(
    council: Council, rng: Random, directory: Directory, kind: str, name: str, owner: Organisation, site: str | None
) -> None:
    place: Address = words.address(rng) if site else owner.address
    location = council.add(
        Location(
            organisation=owner.number,
            name=name,
            kind=kind,
            ods_site=site,
            cqc_location=owner.cqc_location if kind in {"residential", "nursing"} else None,
            phone=owner.phone,
            address=place,
        )
    )
    directory.locations[kind].append(location)


def _places(council: Council, rng: Random, directory: Directory, bodies: dict[str, Organisation]) -> None:
    for turn, (name, trust) in enumerate(HOSPITALS, 1):
        _location(council, rng, directory, "hospital", name, bodies[trust], f"{trust}{turn:02}")
    home = bodies["Z9C01"]
    for turn, town in enumerate(words.TOWNS, 1):
        _location(council, rng, directory, "day-centre", f"{town} Day Centre", home, f"Z9C01D{turn:02}")
        if turn % 2:
            _location(council, rng, directory, "extra-care", f"{town} Extra Care", home, f"Z9C01E{turn:02}")
        if not turn % 3:
            _location(council, rng, directory, "office", f"{town} Office", home, f"Z9C01F{turn:02}")


def _practices(council: Council, rng: Random, directory: Directory) -> None:
    boards = list(directory.organisations["icb"])
    for turn in range(1, county.scaled(county.GP_PRACTICES, council.adults, 12) + 1):
        name = f"{pick(rng, words.STREETS)} {pick(rng, ('Surgery', 'Medical Centre', 'Practice'))}"
        _organisation(council, rng, directory, "gp-practice", name, f"Z99{turn:03}", pick(rng, boards))


def _care_providers(council: Council, rng: Random, directory: Directory) -> None:
    homes = county.scaled(county.CARE_HOMES, council.adults, 12)
    counts = {
        "homecare": county.scaled(county.HOMECARE_PROVIDERS, council.adults, 10),
        "residential": homes - homes // 3,
        "nursing": homes // 3,
    }
    for kind, endings in CARE_PROVIDERS:
        for turn in range(1, counts[kind] + 1):
            name = f"{pick(rng, words.STREETS)} {pick(rng, words.STREETS)} {pick(rng, endings)}"
            owner = _organisation(council, rng, directory, kind, name, f"ZZ{kind[0].upper()}{turn:03}")
            if kind != "homecare":
                _location(council, rng, directory, kind, name, owner, None)


def _teams(council: Council, rng: Random, directory: Directory) -> None:
    workers = max(len(TEAMS) * 2, council.adults // county.CASELOAD)
    home = directory.organisations["council"][0]
    shares = sum(share for _, _, share in TEAMS)
    for kind, name, share in TEAMS:
        address = words.email("team", name.replace(" ", ""), "saltings")
        team = council.add(Team(organisation=home, name=name, kind=kind, phone=words.landline(rng), email=address))
        directory.teams[kind].append(team.number)
        for turn in range(max(2, round(workers * share / shares))):
            _worker(council, rng, directory, team, current=turn == 0 or rng.random() < 0.92)


def _worker(council: Council, rng: Random, directory: Directory, team: Team, current: bool) -> None:
    woman = rng.random() < 0.8
    given, family = pick(rng, words.WOMEN if woman else words.MEN), pick(rng, words.FAMILIES)
    profession = PROFESSIONS[team.kind].deal(rng)
    number = len(council.of(Worker)) + 1
    worker = council.add(
        Worker(
            title=pick(rng, ("Ms", "Mrs", "Miss") if woman else ("Mr",)),
            given=given,
            family=family,
            profession=profession,
            swe=f"SW99{number:04}" if profession == "social-worker" else None,
            hcpc=f"OT99{number:04}" if profession == "occupational-therapist" else None,
            sds=f"99{number:010}",
            phone=words.mobile(rng),
            email=words.email(given, f"{family}{number}", "saltings"),
            active=current,
        )
    )
    started = county.TODAY - between(rng, 1_900, 4_000) * DAY
    moved = started + between(rng, 200, 1_200) * DAY
    if rng.random() < 0.3:
        _role(council, worker, pick(rng, council.of(Team)), "practitioner", started, moved)
        started = moved + DAY
    left = None if current else county.TODAY - between(rng, 10, 400) * DAY
    _role(council, worker, team, POSTS[profession].deal(rng), started, left)
    directory.workers[team.number].append(worker.number)
    directory.professions[profession].append(worker.number)


def _role(council: Council, worker: Worker, team: Team, post: str, start: date, end: date | None) -> None:
    home = team.organisation
    council.add(Role(worker=worker.number, team=team.number, organisation=home, post=post, start=start, end=end))
