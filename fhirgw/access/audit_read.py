"""The AuditEvents of the commonest accesses, a resource read and what a search found, without making their like anew.

What differs from one such access to the next of the same application are a moment and ids: the rest of the JSON, its
form, is made once, by `event`, and taken apart where they stand. What was found follows at the end, by person.

So the audit keeps the form once, under the digest of what it says, and of each access what is `brief`: a tenth of the
JSON. `whole` makes the JSON of it again, byte for byte, as PostgreSQL's view `audited` does (alembic's 0040).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from fhirgw.access.audit_event import PERSON, Access, Seen, event, instant
from fhirgw.access.audit_facets import Facets, facets
from fhirgw.access.permit import Permit
from fhirgw.fhir.canonical import encode

MOMENT = datetime(1815, 12, 10, 1, 2, 3, 456789, UTC)
MARKS = {"!event!": 1, instant(MOMENT): 2, "!request!": 3, "!resource!": 4, "!found!": 4, "!person!": 5}
"""What stands for each of those that differ, by its number: nothing that could be an id, a code or an address."""

IN_RECORD = f'"}},{encode(PERSON).decode()[1:-1]}'
"""What follows a person's id in the entity of their record."""

END = "}]}"
"""The end of an AuditEvent that is of a request alone: of its one entity, of all entities, and of itself."""


BRIEF, PART = "~", "\n"
"""What begins a brief body, which no JSON begins with, and what parts the values in it, none of which has it."""


class Form(NamedTuple):
    """What many AuditEvents have in common: texts, each followed by the value of that number, from 1 on (0: none).

    `key` is made of all the rest: nobody can change it and leave the key.
    """

    key: str
    pieces: tuple[str, ...]
    holes: tuple[int, ...]

    @classmethod
    def of(cls, pieces: Sequence[str], holes: Sequence[int]) -> Form:
        """The form under its key, of 32 hexadecimal digits."""
        said = PART.join([*pieces, ",".join(map(str, holes))])
        return cls(sha256(said.encode()).hexdigest()[:32], tuple(pieces), tuple(holes))

    def whole(self, values: Sequence[str]) -> str:
        """The AuditEvent's JSON."""
        around = ["", *values]
        return "".join(
            [text for piece, at in zip(self.pieces, self.holes, strict=True) for text in (piece, around[at])]
        )


class Written(NamedTuple):
    """An AuditEvent: its form, what differs, and what it is found by."""

    form: Form
    values: tuple[str, ...]
    facets: Facets

    @property
    def body(self) -> str:
        """Its JSON."""
        return self.form.whole(self.values)

    @property
    def brief(self) -> str:
        """What says the same to who knows the form."""
        return PART.join((BRIEF + self.form.key, *self.values))


class _Parts(NamedTuple):
    """The JSON's form, and what is found of it."""

    form: Form
    facets: Facets


def whole(body: str, forms: Mapping[str, Form]) -> str:
    """The JSON of a body, brief or not. Raises KeyError where its form is not there, IndexError for values missing."""
    if not body.startswith(BRIEF):
        return body
    key, *values = body[len(BRIEF) :].split(PART)
    return forms[key].whole(values)


def known(access: Access, id: str) -> Written | None:
    """The AuditEvent of an access that has a form, under its id; None for any other."""
    return of_read(access, id) or of_found(access, id)


def of_read(access: Access, id: str) -> Written | None:
    """The AuditEvent of a permitted read of somebody's resource; None for any other access."""
    if access.permit is None or len(access.seen) != 1 or not _alone(access):
        return None
    kind, resource, person = access.seen[0]
    if person is None or (kind == "Patient") != (resource == person) or access.asked != f"{kind}/{resource}":
        return None
    parts = _parts(access.interaction, access.route, kind, access.permit)
    values = (id, instant(access.moment), access.request, resource, *((person,) if kind != "Patient" else ()))
    return Written(parts.form, values, parts.facets._replace(recorded=access.moment, persons=(person,)))


def _alone(access: Access) -> bool:
    """Whether there is no more to tell of it than what was read."""
    return _usual(access) and not access.parameters and access.type == access.seen[0].type


def _usual(access: Access) -> bool:
    """Whether nothing is to be told but the request, who sent it, and what was in the answer."""
    more = (access.operation, access.types, access.behalf, access.application, access.tried)
    return access.permitted and not access.everybody and access.times == 1 and not any(more)


def of_found(access: Access, id: str) -> Written | None:
    """The AuditEvent of a permitted access that no one resource was named for, as a search; None for any other."""
    if access.permit is None or access.asked is not None or not _usual(access):
        return None
    held: dict[str | None, dict[str, list[str]]] = {}
    for kind, resource, person in access.seen:
        held.setdefault(person, {}).setdefault(kind, []).append(resource)
    nobodys = held.pop(None, None)
    if "" in held or not _plain("".join([each.id for each in access.seen]) + "".join(map(str, held))):
        return None
    parts = _request(access.interaction, access.route, access.type, tuple(access.parameters), access.permit)
    told = [_details(nobodys) if nobodys else "", "}"]
    persons = tuple(map(str, held))
    for person in persons:
        told += (',{"what":{"reference":"Patient/', person, IN_RECORD, _details(held[person]), "}")
    values = (id, instant(access.moment), access.request, "".join(told))
    return Written(parts.form, values, parts.facets._replace(recorded=access.moment, persons=persons))


def _plain(text: str) -> bool:
    """Whether JSON spells the text as it is: ids are of such characters, and nothing here relies on it."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _details(types: dict[str, list[str]]) -> str:
    """The ids by type."""
    held = '"},{"type":"'.join([f'{kind}","valueString":"{" ".join(ids)}' for kind, ids in types.items()])
    return f',"detail":[{{"type":"{held}"}}]'


@lru_cache(maxsize=4096)
def _parts(interaction: str, route: str, kind: str, permit: Permit) -> _Parts:
    resource = "!resource!"
    person = resource if kind == "Patient" else "!person!"
    seen = Seen(kind, resource, person)
    asked = f"{kind}/{resource}"
    access = Access(interaction, route, MOMENT, "!request!", type=kind, asked=asked, seen=(seen,), permit=permit)
    return _apart(access, "", "")


@lru_cache(maxsize=4096)
def _request(interaction: str, route: str, kind: str | None, parameters: tuple[str, ...], permit: Permit) -> _Parts:
    """All but what was found, up to where that goes on."""
    request = Access(interaction, route, MOMENT, "!request!", type=kind, parameters=parameters, permit=permit)
    return _apart(request, END, "!found!]}")


def _apart(access: Access, end: str, instead: str) -> _Parts:
    """The form of its AuditEvent, with another end."""
    made = event(access, "!event!")
    text = encode(made).decode().removesuffix(end) + instead
    marked = [*re.split(f"({'|'.join(map(re.escape, MARKS))})", text), ""]
    return _Parts(Form.of(marked[::2], [MARKS.get(each, 0) for each in marked[1::2]]), facets(made))
