"""Where an import may take its inputs from: nothing is asked that a name only leads to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.lines import Unreadable
from fhirgw.jobs.sources import Sources

NAMED = Sources.of(None, "https://files.example, https://other.example:8443", 1)


def answering(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Has every name resolve to the addresses; the connections that are tried."""
    tried: list[str] = []

    async def resolved(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", (each, 443)) for each in addresses]

    class Refusing:
        def __init__(self, **given: Any) -> None:
            assert (given["follow_redirects"], given["trust_env"]) == (False, False)

        async def __aenter__(self) -> Refusing:
            return self

        async def __aexit__(self, *_: object) -> None:
            """Nothing."""

        def stream(self, method: str, target: Any, **given: Any) -> Any:
            tried.append(f"{method} {target} for {given['headers']['host']} {given['extensions']['sni_hostname']}")
            raise OSError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved, raising=False)
    monkeypatch.setattr("fhirgw.jobs.sources.httpx.AsyncClient", Refusing)
    return tried


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
        ["fe80::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["0.0.0.0"],
        ["93.184.216.34", "127.0.0.1"],
        [],
    ],
)
async def test_a_name_that_leads_to_this_machine_or_its_cloud_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, addresses: list[str]
) -> None:
    with monkeypatch.context() as patched:
        tried = answering(patched, *addresses)
        with pytest.raises(Unreadable, match="leads to a machine that nothing is fetched from"):
            await NAMED.text("https://files.example/x", tmp_path / "x")
        assert tried == []


@pytest.mark.parametrize("address", ["93.184.216.34", "10.1.2.3", "fd12::1"])
async def test_the_address_that_was_looked_at_is_the_one_that_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    with monkeypatch.context() as patched:
        tried = answering(patched, address)
        with pytest.raises(Unreadable, match="cannot be reached"):
            await NAMED.text("https://files.example/x?y=z", tmp_path / "x")
        host = f"[{address}]" if ":" in address else address
        assert tried == [f"GET https://{host}/x?y=z for files.example files.example"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://files.example/a", True),
        ("https://FILES.example:443/a", True),
        ("https://other.example:8443/a", True),
        ("https://other.example/a", False),
        ("https://files.example.evil/a", False),
        ("https://evil/https://files.example/", False),
        ("http://files.example/a", False),
        ("https://files.example@evil/", False),
        ("file:///etc/passwd", False),
        ("https://files.example:99999/", False),
    ],
)
def test_an_origin_is_compared_whole(url: str, allowed: bool) -> None:
    try:
        NAMED.check(url)
    except FhirError:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize("origins", ["http://files.example", "files.example", "https://"])
def test_what_is_no_origin_cannot_be_named(origins: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Sources.of(None, origins, 1)
