"""Visits lead to the line of the package that they are of and to who made them, and say what came of them.

`line` is the id of the ServiceRequest that a visit's order names, an empty text where none of the person's is called so
yet, NULL where no order is named; `organisation` the Organization of the care provider, `derived` what follows of the
times (fhirgw.visits.outcome.derived), by the tolerances of when it was written. All three stand in the row, so that a
body depends on its row alone, as before. `again` counts how often a visit was moved to another record, or to another
line, without anything new being said: with what was said it makes the version, so no two states have one.

What a visit is rendered as is amended where 0022 has it: the text there, with what is new in its place.
"""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from alembic import op

revision = "0038"
down_revision = "0036"
branch_labels = None
depends_on = None


def _migration(name: str) -> Any:
    """A migration of before, whose text this one amends."""
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


READ, ALLOTMENT = _migration("0022_visit_read"), _migration("0029_visit_allotment")
OURS, IDS, ODS, PURE = READ.OURS, READ.IDS, READ.ODS, READ.PURE
SNOMED, UCUM = "http://snomed.info/sct", "http://unitsofmeasure.org"
AT_ONCE = 1000
"""Visits that one statement of the council's finds a home for: the others are left to the sweep."""
SWEPT = 5000

COLUMNS = (
    'ALTER TABLE fhirgw.visit ADD COLUMN line text COLLATE "C", ADD COLUMN organisation text COLLATE "C",'
    ' ADD COLUMN derived text COLLATE "C", ADD COLUMN again int',
    'ALTER TABLE fhirgw.visit_past ADD COLUMN line text COLLATE "C", ADD COLUMN organisation text COLLATE "C",'
    ' ADD COLUMN derived text COLLATE "C"',
    # A line has hundreds of visits, so an entry of the index is a few bytes.
    "CREATE INDEX visit_by_line ON fhirgw.visit (line) WHERE line <> ''",
    "CREATE INDEX visit_lineless ON fhirgw.visit (patient) WHERE line = ''",
    # Whom a care provider is expected at next (fhirgw.store.watch): else all that it has made since are passed over.
    "CREATE INDEX visit_unbegun ON fhirgw.visit (provider, start) WHERE began IS NULL AND outcome IS NULL",
)

NEW = (
    f"""
CREATE FUNCTION fhirgw.visit_based(line text, parts jsonb) RETURNS json {PURE} AS $$
BEGIN RETURN CASE WHEN parts -> 'line' ->> 'order' IS NOT NULL THEN json_build_array(json_build_object(
    'reference', 'ServiceRequest/' || nullif(line, ''), 'type', 'ServiceRequest',
    'identifier', json_build_object('system', '{IDS}/order', 'value', parts -> 'line' ->> 'order'))) END;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_made_by(organisation text, provider text) RETURNS json {PURE} AS $$
BEGIN RETURN json_build_object('reference', 'Organization/' || organisation, 'type', 'Organization',
    'identifier', json_build_object('system', '{ODS}', 'value', provider));
END $$""",
    # Whole minutes, as people count them (fhirgw.visits.outcome).
    f"""
CREATE FUNCTION fhirgw.visit_minutes(since text, until text) RETURNS bigint {PURE} AS $$
BEGIN RETURN trunc(extract(epoch FROM until::timestamptz - since::timestamptz)::float8 / 60)::bigint; END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_derived(parts jsonb, period json, derived text) RETURNS json {PURE} AS $$
DECLARE words text[] := string_to_array(derived, ' ');
    late bigint := fhirgw.visit_minutes(parts -> 'planned' ->> 'start', period ->> 'start'); BEGIN
RETURN CASE WHEN derived IS NOT NULL THEN json_build_object(
    'url', '{OURS}/StructureDefinition/ext-visit-derived',
    'extension', array_to_json(array_remove(ARRAY[
        jsonb_build_object('url', 'outcome', 'valueCodeableConcept', fhirgw.visit_concept(
            CASE WHEN starts_with(words[1], 'delivered-') THEN 'visit-derived' ELSE 'visit-outcome' END, words[1]))]
        || ARRAY (SELECT jsonb_build_object(
            'url', 'exception', 'valueCodeableConcept', fhirgw.visit_concept('visit-derived', word))
            FROM unnest(words[2:]) WITH ORDINALITY AS w (word, n) ORDER BY n)
        || ARRAY[CASE WHEN late IS NOT NULL THEN jsonb_build_object('url', 'late', 'valueInteger', late) END,
        jsonb_build_object('url', 'minutes', 'valueUnsignedInt',
            fhirgw.visit_minutes(period ->> 'start', period ->> 'end'))], NULL))) END;
END $$""",
    # By which codes a visit's readings and medicines are found: most visits have none, and are not in the index.
    f"""
CREATE FUNCTION fhirgw.visit_coded(parts text) RETURNS bigint[] {PURE} COST 1000 AS $$
DECLARE p jsonb := parts; found bigint[]; BEGIN
    SELECT array_agg(DISTINCT fhirgw.token(each)) INTO found FROM (
        SELECT fhirgw.visit_codes(name, coalesce(e ->> 'system', '{SNOMED}'), e ->> 'code') AS texts
        FROM jsonb_path_query(p, '$.observations[*]') AS e, unnest(ARRAY['code', 'combo-code']) AS name
        UNION ALL
        SELECT fhirgw.visit_codes('code', '{READ.DMD}', e ->> 'dmd') FROM jsonb_path_query(p, '$.medication[*]') AS e
    ) AS said, unnest(said.texts) AS each;
    RETURN coalesce(found, '{{}}');
END $$""",
    "CREATE INDEX visit_coded ON fhirgw.visit USING gin (fhirgw.visit_coded(parts))"
    " WHERE strpos(parts, '\"observations') > 0 OR strpos(parts, '\"medication') > 0",
    # The lines of people's packages that care providers perform and visits call so, for all visits of a batch at once.
    # What is withheld from anybody is withheld from visits. `parties` are those of each `code`, apart by what no text
    # has. Lines are found by whose they are, never by their tokens, of which nearly all have the same.
    r"""
CREATE FUNCTION fhirgw.visit_lines(provider text[], person text[], ordered text[], code text[], parties text[])
RETURNS TABLE (of_provider text, of_person text, called text, line text) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH asked AS MATERIALIZED (
        SELECT p, w, o, fhirgw.token('identifier||' || o) AS named FROM unnest(provider, person, ordered) AS a (p, w, o)
    ), performing AS MATERIALIZED (
        SELECT c, ARRAY(SELECT fhirgw.token(CASE WHEN starts_with(party, 'Organization/')
            THEN 'performer|' || party ELSE 'performer:identifier|' || party END)
            FROM unnest(string_to_array(s, E'\x03')) AS party) AS tokens
        FROM unnest(code, parties) AS k (c, s)
    ), held AS MATERIALIZED (
        SELECT r.patient, r.id, r.tokens FROM fhirgw.resource r
        WHERE r.type = 'ServiceRequest' AND r.patient = ANY (person) AND r.labels = 0
            AND fhirgw.token('intent||order') = ANY (r.tokens)
            AND (fhirgw.token('status||active') = ANY (r.tokens) OR fhirgw.token('status||on-hold') = ANY (r.tokens)
                OR fhirgw.token('status||completed') = ANY (r.tokens)))
    SELECT a.p, a.w, a.o, coalesce(min(h.id), '') FROM asked a JOIN performing k ON k.c = a.p
    LEFT JOIN held h ON h.patient = a.w AND (h.id = a.o OR a.named = ANY (h.tokens)) AND h.tokens && k.tokens
    GROUP BY a.p, a.w, a.o
$$""",
    r"""
CREATE FUNCTION fhirgw.visit_lined(ordered text, parties text[], person text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT line FROM fhirgw.visit_lines(
        ARRAY[''], ARRAY[person], ARRAY[ordered], ARRAY[''], ARRAY[array_to_string(parties, E'\x03')])
    WHERE ordered IS NOT NULL AND person IS NOT NULL
$$""",
    """
CREATE FUNCTION fhirgw.visit_relined(sought uuid[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    moved integer;
BEGIN
    WITH held AS MATERIALIZED (
        SELECT v.key, v.provider, v.patient, v.parts::json -> 'line' ->> 'order' AS ordered FROM fhirgw.visit v
        WHERE v.key = ANY (sought) AND v.line = '' ORDER BY v.key FOR UPDATE SKIP LOCKED
    ), known AS MATERIALIZED (
        SELECT provider, fhirgw.visit_parties(provider) AS parties FROM (SELECT DISTINCT provider FROM held) AS p
    ), found AS MATERIALIZED (
        SELECT h.key, fhirgw.visit_lined(h.ordered, k.parties, h.patient) AS line
        FROM held h JOIN known k USING (provider)
    )
    UPDATE fhirgw.visit v SET line = f.line, updated = statement_timestamp(), transaction = pg_current_xact_id()
    FROM found f WHERE v.key = f.key AND f.line <> '';
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN moved;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_line_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM made WHERE type = 'ServiceRequest' AND kind <> 'delete')
        AND EXISTS (SELECT FROM fhirgw.visit WHERE line = '') THEN
        PERFORM fhirgw.visit_relined(ARRAY(
            SELECT v.key FROM (SELECT DISTINCT r.patient FROM made m JOIN fhirgw.resource r USING (type, id)
                WHERE m.type = 'ServiceRequest' AND m.kind <> 'delete' AND r.patient IS NOT NULL) AS whose
            JOIN fhirgw.visit v ON v.patient = whose.patient AND v.line = '' LIMIT {AT_ONCE}));
    END IF;
    RETURN NULL;
END $$""",
    "CREATE TRIGGER visit_line_made AFTER INSERT ON fhirgw.change REFERENCING NEW TABLE AS made"
    " FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.visit_line_made()",
    # Whoever does it, and however: another state of the same words is another version. A visit that comes into its
    # first record has no version there before.
    """
CREATE FUNCTION fhirgw.visit_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.again := coalesce(OLD.again, 0) + 1;
    RETURN NEW;
END $$""",
    "CREATE TRIGGER visit_again BEFORE UPDATE ON fhirgw.visit FOR EACH ROW WHEN (NEW.version = OLD.version"
    " AND (OLD.patient IS NOT NULL OR OLD.again IS NOT NULL)"
    " AND (NEW.patient IS DISTINCT FROM OLD.patient OR NEW.line IS DISTINCT FROM OLD.line))"
    " EXECUTE FUNCTION fhirgw.visit_again()",
)
TRIGGERS = {"change": "visit_line_made", "visit": "visit_again"}
JOINING = "fhirgw.visit_superseded()"
"""Planned once for a session, and first for a batch that amends nothing: for none a loop over all pairs is cheapest,
and it stays, at a cost that grows with the square of what a batch amends: 3,000 took 19.9 seconds instead of 0.7."""
MADE = (
    *("visit_line_made()", "visit_again()", "visit_relined(uuid[])", "visit_lined(text, text[], text)"),
    "visit_lines(text[], text[], text[], text[], text[])",
    *("visit_derived(jsonb, json, text)", "visit_minutes(text, text)", "visit_made_by(text, text)"),
    "visit_based(text, jsonb)",
)

BESIDE = "line text, organisation text, derived text"
BASED = f"""CASE WHEN p -> 'line' ->> 'order' IS NOT NULL
            THEN json_build_array(fhirgw.visit_named('ServiceRequest', '{IDS}/order', p -> 'line' ->> 'order')) END"""
MAKER = f"fhirgw.visit_named('Organization', '{ODS}', provider)"
AMENDED: dict[str, tuple[tuple[str, str], ...]] = {
    "visit_extensions(": (
        ("here boolean, planned boolean)", "here boolean, planned boolean, derived json DEFAULT NULL)"),
        (
            "    RETURN CASE WHEN cardinality(found)",
            "    IF derived IS NOT NULL THEN found := found || derived; END IF;\n"
            "    RETURN CASE WHEN cardinality(found)",
        ),
    ),
    "visit_appointment_body(": ((BASED, "fhirgw.visit_based(line, p)"),),
    "visit_encounter_body(": (
        (BASED, "fhirgw.visit_based(line, p)"),
        (MAKER, "fhirgw.visit_made_by(organisation, provider)"),
        (
            "fhirgw.visit_extensions(p, provider, true, false)",
            "fhirgw.visit_extensions(p, provider, true, false, fhirgw.visit_derived(p, period, derived))",
        ),
    ),
    "visit_task_body(": (
        (BASED, "fhirgw.visit_based(line, p)"),
        (MAKER, "fhirgw.visit_made_by(organisation, provider)"),
    ),
    "visit_medicationadministration_body(": (),
    "visit_observation_body(": (
        (
            "'code', json_build_object('text', e ->> 'name')",
            "'code', json_build_object('coding', CASE WHEN e ->> 'code' IS NOT NULL THEN json_build_array("
            f"json_build_object('system', coalesce(e ->> 'system', '{SNOMED}'), 'code', e ->> 'code')) END,"
            " 'text', e ->> 'name')",
        ),
        (
            "'unit', e ->> 'unit')",
            "'unit', e ->> 'unit', 'system', CASE WHEN e ->> 'unitCode' IS NOT NULL"
            f" THEN coalesce(e ->> 'unitSystem', '{UCUM}') END, 'code', e ->> 'unitCode')",
        ),
    ),
    "visit_refers(": (
        (
            "said text := coalesce('|' || (r ->> 'reference'),\n    ':identifier|'",
            "said text; BEGIN\n    FOREACH said IN ARRAY array_remove(ARRAY['|' || (r ->> 'reference'), ':identifier|'",
        ),
        (
            "(r -> 'identifier' ->> 'value')); BEGIN\n    IF said IS NOT NULL THEN",
            "(r -> 'identifier' ->> 'value')], NULL) LOOP",
        ),
        ("    END IF;\n    RETURN", "    END LOOP;\n    RETURN"),
    ),
    "visit_tokens(": (
        (
            "    WHEN 'Observation' THEN\n",
            "    WHEN 'Observation' THEN\n        e := b -> 'code' -> 'coding' -> 0;\n"
            "        t := t || fhirgw.visit_codes('code', e ->> 'system', e ->> 'code')\n"
            "            || fhirgw.visit_codes('combo-code', e ->> 'system', e ->> 'code');\n",
        ),
    ),
}
"""By the function of 0022, what is put in place of what; the bodies are handed the new columns besides."""

# Of numbers, as they are kept beside what is stored.
NUMBERS = (
    "'unit', e.e ->> 'unit', ",
    f"""'unit', e.e ->> 'unit', 'code', e.e ->> 'unitCode', 'system',
        CASE WHEN e.e ->> 'unitCode' IS NOT NULL THEN coalesce(e.e ->> 'unitSystem', '{UCUM}') END, """,
)
CODED = ("'Observation'::text", "'MedicationAdministration'::text")
VERSION = "({0}.version + coalesce({0}.again, 0))"

ALLOT = (
    (
        "SELECT h.key, CASE\n",
        "SELECT h.key, h.provider, h.parts::json -> 'line' ->> 'order' AS ordered, CASE\n",
    ),
    ("GROUP BY h.key, h.patient\n", "GROUP BY h.key, h.provider, h.parts, h.patient\n"),
    (
        "SET patient = c.patient,",
        "SET patient = c.patient, line = fhirgw.visit_lined(c.ordered, k.parties, c.patient),",
    ),
    ("FROM chosen c WHERE", "FROM chosen c JOIN known k USING (provider) WHERE"),
)
NUMBERED = (("USING (system, value)));", f"USING (system, value) LIMIT {AT_ONCE}));"),)
TIED = (("w.value = whom.person));", f"w.value = whom.person LIMIT {AT_ONCE}));"),)
# A push that began before a Patient was deleted may end after it: their record is looked through once more.
GONE = (
    """
CREATE TABLE fhirgw.visit_parting (
    patient text COLLATE "C" PRIMARY KEY,
    moment timestamptz NOT NULL
)""",
    """
CREATE OR REPLACE FUNCTION fhirgw.visit_person_gone() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    persons text[];
BEGIN
    IF EXISTS (SELECT FROM made WHERE type = 'Patient' AND kind = 'delete') THEN
        persons := ARRAY(SELECT DISTINCT id FROM made WHERE type = 'Patient' AND kind = 'delete');
        PERFORM fhirgw.visit_leave(persons);
        INSERT INTO fhirgw.visit_parting (patient, moment) SELECT unnest(persons), statement_timestamp()
        ON CONFLICT (patient) DO UPDATE SET moment = excluded.moment;
    END IF;
    RETURN NULL;
END $$""",
)
SWEEP = (
    (
        "BEGIN\n    IF NOT EXISTS (SELECT FROM fhirgw.visit_waiting) THEN RETURN 0; END IF;\n    RETURN fhirgw",
        f"""DECLARE
    moved integer := 0;
BEGIN
    IF EXISTS (SELECT FROM fhirgw.visit_parting) THEN
        moved := fhirgw.visit_leave(ARRAY(
            SELECT p.patient FROM fhirgw.visit_parting p
            WHERE EXISTS (SELECT FROM fhirgw.visit v WHERE v.patient = p.patient)
                AND NOT EXISTS (SELECT FROM fhirgw.resource r WHERE r.type = 'Patient' AND r.id = p.patient)));
        DELETE FROM fhirgw.visit_parting WHERE moment < statement_timestamp() - interval '1 hour';
    END IF;
    moved := moved + fhirgw.visit_relined(ARRAY(
        WITH lineless AS MATERIALIZED (
            SELECT v.key, v.provider, v.patient, v.parts::json -> 'line' ->> 'order' AS ordered FROM fhirgw.visit v
            WHERE v.line = '' AND v.patient IS NOT NULL
        ), known AS MATERIALIZED (
            SELECT array_agg(provider) AS code,
                array_agg(array_to_string(fhirgw.visit_parties(provider), E'\\x03')) AS parties
            FROM (SELECT DISTINCT provider FROM lineless) AS p
        ), named AS MATERIALIZED (
            SELECT array_agg(provider) AS provider, array_agg(patient) AS person, array_agg(ordered) AS ordered
            FROM (SELECT DISTINCT provider, patient, ordered FROM lineless WHERE ordered IS NOT NULL) AS n
        ), lines AS MATERIALIZED (
            SELECT f.* FROM named n, known k,
                fhirgw.visit_lines(n.provider, n.person, n.ordered, k.code, k.parties) AS f WHERE f.line <> '')
        SELECT l.key FROM lineless l JOIN lines f
            ON f.of_provider = l.provider AND f.of_person = l.patient AND f.called = l.ordered LIMIT {SWEPT}));
    IF NOT EXISTS (SELECT FROM fhirgw.visit_waiting) THEN RETURN moved; END IF;
    RETURN moved + fhirgw""",
    ),
    (
        "SELECT DISTINCT l.key FROM led l JOIN known k USING (provider) WHERE fhirgw.tied(",
        "SELECT key FROM (SELECT DISTINCT l.key FROM led l JOIN known k USING (provider) WHERE fhirgw.tied(",
    ),
    ("statement_timestamp())));", f"statement_timestamp())) AS found ORDER BY random() LIMIT {SWEPT}));"),
)

OLD, NEWER = VERSION.format("o"), VERSION.format("n")
PAST = (
    ("parts, gone)", "parts, line, organisation, derived, gone)"),
    ("o.controller, o.parts,", "o.controller, o.parts, o.line, o.organisation, o.derived,"),
)
SUPERSEDED = (
    *PAST,
    ("o.version, greatest(n.version, o.version + 1)", f"{OLD}, greatest({NEWER}, {OLD} + 1)"),
    ("n.version <> o.version OR", f"{NEWER} <> {OLD} OR"),
)
REMOVED = (*PAST, ("o.version, o.version + 1", f"{OLD}, {OLD} + 1"))


def amended(text: str, *changes: tuple[str, str]) -> str:
    """The text with each of these in its place. Raises ValueError where there is not just one such place."""
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{text.count(old)} times there: {old}")
        text = text.replace(old, new)
    return text


def _function(name: str) -> str:
    """A function of 0022, by how it begins."""
    (found,) = (each for each in READ.FUNCTIONS if f"FUNCTION fhirgw.{name}" in each)
    return str(found)


def _replacing(text: str) -> str:
    return text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


def _views(*, drop: bool = False) -> list[str]:
    """The views as they are now: with the new columns handed on, and the version of visits with their moves."""
    if drop:
        return [f"DROP VIEW fhirgw.past_{each.lower()}, fhirgw.visit_{each.lower()}" for each in READ.PROFILES]
    made = []
    for text in READ._views():
        text = re.sub(r"v\.parts, (0|e\.n::int)\)", r"v.parts, \1, v.line, v.organisation, v.derived)", text)
        text = text.replace(*NUMBERS)
        coded = "fhirgw.visit_coded(v.parts)" if any(each in text for each in CODED) else "NULL::bigint[]"
        text = text.replace("AS visit, v.key", f"AS visit, v.key, v.line, {coded} AS coded")
        made.append(text.replace("v.version", VERSION.format("v")) if "fhirgw.visit v" in text else text)
    return made


def _bodies() -> list[str]:
    return [f"fhirgw.visit_{each.lower()}_body" for each in READ.PROFILES]


def upgrade() -> None:
    """Makes the columns, what fills them, and what renders them."""
    connection = op.get_bind()
    op.execute("SET LOCAL fhirgw.writing = 'on'")
    taken = [*_views(drop=True), f"DROP FUNCTION {', '.join(_bodies())}"]
    taken += ["DROP FUNCTION fhirgw.visit_extensions(jsonb, text, boolean, boolean)"]
    made = []
    for name, changes in AMENDED.items():
        wider = ((("parts text, entry int\n"), f"parts text, entry int, {BESIDE}\n"),) if "_body(" in name else ()
        made.append(_replacing(amended(_function(name), *wider, *changes)))
    superseded, _, removed, _ = READ.TRIGGERS
    allotment = [amended(ALLOTMENT.ALLOT, *ALLOT), amended(ALLOTMENT.SWEEP, *SWEEP)]
    number_made, tie_made = ALLOTMENT.APPEARS[:2]
    allotment += [amended(number_made, *NUMBERED), amended(tie_made, *TIED)]
    past = [amended(superseded, *SUPERSEDED), amended(removed, *REMOVED)]
    for statement in (*COLUMNS, *taken, *NEW, *made, *_views(), *map(_replacing, (*past, *allotment)), *GONE):
        connection.exec_driver_sql(statement)  # as it stands: `:identifier` is no parameter
    op.execute(f"ALTER FUNCTION {JOINING} SET enable_nestloop = off")
    op.execute("ALTER TABLE fhirgw.visit_parting ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    for name, what in ALLOTMENT.POLICIES:
        op.execute(f"CREATE POLICY {name} ON fhirgw.visit_parting {what}")


def downgrade() -> None:
    """Visits name their lines and who made them, and lead to neither."""
    connection = op.get_bind()
    for table, name in TRIGGERS.items():
        op.execute(f"DROP TRIGGER {name} ON fhirgw.{table}")
    taken = [*_views(drop=True), f"DROP FUNCTION {', '.join(_bodies())}"]
    taken += ["DROP FUNCTION fhirgw.visit_extensions(jsonb, text, boolean, boolean, json)"]
    before = [_function(name) for name in AMENDED]
    superseded, _, removed, _ = READ.TRIGGERS
    *appears, gone = ALLOTMENT.APPEARS[:4]
    before += [superseded, removed, ALLOTMENT.ALLOT, ALLOTMENT.SWEEP, *appears, gone]
    for statement in (*taken, *map(_replacing, before), *READ._views()):
        connection.exec_driver_sql(statement)
    op.execute(f"ALTER FUNCTION {JOINING} RESET enable_nestloop")
    for function in MADE:
        op.execute(f"DROP FUNCTION fhirgw.{function}")
    op.execute("DROP TABLE fhirgw.visit_parting")
    op.execute("DROP INDEX fhirgw.visit_by_line, fhirgw.visit_lineless, fhirgw.visit_unbegun, fhirgw.visit_coded")
    op.execute("DROP FUNCTION fhirgw.visit_coded(text)")
    op.execute("ALTER TABLE fhirgw.visit_past DROP COLUMN line, DROP COLUMN organisation, DROP COLUMN derived")
    op.execute(
        "ALTER TABLE fhirgw.visit DROP COLUMN line, DROP COLUMN organisation, DROP COLUMN derived, DROP COLUMN again"
    )
