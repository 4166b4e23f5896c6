"""What the made-up council knows, whoever's software it keeps it in: one dataclass a kind of fact.

Codes are the words of `fhirgw.council.codes`; `int` fields named after a kind hold that kind's number; moments are
wall-clock times in Europe/London, as both systems record them; a blank is None. Mutable, because faults are planted in
them afterwards. `Council.add` gives the `number`. Long because it is the list of everything that is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal


@dataclass(slots=True)
class Address:
    """A postal address; the postcode may be missing, as it is in real extracts."""

    line_1: str
    line_2: str | None
    town: str
    county: str
    postcode: str | None
    uprn: str | None
    since: date | None = None
    until: date | None = None


@dataclass(slots=True, kw_only=True)
class Organisation:
    """The council, an NHS body, a care provider, a supplier, a voluntary organisation."""

    number: int = 0
    name: str
    kind: str
    ods: str | None
    cqc_provider: str | None = None
    cqc_location: str | None = None
    cassr: str | None = None
    parent: int | None = None
    phone: str
    email: str
    address: Address
    active: bool = True


@dataclass(slots=True, kw_only=True)
class Team:
    """A team of the council's own people."""

    number: int = 0
    organisation: int
    name: str
    kind: str
    phone: str
    email: str
    active: bool = True


@dataclass(slots=True, kw_only=True)
class Location:
    """A care home, a day centre, a hospital site, an extra care scheme, an office."""

    number: int = 0
    organisation: int
    name: str
    kind: str
    ods_site: str | None
    cqc_location: str | None
    phone: str
    address: Address
    active: bool = True


@dataclass(slots=True, kw_only=True)
class Worker:
    """A social worker, occupational therapist, assessor, reablement worker or technician."""

    number: int = 0
    title: str
    given: str
    family: str
    profession: str
    swe: str | None
    hcpc: str | None
    sds: str
    phone: str
    email: str
    active: bool


@dataclass(slots=True, kw_only=True)
class Role:
    """A worker in a team, for a period."""

    number: int = 0
    worker: int
    team: int
    organisation: int
    post: str
    start: date
    end: date | None


@dataclass(slots=True)
class Stay:
    """A state of a person for a period: where they lived, whether they worked."""

    status: str
    since: date
    until: date | None


@dataclass(slots=True, kw_only=True)
class Person:
    """An adult with needs, an unpaid carer known in their own right, or somebody with care technology alone."""

    number: int = 0
    client_type: str
    nhs_number: str | None
    nhs_status: str | None
    title: str
    given: str
    family: str
    preferred: str | None
    born: date
    died: date | None = None
    gender: str
    birth_sex: str
    ethnicity: str
    language: str
    interpreter: bool
    marital_status: str
    religion: str
    practice: int
    email: str | None
    contact_preference: str
    restricted: str
    addresses: dict[str, Address]
    phones: dict[str, str]
    accommodation: dict[str, Stay] = field(default_factory=dict)
    employment: dict[str, Stay] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Register:
    """What a person is registered as, or known to live with."""

    number: int = 0
    person: int
    register: str
    since: date


@dataclass(slots=True, kw_only=True)
class Relationship:
    """Somebody in one role to a person; `carer` when that somebody is a person of the council too."""

    number: int = 0
    person: int
    carer: int | None
    role: str
    relation: str
    given: str
    family: str
    phone: str
    email: str | None
    address: Address
    lives_with: bool
    caring_hours: str | None
    since: date
    until: date | None


@dataclass(slots=True, kw_only=True)
class Contact:
    """A contact with the council, or a referral to it."""

    number: int = 0
    person: int
    received: datetime
    route: str
    reason: str
    requester: str
    source: int | None
    priority: str
    status: str
    hospital: int | None
    discharged: date | None
    first_contact: datetime | None
    closed: date | None
    outcome: str | None
    worker: int
    team: int


@dataclass(slots=True)
class Eligibility:
    """The decision an assessment ends with, under the Care Act."""

    decision: str
    decided: date
    worker: int


@dataclass(slots=True, kw_only=True)
class Assessment:
    """An assessment, the answers it holds (by question id) and the decision it led to (none, or one)."""

    number: int = 0
    person: int
    contact: int | None
    kind: str
    term: str
    method: str
    status: str
    requested: date
    started: datetime
    completed: datetime | None
    updated: datetime
    worker: int
    team: int
    outcome: str | None
    answers: dict[str, str]
    third_party: bool | None
    """Ticked where it holds what another person said in confidence."""
    eligibility: tuple[Eligibility, ...]


@dataclass(slots=True, kw_only=True)
class SupportReason:
    """Why a person is supported; one of them is primary."""

    number: int = 0
    person: int
    reason: str
    primary: bool
    since: date
    until: date | None


@dataclass(slots=True, kw_only=True)
class Plan:
    """A care and support plan, or a carer's support plan; its team is a worker for each role."""

    number: int = 0
    person: int
    assessment: int
    kind: str
    status: str
    agreed: date
    start: date
    end: date | None
    review_due: date
    contingency: bool
    team: dict[str, int]
    contingency_actions: str | None = None


@dataclass(slots=True, kw_only=True)
class Goal:
    """What a person wants to achieve, in a plan or in a reablement episode."""

    number: int = 0
    plan: int | None
    episode: int | None
    person: int
    domain: str
    description: str
    importance: int
    status: str
    start: date
    target: date
    closed: date | None


@dataclass(slots=True, kw_only=True)
class Line:
    """A line of a package of care: one service, from one care provider or by direct payment, for a period."""

    number: int = 0
    plan: int
    person: int
    type: str
    component: str
    provider: int | None
    location: int | None
    delivery: str
    funding: str
    status: str
    start: date
    end: date | None
    end_reason: str | None
    days: tuple[str, ...] | None
    times: tuple[time, ...] | None
    minutes: int | None
    carers: int | None
    hours: Decimal | None


@dataclass(slots=True, kw_only=True)
class Reablement:
    """A reablement episode: six weeks, more or less, scored at start and end."""

    number: int = 0
    person: int
    contact: int
    provider: int
    status: str
    discharged: date | None
    start: date
    due: date
    ready: date | None
    end: date | None
    score_start: int
    score_end: int | None
    outcome: str | None


@dataclass(slots=True, kw_only=True)
class Review:
    """A review of a plan, held or planned."""

    number: int = 0
    person: int
    plan: int
    reason: str
    method: str
    status: str
    planned: date
    held: datetime | None
    outcome: str | None
    achieved: str | None
    next_due: date | None
    worker: int
    team: int


@dataclass(slots=True, kw_only=True)
class Alert:
    """A safeguarding concern or a warning: category, code and period, and never its story."""

    number: int = 0
    person: int
    category: str
    code: str
    status: str
    start: date
    end: date | None
    worker: int


@dataclass(slots=True, kw_only=True)
class Allergy:
    """What a person must not be given or touch; or that nothing is known of which they must not."""

    number: int = 0
    person: int
    substance: str
    criticality: str | None
    reaction: str | None
    status: str
    recorded: date
    worker: int


@dataclass(slots=True, kw_only=True)
class AccessNote:
    """How whoever comes gets into a person's home."""

    number: int = 0
    person: int
    kind: str
    detail: str
    status: str
    since: date
    until: date | None
    worker: int


@dataclass(slots=True, kw_only=True)
class AboutMe:
    """What a person wants known about them, by the headings of the national standard."""

    number: int = 0
    person: int
    told: date
    answers: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Equipment:
    """A piece of equipment or an adaptation, from request to return."""

    number: int = 0
    person: int
    assessment: int | None
    kind: str
    status: str
    requested: date
    delivered: date | None
    returned: date | None
    supplier: int
    worker: int


@dataclass(slots=True)
class Device:
    """The unit that a care technology referral led to."""

    model: str
    serial: str
    status: str
    installed: datetime
    installer: int
    removed: date | None
    removal_reason: str | None


@dataclass(slots=True, kw_only=True)
class Technology:
    """A referral for care technology, and the device installed (none, or one)."""

    number: int = 0
    person: int
    contact: int | None
    kind: str
    status: str
    referred: date
    supplier: int
    worker: int
    device: tuple[Device, ...]


@dataclass(slots=True)
class Exemption:
    """What a consent does not hold for: an organisation, a kind of record, or both; `number` is its place in it."""

    number: int
    kind: str
    organisation: int | None
    record: str | None


@dataclass(slots=True, kw_only=True)
class Consent:
    """A consent or dissent to sharing: in one scope, with one organisation or with all of that scope.

    It is about some kinds of record and one purpose, or about all. One of the `by_` says whose decision it was, and
    `verified` whether an attorney's or a deputy's power was seen. It holds until it is withdrawn, or for a time.
    """

    number: int = 0
    person: int
    kind: str
    scope: str
    status: str
    given: date
    until: date | None
    organisation: int | None
    purpose: str | None
    decided: str
    by_person: int | None
    by_relationship: int | None
    by_worker: int | None
    verified: bool | None
    worker: int
    records: tuple[str, ...]
    exceptions: tuple[Exemption, ...]


@dataclass(slots=True, kw_only=True)
class Delegate:
    """Somebody related who may look at a person's record for them: at all of it, or at some kinds.

    Nominated by the person, or appointed by a court or under a power that the public guardian registered: then
    `verified` says whether the council has seen that, and when.
    """

    number: int = 0
    person: int
    relationship: int
    kind: str
    status: str
    since: date
    until: date | None
    by_person: int | None
    by_organisation: int | None
    verified: bool | None
    checked: date | None
    worker: int
    records: tuple[str, ...]
