"""Where the files shipped beside the code are: mappings, profiles, alembic."""

from __future__ import annotations

from pathlib import Path


def path(name: str) -> Path:
    """The folder `name`: inside the package where a wheel was installed, else at the root of the repository."""
    package = Path(__file__).parent
    inside = package / "_shipped" / name
    return inside if inside.is_dir() else package.parent / name
