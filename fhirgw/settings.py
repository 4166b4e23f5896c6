"""The settings: read once from the environment (`FHIRGW_…`), by the command line and the app, and passed in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is an environment variable: `data` is `FHIRGW_DATA`."""

    model_config = SettingsConfigDict(env_prefix="FHIRGW_", frozen=True)

    database_url: str | None = Field(
        None,
        description="A PostgreSQL 15 or newer to use instead of the embedded one: postgresql://account@host/name",
    )
    data: Path = Field(Path("data"), description="The folder for the embedded PostgreSQL, exports and errors files")
    base_url: str | None = Field(
        None,
        description="The FHIR base that callers use, as https://gateway.example/fhir; unset: as each request names it",
    )
    controller: str = Field("Z99", description="The ODS code of the organisation whose records these are")
    connections: int = Field(
        10, ge=1, le=500, description="Connections a serving process may hold: so many to read, and so many to search"
    )
    statement_seconds: float = Field(30, gt=0, description="Seconds a request's SQL statement may take")
    log: Literal["json", "plain"] = Field("json", description="Log lines for machines or for people")

    @field_validator("database_url")
    @classmethod
    def _named(cls, url: str | None) -> str | None:
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("it names no PostgreSQL: write postgresql://account@host/name, or leave it unset")
        return url or None

    @property
    def postgres(self) -> Path:
        """The folder of the embedded PostgreSQL."""
        return self.data / "postgres"
