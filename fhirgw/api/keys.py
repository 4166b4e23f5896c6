"""The gateway's own keys: a folder of private JWKs, the last of which by name signs and all of which verify.

Made when first needed, by whichever process comes first; the others find it. `id` beside them is the gateway's name in
its tokens (iss and aud), so that a token made by the command line holds at whatever address the gateway is reached. A
folder that is mounted read-only works if both are in it. To rotate: put a key with a later name there, and remove the
old one when its last token has expired.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
from joserfc.jwk import RSAKey

from fhirgw.access import jose
from fhirgw.access.token import ALGORITHM
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.private import private_folder

BITS = 2048
STALE = 60.0
"""Seconds after which the folder is looked at again: a key that was removed stops working."""

EAGER = 1.0
"""Seconds between looks for a key that nobody knows, which anybody can ask for."""

ID = "id"


class Keyring:
    """The keys of a folder. What verifies is another list when they change.

    Raises FhirError(transient) where they cannot be read: then nobody is let in, and nobody refused for their token.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._texts: list[str] = []
        self._keys: list[jose.Key] = []
        self._public: list[jose.Key] = []
        self._read = -STALE
        with _told():
            if not (folder / ID).exists() or not list(folder.glob("*.json")):
                _make(folder)
            self.gateway = (folder / ID).read_text().strip()
        self._refresh()

    def signer(self) -> jose.Key:
        """The key that signs."""
        self._refresh()
        return self._keys[-1]

    def verifying(self, *, eager: bool = False) -> Sequence[jose.Key]:
        """The keys that verify; `eager` looks for new ones first."""
        self._refresh(EAGER if eager else STALE)
        return self._public

    def _refresh(self, age: float = STALE) -> None:
        now = time.monotonic()
        if now - self._read < age:
            return
        with _told():
            self._read_again()
        self._read = now

    def _read_again(self) -> None:
        texts = [path.read_text() for path in sorted(self.folder.glob("*.json"))]
        if texts != self._texts:
            keys = [each for each in map(jose.private_key, map(orjson.loads, texts)) if jose.fits(each, ALGORITHM)]
            if not keys:
                raise ValueError(f"no key for {ALGORITHM}")
            self._keys, self._public = keys, [jose.public_key(each.as_dict(private=False)) for each in keys]
            self._texts = texts


def keep(path: Path, text: str) -> None:
    """Writes a secret in one go, for this account alone."""
    made = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


def add(folder: Path) -> Path:
    """Makes a key, which signs from now on, and what the gateway is called where that is not there yet; the key's file.

    Raises FhirError where the folder cannot be written.
    """
    with _told(), _opened(folder):
        return _key(folder)


def _make(folder: Path) -> None:
    with _opened(folder):
        if not list(folder.glob("*.json")):
            _key(folder)


@contextmanager
def _opened(folder: Path) -> Iterator[None]:
    """The folder, with the gateway's id in it, to one process at a time."""
    if not folder.parent.exists():
        private_folder(folder.parent)  # applications' keys may come to lie there
    private_folder(folder)
    with _alone(folder):
        if not (folder / ID).exists():
            keep(folder / ID, f"urn:uuid:{uuid.uuid4()}\n")
        yield


def _key(folder: Path) -> Path:
    key = RSAKey.generate_key(BITS, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    made = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{str(key.kid)[:8]}.json"
    keep(made, orjson.dumps(key.as_dict(private=True), option=orjson.OPT_INDENT_2).decode())
    return made


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, jose.Untrusted) as error:
        told = f"The gateway's own keys cannot be used ({type(error).__name__}): put right the folder FHIRGW_KEYS names"
        raise FhirError(Issue("transient", told)) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
