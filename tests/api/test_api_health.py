"""Probes, the landing page, and a database that goes away and comes back."""

import asyncio
import fcntl
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fhirgw.app import create_app
from fhirgw.settings import Settings
from fhirgw.store.database import connect
from fhirgw.store.migrate import NotMigrated, migrate, newest
from fhirgw.store.server import server
from tests.conftest import execute, temporary
from tests.gateway import Gateway, serving
from tests.put import put


def test_the_landing_page_leads_somewhere(gateway: Gateway) -> None:
    page = gateway.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(links) > 3
    for link in links:
        assert link.startswith("/")  # nothing is loaded from elsewhere
        assert gateway.http.get(link.replace("&amp;", "&")).status_code == 200, link
    with gateway.stranger() as stranger:  # what is marked wants a token, and nothing else does
        marked = {link.replace("&amp;", "&") for link in re.findall(r'href="([^"]+)">[^<]+</a>\*', page.text)}
        statuses = {link: stranger.get(link.replace("&amp;", "&")).status_code for link in links}
    assert {link.replace("&amp;", "&") for link, status in statuses.items() if status == 401} == marked != set()
    assert "fhirgw token" in page.text and f"{gateway.base}/oauth/token" in page.text


def test_a_process_with_its_database_is_live_and_ready(gateway: Gateway) -> None:
    assert gateway.http.get("/health/live").json() == {"status": "live"}
    assert gateway.http.get("/health/ready").json() == {"status": "ready"}


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[tuple[Settings, str]]:
    """A data folder with an embedded PostgreSQL of its own, not migrated yet."""
    with temporary() as data:
        settings = Settings(data=data, controller="Z99")
        async with server(settings.postgres) as url:
            yield settings, url


async def test_it_does_not_start_without_its_tables(own: tuple[Settings, str]) -> None:
    app = create_app(own[0])
    with pytest.raises(NotMigrated, match=r"tables are not there, and version \d+ is needed: run `fhirgw migrate`"):
        async with app.router.lifespan_context(app):
            pass


async def test_it_serves_again_when_its_database_is_back(own: tuple[Settings, str]) -> None:
    settings, url = own
    engine = connect(url)
    await migrate(engine)
    await engine.dispose()
    await put(url, {"resourceType": "Patient", "id": "p1"})
    with serving(settings) as gateway:
        assert gateway.http.get("/fhir/Patient/p1").status_code == 200
        assert gateway.http.get("/health/ready").status_code == 200

        with (settings.postgres / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # nobody starts it again until all this has been asked
            os.kill(_postmaster(settings.postgres), signal.SIGKILL)
            _told_while_away(gateway)
        deadline = time.monotonic() + 120
        while (back := gateway.http.get("/fhir/Patient/p1").status_code) == 503:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert back == 200
        assert gateway.http.get("/health/ready").status_code == 200


def _told_while_away(gateway: Gateway) -> None:
    deadline = time.monotonic() + 120  # its processes outlive it for a moment, and may answer once more
    while gateway.http.get("/fhir/Patient/p1").status_code == 200:
        assert time.monotonic() < deadline
    for path in ("/fhir/Patient/p1", "/fhir/Patient?name=x", "/fhir/Patient/p1/$everything"):
        away = gateway.http.get(path)
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        assert away.json()["issue"][0]["code"] == "transient"
    unready = gateway.http.get("/health/ready")
    assert (unready.status_code, unready.json()["reason"]) == (503, "the database does not answer")
    assert gateway.http.get("/health/live").status_code == 200


async def test_it_is_not_ready_with_older_tables_and_is_with_newer_ones(gateway: Gateway, module_database: str) -> None:
    for version, status in (("0001", 503), ("9999", 200), (newest(), 200)):
        await execute(module_database, f"UPDATE fhirgw.alembic_version SET version_num = '{version}'")
        assert gateway.http.get("/health/ready").status_code == status


def _postmaster(folder: Path) -> int:
    return int((folder / "cluster" / "postmaster.pid").read_text().split()[0])
