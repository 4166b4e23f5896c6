"""The command about the list of national data opt-outs, who is left out of planning and research: its age, another."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fhirgw.access.facts import day
from fhirgw.cli.audited import audited
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.settings import Settings
from fhirgw.store import opt_out
from fhirgw.store.database import direct
from fhirgw.store.opt_out import Listed, Loaded

SHRUNK = 0.5
"""A list of opt-outs this much shorter than the one before is more likely cut off than right."""


def opt_outs(
    file: Annotated[
        Path | None, typer.Argument(help="The list: one NHS number a line; none tells of that in force.")
    ] = None,
    produced: Annotated[datetime | None, typer.Option(help="When it was made, in UTC; else when the file was.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Though it is much shorter than the one before.")] = False,
    json: Json = False,
) -> None:
    """Load the list of national data opt-outs, whole, in place of the one before; or tell how old that is."""
    console, given = Console(json), settings()
    if file is None:
        _tell(console, run(_in_force(given)), given.opt_out_days)
        return
    listed, moment = _list(file, produced)

    async def work() -> Loaded:
        async with opened(given) as (_, engine), direct(engine) as connection, connection.transaction():
            before = await opt_out.size(connection)
            if 0 < len(listed) < before * SHRUNK and not force:
                raise CommandError(
                    f"The list has {len(listed):,}, the one before {before:,}: look, then say --force.", 5
                )
            done = await opt_out.load(connection, listed, moment)
            await audited(connection, given.controller, "opt-outs")
            return done

    done = run(work())
    console.line(f"{done.rows:,} have opted out: {done.added:,} more than before, {done.removed:,} no longer.")
    console.document(done._asdict() | {"produced": moment})


async def _in_force(given: Settings) -> Listed | None:
    async with opened(given) as (_, engine), direct(engine) as connection:
        return await opt_out.in_force(connection, given.opt_out_days)


def _tell(console: Console, found: Listed | None, days: float) -> None:
    """How many are on the list, how old it is, and whether planning and research may go by it."""
    if found is None:
        console.line("There is no list of national data opt-outs: planning and research see nobody.")
        console.document({"fresh": False})
        return
    console.line(f"{found.rows:,} have opted out, by the list of {day(found.produced)} (loaded {day(found.loaded)}).")
    if found.fresh:
        console.line(f"Planning and research go by it until {day(found.until)}: {days:g} days (FHIRGW_OPT_OUT_DAYS).")
    else:
        console.line(f"It is older than {days:g} days (FHIRGW_OPT_OUT_DAYS): planning and research see nobody.")
    console.document(found._asdict())


def _list(file: Path, produced: datetime | None) -> tuple[set[str], datetime]:
    """The numbers, and when the list was made. Raises CommandError, FhirError."""
    try:
        moment = produced.replace(tzinfo=UTC) if produced else datetime.fromtimestamp(file.stat().st_mtime, UTC)
        with file.open(encoding="utf-8-sig") as lines:
            listed = set(opt_out.numbers(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"The list cannot be read ({type(error).__name__}).", 3) from None
    if moment > datetime.now(UTC):
        raise CommandError("The list says that it is made in the future: correct --produced.", 3)
    return listed, moment
