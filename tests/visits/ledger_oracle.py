"""A week's ledger counted the plain way, visit by visit, of what was sent: shares no code with the gateway."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TOLERANCES = {None: (15, 15, 60, 15), "medication": (10, 15, 30, 15)}
"""Minutes late, early, until missed, and apart: as mappings/homecare/rules.yaml has them."""
CANCELLED = {
    *("cancelled-by-person-notice", "cancelled-by-person-short-notice", "cancelled-by-provider", "not-required"),
}

Visit = dict[str, Any]
Line = dict[str, Any]
NAMED = {
    "cancelled-by-person-notice": "cancelled_notice",
    "cancelled-by-person-short-notice": "cancelled_short_notice",
    "cancelled-by-provider": "cancelled_by_provider",
}
Key = tuple[str, str, str | None, str | None]
"""A person, a care provider's code, a line's id, or what visits of none call it."""


def moment(text: str) -> datetime:
    """A time as it was sent: without an offset it is the clock's in London."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=LONDON)).astimezone(UTC)


def whole(later: datetime, earlier: datetime) -> int:
    """Whole minutes from one to the other, towards nought."""
    seconds = (later - earlier).total_seconds()
    return int(abs(seconds) // 60) * (1 if seconds >= 0 else -1)


def belongs(visit: Visit, monday: date) -> bool:
    """Whether it is of the week: by the day it was planned to begin, or began, or is claimed to have."""
    day = due(visit).astimezone(LONDON).date()
    return monday <= day < monday + timedelta(days=7)


def due(visit: Visit) -> datetime:
    """When it was planned to begin, or began, or is claimed to have."""
    if "planned" in visit:
        return moment(visit["planned"]["start"])
    came = [moment(each["start"]) for each in visit.get("carers", ()) if "start" in each]
    return min(came) if came else moment(visit["claimed"]["start"])


def was_made(visit: Visit) -> bool:
    """Whether a carer did what they came for."""
    said = visit.get("outcome", {}).get("code")
    came = any("start" in each for each in visit.get("carers", ()))
    return said in ("delivered", "partially-delivered") or (said is None and came)


def away(visits: list[Visit], person: str, discharged: list[date], at: datetime) -> bool:
    """Whether the person was in hospital at a moment, as far as visits and discharges tell."""
    own = [each for each in visits if each["person"]["id"] == person and "planned" in each]
    begun = [each for each in own if was_made(each) and any("start" in one for one in each.get("carers", ()))]
    for vain in own:
        if vain.get("outcome", {}).get("code") != "hospital" or due(vain) > at:
            continue
        back = any(due(vain) < due(each) <= at for each in begun)
        day = due(vain).astimezone(LONDON).date()
        home = any(each >= day and at.astimezone(LONDON).date() > each for each in discharged)
        if not back and not home:
            return True
    return False


def expected(line: Line, monday: date) -> list[datetime]:
    """When visits were commissioned to begin in the week."""
    found = []
    for each in range(7):
        day = monday + timedelta(days=each)
        if DAYS[day.weekday()] in line["days"] and line["from"] <= day <= line["until"]:
            clocks = (map(int, clock.split(":")) for clock in line["times"])
            found += [datetime(day.year, day.month, day.day, h, m, tzinfo=LONDON).astimezone(UTC) for h, m in clocks]
    return found


def line_of(visit: Visit, provider: str, lines: list[Line], monday: date) -> Line | None:
    """Whose visit it is."""
    week = [monday + timedelta(days=each) for each in range(7)]
    running = [
        each
        for each in lines
        if each["person"] == visit["person"]["id"]
        and each["provider"] == provider
        and any(each["from"] <= day <= each["until"] for day in week)
    ]
    if named := visit.get("line"):
        running = [each for each in running if named["order"] in (each["number"], each["id"])]
    begins = due(visit).astimezone(LONDON)

    def apart(line: Line) -> int:
        clocks = [tuple(map(int, each.split(":"))) for each in line["times"]]
        gaps = [abs(h * 60 + m - begins.hour * 60 - begins.minute) for h, m in clocks]
        return min(min(gap, 1440 - gap) for gap in gaps)

    return min(running, key=lambda each: (apart(each), each["id"]), default=None)


def alone(visit: Visit, apart: int, now: datetime) -> bool:
    """Whether one carer did by themselves what two were to do."""
    carers = sorted((each for each in visit["carers"] if "start" in each), key=lambda each: moment(each["start"]))
    if not carers:
        return False
    first = carers[0]
    if len(carers) == 1:
        return "end" in first or now - moment(first["start"]) > timedelta(minutes=apart)
    second = moment(carers[1]["start"])
    gone = "end" in first and second >= moment(first["end"])
    return gone or second - moment(first["start"]) > timedelta(minutes=apart)


def ledger(
    lines: list[Line],
    sent: list[tuple[str, Visit]],
    monday: date,
    now: datetime,
    discharged: dict[str, list[date]],
) -> dict[Key, dict[str, int]]:
    """The figures of each row that are not 0, of visits sent by care providers."""
    found: dict[Key, Counter[str]] = {}
    comings: dict[Key, Counter[str]] = {}
    visits = [each for _, each in sent if each.get("outcome", {}).get("code") != "entered-in-error"]
    for line in lines:
        week = [monday + timedelta(days=each) for each in range(7)]
        if not any(line["from"] <= day <= line["until"] for day in week):
            continue
        row = found.setdefault((line["person"], line["provider"], line["id"], None), Counter())
        for start in expected(line, monday):
            if away(visits, line["person"], discharged.get(line["person"], []), start):
                row["suspended_visits"] += 1
                row["suspended_minutes"] += line["minutes"]
            else:
                row["commissioned_visits"] += 1
                row["commissioned_minutes"] += line["minutes"]
                row["commissioned_carer_minutes"] += line["minutes"] * line["carers"]
    for provider, visit in sent:
        if visit.get("outcome", {}).get("code") == "entered-in-error" or not belongs(visit, monday):
            continue
        line = line_of(visit, provider, lines, monday)
        strange = None if line else visit.get("line", {}).get("order")
        key = (visit["person"]["id"], provider, line["id"] if line else None, strange)
        row = found.setdefault(key, Counter())
        team = comings.setdefault(key, Counter())
        out = away(visits, visit["person"]["id"], discharged.get(visit["person"]["id"], []), due(visit))
        count(row, team, visit, line, out, now)
    for key, team in comings.items():
        found[key]["carers"] = len(team)
        found[key]["attendances"] = sum(team.values())
        found[key]["team_attendances"] = sum(n for _, n in team.most_common(3))
    return {key: {name: n for name, n in row.items() if n} for key, row in found.items()}


def count(row: Counter[str], team: Counter[str], visit: Visit, line: Line | None, out: bool, now: datetime) -> None:
    """Adds one visit to its row."""
    planned, said = visit.get("planned"), visit.get("outcome", {}).get("code")
    late, early, missed, apart = TOLERANCES[planned.get("type") if planned else None]
    wanted = (planned or {}).get("carers") or (line["carers"] if line else 1)
    carers = [each for each in visit.get("carers", ()) if "start" in each]
    if planned:
        length = whole(moment(planned["end"]), moment(planned["start"]))
        row["planned_visits"] += 1
        row["planned_minutes"] += length
        row["planned_carer_minutes"] += length * wanted
    if "claimed" in visit:
        row["claimed_visits"] += 1
        row["claimed_minutes"] += visit["claimed"]["minutes"]
    for each in carers:
        team[each["carer"]] += 1
    if was_made(visit):
        row["delivered_visits"] += 1
        row["double_visits"] += wanted > 1
        if carers:
            began = min(moment(each["start"]) for each in carers)
            ends = [moment(each["end"]) for each in carers if "end" in each]
            if len(ends) == len(carers):
                row["delivered_minutes"] += whole(max(ends), began)
            else:
                row["unended_visits"] += 1
            for each in carers:
                if "end" in each:
                    row["delivered_carer_minutes"] += whole(moment(each["end"]), moment(each["start"]))
            row["single_handed_visits"] += wanted > 1 and alone(visit, apart, now)
            if planned:
                row["timed_visits"] += 1
                row["punctual_visits"] += -early <= whole(began, moment(planned["start"])) <= late
    elif said == "missed-by-provider":
        row["missed_visits"] += 1
    elif said in ("no-reply", "refused-by-person"):
        name = "no_reply" if said == "no-reply" else "refused"
        row[f"{name}_visits"] += 1
        if carers and all("end" in each for each in carers):
            began, ended = min(moment(each["start"]) for each in carers), max(moment(each["end"]) for each in carers)
            row[f"{name}_minutes"] += whole(ended, began)
    elif said in CANCELLED:
        row["cancelled_visits"] += 1
        if said in NAMED:
            row[f"{NAMED[said]}_visits"] += 1
            if planned:
                row[f"{NAMED[said]}_minutes"] += whole(moment(planned["end"]), moment(planned["start"]))
    elif said in ("hospital", "respite", "deceased") or (planned and out):
        row["away_visits"] += 1
    elif planned:
        overdue = now > moment(planned["start"]) + timedelta(minutes=missed)
        row["missed_visits" if overdue else "pending_visits"] += 1
