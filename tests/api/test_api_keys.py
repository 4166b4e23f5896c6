"""The gateway's own keys: made once, kept to this account, read again when they change."""

import multiprocessing
import stat
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from joserfc.jwk import ECKey, RSAKey

from fhirgw.access import jose, token
from fhirgw.api import keys
from fhirgw.api.issuers import Issuers
from fhirgw.api.keys import Keyring
from fhirgw.api.verifier import Verifier
from fhirgw.fhir.issue import FhirError


def put(folder: Path, name: str) -> RSAKey:
    made = RSAKey.generate_key(2048, {"alg": "RS256"}, auto_kid=True)
    (folder / name).write_bytes(orjson.dumps(made.as_dict(private=True)))
    return made


def signed(ring: Keyring, key: jose.Key | None = None, now: float | None = None) -> str:
    moment = int(now or datetime.now(UTC).timestamp())
    said = token.claims(ring.gateway, "app", "j", "system/*.rs", "direct-care", moment)
    return token.sign(said, key or ring.signer())


def files(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))


def known(ring: Keyring) -> list[str | None]:
    return [key.kid for key in ring.verifying()]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No minute passes between two looks."""
    monkeypatch.setattr(keys, "STALE", 0.0)
    monkeypatch.setattr(Keyring._refresh, "__defaults__", (0.0,))


def test_keys_are_made_for_this_account_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "keys" / "gateway"
    made = Keyring(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.json")} == {0o600}
    again = Keyring(folder)
    assert (again.gateway, known(again)) == (made.gateway, known(made))
    assert again.gateway.startswith("urn:uuid:")
    assert not any(key.is_private for key in made.verifying())


def test_a_private_key_is_not_told(tmp_path: Path) -> None:
    made = Keyring(tmp_path)
    assert not any("d" in key.as_dict() for key in made.verifying())


def _opened(folder: Path, told: "multiprocessing.Queue[tuple[str, list[str | None]]]") -> None:
    made = Keyring(folder)
    told.put((made.gateway, known(made)))


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    started = multiprocessing.get_context("spawn")
    told = started.Queue()
    processes = [started.Process(target=_opened, args=(tmp_path / "keys", told)) for _ in range(3)]
    for each in processes:
        each.start()
    found = [told.get(timeout=120) for _ in processes]
    for each in processes:
        each.join()
    assert found[0] == found[1] == found[2]
    assert len(found[0][1]) == 1


def test_a_folder_that_cannot_be_written_serves(tmp_path: Path) -> None:
    made = Keyring(tmp_path)
    (tmp_path / ".lock").unlink()
    tmp_path.chmod(0o500)
    try:
        assert Keyring(tmp_path).gateway == made.gateway
    finally:
        tmp_path.chmod(0o700)


def test_the_last_by_name_signs_and_all_verify(tmp_path: Path, hurried: None) -> None:
    ring = Keyring(tmp_path)
    old = ring.signer()
    new = put(tmp_path, "99991231.json")
    assert ring.signer().kid == new.kid
    assert known(ring) == [old.kid, new.kid]


def test_a_key_that_is_added_signs_and_the_older_one_verifies(tmp_path: Path, hurried: None) -> None:
    folder = tmp_path / "keys"
    first = keys.add(folder)
    ring = Keyring(folder)
    assert [path.name for path in folder.glob("*.json")] == [first.name], "the first is not made twice"
    old = ring.signer()
    later = first.rename(folder / f"2000{first.name}")  # as one of an earlier day is called
    second = keys.add(folder)
    assert (known(ring)[0], ring.signer().kid != old.kid) == (old.kid, True)
    assert stat.S_IMODE(second.stat().st_mode) == 0o600
    later.unlink()
    assert known(ring) == [ring.signer().kid]


def test_a_key_is_not_added_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(FhirError, match="FHIRGW_KEYS"):
        keys.add(tmp_path / "keys")
    keys.add(tmp_path / "others")


async def test_a_key_that_is_put_there_verifies_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "EAGER", 0.0)
    ring = Keyring(tmp_path)
    verifier = Verifier(ring, Issuers())
    new = put(tmp_path, "99991231.json")
    assert (await verifier.bearer(signed(ring, new))).registration == "app"
    stranger = RSAKey.generate_key(2048, auto_kid=True)
    with pytest.raises(jose.Untrusted, match="no key has its kid"):
        await verifier.bearer(signed(ring, stranger))


async def test_a_key_that_is_removed_takes_its_tokens_with_it(tmp_path: Path, hurried: None) -> None:
    ring = Keyring(tmp_path)
    verifier = Verifier(ring, Issuers())
    old = signed(ring)
    assert await verifier.bearer(old) is await verifier.bearer(old)
    (first,) = files(tmp_path)
    put(tmp_path, "99991231.json")
    assert await verifier.bearer(old)
    first.unlink()
    with pytest.raises(jose.Untrusted, match="no key has its kid"):
        await verifier.bearer(old)
    assert await verifier.bearer(signed(ring))


async def test_a_token_is_known_until_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Keyring(tmp_path)
    verifier = Verifier(ring, Issuers())
    text = signed(ring)
    bearer = await verifier.bearer(text)
    monkeypatch.setattr("fhirgw.api.verifier.time.time", lambda: bearer.expires)
    with pytest.raises(jose.Untrusted, match="expired"):
        await verifier.bearer(text)


async def test_tokens_known_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhirgw.api.verifier.MOST", 2)
    ring = Keyring(tmp_path)
    verifier = Verifier(ring, Issuers())
    now = datetime.now(UTC).timestamp()
    for each in range(4):
        await verifier.bearer(signed(ring, now=now - each))
    assert len(verifier._known) == 2


def test_a_folder_without_a_fitting_key_says_so(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("urn:uuid:1")
    other = ECKey.generate_key("P-256", auto_kid=True)
    (tmp_path / "1.json").write_bytes(orjson.dumps(other.as_dict(private=True)))
    with pytest.raises(FhirError, match="own keys cannot be used") as refused:
        Keyring(tmp_path)
    assert refused.value.status == 503


async def test_keys_that_cannot_be_read_are_nobodys_fault(tmp_path: Path, hurried: None) -> None:
    ring = Keyring(tmp_path)
    verifier = Verifier(ring, Issuers())
    good = signed(ring)
    assert await verifier.bearer(good)
    (tmp_path / "9.json").write_text("{half written")
    with pytest.raises(FhirError, match="own keys cannot be used"):
        await verifier.bearer(good)
    (tmp_path / "9.json").unlink()
    assert await verifier.bearer(good)
