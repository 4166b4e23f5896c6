"""Homecare visits as FHIR resources, made of their own rows when they are read.

A row of `visit` is an Appointment (what was planned), an Encounter (who came; none where nobody did), and Tasks,
MedicationAdministrations and Observations, an entry each. Nothing of that is stored: `visit_<type>` has the columns of
`resource`, `past_<type>` those of `history`, so that what reads resources reads visits, under the same condition.

A body depends on its row alone, never on what time it is: what nobody has written has no new version, so that body,
ETag, search and export agree, and a copy taken yesterday is not wrong today. A visit whose time has passed and of
which nothing is said is `booked` therefore; `noshow` is one of which its care provider says that nobody came. That it
is overdue, or was late or short, follows from tolerances that a council may change: it is for alerts and the ledger
(fhirgw.visits.outcome), and in no resource.

Long, because five types are rendered, element by element.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

OURS = "https://fhirgw.uk/fhir"
IDS = "https://fhirgw.uk/Id"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
HL7 = "http://terminology.hl7.org/CodeSystem"
DMD = "https://dmd.nhs.uk"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

PROFILES = {
    "Appointment": "visit-planned",
    "Encounter": "visit",
    "Task": "visit-task",
    "MedicationAdministration": "visit-medication",
    "Observation": "visit-observation",
}

PURE = "LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE"
"""IMMUTABLE though they read times: every time in a visit has its offset."""

ID = "fhirgw.visit_id({0}.patient, {0}.key)"
"""A visit's id: its key, with the digits of placement of whose it is (fhirgw.visits.batch.placed)."""

FUNCTIONS = (
    # Inlined, so that it costs nothing and an index answers it.
    """
CREATE FUNCTION fhirgw.visit_id(patient text, key uuid) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(patient, 3) || substr(key::text, 4) COLLATE "C"
$$""",
    """
CREATE FUNCTION fhirgw.visits_of(ids text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(left(id, 36) COLLATE "C"), '{}') FROM unnest(ids) AS id
$$""",
    f"""
CREATE FUNCTION fhirgw.visit_types() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT '{{{",".join(PROFILES)}}}'::text[] $$""",
    # An entry that was said by itself stands at its own place: `tasks/T1` (fhirgw.visits.merge.parts).
    f"""
CREATE FUNCTION fhirgw.visit_list(parts jsonb, list text, named text) RETURNS jsonb {PURE} COST 100 AS $$
DECLARE whole jsonb := parts -> list; found jsonb; BEGIN
    IF jsonb_typeof(whole) = 'null' THEN whole := NULL; END IF;
    IF named = '' OR NOT EXISTS (SELECT FROM jsonb_object_keys(parts) AS k WHERE starts_with(k, list || '/')) THEN
        RETURN CASE WHEN jsonb_array_length(whole) > 0 THEN whole END;
    END IF;
    SELECT jsonb_agg(e ORDER BY n, k) INTO found FROM (
        SELECT coalesce(s.value, b.e) AS e, b.n, '' AS k
            FROM jsonb_array_elements(whole) WITH ORDINALITY AS b (e, n)
            LEFT JOIN jsonb_each(parts) AS s ON s.key = list || '/' || (b.e ->> named)
        UNION ALL SELECT s.value, 1000, s.key COLLATE "C" FROM jsonb_each(parts) AS s
            WHERE starts_with(s.key, list || '/') AND NOT EXISTS (
                SELECT FROM jsonb_array_elements(whole) AS b (e) WHERE list || '/' || (b.e ->> named) = s.key)
    ) AS every;
    RETURN found;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_head(kind text, id text, version int, updated timestamptz) RETURNS json {PURE} AS $$
BEGIN RETURN json_build_object(
    'versionId', version::text,
    'lastUpdated', to_char(updated AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'profile', json_build_array('{OURS}/StructureDefinition/' || CASE kind
        {" ".join(f"WHEN '{kind}' THEN '{name}'" for kind, name in PROFILES.items())} END));
END $$""",
    # Whom only an identifier names: carers are nobody's Practitioners here, and lines need not be here yet.
    f"""
CREATE FUNCTION fhirgw.visit_named(kind text, system text, value text) RETURNS json {PURE} AS $$
BEGIN RETURN CASE WHEN value IS NOT NULL THEN json_build_object(
    'type', kind, 'identifier', json_build_object('system', system, 'value', value)) END;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_carer(provider text, carer text) RETURNS json {PURE} AS $$
BEGIN RETURN fhirgw.visit_named('Practitioner', '{IDS}/' || provider || '/carer', carer); END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_concept(list text, code text, told text DEFAULT NULL) RETURNS json {PURE} AS $$
BEGIN RETURN CASE WHEN code IS NOT NULL THEN json_build_object(
    'coding', json_build_array(json_build_object('system', '{OURS}/CodeSystem/' || list, 'code', code)),
    'text', told) END;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_coded(name text, list text, code text, told text DEFAULT NULL) RETURNS json {PURE} AS $$
BEGIN RETURN CASE WHEN code IS NOT NULL THEN json_build_object(
    'url', '{OURS}/StructureDefinition/ext-' || name,
    'valueCodeableConcept', fhirgw.visit_concept(list, code, told)) END;
END $$""",
    # What is said of the visit itself stands in the Encounter, where there is one (`here`), else in the Appointment;
    # what came of it in both.
    f"""
CREATE FUNCTION fhirgw.visit_extensions(parts jsonb, provider text, here boolean, planned boolean)
RETURNS json {PURE} AS $$
DECLARE came jsonb := parts -> 'outcome'; claimed jsonb := parts -> 'claimed'; amended jsonb := parts -> 'amended';
    at text := '{OURS}/StructureDefinition/ext-visit-'; n jsonb; found json[] := '{{}}'; BEGIN
    IF came ->> 'code' IS NOT NULL THEN
        found := found || fhirgw.visit_coded('visit-outcome', 'visit-outcome', came ->> 'code', came ->> 'reason');
    END IF;
    IF planned AND parts -> 'planned' ? 'timeCritical' THEN
        found := found || json_build_object('url', at || 'time-critical',
            'valueBoolean', parts -> 'planned' -> 'timeCritical');
    END IF;
    IF here AND claimed ->> 'start' IS NOT NULL THEN
        found := found || json_build_object('url', at || 'claimed', 'extension', json_build_array(
            json_build_object('url', 'start', 'valueDateTime', claimed ->> 'start'),
            json_build_object('url', 'minutes', 'valueUnsignedInt', claimed -> 'minutes')));
    END IF;
    IF here AND amended ->> 'by' IS NOT NULL THEN
        found := found || json_build_object('url', at || 'amended', 'extension', array_to_json(array_remove(ARRAY[
            jsonb_build_object('url', 'by', 'valueString', amended ->> 'by'),
            jsonb_build_object('url', 'reason', 'valueString', amended ->> 'reason'),
            CASE WHEN amended ->> 'at' IS NOT NULL
                THEN jsonb_build_object('url', 'at', 'valueDateTime', amended ->> 'at') END], NULL)));
    END IF;
    IF here AND jsonb_typeof(parts -> 'notes') = 'array' THEN
        FOR n IN SELECT e FROM jsonb_array_elements(parts -> 'notes') AS e LOOP
            found := found || json_build_object('url', at || 'note', 'valueAnnotation', json_build_object(
                'authorReference', fhirgw.visit_carer(provider, n ->> 'carer'),
                'time', n ->> 'at', 'text', n ->> 'text'));
        END LOOP;
    END IF;
    RETURN CASE WHEN cardinality(found) > 0 THEN array_to_json(found) END;
END $$""",
    # When something happened that does not say when: during the visit, as it was made or else planned.
    f"""
CREATE FUNCTION fhirgw.visit_period(carers jsonb) RETURNS json {PURE} AS $$
DECLARE first text; last text; open boolean; BEGIN
    IF jsonb_array_length(carers) = 1 THEN
        first := carers -> 0 ->> 'start'; last := carers -> 0 ->> 'end';
    ELSIF carers IS NOT NULL THEN
        SELECT (array_agg(c ->> 'start' ORDER BY (c ->> 'start')::timestamptz))[1],
            (array_agg(c ->> 'end' ORDER BY (c ->> 'end')::timestamptz DESC NULLS LAST))[1],
            bool_or(c ->> 'end' IS NULL)
            INTO first, last, open FROM jsonb_array_elements(carers) AS c WHERE c ->> 'start' IS NOT NULL;
        last := CASE WHEN NOT open THEN last END;
    END IF;
    RETURN CASE WHEN first IS NOT NULL THEN json_build_object('start', first, 'end', last) END;
END $$""",
    # Who is to come: those rostered, those named who have not arrived, and so many more as are needed. Who came is in
    # the Encounter, and there alone: the plan is not made of what was done.
    f"""
CREATE FUNCTION fhirgw.visit_appointment_body(
    id text, version int, updated timestamptz, patient text, provider text, visit text, parts text, entry int
) RETURNS text {PURE} COST 3000 AS $$
DECLARE p jsonb := parts; planned jsonb := p -> 'planned'; came text := p -> 'outcome' ->> 'code';
    carers jsonb := fhirgw.visit_list(p, 'carers', 'carer'); period json := fhirgw.visit_period(carers);
    names text[] := ARRAY (SELECT jsonb_array_elements_text(planned -> 'rostered')); c text; needed int; status text;
    participants json[] := ARRAY[json_build_object(
        'actor', json_build_object('reference', 'Patient/' || patient),
        'status', CASE WHEN starts_with(came, 'cancelled-by-person') THEN 'declined' ELSE 'accepted' END)]; BEGIN
    FOR c IN SELECT e ->> 'carer' FROM jsonb_array_elements(carers) AS e WHERE NOT e ? 'start' LOOP
        IF NOT c = ANY (names) THEN names := names || c; END IF;
    END LOOP;
    needed := coalesce((planned ->> 'carers')::int, least(1, cardinality(names)));
    FOR i IN 1..greatest(needed, cardinality(names)) LOOP
        participants := participants || json_build_object(
            'type', json_build_array(json_build_object('coding', json_build_array(
                json_build_object('system', '{HL7}/v3-ParticipationType', 'code', 'PPRF')))),
            'actor', fhirgw.visit_carer(provider, names[i]),
            'required', CASE WHEN i <= needed THEN 'required' ELSE 'optional' END, 'status', 'accepted');
    END LOOP;
    status := CASE
        WHEN came = 'entered-in-error' THEN came
        WHEN came IN ('missed-by-provider', 'no-reply') THEN 'noshow'
        WHEN period IS NOT NULL THEN CASE WHEN period ->> 'end' IS NULL THEN 'arrived' ELSE 'fulfilled' END
        WHEN starts_with(came, 'cancelled-') OR came IN ('hospital', 'respite', 'deceased', 'not-required')
            THEN 'cancelled'
        WHEN came IN ('delivered', 'partially-delivered', 'refused-by-person') THEN 'fulfilled'
        ELSE 'booked' END;
    RETURN json_strip_nulls(json_build_object(
        'resourceType', 'Appointment', 'id', id,
        'meta', fhirgw.visit_head('Appointment', id, version, updated),
        'extension', fhirgw.visit_extensions(p, provider, period IS NULL, true),
        'identifier', json_build_array(json_build_object('system', '{IDS}/visit', 'value', provider || '.' || visit)),
        'status', status,
        'cancelationReason', CASE WHEN status = 'cancelled' THEN json_build_object(
            'coding', json_build_array(json_build_object(
                'system', '{HL7}/appointment-cancellation-reason', 'code', CASE
                    WHEN came = 'cancelled-by-provider' THEN 'prov' WHEN came = 'deceased' THEN 'pat-dec'
                    WHEN came = 'not-required' THEN 'other' ELSE 'pat' END)),
            'text', p -> 'outcome' ->> 'reason') END,
        'serviceType', CASE WHEN planned ->> 'type' IS NOT NULL
            THEN json_build_array(json_build_object('text', planned ->> 'type')) END,
        'start', planned ->> 'start', 'end', planned ->> 'end',
        'basedOn', CASE WHEN p -> 'line' ->> 'order' IS NOT NULL
            THEN json_build_array(fhirgw.visit_named('ServiceRequest', '{IDS}/order', p -> 'line' ->> 'order')) END,
        'participant', array_to_json(participants)
    ))::text;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_verified(part text, method text) RETURNS jsonb {PURE} AS $$
BEGIN RETURN CASE WHEN method IS NOT NULL THEN jsonb_build_object(
    'url', part, 'valueCodeableConcept', fhirgw.visit_concept('visit-verification', method)) END;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_participant(provider text, c jsonb) RETURNS json {PURE} AS $$
BEGIN RETURN json_build_object(
    'extension', CASE WHEN c ?| '{{method,endMethod,distance,exception}}' THEN json_build_array(json_build_object(
        'url', '{OURS}/StructureDefinition/ext-visit-verification',
        'extension', array_to_json(array_remove(ARRAY[
            fhirgw.visit_verified('method', c ->> 'method'), fhirgw.visit_verified('endMethod', c ->> 'endMethod'),
            CASE WHEN c ? 'distance' THEN jsonb_build_object(
                'url', 'distance', 'valueUnsignedInt', c -> 'distance') END,
            CASE WHEN c ? 'exception' THEN jsonb_build_object(
                'url', 'exception', 'valueString', c ->> 'exception') END], NULL)))) END,
    'period', CASE WHEN c ? 'start' THEN json_build_object('start', c ->> 'start', 'end', c ->> 'end') END,
    'individual', fhirgw.visit_carer(provider, c ->> 'carer'));
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_encounter_body(
    id text, version int, updated timestamptz, patient text, provider text, visit text, parts text, entry int
) RETURNS text {PURE} COST 3000 AS $$
DECLARE p jsonb := parts; carers jsonb := fhirgw.visit_list(p, 'carers', 'carer');
    came jsonb := p -> 'outcome'; period json := fhirgw.visit_period(carers); participants json[] := '{{}}'; c jsonb;
BEGIN
    FOR c IN SELECT e FROM jsonb_array_elements(carers) AS e WHERE e ? 'start' LOOP
        participants := participants || fhirgw.visit_participant(provider, c);
    END LOOP;
    RETURN json_strip_nulls(json_build_object(
        'resourceType', 'Encounter', 'id', id, 'meta', fhirgw.visit_head('Encounter', id, version, updated),
        'extension', fhirgw.visit_extensions(p, provider, true, false),
        'identifier', json_build_array(json_build_object('system', '{IDS}/visit', 'value', provider || '.' || visit)),
        'status', CASE WHEN p -> 'outcome' ->> 'code' = 'entered-in-error' THEN 'entered-in-error'
            WHEN period ->> 'end' IS NULL THEN 'in-progress' ELSE 'finished' END,
        'class', json_build_object('system', '{HL7}/v3-ActCode', 'code', 'HH', 'display', 'home health'),
        'subject', json_build_object('reference', 'Patient/' || patient),
        'basedOn', CASE WHEN p -> 'line' ->> 'order' IS NOT NULL
            THEN json_build_array(fhirgw.visit_named('ServiceRequest', '{IDS}/order', p -> 'line' ->> 'order')) END,
        'participant', array_to_json(participants),
        'appointment', CASE WHEN p -> 'planned' ->> 'start' IS NOT NULL
            THEN json_build_array(json_build_object('reference', 'Appointment/' || id)) END,
        'period', period,
        'reasonCode', CASE WHEN came ->> 'code' IN ('no-reply', 'refused-by-person') THEN json_build_array(
            fhirgw.visit_concept('visit-outcome', came ->> 'code', came ->> 'reason')) END,
        'serviceProvider', fhirgw.visit_named('Organization', '{ODS}', provider)
    ))::text;
END $$""",
    # Of an entry: `id` begins with the visit's.
    f"""
CREATE FUNCTION fhirgw.visit_task_body(
    id text, version int, updated timestamptz, patient text, provider text, visit text, parts text, entry int
) RETURNS text {PURE} COST 3000 AS $$
DECLARE p jsonb := parts; e jsonb := fhirgw.visit_list(p, 'tasks', 'task') -> (entry - 1);
    made boolean := fhirgw.visit_period(fhirgw.visit_list(p, 'carers', 'carer')) IS NOT NULL;
    planned boolean := p -> 'planned' ->> 'start' IS NOT NULL; BEGIN
    RETURN json_strip_nulls(json_build_object(
        'resourceType', 'Task', 'id', id, 'meta', fhirgw.visit_head('Task', id, version, updated),
        'identifier', json_build_array(
            json_build_object('system', '{IDS}/' || provider || '/task', 'value', e ->> 'task')),
        'basedOn', CASE WHEN p -> 'line' ->> 'order' IS NOT NULL
            THEN json_build_array(fhirgw.visit_named('ServiceRequest', '{IDS}/order', p -> 'line' ->> 'order')) END,
        'status', CASE WHEN p -> 'outcome' ->> 'code' = 'entered-in-error' THEN 'entered-in-error' ELSE
            CASE e ->> 'outcome' WHEN 'completed' THEN 'completed' WHEN 'partially-completed' THEN 'completed'
            WHEN 'not-completed' THEN 'failed' WHEN 'refused' THEN 'rejected'
            WHEN 'not-applicable' THEN 'cancelled' WHEN 'not-required' THEN 'cancelled' ELSE 'requested' END END,
        'statusReason', CASE WHEN e ->> 'reason' IS NOT NULL THEN json_build_object('text', e ->> 'reason') END,
        'businessStatus', fhirgw.visit_concept('visit-task-outcome', e ->> 'outcome'),
        'intent', 'order',
        'code', CASE WHEN e ->> 'text' IS NOT NULL THEN json_build_object('text', e ->> 'text') END,
        'focus', CASE WHEN planned THEN json_build_object('reference', 'Appointment/' || left(id, 36)) END,
        'for', json_build_object('reference', 'Patient/' || patient),
        'encounter', CASE WHEN made THEN json_build_object('reference', 'Encounter/' || left(id, 36)) END,
        'requester', fhirgw.visit_named('Organization', '{ODS}', provider),
        'owner', fhirgw.visit_carer(provider, e ->> 'carer')
    ))::text;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_medicationadministration_body(
    id text, version int, updated timestamptz, patient text, provider text, visit text, parts text, entry int
) RETURNS text {PURE} COST 3000 AS $$
DECLARE p jsonb := parts; e jsonb := p -> 'medication' -> (entry - 1);
    period json := fhirgw.visit_period(fhirgw.visit_list(p, 'carers', 'carer'));
    during json := coalesce(period, CASE WHEN p -> 'planned' ->> 'start' IS NOT NULL
        THEN json_build_object('start', p -> 'planned' ->> 'start', 'end', p -> 'planned' ->> 'end') END); BEGIN
    RETURN json_strip_nulls(json_build_object(
        'resourceType', 'MedicationAdministration', 'id', id,
        'meta', fhirgw.visit_head('MedicationAdministration', id, version, updated),
        'extension', array_to_json(array_remove(ARRAY[
            fhirgw.visit_coded('visit-support', 'visit-support', e ->> 'outcome')::jsonb,
            CASE WHEN e ->> 'timeCritical' IS NOT NULL THEN json_build_object(
                'url', '{OURS}/StructureDefinition/ext-visit-time-critical',
                'valueBoolean', e -> 'timeCritical')::jsonb END], NULL)),
        'status', CASE WHEN p -> 'outcome' ->> 'code' = 'entered-in-error' THEN 'entered-in-error'
            WHEN e ->> 'outcome' IN ('given', 'prompted', 'observed', 'self-administered')
            THEN 'completed' ELSE 'not-done' END,
        'statusReason', CASE WHEN e ->> 'reason' IS NOT NULL
            THEN json_build_array(json_build_object('text', e ->> 'reason')) END,
        'medicationCodeableConcept', json_build_object(
            'coding', CASE WHEN e ->> 'dmd' IS NOT NULL THEN json_build_array(
                json_build_object('system', '{DMD}', 'code', e ->> 'dmd')) END,
            'text', e ->> 'medicine'),
        'subject', json_build_object('reference', 'Patient/' || patient),
        'context', CASE WHEN period IS NOT NULL THEN json_build_object('reference', 'Encounter/' || left(id, 36)) END,
        'supportingInformation', CASE WHEN period IS NULL AND p -> 'planned' ->> 'start' IS NOT NULL
            THEN json_build_array(json_build_object('reference', 'Appointment/' || left(id, 36))) END,
        'effectiveDateTime', e ->> 'at',
        '_effectiveDateTime', CASE WHEN e ->> 'at' IS NULL AND during IS NULL THEN json_build_object(
            'extension', json_build_array(json_build_object('url', '{ABSENT}', 'valueCode', 'unknown'))) END,
        'effectivePeriod', CASE WHEN e ->> 'at' IS NULL THEN during END,
        'performer', CASE WHEN e ->> 'carer' IS NOT NULL
            THEN json_build_array(json_build_object('actor', fhirgw.visit_carer(provider, e ->> 'carer'))) END,
        'dosage', CASE WHEN e ->> 'dose' IS NOT NULL THEN json_build_object(
            'text', e ->> 'dose', 'dose', json_build_object('extension', json_build_array(
                json_build_object('url', '{ABSENT}', 'valueCode', 'as-text')))) END
    ))::text;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_observation_body(
    id text, version int, updated timestamptz, patient text, provider text, visit text, parts text, entry int
) RETURNS text {PURE} COST 3000 AS $$
DECLARE p jsonb := parts; e json := parts::json -> 'observations' -> (entry - 1);
    period json := fhirgw.visit_period(fhirgw.visit_list(p, 'carers', 'carer')); BEGIN
    RETURN json_strip_nulls(json_build_object(
        'resourceType', 'Observation', 'id', id, 'meta', fhirgw.visit_head('Observation', id, version, updated),
        'status', CASE WHEN p -> 'outcome' ->> 'code' = 'entered-in-error' THEN 'entered-in-error' ELSE 'final' END,
        'code', json_build_object('text', e ->> 'name'),
        'subject', json_build_object('reference', 'Patient/' || patient),
        'focus', CASE WHEN period IS NULL AND p -> 'planned' ->> 'start' IS NOT NULL
            THEN json_build_array(json_build_object('reference', 'Appointment/' || left(id, 36))) END,
        'encounter', CASE WHEN period IS NOT NULL THEN json_build_object('reference', 'Encounter/' || left(id, 36)) END,
        'effectiveDateTime', e ->> 'at',
        'effectivePeriod', CASE WHEN e ->> 'at' IS NULL THEN period END,
        'performer', CASE WHEN e ->> 'carer' IS NOT NULL
            THEN json_build_array(fhirgw.visit_carer(provider, e ->> 'carer')) END,
        'valueQuantity', json_build_object('value', e -> 'value', 'unit', e ->> 'unit')
    ))::text;
END $$""",
    # What fhirgw.fhir.index finds in the body: a test holds one against the other.
    f"""
CREATE FUNCTION fhirgw.visit_refers(names text[], r jsonb) RETURNS text[] {PURE} AS $$
DECLARE name text; found text[] := '{{}}'; said text := coalesce('|' || (r ->> 'reference'),
    ':identifier|' || (r -> 'identifier' ->> 'system') || '|' || (r -> 'identifier' ->> 'value')); BEGIN
    IF said IS NOT NULL THEN
        FOREACH name IN ARRAY names LOOP found := found || (name || said); END LOOP;
    END IF;
    RETURN found;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_codes(name text, system text, code text) RETURNS text[] {PURE} AS $$
BEGIN RETURN CASE WHEN code IS NULL THEN '{{}}' ELSE ARRAY[
    name || '|' || system || '|' || code, name || '||' || code, name || '|' || system || '|'] END;
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_tokens(kind text, body text) RETURNS bigint[] {PURE} COST 8000 AS $$
DECLARE b jsonb := body; e jsonb; profile text := b -> 'meta' -> 'profile' ->> 0; found bigint[];
    t text[] := ARRAY['_profile|' || profile, '_profile:below|https://fhirgw.uk', '_profile:below|{OURS}',
        '_profile:below|{OURS}/StructureDefinition', '_profile:below|' || profile, 'status||' || (b ->> 'status')];
BEGIN
    FOR e IN SELECT x FROM jsonb_array_elements(b -> 'identifier') AS x LOOP
        t := t || fhirgw.visit_codes('identifier', e ->> 'system', e ->> 'value');
    END LOOP;
    t := t || fhirgw.visit_refers('{{subject,patient}}', coalesce(b -> 'subject', b -> 'for'))
        || fhirgw.visit_refers('{{encounter}}', b -> 'encounter')
        || fhirgw.visit_refers('{{based-on}}', b -> 'basedOn' -> 0);
    CASE kind
    WHEN 'Appointment' THEN
        FOR e IN SELECT x FROM jsonb_array_elements(b -> 'participant') AS x LOOP
            t := t || ('part-status||' || (e ->> 'status')) || fhirgw.visit_refers(CASE WHEN e -> 'actor' ? 'reference'
                THEN '{{actor,patient}}'::text[] ELSE '{{actor,practitioner}}' END, e -> 'actor');
        END LOOP;
    WHEN 'Encounter' THEN
        t := t || fhirgw.visit_codes('class', b -> 'class' ->> 'system', b -> 'class' ->> 'code')
            || fhirgw.visit_refers('{{service-provider}}', b -> 'serviceProvider')
            || fhirgw.visit_refers('{{appointment}}', b -> 'appointment' -> 0);
        e := b -> 'reasonCode' -> 0 -> 'coding' -> 0;
        t := t || fhirgw.visit_codes('reason-code', e ->> 'system', e ->> 'code');
        FOR e IN SELECT x FROM jsonb_array_elements(b -> 'participant') AS x LOOP
            t := t || fhirgw.visit_refers('{{participant,practitioner}}', e -> 'individual');
        END LOOP;
    WHEN 'Task' THEN
        e := b -> 'businessStatus' -> 'coding' -> 0;
        t := t || ARRAY['intent||order'] || fhirgw.visit_codes('business-status', e ->> 'system', e ->> 'code')
            || fhirgw.visit_refers('{{focus}}', b -> 'focus') || fhirgw.visit_refers('{{owner}}', b -> 'owner')
            || fhirgw.visit_refers('{{requester}}', b -> 'requester');
    WHEN 'MedicationAdministration' THEN
        e := b -> 'medicationCodeableConcept' -> 'coding' -> 0;
        t := t || fhirgw.visit_codes('code', e ->> 'system', e ->> 'code')
            || fhirgw.visit_refers('{{context}}', b -> 'context')
            || fhirgw.visit_refers('{{performer}}', b -> 'performer' -> 0 -> 'actor');
    WHEN 'Observation' THEN
        t := t || fhirgw.visit_refers('{{focus}}', b -> 'focus' -> 0)
            || fhirgw.visit_refers('{{performer}}', b -> 'performer' -> 0);
    END CASE;
    SELECT array_agg(DISTINCT fhirgw.token(x)) INTO found FROM unnest(t) AS x;
    RETURN found;
END $$""",
    # The bits of fhirgw.fhir.parameters, of what a visit may say.
    f"""
CREATE FUNCTION fhirgw.visit_present(kind text, body text) RETURNS bigint {PURE} COST 4000 AS $$
DECLARE found bigint; BEGIN
    SELECT coalesce(sum(DISTINCT 1::bigint << bit), 0) + 1 INTO found
    FROM (SELECT json_object_keys(body::json) UNION ALL SELECT 'actor' WHERE kind = 'Appointment' AND EXISTS (
        SELECT FROM json_array_elements(body::json -> 'participant') AS p
        WHERE p -> 'actor' ->> 'type' = 'Practitioner')) AS given (k) JOIN (VALUES
        ('Appointment', 'participant', 4), ('Appointment', 'participant', 10), ('Appointment', 'participant', 11),
        ('Appointment', 'actor', 12), ('Appointment', 'basedOn', 6), ('Appointment', 'start', 7),
        ('Appointment', 'identifier', 8),
        ('Appointment', 'serviceType', 16), ('Appointment', 'status', 19),
        ('Encounter', 'appointment', 5), ('Encounter', 'basedOn', 6), ('Encounter', 'class', 7),
        ('Encounter', 'period', 8), ('Encounter', 'identifier', 11), ('Encounter', 'participant', 16),
        ('Encounter', 'subject', 18), ('Encounter', 'participant', 19), ('Encounter', 'reasonCode', 20),
        ('Encounter', 'serviceProvider', 22),
        ('Encounter', 'status', 24), ('Encounter', 'subject', 25),
        ('Task', 'basedOn', 5), ('Task', 'requester', 20),
        ('Task', 'businessStatus', 6), ('Task', 'code', 7), ('Task', 'encounter', 8), ('Task', 'focus', 9),
        ('Task', 'identifier', 11), ('Task', 'intent', 12), ('Task', 'owner', 14), ('Task', 'for', 16),
        ('Task', 'status', 21), ('Task', 'for', 22),
        ('MedicationAdministration', 'medicationCodeableConcept', 4), ('MedicationAdministration', 'context', 5),
        ('MedicationAdministration', 'effectiveDateTime', 7), ('MedicationAdministration', 'effectivePeriod', 7),
        ('MedicationAdministration', 'subject', 10), ('MedicationAdministration', 'performer', 11),
        ('MedicationAdministration', 'statusReason', 13), ('MedicationAdministration', 'status', 15),
        ('MedicationAdministration', 'subject', 16),
        ('Observation', 'code', 6), ('Observation', 'valueQuantity', 9), ('Observation', 'code', 11),
        ('Observation', 'valueQuantity', 13), ('Observation', 'valueQuantity', 16),
        ('Observation', 'effectiveDateTime', 24), ('Observation', 'effectivePeriod', 24),
        ('Observation', 'encounter', 27), ('Observation', 'focus', 28), ('Observation', 'subject', 33),
        ('Observation', 'performer', 34), ('Observation', 'status', 36), ('Observation', 'subject', 37),
        ('Observation', 'valueQuantity', 40)
    ) AS known (type, name, bit) ON known.type = kind AND known.name = k;
    RETURN found;
END $$""",
    # What a visit is rendered as: by type, and of an entry what stands behind the visit's id.
    f"""
CREATE FUNCTION fhirgw.visit_made(start timestamptz, began timestamptz, parts text) RETURNS text[] {PURE} AS $$
DECLARE found text[] := array_remove(ARRAY[CASE WHEN start IS NOT NULL THEN 'Appointment' END,
    CASE WHEN began IS NOT NULL THEN 'Encounter' END], NULL); BEGIN
    IF found = '{{}}' THEN RETURN found; END IF;
    RETURN found || ARRAY (
        SELECT 'Task.t' || left(md5(e ->> 'task'), 16)
            FROM jsonb_array_elements(fhirgw.visit_list(parts::jsonb, 'tasks', 'task')) AS e
        UNION ALL SELECT 'MedicationAdministration.m' || n FROM jsonb_array_elements(
            fhirgw.visit_list(parts::jsonb, 'medication', '')) WITH ORDINALITY AS e (e, n)
        UNION ALL SELECT 'Observation.o' || n FROM jsonb_array_elements(
            fhirgw.visit_list(parts::jsonb, 'observations', '')) WITH ORDINALITY AS e (e, n));
END $$""",
)

PAST = """
CREATE TABLE fhirgw.visit_past (
    key uuid NOT NULL,
    version int NOT NULL,
    next int NOT NULL,
    updated timestamptz NOT NULL,
    until timestamptz NOT NULL,
    start timestamptz,
    finish timestamptz,
    began timestamptz,
    ended timestamptz,
    transaction xid8 NOT NULL,
    superseded xid8 NOT NULL DEFAULT pg_current_xact_id(),
    labels smallint NOT NULL,
    provider text COLLATE "C" NOT NULL,
    visit text COLLATE "C" NOT NULL,
    patient text COLLATE "C" NOT NULL,
    controller text COLLATE "C" NOT NULL,
    parts text COLLATE "C" NOT NULL,
    gone text[],
    PRIMARY KEY (key, version)
) WITH (toast_tuple_target = 8160)"""

INDEXES = (
    "ALTER TABLE fhirgw.visit_past ALTER COLUMN parts SET STORAGE EXTERNAL",
    f"CREATE INDEX visit_past_by_id ON fhirgw.visit_past ({ID.format('visit_past')})",
    "CREATE INDEX visit_past_by_patient ON fhirgw.visit_past (patient)",
    "CREATE INDEX visit_past_by_superseded ON fhirgw.visit_past (superseded)",
    f"CREATE UNIQUE INDEX visit_by_id ON fhirgw.visit ({ID.format('visit')}) WHERE patient IS NOT NULL",
    # A batch has one moment, so an entry of this index is a few bytes.
    "CREATE INDEX visit_by_updated ON fhirgw.visit (updated) WHERE patient IS NOT NULL",
    "CREATE INDEX visit_by_time ON fhirgw.visit USING brin (start, began)",
)

KEPT = """key, version, next, updated, until, start, finish, began, ended, transaction, labels, provider, visit,
        patient, controller, parts, gone"""
WAS = """o.start, o.finish, o.began, o.ended, o.transaction, o.labels, o.provider, o.visit, o.patient,
        o.controller, o.parts"""

# The usual amendment takes nothing away: told without reading either row's JSON. Parts stand in the order of their
# names, so tasks end a row, and what follows the name is they.
SAME = """(o.start IS NULL) = (n.start IS NULL) AND (o.began IS NULL) = (n.began IS NULL)
                AND strpos(o.parts, '"medication"') + strpos(o.parts, '"observations"') = 0
                AND substr(o.parts, nullif(strpos(o.parts, '"tasks'), 0))
                    IS NOT DISTINCT FROM substr(n.parts, nullif(strpos(n.parts, '"tasks'), 0))"""

# Whoever changes a visit, and however: what was in somebody's record stays in its history.
TRIGGERS = (
    f"""
CREATE FUNCTION fhirgw.visit_superseded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fhirgw.visit_past ({KEPT})
    SELECT o.key, o.version, greatest(n.version, o.version + 1), o.updated, greatest(n.updated, o.updated), {WAS},
        CASE WHEN n.patient IS DISTINCT FROM o.patient THEN fhirgw.visit_made(o.start, o.began, o.parts)
            WHEN {SAME} THEN NULL
            ELSE (SELECT array_agg(g) FROM (
                SELECT unnest(fhirgw.visit_made(o.start, o.began, o.parts))
                EXCEPT SELECT unnest(fhirgw.visit_made(n.start, n.began, n.parts))) AS every (g)) END
    FROM before o JOIN after n USING (key)
    WHERE o.patient IS NOT NULL AND (n.version <> o.version OR n.patient IS DISTINCT FROM o.patient)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$""",
    """
CREATE TRIGGER visit_superseded AFTER UPDATE ON fhirgw.visit
REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.visit_superseded()""",
    f"""
CREATE FUNCTION fhirgw.visit_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fhirgw.visit_past ({KEPT})
    SELECT o.key, o.version, o.version + 1, o.updated, date_trunc('milliseconds', statement_timestamp()), {WAS},
        fhirgw.visit_made(o.start, o.began, o.parts)
    FROM before o WHERE o.patient IS NOT NULL ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$""",
    """
CREATE TRIGGER visit_removed AFTER DELETE ON fhirgw.visit
REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.visit_removed()""",
)

NONE = "NULL::timestamptz"
FOR_EVER = "'9999-12-31 23:59:59.999999+00'::timestamptz"
AT = "(e.e ->> 'at')::timestamptz"
ENTRIES = {
    "Task": ("tasks", "task", "'.t' || left(md5(e.e ->> 'task'), 16)"),
    "MedicationAdministration": ("medication", "", "'.m' || e.n"),
    "Observation": ("observations", "", "'.o' || e.n"),
}


def _after(time: str) -> str:
    """The end of the span that a time says: a second, or where it has a fraction a microsecond."""
    return f"{time} + CASE WHEN date_trunc('second', {time}) = {time} THEN interval '1s' ELSE interval '1us' END"


DURING = ("v.began", f"CASE WHEN v.began IS NOT NULL THEN coalesce({_after('v.ended')}, {FOR_EVER}) END")
PLANNED = ("v.start", _after("v.finish"))
DATES = {
    "Appointment": ("v.start", _after("v.start")),
    "Encounter": DURING,
    "Task": (NONE, NONE),
    "MedicationAdministration": tuple(
        f"coalesce({at}, {made}, {planned})"
        for at, made, planned in zip((AT, _after(AT)), DURING, PLANNED, strict=True)
    ),
    "Observation": tuple(f"coalesce({at}, {made})" for at, made in zip((AT, _after(AT)), DURING, strict=True)),
}


def _rows(kind: str, table: str, deleted: bool = False) -> str:
    """The resources of a type that a table of visits is rendered as, or (of those before) their tombstones."""
    visit = ID.format("v")
    entry, n, id, joined = "NULL", "0", visit, ""
    if kind in ENTRIES:
        name, key, entry = ENTRIES[kind]
        id, n = f"({visit} || {entry})", "e.n::int"
        made = f"fhirgw.visit_list(v.parts::jsonb, '{name}', '{key}')"
        joined = f" CROSS JOIN LATERAL jsonb_array_elements({made}) WITH ORDINALITY AS e (e, n)"
    there = {"Appointment": "v.start IS NOT NULL", "Encounter": "v.began IS NOT NULL"}
    conditions = [there.get(kind, "(v.start IS NOT NULL OR v.began IS NOT NULL)"), "v.patient IS NOT NULL"]
    if kind in ENTRIES:
        conditions.append(f"strpos(v.parts, '\"{ENTRIES[kind][0]}') > 0")
    if deleted:
        conditions.append(f"'{kind}'" + (f" || {entry}" if kind in ENTRIES else "") + " = ANY (v.gone)")
    version, updated = ("v.next", "v.until") if deleted else ("v.version", "v.updated")
    body = f"fhirgw.visit_{kind.lower()}_body({id}, {version}, {updated}, v.patient, v.provider, v.visit, v.parts, {n})"
    low, high = DATES[kind]
    beside = (
        "jsonb_build_object('numbers', jsonb_build_array(jsonb_build_object('place', 'valueQuantity',"
        " 'low', e.e ->> 'value', 'high', e.e ->> 'value', 'unit', e.e ->> 'unit', 'tokens', '[]'::jsonb)))"
        if kind == "Observation"
        else "NULL::jsonb"
    )
    past = f", {str(deleted).lower()} AS deleted, v.superseded" if table == "visit_past" else ""
    return f"""
SELECT '{kind}'::text COLLATE "C" AS type, {id} AS id, {version} AS version, {updated} AS updated, v.patient,
    v.provider AS origin, v.controller, fhirgw.visit_tokens('{kind}', {body}) AS tokens,
    {low} AS date1_low, {high} AS date1_high, {NONE} AS date2_low, {NONE} AS date2_high,
    {NONE} AS date3_low, {NONE} AS date3_high, {NONE} AS date4_low, {NONE} AS date4_high,
    {body} COLLATE "C" AS body, v.labels, NULL::text COLLATE "C" AS also, NULL::text COLLATE "C" AS redacted,
    fhirgw.visit_present('{kind}', {body}) AS present, {"v.superseded AS " if deleted else "v."}transaction,
    {beside} AS beside, {visit} AS visit, v.key{past}
FROM fhirgw.{table} v{joined} WHERE {" AND ".join(conditions)}"""


def _views() -> list[str]:
    made = []
    for kind in PROFILES:
        name, options = kind.lower(), "WITH (security_invoker = true)"
        made.append(f"CREATE VIEW fhirgw.visit_{name} {options} AS {_rows(kind, 'visit')}")
        past = f"{_rows(kind, 'visit_past')}\nUNION ALL{_rows(kind, 'visit_past', deleted=True)}"
        made.append(f"CREATE VIEW fhirgw.past_{name} {options} AS {past}")
    return made


HELPING = (
    *(
        "visit_removed",
        "visit_superseded",
        "visit_made",
        "visit_present",
        "visit_tokens",
        "visit_codes",
        "visit_refers",
        "visit_period",
    ),
    *(
        "visit_extensions",
        "visit_coded",
        "visit_concept",
        "visit_carer",
        "visit_named",
        "visit_verified",
        "visit_participant",
        "visit_head",
        "visit_list",
    ),
    *("visit_types", "visits_of", "visit_id"),
)

POLICIES = (
    ("permitted", "FOR SELECT USING (fhirgw.permitted())"),
    ("written_insert", "FOR INSERT WITH CHECK (fhirgw.writing())"),
    ("written_update", "FOR UPDATE USING (fhirgw.writing())"),
    ("written_delete", "FOR DELETE USING (fhirgw.writing())"),
)


def upgrade() -> None:
    """Makes the functions, the table of what was, and the views."""
    connection = op.get_bind()
    for statement in (*FUNCTIONS, PAST, *INDEXES, *TRIGGERS, *_views()):
        connection.exec_driver_sql(statement)  # as it stands: `:identifier` is no parameter
    op.execute("ALTER TABLE fhirgw.visit_past ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    for name, what in POLICIES:
        op.execute(f"CREATE POLICY {name} ON fhirgw.visit_past {what}")


def downgrade() -> None:
    """Visits are not read any more, and what they were is forgotten; what was said of them is not."""
    for kind in PROFILES:
        op.execute(f"DROP VIEW fhirgw.past_{kind.lower()}, fhirgw.visit_{kind.lower()}")
    op.execute("DROP TRIGGER visit_removed ON fhirgw.visit")
    op.execute("DROP TRIGGER visit_superseded ON fhirgw.visit")
    op.execute("DROP INDEX fhirgw.visit_by_id, fhirgw.visit_by_updated, fhirgw.visit_by_time")
    op.execute("DROP TABLE fhirgw.visit_past")
    bodies = [f"visit_{kind.lower()}_body" for kind in PROFILES]
    op.execute(f"DROP FUNCTION {', '.join(f'fhirgw.{name}' for name in (*bodies, *HELPING))}")
