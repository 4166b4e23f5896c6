"""What was pulled, taken in: its lines as `fhirgw load` takes them, then its deletions, and that it was, all at once.

The next pull is of what changed since the newest that was loaded whole. Where lines or deletions were refused it was
not, so they are asked for again until they are taken, or somebody who has read why says that it will do. Types that are
not held here are told and left out: they would be refused for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from uuid import uuid4

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import operations
from fhirgw.access.writing import NEVER
from fhirgw.cli import loading
from fhirgw.cli.console import Console
from fhirgw.cli.loading import Loading
from fhirgw.cli.running import CommandError
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.parameters import HELD
from fhirgw.jobs.failpoint import reach
from fhirgw.jobs.import_end import Came
from fhirgw.jobs.line import judges
from fhirgw.jobs.pull.deletions import BATCH, delete
from fhirgw.jobs.pull.folder import clear
from fhirgw.jobs.taking import told
from fhirgw.settings import Settings
from fhirgw.store import pulls, runs
from fhirgw.store.audit import record_now
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.pulls import Pull, PulledFile

ROUTE = "fhirgw pull --load"
NOT_HELD = "Resources of type {} are not held here: they are left out. --type names those that are to be asked for"
DELETED = ("deleted", "absent", "others", "refused")


class Way(NamedTuple):
    """How what was pulled is loaded: `accepting`: one is whole whose lines were refused; `keep`: its files stay;
    `controller`: whose records they are.
    """

    accepting: bool
    keep: bool
    controller: str


@dataclass(slots=True)
class Loaded:
    """What came of one pull: of its files, and of its deletions by DELETED; `whole`: the next one is since then."""

    pull: Pull
    errors: Path
    came: Sequence[Came] = ()
    deletions: Counter[str] = field(default_factory=Counter)
    whole: bool = False

    @property
    def refused(self) -> int:
        """Lines and deletions that were refused, and files that could not be read to their end."""
        lines = sum(each.counts["refused"] + (each.failure is not None) for each in self.came)
        return lines + self.deletions["refused"]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "id": self.pull.id,
            "time": self.pull.time,
            "whole": self.whole,
            "files": [each.as_json() for each in self.came],
            "deletions": {name: self.deletions[name] for name in DELETED},
            "errors": str(self.errors),
        }


async def load_waiting(
    console: Console, engine: Engine, given: Settings, what: tuple[str, str, str], way: Way
) -> list[Loaded]:
    """Loads what was pulled and waits for it, oldest first, up to the first that is not whole; `what` as in
    fhirgw.store.pulls.to_load. What no load needs any more is removed then.
    """
    done: list[Loaded] = []
    lost: set[str] = set()
    while not done or done[-1].whole:
        async with direct(engine) as connection:
            pull = await pulls.to_load(connection, *what, without=lost)
            files = await pulls.files(connection, pull.id) if pull else []
        if pull is None:
            break
        if _there(pull, files):
            done.append(await _loaded(console, engine, given, pull, files, way))
        else:
            lost.add(pull.id)
    if not way.keep:
        await _removed(engine, given, what)
    return done


async def _removed(engine: Engine, given: Settings, what: tuple[str, str, str]) -> None:
    """Removes the files of what is loaded, and of what came before it, from the data folder: they are about people.

    What was put elsewhere (--to) is whose the folder is.
    """
    async with direct(engine) as connection:
        for pull in await pulls.loaded(connection, *what):
            folder = Path(pull.place)
            if folder.is_relative_to((given.data / "pulls").absolute()):
                await asyncio.to_thread(clear, folder, await pulls.files(connection, pull.id))


def _there(pull: Pull, files: Sequence[PulledFile]) -> bool:
    """Whether its files lie where they were put: if not, they are to be pulled again."""
    return all((Path(pull.place) / str(each.name)).is_file() for each in files)


async def _loaded(
    console: Console, engine: Engine, given: Settings, pull: Pull, files: Sequence[PulledFile], way: Way
) -> Loaded:
    folder, held = Path(pull.place), sorted(set(HELD) - set(NEVER))
    found = Loaded(pull, given.data / "errors" / f"pull-{pull.source}-{pull.id}.ndjson")
    output = [(folder / str(each.name), each.type) for each in files if each.kind == "output"]
    taken = [(path, kind) for path, kind in output if kind in held]
    origin = loading.brought(given, pull.source, way.controller)

    async def end(connection: Connection, came: Sequence[Came], errors: TextIO) -> None:
        found.came = came
        for path, kind in output:
            if kind not in held:
                issue = Issue("not-supported", NOT_HELD.format(kind), severity="warning")
                errors.write(told(path.name, 1, [issue]) + "\n")
        seen: list[Seen] = []
        moment = _millisecond(datetime.now(UTC) + await runs.skew(connection))
        done = await delete(connection, origin, pull.base, folder, files, moment, seen.extend)
        errors.writelines(f"{each}\n" for each in done.outcomes)
        found.deletions = done.counts
        found.whole = not any(each.failure for each in came) and (way.accepting or not found.refused)
        await pulls.load_ended(connection, pull.id, found.refused, found.whole)
        reach("pull deleted")
        for at in range(0, len(seen), BATCH):
            who: dict[str, Any] = {"permit": operations(given.controller), "seen": seen[at : at + BATCH]}
            await record_now(connection, Access("delete", ROUTE, datetime.now(UTC), str(uuid4()), **who))

    asked = Loading(pull.source, taken, [pull.base], found.errors, way.controller)
    with judges(asked.judging) as judging:
        await loading.load(console, engine, given, asked, judging, end, what="pull --load")
    reach("pull loaded")
    if not found.errors.stat().st_size:
        found.errors.unlink()
    return found


def _millisecond(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def show(console: Console, done: Sequence[Loaded]) -> None:
    """What came of each. Raises CommandError where the last, which nothing follows on, is not whole."""
    for each in done:
        loading.show(console, each.came, each.errors)
        if sum(each.deletions.values()):
            console.table("Deletions", [*DELETED], [[each.deletions[name] for name in DELETED]])
    for each in done:
        if each.whole:
            console.line(f"Loaded, as of {each.pull.time}: the next `fhirgw pull --load` asks for what changed since.")
        elif each is done[-1]:
            raise CommandError(_refused(each), 3)


def _refused(last: Loaded) -> str:
    what = f"{last.refused:,} lines, deletions or files of what changed since {last.pull.since or 'ever'} were refused"
    remedy = "The rest is asked for again the next time; if it will do without, say --accept-refused."
    return f"{what}: {last.errors} says which and why. All that can be is loaded. {remedy}"
