"""The keys of the projects that have pseudonymised exports: a file each, this account's alone, below one folder.

A project is its organisation's, and an agreement's: two that give a project the same name have keys of their own, and
so no pseudonym in common. What is in the file is the organisation's project's, and made a key by the agreement's name:
whoever has the same project under another agreement cannot join what both have had. A file is made when a project first
asks, and kept for as long as its pseudonyms are to stay the same; workers read it where it was made, and make none.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from pathlib import Path
from uuid import uuid4

import structlog

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.pseudonym import Pseudonymiser, rules
from fhirgw.fhir.pseudonym_filter import finer, why
from fhirgw.jobs.files import Unwritable, durable
from fhirgw.private import private_folder, private_text
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job

PURPOSES = (Purpose.PLANNING, Purpose.RESEARCH)
"""What pseudonymised exports are for: purposes that opt-outs hold for, and that rest on an agreement."""

NAME = re.compile("[A-Za-z0-9][A-Za-z0-9-]{0,62}", re.ASCII)
BYTES = 32
log = structlog.get_logger("fhirgw.jobs")


class Projects:
    """The keys below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, permit: Permit, asked: Selection) -> None:
        """Makes the key of a project that has none yet. Raises FhirError: not for this purpose, not of these types; 507
        where it cannot be kept, which names no folder of ours.
        """
        if asked.project is None:
            return
        if permit.purpose not in PURPOSES:
            raise FhirError(Issue("forbidden", "Pseudonymised exports are for planning and research alone"))
        for each in asked.types:
            if each not in rules().types:
                raise FhirError(Issue("not-supported", f"There are no rules to pseudonymise {each} by: leave it out"))
        _check_scopes(permit)
        path = self._path(permit, asked.project)
        try:
            _make(path)
        except OSError as error:
            log.error("key of a project not made", error=str(Unwritable(path.parent, error)))
            told = "The gateway cannot keep the key of the project: its operators have to make room"
            raise FhirError(Issue("exception", told), status=507) from None

    def of(self, job: Job) -> Pseudonymiser | None:
        """What the job's resources go through, if they are not to be as they are. Raises FhirError."""
        if job.asked.project is None:
            return None
        try:
            key = bytes.fromhex(self._path(job.permit, job.asked.project).read_text())
        except (OSError, ValueError):
            key = b""
        if len(key) != BYTES:
            told = "This worker has not the key of the project: every worker must see the folder of FHIRGW_PROJECT_KEYS"
            raise FhirError(Issue("exception", told))
        return Pseudonymiser(_bound(key, job.permit.agreement or ""), rules(), job.created.date())

    def _path(self, permit: Permit, project: str) -> Path:
        if not NAME.fullmatch(project) or not NAME.fullmatch(permit.organisation):
            raise FhirError(Issue("invalid", "A project is named by letters, digits and hyphens, 63 at most"))
        return self._folder / permit.organisation / f"{project}.key"


def _check_scopes(permit: Permit) -> None:
    """Raises FhirError for a scope that narrows more finely than a filter may: a token's are chosen by who asks."""
    for each in permit.scopes:
        for name, _ in each.constraint if each.type in rules().types else ():
            if finer(f"{each.type}?{name}=x"):
                raise FhirError(Issue("forbidden", why("scope", name, each.type)))


def _bound(key: bytes, agreement: str) -> bytes:
    """The project's key under an agreement."""
    return hmac.digest(key, f"agreement {agreement}".encode(), "sha256")


def _make(path: Path) -> None:
    """A new key, all there or not there; one that is there already stays, whoever made it meanwhile."""
    if path.exists():
        return
    private_folder(path.parent)
    made = path.with_name(f".{uuid4().hex}")
    try:
        with private_text(made) as file:
            file.write(secrets.token_hex(BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(made, path)
        except FileExistsError:
            return
        durable(path.parent)
    finally:
        made.unlink(missing_ok=True)
