"""The two layouts of the made-up council: one council, two systems of record that agree in nothing but the facts."""

from __future__ import annotations

from fhirgw.council import harbour, meadow
from fhirgw.council.convention import HARBOUR, MEADOW
from fhirgw.council.declare import read
from fhirgw.council.layout import Layout

LAYOUTS = {
    "meadow": Layout("meadow", read(meadow.TABLES), MEADOW),
    "harbour": Layout("harbour", read(harbour.TABLES), HARBOUR),
}
