"""What a batch does to the visits it speaks of: which rows are new, which change what is known, which come too late.

Nothing here depends on the order of the rows. Where two rows contradict each other (fhirgw.visits.contradiction) and
neither is the newer, nobody can tell which holds: in one batch both are refused; of two batches the one that came first
was taken, and the other is refused.

Long, because what one row, a batch and two batches at once come to has to be seen together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from fhirgw.fhir.hashes import sha1
from fhirgw.mapping.identity import PLACEMENT, VARIANT
from fhirgw.visits.contradiction import contradiction
from fhirgw.visits.merge import (
    NOTHING,
    Known,
    Said,
    Stamp,
    Value,
    facts,
    join,
    kept,
    overruled,
    parts,
    spoken,
    top,
)
from fhirgw.visits.moment import instant
from fhirgw.visits.reading import Fault, Refused, Sent, untimed

Status = Literal["stored", "unchanged", "superseded", "refused"]
NOWHERE = "0" * PLACEMENT
"""Where in its id a visit's own key says nothing of whose it is: that is known later, or not at all."""

UNTOLD = Fault(
    "changed",
    "ambiguous",
    "two rows of this batch say different things of one visit, and not which is the newer",
    "Send one of them, or fill in changed or version in both",
)


def ambiguous(column: str) -> Fault:
    """What is told of a row that says otherwise than one of the same version and moment."""
    return Fault(
        column,
        "ambiguous",
        "a row with the same version and changed says otherwise of this visit, and nobody can tell which holds",
        "Send what is right with a higher version, or the moment in changed at which it was corrected",
    )


def met(visit: str) -> Fault:
    """What is told of a visit at which a carer was while they were at another, in whatever batch that came."""
    return Fault(
        "carers",
        "overlap",
        f"a carer is at two visits at once, at this one and at {visit}",
        "Both are kept as sent: correct the carer or the times of one, and send it again",
    )


class Held(NamedTuple):
    """What is stored of a visit: `version` counts what was ever said of it, `digests` tells it apart.

    `said`: what was said of it before, at least what has the version and moment of a row that is taken.
    """

    version: int
    known: Known
    digests: Collection[bytes]
    said: Collection[Said] = ()


class Taken(NamedTuple):
    """What becomes of a visit: what is known now, what was said that is new, and the status of each row.

    `odd`: by the place of a row that is refused, for it contradicts what is stored, its column.
    """

    known: Known
    added: tuple[Said, ...]
    statuses: tuple[Status, ...]
    odd: Mapping[int, str] = {}

    @property
    def newest(self) -> Stamp:
        """Of what was said last."""
        return top(self.known)

    @property
    def values(self) -> dict[str, Value]:
        """What is known, as it is kept."""
        return kept(self.known)

    @property
    def facts(self) -> Mapping[str, Value]:
        """What is known, as it is read."""
        return parts(self.known)

    @property
    def older(self) -> Mapping[str, tuple[int, str, str]]:
        """The stamps of what was not said last."""
        return stamps(self.known)


class First(NamedTuple):
    """The same of a visit that nobody has spoken of, where one row does: nearly all are so, and nothing is joined."""

    said: Said
    values: dict[str, Value]
    statuses: tuple[Status, ...] = ("stored",)
    odd: Mapping[int, str] = {}
    older: Mapping[str, tuple[int, str, str]] = {}

    @property
    def known(self) -> Known:
        """What is known, part by part."""
        return join(NOTHING, self.said)

    @property
    def added(self) -> tuple[Said, ...]:
        """What was said that is new."""
        return (self.said,)

    @property
    def newest(self) -> Stamp:
        """Of what was said last."""
        return self.said.stamp

    @property
    def facts(self) -> Mapping[str, Value]:
        """What is known, as it is read."""
        return facts(self.values)


UNHEARD = Held(0, NOTHING, ())


def key(provider: str, visit: str) -> str:
    """The visit's own key, as UUID text: by who makes it and what they call it."""
    digest = sha1(f"fhirgw\x1fvisit\x1f{provider}\x1f{visit}".encode()).hexdigest()
    return (
        f"{NOWHERE}{digest[3:8]}-{digest[8:12]}-5{digest[13:16]}-{VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
    )


def placed(key: str, patient: str) -> str:
    """The id of the resources that the visit is: it lives where everything of the person does."""
    return patient[:PLACEMENT] + key[PLACEMENT:]


def told_apart(rows: Sequence[Sent | Refused]) -> list[Sent | Refused]:
    """The rows, with those refused that contradict one another, and of which none is the newer."""
    ranked: dict[tuple[str, int, datetime], dict[bytes, Said]] = {}
    for each in rows:
        if isinstance(each, Sent):
            version, changed, digest = each.said.stamp
            ranked.setdefault((each.visit, version, changed), {})[digest] = each.said
    if len(ranked) == sum(map(len, ranked.values())):  # the usual: each is said once
        return list(rows)
    return [
        _apart(each, ranked[each.visit, *each.said.stamp[:2]].values()) if isinstance(each, Sent) else each
        for each in rows
    ]


def _apart(sent: Sent, alike: Collection[Said]) -> Sent | Refused:
    if not sent.timed:
        return Refused(sent.visit, (UNTOLD,)) if len(alike) > 1 else sent
    column = _odd(sent.said, alike)
    return sent if column is None else Refused(sent.visit, (ambiguous(column),))


def _odd(said: Said, others: Iterable[Said]) -> str | None:
    """The column in which it contradicts another of the same version and moment."""
    alike = (each for each in others if each.stamp[:2] == said.stamp[:2] and each.stamp != said.stamp)
    return next(filter(None, (contradiction(said.parts, each.parts) for each in alike)), None)


def at_once(rows: Sequence[Sent | Refused]) -> dict[int, str]:
    """By the places of rows by which one carer makes two visits at once, the other visit: both are kept, for one of
    them is right."""
    stays: dict[str, list[tuple[datetime, datetime, str, int]]] = {}
    for at, each in enumerate(rows):
        if isinstance(each, Sent):
            for carer in (*(each.said.parts.get("carers") or ()), *filter(None, (each.said.parts.get("carer"),))):
                if "start" in carer and "end" in carer:
                    stay = instant(carer["start"]), instant(carer["end"]), each.visit, at
                    stays.setdefault(carer["carer"], []).append(stay)
    found: dict[int, str] = {}
    for listed in stays.values():
        if len(listed) > 1:
            listed.sort()
            for one, other in pairwise(listed):
                if other[0] < one[1] and one[2] != other[2]:
                    found |= {one[3]: other[2], other[3]: one[2]}
    return found


def taken(held: Held, rows: Sequence[Sent], arrived: datetime) -> Taken | First:
    """What rows about one visit come to. Those that do not say when they were said, say so when they arrive."""
    if not held.known and len(rows) == 1:
        said = rows[0].said if rows[0].timed else untimed(rows[0], arrived).said
        return First(said, spoken(said))
    added: dict[bytes, Said] = {}
    repeated: list[bool] = []
    odd: dict[int, str] = {}
    known = held.known
    for at, each in enumerate(rows):
        said = each.said if each.timed else untimed(each, arrived).said
        digest = said.stamp.digest
        repeated.append(digest in added or _heard(held, each))
        if repeated[-1]:
            continue
        if held.said and (column := _odd(said, held.said)):
            odd[at] = column
        else:
            added[digest] = said
            known = join(known, said)
    beside = overruled(known)
    counts = {register.stamp.digest for place, register in known.items() if place not in beside}
    statuses: list[Status] = [
        "unchanged" if again else "stored" if each.said.stamp.digest in counts else "superseded"
        for each, again in zip(rows, repeated, strict=True)
    ]
    for at in odd:
        statuses[at] = "refused"
    return Taken(known, tuple(added.values()), tuple(statuses), odd)


def _heard(held: Held, sent: Sent) -> bool:
    """Whether it was said before; what has no time of its own, whether it is what holds now."""
    if sent.timed:
        return sent.said.stamp.digest in held.digests
    return bool(held.known) and all(_holds(held.known, name, value) for name, value in sent.said.parts.items())


def _holds(known: Known, name: str, value: Any) -> bool:
    return name in known and known[name].value == value


def stamps(known: Known) -> Mapping[str, tuple[int, str, str]]:
    """The stamps of the parts that were not said last, as JSON has them: most visits have none."""
    newest = top(known)
    return {
        place: (each.stamp.version, each.stamp.changed.isoformat(), each.stamp.digest.hex())
        for place, each in sorted(known.items())
        if each.stamp != newest
    }
