"""Registered applications and what they hold: keys, tokens, assertions that were used once and may not be again.

`caller` is what every request asks of the database about whoever sends it, in one statement: a registration that was
deactivated, a token that was revoked and an agreement that has ended hold from the next request, in every process.

Long because a third of it is that statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast

import orjson
from sqlalchemy import BigInteger, Boolean, ColumnElement, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

from fhirgw.access.unread import SECTORS as SECTORS
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.fhir.tokens import token
from fhirgw.store.database import Connection

ODS_CODE = "https://fhir.nhs.uk/Id/ods-organization-code"
SDS_USER = "https://fhir.nhs.uk/Id/sds-user-id"
ROLES = ("break-glass", "safeguarding", "introspect", "operator", "homecare")
"""break-glass: its practitioner may open a grant; safeguarding: may name a case; introspect: may see others' tokens;
homecare: a council's system that sends the visits of many care providers."""

RATE = 6000
"""Requests a minute, where a registration does not say otherwise."""


@dataclass(frozen=True, slots=True)
class Registration:
    """An application. `id` is OAuth's client_id; `organisation` an ODS code; `clearance` bits of fhirgw.access.label.

    `sector` is one of SECTORS: consents speak of them. `roles` are of ROLES: what it may do besides.
    `pseudonyms`: its agreement is for pseudonymised data alone.
    Either `jwks` or `jwks_url` holds its public keys; neither: its tokens come from an issuer elsewhere.
    """

    id: str
    organisation: str
    scopes: str
    sector: str = "nhs"
    purposes: tuple[str, ...] = ("direct-care",)
    name: str = ""
    jwks: dict[str, Any] | None = None
    jwks_url: str | None = None
    roles: tuple[str, ...] = ()
    clearance: int = 0
    patient: str | None = None
    practitioner: str | None = None
    delegate: str | None = None
    agreement: str | None = None
    agreement_until: datetime | None = None
    pseudonyms: bool = False
    rate: int = RATE
    active: bool = True
    created: datetime | None = field(default=None, compare=False)
    changed: datetime | None = field(default=None, compare=False)


class Asker(NamedTuple):
    """Whoever sends a request, by what their token says. `jti` None: another issuer's token, not ours to revoke."""

    registration: str | None = None
    jti: str | None = None
    organisation: str | None = None
    practitioner: str | None = None
    sds_user: str | None = None
    nhs_number: str | None = None

    @property
    def impersonal(self) -> bool:
        """Whether it is an application alone, and no person by it."""
        return not (self.practitioner or self.sds_user or self.nhs_number)


class Standing(NamedTuple):
    """What a permit rests on that an application has with a token of ours: as long as it is so, nothing has changed.

    `version` is that of the registration's row. The names are those of the parameters of `holds`.
    """

    asker_registration: str
    asker_jti: str
    asker_organisation: int | None
    asker_version: str
    asker_agreed: bool
    asker_organisations: list[str]


class Caller(NamedTuple):
    """What the database knows about an Asker. `valid`: the token was issued here and nobody has revoked it.

    `agreed`: the registration's agreement is in force. `parties` are what records may name the asker by.
    `patients` are those with the asker's own NHS number.
    """

    registration: Registration | None
    valid: bool
    agreed: bool
    parties: tuple[str, ...]
    practitioners: tuple[str, ...]
    patients: tuple[str, ...]
    standing: Standing | None = None


NAMES = tuple(each for each in Registration.__dataclass_fields__)
KEPT = tuple(each for each in NAMES if each not in ("created", "changed"))
FOUND = ", ".join(f"r.{name}::text" if name == "jwks" else f"r.{name}" for name in NAMES)
KNOWN = ", ".join("NULL AS jwks" if name == "jwks" else f"r.{name}" for name in NAMES)
"""The same without its keys: nobody needs them but the token endpoint."""

# A token of a text, as fhirgw.fhir.tokens makes it.
TOKEN = "('x' || left(encode(sha256(convert_to({}, 'UTF8')), 'hex'), 16))::bit(64)::bigint"

REGISTERED = "registered AS MATERIALIZED (SELECT * FROM fhirgw.registration WHERE id = $1)"
ORGANISATIONS = f"""
    SELECT 'Organization/' || id FROM fhirgw.resource
    WHERE type = 'Organization' AND tokens @> ARRAY[coalesce({{}},
          {TOKEN.format(f"'identifier|{ODS_CODE}|' || r.organisation")})]
"""
PRACTITIONERS = """practitioners AS MATERIALIZED (
    SELECT id FROM fhirgw.resource
    WHERE type = 'Practitioner' AND {} AND coalesce(body::json ->> 'active', 'true') <> 'false'
)"""
TEAMS = f"""
    SELECT DISTINCT role.body::json #>> '{{organization,reference}}' AS team
    FROM practitioners
    JOIN fhirgw.resource role ON role.type = 'PractitionerRole'
     AND role.tokens @> ARRAY[{TOKEN.format("'practitioner|Practitioner/' || practitioners.id")}]
    WHERE coalesce(role.date1_low <= statement_timestamp(), true)
      AND coalesce(role.date1_high > statement_timestamp(), true)
      AND coalesce(role.body::json ->> 'active', 'true') <> 'false'
"""
PATIENTS = f"SELECT patient FROM fhirgw.identifier WHERE system = '{NHS_NUMBER}' AND value = $4 ORDER BY 1"


VALID = """{0} IS NULL OR EXISTS (
    SELECT FROM fhirgw.issued_token
    WHERE jti = {0} AND registration = {1} AND revoked IS NULL AND expires > statement_timestamp())"""
AGREED = "r.agreement IS NOT NULL AND coalesce(r.agreement_until > statement_timestamp(), true)"
NOBODY = "SELECT '' WHERE false"
VERSION = "concat(r.ctid, r.xmin)"


def _caller(known: str) -> str:
    """The statement, for whoever is known by a practitioner's id or sds_user, or by an nhs_number.

    Each asks for no more than it needs: what is about practitioners takes three times as long as the rest.
    """
    named = {"practitioner": "id = $4", "sds_user": "tokens @> ARRAY[$4::bigint]"}.get(known)
    return f"""
        WITH {REGISTERED}{f", {PRACTITIONERS.format(named)}" if named else ""}
        SELECT {KNOWN},
               {VALID.format("$2::text", "$1")} AS valid,
               {AGREED} AS agreed,
               ARRAY({ORGANISATIONS.format("$3::bigint")} ORDER BY 1) AS organisations,
               ARRAY({"SELECT id FROM practitioners ORDER BY 1" if named else NOBODY}) AS practitioners,
               ARRAY({f"{TEAMS} ORDER BY 1" if named else NOBODY}) AS teams,
               ARRAY({PATIENTS if known == "nhs_number" else NOBODY}) AS patients
        FROM (SELECT) nothing LEFT JOIN registered r ON true
    """


CALLER = {known: _caller(known) for known in ("practitioner", "sds_user", "nhs_number")}


# The same of many applications at once, of which no more is asked than who they are.
CALLERS = f"""
SELECT {KNOWN}, {VERSION} AS version, {VALID.format("asked.jti", "asked.registration")} AS valid, {AGREED} AS agreed,
    ARRAY({ORGANISATIONS.format("asked.organisation")} ORDER BY 1) AS organisations,
    '{{}}'::text[] AS practitioners, '{{}}'::text[] AS teams, '{{}}'::text[] AS patients
FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS asked (registration, jti, organisation, place)
LEFT JOIN fhirgw.registration r ON r.id = asked.registration ORDER BY place
"""

# Whether all of that is as it was: one row's worth, beside whatever is asked in the same statement.
HOLDS = f"""EXISTS (
    SELECT FROM fhirgw.registration r
    WHERE r.id = :asker_registration AND {VERSION} = :asker_version
      AND ({VALID.format(":asker_jti", "r.id")}) AND ({AGREED}) = :asker_agreed
      AND ARRAY({ORGANISATIONS.format(":asker_organisation")} ORDER BY 1) = :asker_organisations)"""


async def callers(connection: Connection, askers: Sequence[Asker]) -> list[Caller]:
    """What is known about each who asks, where their tokens name no person; in one round trip."""
    asked = [(each.registration, each.jti, _token(ODS_CODE, each.organisation)) for each in askers]
    rows = await connection.fetch(CALLERS, *zip(*asked, strict=True))
    found = zip(askers, asked, rows, strict=True)
    return [_found(asker, row)._replace(standing=_standing(about, row)) for asker, about, row in found]


def _standing(asked: tuple[str | None, str | None, int | None], row: Mapping[str, Any]) -> Standing | None:
    registration, jti, organisation = asked
    if registration is None or jti is None or not row["valid"]:
        return None
    return Standing(registration, jti, organisation, row["version"], bool(row["agreed"]), row["organisations"])


def holds() -> ColumnElement[bool]:
    """The condition that a Standing is as it was, by parameters of its names; asked once a statement."""
    types: tuple[TypeEngine[Any], ...] = (Text(), Text(), BigInteger(), Text(), Boolean(), ARRAY(Text))
    told = zip(Standing._fields, types, strict=True)
    named = [bindparam(name, type_=kind, required=False) for name, kind in told]
    return cast("ColumnElement[bool]", text(HOLDS).bindparams(*named))


async def caller(connection: Connection, asker: Asker) -> Caller:
    """What is known about whoever asks, in one round trip."""
    if asker.impersonal:
        return (await callers(connection, [asker]))[0]
    by: tuple[str, Any] = "nhs_number", asker.nhs_number
    if asker.practitioner:
        by = "practitioner", asker.practitioner
    elif asker.sds_user:
        by = "sds_user", _token(SDS_USER, asker.sds_user)
    organisation = _token(ODS_CODE, asker.organisation)
    row = await connection.fetchrow(CALLER[by[0]], asker.registration, asker.jti, organisation, by[1])
    return _found(asker, row)


def _found(asker: Asker, row: Mapping[str, Any]) -> Caller:
    found = _registration(row) if row["id"] is not None else None
    named = asker.organisation or (found.organisation if found else None)
    parties = (
        *((f"{ODS_CODE}|{named}",) if named else ()),
        *row["organisations"],
        *(f"Practitioner/{each}" for each in row["practitioners"]),
        *(each for each in row["teams"] if each and each.startswith("Organization/")),
    )
    return Caller(
        registration=found,
        valid=row["valid"],
        agreed=bool(row["agreed"]),
        parties=tuple(dict.fromkeys(parties)),
        practitioners=tuple(row["practitioners"]),
        patients=tuple(row["patients"]),
    )


async def find(connection: Connection, id: str) -> Registration | None:
    """The registration, active or not."""
    row = await connection.fetchrow(f"SELECT {FOUND} FROM fhirgw.registration r WHERE id = $1", id)
    return _registration(row) if row else None


async def listed(connection: Connection) -> list[Registration]:
    """All registrations, by id."""
    rows = await connection.fetch(f"SELECT {FOUND} FROM fhirgw.registration r ORDER BY id")
    return [_registration(row) for row in rows]


async def add(connection: Connection, new: Registration, *, replace_it: bool = False) -> Registration:
    """Registers an application. Raises FhirError(duplicate) for an id that is taken, unless it is to be replaced."""
    values = asdict(new) | {"jwks": orjson.dumps(new.jwks).decode() if new.jwks else None, "name": new.name or new.id}
    casts = {"jwks": "::text::jsonb", "purposes": "::text[]", "roles": "::text[]"}
    places = ", ".join(f"${at}{casts.get(name, '')}" for at, name in enumerate(KEPT, 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in KEPT)
    taken = f"DO UPDATE SET {changes}, changed = clock_timestamp()" if replace_it else "DO NOTHING"
    row = await connection.fetchrow(
        f"INSERT INTO fhirgw.registration AS r ({', '.join(KEPT)}) VALUES ({places})"
        f" ON CONFLICT (id) {taken} RETURNING {FOUND}",
        *(values[name] for name in KEPT),
    )
    if row is None:
        raise FhirError(Issue("duplicate", f"There is an application {new.id!r} already: rotate or activate that"))
    return _registration(row)


async def activate(connection: Connection, id: str, active: bool) -> bool:
    """Lets an application in, or keeps it out from its next request on. False: there is none of that id.

    What one that is kept out has got is revoked: whoever has a token of it needs another when it is let in again.
    """
    async with connection.transaction():
        status = await connection.execute(
            "UPDATE fhirgw.registration SET active = $2, changed = clock_timestamp() WHERE id = $1", id, active
        )
        if not active:
            await revoke_all(connection, id)
    return bool(status != "UPDATE 0")


async def rekey(connection: Connection, id: str, jwks: dict[str, Any] | None, jwks_url: str | None) -> bool:
    """Other keys for an application. What it got with the old ones is revoked: somebody else may have had them."""
    async with connection.transaction():
        status = await connection.execute(
            "UPDATE fhirgw.registration SET jwks = $2::text::jsonb, jwks_url = $3, changed = clock_timestamp()"
            " WHERE id = $1",
            id,
            orjson.dumps(jwks).decode() if jwks else None,
            jwks_url,
        )
        await revoke_all(connection, id)
    return bool(status != "UPDATE 0")


async def unchanged(connection: Connection, found: Registration) -> bool:
    """Whether a registration is as it was found, and stays so until the transaction ends.

    Otherwise a token could be got with keys that are being replaced, after those who had it were thrown out.
    """
    query = "SELECT active AND changed = $2 FROM fhirgw.registration WHERE id = $1 FOR SHARE"
    return bool(await connection.fetchval(query, found.id, found.changed))


# Skipping what another process sweeps at the same time: two that delete in another order would wait for each other.
SWEEP = """
DELETE FROM fhirgw.{table} WHERE {key} IN (
    SELECT {key} FROM fhirgw.{table} WHERE expires < statement_timestamp() - interval '1 hour'
    LIMIT 100 FOR UPDATE SKIP LOCKED)"""


async def use(connection: Connection, digest: bytes, expires: datetime) -> bool:
    """Uses up an assertion; False for one that was used before. In the transaction that issues the token."""
    await connection.execute(SWEEP.format(table="used_assertion", key="digest"))
    row = await connection.fetchval(
        "INSERT INTO fhirgw.used_assertion (digest, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true",
        digest,
        expires,
    )
    return row is not None


async def issue(connection: Connection, jti: str, registration: str, expires: datetime) -> None:
    """Writes a token down, so that it can be revoked, and forgets what has expired."""
    await connection.execute(SWEEP.format(table="issued_token", key="jti"))
    await connection.execute(
        "INSERT INTO fhirgw.issued_token (jti, registration, expires) VALUES ($1, $2, $3)", jti, registration, expires
    )


async def revoke(connection: Connection, jti: str, registration: str) -> None:
    """The registration's token is none from the next request on."""
    await connection.execute(
        "UPDATE fhirgw.issued_token SET revoked = clock_timestamp()"
        " WHERE jti = $1 AND registration = $2 AND revoked IS NULL",
        jti,
        registration,
    )


async def revoke_all(connection: Connection, registration: str) -> None:
    """None of the registration's tokens is one any more."""
    await connection.execute(
        "UPDATE fhirgw.issued_token SET revoked = clock_timestamp() WHERE registration = $1 AND revoked IS NULL",
        registration,
    )


async def alive(connection: Connection, jti: str, registration: str) -> bool:
    """Whether the token is issued, not revoked and not expired, and its registration active."""
    found = await connection.fetchval(
        "SELECT true FROM fhirgw.issued_token t JOIN fhirgw.registration r ON r.id = t.registration AND r.active"
        " WHERE t.jti = $1 AND t.registration = $2 AND t.revoked IS NULL AND t.expires > statement_timestamp()",
        jti,
        registration,
    )
    return found is not None


async def opened_glass(connection: Connection, grant: str, practitioners: Sequence[str]) -> tuple[str, str] | None:
    """The person and the practitioner of a break-glass grant that is in force and one of these practitioners'."""
    row = await connection.fetchrow(
        "SELECT person, practitioner FROM fhirgw.break_glass"
        " WHERE id = $1 AND practitioner = ANY ($2) AND expires > statement_timestamp()",
        grant,
        list(practitioners),
    )
    return (row["person"], row["practitioner"]) if row else None


def _registration(row: Any) -> Registration:
    values = {name: row[name] for name in NAMES}
    values["jwks"] = orjson.loads(values["jwks"]) if values["jwks"] else None
    values["purposes"], values["roles"] = tuple(values["purposes"]), tuple(values["roles"])
    return Registration(**values)


def _token(system: str, value: str | None) -> int | None:
    return token(f"identifier|{system}|{value}") if value else None
