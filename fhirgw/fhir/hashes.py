"""SHA-1 and SHA-256 of short texts, from whichever implementation of Python's begins soonest.

Tokens and ids are made of texts of some fifty bytes. For those OpenSSL, behind `hashlib`, takes 0.7 µs, of which most
goes into finding the algorithm; the interpreter's own modules (which `hashlib` itself falls back to) take 0.35.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

Hash = Callable[[bytes], Any]


def _quick(usual: Hash, name: str, *modules: str) -> Hash:
    for module in modules:
        with suppress(ImportError):
            found: Hash = getattr(import_module(module), name)
            return found
    return usual


# SHA-1 makes ids, as in UUIDs of version 5; where policy forbids it for security, it is told that this is none.
sha1 = _quick(partial(hashlib.sha1, usedforsecurity=False), "sha1", "_sha1")
sha256 = _quick(hashlib.sha256, "sha256", "_sha2", "_sha256")
"""As in hashlib. `_sha2` from Python 3.12 on, `_sha256` before."""
