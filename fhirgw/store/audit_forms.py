"""The forms of brief AuditEvents that one process knows: which it has met, and which the database has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fhirgw.access.audit_read import Form
from fhirgw.store.database import Connection

KEEP = "INSERT INTO fhirgw.audit_form (key, pieces, holes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
MOST = 10_000
"""Forms that are remembered."""


@dataclass(slots=True)
class Forms:
    """What is forgotten costs no more than being told again."""

    met: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)

    def has_met(self, form: Form) -> bool:
        """Whether the form was asked for before: of many there is never a second AuditEvent, so they are not kept."""
        if form.key in self.met:
            return True
        if len(self.met) >= MOST:
            self.met.clear()
        self.met.add(form.key)
        return False

    async def keep(self, connection: Connection, forms: Iterable[Form]) -> None:
        """Sees to it that the forms are there, before a row rests on them: on disk, or in the row's own transaction."""
        new = {each.key: each for each in forms if each.key not in self.kept}
        for each in new.values():
            await connection.execute(KEEP, *each)
        if len(self.kept) >= MOST:
            self.kept.clear()
        self.kept.update(new)

    def doubt(self) -> None:
        """Something failed: who knows what database it is that comes back."""
        self.kept.clear()
