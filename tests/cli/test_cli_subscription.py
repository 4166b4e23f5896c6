"""Who is told what, by the command line: how far they have been, trying again, and no secret."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fhirgw.fhir.subscription import read
from fhirgw.store import subscription
from tests.cli.conftest import Command
from tests.put import connected
from tests.subscriptions.subscribing import subscription as wanted

ASKER = ("rota-system", "system/*.rs system/Subscription.cruds", "direct-care")
ID = "5b0f0a43-61a1-4b83-9a55-2f9c3a1f8f10"


@pytest.fixture
async def url(database: str) -> str:
    """A database with a Subscription in error, of which three events wait."""
    asked, _ = read(wanted("https://rota.example/hook", header=["Authorization: Bearer s3cret"]), "https://gw/fhir")
    connection = await connected(database)
    try:
        await subscription.add(connection, ID, ASKER, "https://gw/fhir", asked, "https://rota.example:443")
        await connection.execute(
            "UPDATE fhirgw.subscription SET status = 'error', reason = 'The endpoint answered 503',"
            " events = 5, sent = 2, attempts = 9, failing = '2026-02-03T04:05:06Z'"
        )
    finally:
        await connection.close()
    return database


def test_it_lists_who_is_told_and_what_waits(command: Command, url: str) -> None:
    listed = command("subscription", "ls", FHIRGW_DATABASE_URL=url)
    (line,) = (each for each in listed.out.splitlines() if ID in each)
    assert line.split() == [ID, "rota-system", "record", "error", "5", "3", "2026-02-03", "04:05", "UTC"]
    (told,) = json.loads(command("subscription", "ls", "--json", FHIRGW_DATABASE_URL=url).out)
    assert (told["id"], told["events"], told["sent"], told["attempts"]) == (ID, 5, 2, 9)


def test_it_shows_why_and_no_secret(command: Command, url: str) -> None:
    shown = command("subscription", "show", ID, FHIRGW_DATABASE_URL=url)
    assert shown.code == 0 and "The endpoint answered 503" in shown.out and "https://rota.example/hook" in shown.out
    assert "s3cret" not in shown.out + shown.err


async def left(url: str) -> tuple[Any, str]:
    connection = await connected(url)
    try:
        row = await connection.fetchrow("SELECT status, failing, attempts, sent FROM fhirgw.subscription")
        return tuple(row), await connection.fetchval("SELECT body FROM fhirgw.audited")
    finally:
        await connection.close()


def test_it_has_one_tried_again_and_that_is_audited(command: Command, url: str) -> None:
    assert command("subscription", "retry", ID, FHIRGW_DATABASE_URL=url).code == 0
    row, audited = asyncio.run(left(url))
    assert row == ("requested", None, 0, 2)
    assert "subscription-retry" in audited and ID in audited


@pytest.mark.parametrize("name", ["show", "retry"])
def test_what_is_not_there_is_told(command: Command, url: str, name: str) -> None:
    ended = command("subscription", name, "nobody", FHIRGW_DATABASE_URL=url)
    assert (ended.code, "no such Subscription" in ended.err) == (3, True)
