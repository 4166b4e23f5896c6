"""`fhirgw export` where the files go to an object store: what is there, and what is said when it does not take them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from fhirgw.store.ledger import ATTEMPTS
from tests.cli.conftest import Command
from tests.conftest import NewDatabase
from tests.put import put
from tests.s3 import serving_s3


@pytest.fixture
async def url(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, {"resourceType": "Patient", "id": "p1"}, {"resourceType": "Goal", "id": "g1"})
        yield url


def test_an_export_goes_to_an_object_store(command: Command, url: str) -> None:
    with serving_s3() as s3:
        given = {"FHIRGW_DATABASE_URL": url, "FHIRGW_EXPORT_STORE": s3.url, **s3.environment}
        s3.refuse = lambda asked: (403, "AccessDenied") if asked.upload else None
        refused = command("export", "run", **given)
        assert refused.code == 6
        assert "The object store of exports refuses: its operators have to look at it" in refused.err
        id = refused.err.rpartition("fhirgw export resume ")[2].strip()
        parts = json.loads(command("export", "status", id, "--json", **given).out)["parts"]
        failed = [each for each in parts if each["state"] == "failed"]
        assert {(each["attempts"], each["reason"]) for each in failed} == {
            (ATTEMPTS, "The object store of exports refuses: its operators have to look at it")
        }
        s3.calm()
        resumed = command("export", "resume", id, **given)
        assert resumed.code == 0, resumed.err
        assert f"{s3.url}/{id}" in "".join(resumed.out.split())
        files = s3.files(id)
        manifest = json.loads(files.pop("manifest.json"))
        assert {each["url"]: each["count"] for each in manifest["output"]} == dict.fromkeys(files, 1)
        assert {json.loads(data)["id"] for data in files.values()} == {"p1", "g1"}
        assert command("export", "cancel", id, **given).code == 0
        assert s3.names(id) == set()


@pytest.mark.parametrize("arguments", [("serve", "--port", "0"), ("worker", "--until-idle")])
def test_a_store_that_not_enough_is_known_of_is_told(command: Command, url: str, arguments: tuple[str, ...]) -> None:
    wrong = command(*arguments, FHIRGW_DATABASE_URL=url, FHIRGW_EXPORT_STORE="az://container/prefix")
    assert wrong.code == 3
    assert wrong.err.startswith("FHIRGW_EXPORT_STORE: ") and "Account must be specified" in wrong.err
    assert "Traceback" not in wrong.err


def test_what_is_no_store_is_told(command: Command) -> None:
    wrong = command("export", "ls", FHIRGW_EXPORT_STORE="ftp://files.example/exports")
    assert wrong.code == 2
    assert "FHIRGW_EXPORT_STORE" in wrong.err and "s3://bucket/prefix" in wrong.err
