"""`python -m tests.bench [all | NAME ...]`: prints figures, writes build/bench.json. The names are below.

PEOPLE in the environment says how large the council is (2,000 adults unless it does; 30,000 are a million
resources), ROUNDS how often each is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import (
    access,
    demo,
    export,
    homecare,
    large,
    load,
    mapping,
    reconciliation,
    rest,
    stored,
    sync,
    validation,
)
from tests.bench.figures import Figure, machine

BENCHES: dict[str, Callable[[], list[Figure]]] = {
    "mapping": mapping.run,
    "sync": sync.run,
    "load": load.run,
    "export": export.run,
    "access": access.run,
    "rest": rest.run,
    "large": large.run,
    "stored": stored.run,
    "validation": validation.run,
    "homecare": homecare.run,
    "reconciliation": reconciliation.run,
    "demo": demo.run,
}
TOGETHER = {"export": ("export", "load", "access")}
"""What is taken besides, where one is asked for: all that is said of bulk."""


def main(names: list[str]) -> int:
    """Runs the named benchmarks, all of them where none is named."""
    named = (
        list(BENCHES) if names in ([], ["all"]) else [each for name in names for each in TOGETHER.get(name, (name,))]
    )
    wanted = list(dict.fromkeys(named))
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        print(f"There is no benchmark {unknown[0]}: all, {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    for name in wanted:
        for figure in BENCHES[name]():
            print(figure.line(), flush=True)
            figures.append(figure)
    kept = Path("build/bench.json")
    kept.parent.mkdir(exist_ok=True)
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    made = {"taken": taken, "machine": machine(), "figures": [figure.as_json() for figure in figures]}
    kept.write_text(json.dumps(made, indent=2))
    return 0


sys.exit(main(sys.argv[1:]))
