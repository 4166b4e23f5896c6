"""Fetching keys from an address somebody registered: what may be reached, and how long what was found holds."""

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fhirgw.access.address import private, public
from fhirgw.api import jwks
from fhirgw.api.jwks import KeySets, Unfetched, check_address, fetch
from tests.api.smart_world import EC, OTHER, RSA, World, claims, signed, world
from tests.api.smart_world import jwks as key_set

Answer = tuple[int, dict[str, str], bytes]


class Site:
    """An HTTP server of this machine that publishes keys. `answer` is what it says, `asked` the requests it got."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.publish(EC, RSA)
        self.address = ""

    def publish(self, *keys: Any, **headers: str) -> None:
        self.answer: Answer | Callable[[], Answer] = (200, headers, json.dumps(key_set(*keys)).encode())


@contextmanager
def serving(certificate: tuple[Path, Path] | None = None) -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, body = site.answer() if callable(site.answer) else site.answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Nobody need be told: a client that goes away is what some of these tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        site.address = f"http://127.0.0.1:{server.server_port}/keys.json"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    """Somebody's web server."""
    with serving() as made:
        yield made


async def kids(sets: KeySets, site: Site, *, eager: bool = False) -> list[str | None]:
    return [key.kid for key in await sets.keys(site.address, eager=eager)]


async def test_keys_are_fetched(site: Site) -> None:
    keys, kept = await fetch(site.address, loopback=True)
    assert [key.kid for key in keys] == [EC.kid, RSA.kid]
    assert kept == 60
    assert site.asked[0]["host"] == site.address.split("/")[2]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://app.test/keys",
            "ftp://app.test/keys",
            "file:///etc/passwd",
            "//app.test/keys",
            "keys",
            "",
            "https://",
        ),
        *(
            "https:///keys",
            "https://user:secret@app.test/keys",
            "https://user@app.test/keys",
            "https://app.test/keys#x",
        ),
        *("https://app.test:99999/keys", "https://app.test:x/keys", "https://[::1/keys", "https://app.test/a b"),
        *("https://app.test\\@evil.test/", "https://app.test/\n", "https://äpp.test/", "http://127.0.0.1/keys"),
        *("http://localhost/keys", "gopher://127.0.0.1:6379/_"),
    ],
)
async def test_an_address_is_https_and_plain(url: str) -> None:
    assert check_address("https://app.test/keys?x=1") == ("app.test", 443)
    assert check_address("https://app.test:8443/keys") == ("app.test", 8443)
    with pytest.raises(Unfetched):
        check_address(url)
    with pytest.raises(Unfetched):
        await fetch(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/k", "http://localhost/k", "http://[::1]/k"])
def test_this_machine_may_be_asked_where_a_setting_says_so(url: str) -> None:
    assert check_address(url, loopback=True)
    with pytest.raises(Unfetched):
        check_address("http://127.0.0.1.evil.test/k", loopback=True)


INTERNAL = ["10.0.0.1", "172.16.0.1", "192.168.1.1", "fd12:3456::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
NOWHERE = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "169.254.169.254", "169.254.0.1", "224.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::7f00:1", "2002:7f00:1::", "240.0.0.1"),
]


CLOUDS = ("192.0.0.192", "168.63.129.16", "::ffff:168.63.129.16", "fec0::1")


@pytest.mark.parametrize(
    "address", [*NOWHERE, *INTERNAL, "100.64.0.1", "192.0.2.1", "198.18.0.1", "2001:db8::1", *CLOUDS]
)
def test_what_is_not_the_internet_is_not_public(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_the_internet_is_public(address: str) -> None:
    assert public(address)
    assert not private(address)


def test_an_organisations_own_network_is_private_and_no_more() -> None:
    assert [private(each) for each in INTERNAL] == [True] * len(INTERNAL)
    assert [private(each) for each in NOWHERE] == [False] * len(NOWHERE)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.1.2.3", "0x7f.1", "2130706433"]
)
async def test_no_connection_is_made_to_a_network_that_is_not_public(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(jwks.httpx, "AsyncClient", connected)
    with pytest.raises(Unfetched, match=r"not public|cannot be reached"):
        await fetch(f"https://{host}/keys")
    with pytest.raises(AssertionError, match="tried"):
        await fetch("https://93.184.216.34/keys")


async def test_a_name_is_as_good_as_the_worst_it_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is asked once: what was looked at is what is connected to, whatever the name leads to a moment later."""
    reached: list[tuple[str, str, Any]] = []
    found = [["93.184.216.34"], ["127.0.0.1"]]

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", (each, port)) for each in found.pop(0)]

    class Client:
        def __init__(self, **settings: Any) -> None:
            assert settings["follow_redirects"] is False
            assert settings["trust_env"] is False

        async def __aenter__(self) -> "Client":
            return self

        async def __aexit__(self, *_: Any) -> None: ...

        def stream(self, method: str, url: Any, headers: dict[str, str], extensions: dict[str, str]) -> Any:
            reached.append((str(url), headers["host"], extensions["sni_hostname"]))
            raise OSError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    monkeypatch.setattr(jwks.httpx, "AsyncClient", Client)
    with pytest.raises(Unfetched, match="cannot be reached"):
        await fetch("https://app.test:8443/keys?x=1")
    assert reached == [("https://93.184.216.34:8443/keys?x=1", "app.test:8443", "app.test")]
    with pytest.raises(Unfetched, match="not public"):
        await fetch("https://app.test/keys")
    found.append(["93.184.216.34", "10.0.0.1"])
    with pytest.raises(Unfetched, match="not public"):
        await fetch("https://app.test/keys")
    found.append(["10.0.0.1"])
    with pytest.raises(Unfetched, match="cannot be reached"):
        await fetch("https://app.test/keys", internal=True)
    assert reached[-1][0] == "https://10.0.0.1/keys"


def certified(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a name, and its key; whoever trusts the certificate trusts it for that name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    (folder / f"{name}.crt").write_bytes(made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(private)
    return folder / f"{name}.crt", folder / f"{name}.key"


@pytest.mark.parametrize(("name", "fetched"), [("localhost", True), ("other.test", False)])
async def test_whoever_answers_holds_a_certificate_for_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fetched: bool
) -> None:
    """The connection goes to an address; the certificate is judged by the name."""
    certificate, key = certified(tmp_path, name)
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(jwks, "_trusted", lambda: trusting)
    with serving((certificate, key)) as site:
        address = site.address.replace("http://127.0.0.1", "https://localhost")
        if fetched:
            assert len((await fetch(address, loopback=True))[0]) == 2
            assert site.asked[0]["host"] == address.split("/")[2]
        else:
            with pytest.raises(Unfetched, match=r"cannot be reached \(ConnectError\)"):
                await fetch(address, loopback=True)
            assert site.asked == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((302, {"Location": "http://127.0.0.1/other"}, b""), "answers 302"),
        ((301, {"Location": "/keys"}, b""), "answers 301"),
        ((404, {}, b"{}"), "answers 404"),
        ((204, {}, b""), "answers 204"),
        ((200, {}, b"<html>"), "no JSON"),
        ((200, {}, b"[]"), "no JWK set"),
        ((200, {}, b'{"keys": 1}'), "no JWK set"),
        ((200, {}, b" " * 100_001), "longer than"),
        ((200, {"Content-Encoding": "gzip"}, b"x"), "a coding nobody asked for"),
        ((200, {"Content-Length": "nonsense"}, b"{}"), "cannot be reached"),
    ],
)
async def test_an_answer_that_is_no_key_set_is_refused(site: Site, answer: Answer, why: str) -> None:
    site.answer = answer
    with pytest.raises(Unfetched, match=why):
        await fetch(site.address, loopback=True)
    assert len(site.asked) == 1


async def test_who_answers_too_slowly_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "SECONDS", 0.1)
    held = threading.Event()

    def slow() -> Answer:
        held.wait(120)
        return 200, {}, b"{}"

    site.answer = slow
    try:
        with pytest.raises(Unfetched, match=r"does not answer|cannot be reached"):
            await fetch(site.address, loopback=True)
    finally:
        held.set()


async def test_what_was_fetched_is_kept_for_a_while(site: Site) -> None:
    sets = KeySets(loopback=True)
    found = await asyncio.gather(*(kids(sets, site) for _ in range(5)))
    assert found == [[EC.kid, RSA.kid]] * 5
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("control", "seconds"),
    [
        ("", 60),
        ("max-age=10", 10),
        ("public, max-age=86400", 60),
        ("max-age=0", 1),
        ("no-store", 1),
        ("no-cache, max-age=50", 1),
        ("MAX-AGE=20", 20),
    ],
)
async def test_nobody_keeps_keys_longer_than_they_say(site: Site, control: str, seconds: float) -> None:
    site.publish(EC, Cache_Control=control)
    assert (await fetch(site.address, loopback=True))[1] == seconds


async def test_a_key_that_was_taken_away_stops_within_a_minute(site: Site) -> None:
    sets = KeySets(loopback=True)
    assert await kids(sets, site) == [EC.kid, RSA.kid]
    site.publish(OTHER)
    assert await kids(sets, site) == [EC.kid, RSA.kid]
    sets._kept[site.address].until -= 60
    assert await kids(sets, site) == [OTHER.kid]


async def test_a_new_key_is_looked_for_now_and_then(site: Site) -> None:
    sets = KeySets(loopback=True)
    await kids(sets, site)
    site.publish(EC, OTHER)
    assert await kids(sets, site, eager=True) == [EC.kid, RSA.kid]
    sets._kept[site.address].fetched -= 11
    assert await kids(sets, site, eager=True) == [EC.kid, OTHER.kid]
    assert len(site.asked) == 2


async def test_looking_for_a_key_that_nobody_has_costs_nobody_theirs(site: Site) -> None:
    """Anybody can ask for one, with whatever kid: while its issuer is down, those who are known stay so."""
    sets = KeySets(loopback=True)
    await kids(sets, site)
    site.answer = (500, {}, b"")
    sets._kept[site.address].fetched -= 11
    for eager in (True, True, False):
        assert await kids(sets, site, eager=eager) == [EC.kid, RSA.kid]
    assert len(site.asked) == 2
    sets._kept[site.address].until -= 60
    with pytest.raises(Unfetched, match="answers 500"):
        await kids(sets, site)


async def test_keys_that_cannot_be_had_are_not_the_old_ones(site: Site) -> None:
    sets = KeySets(loopback=True)
    await kids(sets, site)
    site.answer = (500, {}, b"")
    sets._kept[site.address].until -= 60
    for _ in range(3):
        with pytest.raises(Unfetched, match="answers 500"):
            await kids(sets, site)
    assert len(site.asked) == 2
    site.publish(EC)
    sets._kept[site.address].until -= 60
    assert await kids(sets, site) == [EC.kid]


async def test_addresses_kept_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "MOST", 2)
    sets = KeySets(loopback=True)
    for each in range(4):
        await sets.keys(f"{site.address}?{each}")
    assert len(sets._kept) == 2


@pytest.fixture
async def here(database: str, tmp_path: Path, site: Site) -> AsyncIterator[World]:
    """A gateway with an application that publishes its keys."""
    async with world(database, tmp_path / "keys", loopback=True) as made:
        await made.register(jwks=None, jwks_url=site.address)
        yield made


async def test_an_application_may_publish_its_keys(here: World, site: Site) -> None:
    assert (await here.ask(signed(claims()))).status_code == 200
    assert (await here.ask(signed(claims(), jku=site.address))).status_code == 200
    assert (await here.ask(signed(claims(), OTHER))).status_code == 401
    assert (await here.ask(signed(claims(), jku=site.address + "?"))).status_code == 200  # an empty query is none
    assert len(site.asked) == 1


async def test_a_jku_of_ones_own_is_never_fetched(here: World, site: Site) -> None:
    with serving() as evil:
        evil.publish(OTHER)
        for jku in (evil.address, site.address + "x", site.address.replace("127.0.0.1", "127.0.0.1@evil.test")):
            answered = await here.ask(signed(claims(), OTHER, jku=jku))
            assert (answered.status_code, answered.json()["error"]) == (401, "invalid_client")
        assert evil.asked == []


async def test_a_key_just_published_is_found(here: World, site: Site) -> None:
    assert (await here.ask()).status_code == 200
    site.publish(OTHER)
    here.smart.exchange.key_sets._kept[site.address].fetched -= 11
    assert (await here.ask(signed(claims(), OTHER))).status_code == 200
    assert (await here.ask(signed(claims(), EC))).status_code == 401


async def test_keys_that_cannot_be_had_let_nobody_in(here: World, site: Site) -> None:
    site.answer = (500, {}, b"")
    answered = await here.ask()
    assert (answered.status_code, answered.json()["error"]) == (503, "temporarily_unavailable")
    assert answered.headers["retry-after"] == "10"
