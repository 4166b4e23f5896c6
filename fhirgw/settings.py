"""The settings: read once from the environment (`FHIRGW_…`), by the command line and the app, and passed in."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fhirgw.fhir.nhs import is_ods_code

ORIGIN = re.compile(r"\*|https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""`*`, or a scheme, a host and a port: no path, no slash. https://www.rfc-editor.org/rfc/rfc6454#section-6"""

DASK = re.compile(r"dask(?:\+tls)?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}/?")
"""The scheduler of a Dask cluster."""


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
    controller: str = Field("Z9C01", description="The ODS code of the organisation whose records these are")
    other_controllers: str = Field(
        "", description="ODS codes of other organisations that control records here too, with blanks between"
    )
    connections: int = Field(
        10, ge=1, le=500, description="Connections a serving process may hold: so many to read, and so many to search"
    )
    processes: int = Field(
        1,
        ge=1,
        description="Serving processes that share an application's rate: of so many replicas, times their --workers",
    )
    statement_seconds: float = Field(30, gt=0, description="Seconds a request's SQL statement may take")
    writers: int = Field(8, ge=1, le=100, description="Connections a serving process may hold to write")
    longest_body: int = Field(
        16_000_000, ge=1000, description="Bytes of a body that is written, unpacked: a longer one is refused"
    )
    entries: int = Field(5000, ge=1, description="Entries of a batch or transaction Bundle: more are refused")
    visit_writers: int = Field(
        4, ge=1, le=100, description="Connections a serving process may hold besides, to take in homecare visits"
    )
    log: Literal["json", "plain"] = Field("json", description="Log lines for machines or for people")

    keys: Path | None = Field(
        None, description="The folder of the keys that sign access tokens; unset: keys/gateway in the data folder"
    )
    issuers: Path | None = Field(
        None, description="A YAML or JSON file that lists whose access tokens are taken besides the gateway's own"
    )
    loopback_jwks: bool = Field(
        False, description="Fetch applications' keys over http from this machine too: for trying things out"
    )

    exports: Path | None = Field(
        None, description="The folder of exports, which every worker must see; unset: exports in the data folder"
    )
    export_store: str | None = Field(
        None,
        description="An object store for the files of exports in place of that folder: s3://bucket/prefix, "
        "az://container/prefix or gs://bucket/prefix",
    )
    signed_url_seconds: float = Field(
        0,
        ge=0,
        le=300,
        description="How long an address leads to the object store itself, of a file that was asked for; "
        "0: the gateway passes files on",
    )
    worker_in_serve: bool = Field(
        True, description="Whether a serving process works on exports too; else `fhirgw worker` does all of that"
    )
    executor: str = Field(
        "procrastinate",
        description="Who moves the work: procrastinate, in the gateway's own PostgreSQL; or a Dask cluster, by its "
        "scheduler's address: dask://host:port, dask+tls://host:port",
    )
    lease_seconds: float = Field(
        30, ge=1, le=3600, description="Seconds after which a worker that says nothing loses the part it works on"
    )
    part_megabytes: float = Field(96, gt=0, description="How much of a table is one part of an export")
    gzip_exports: bool = Field(False, description="Whether the files of exports are kept as gzip")

    cors_origins: str | None = Field(
        None, description="Origins whose web pages may call the gateway, with commas between: https://app.example"
    )
    import_folder: Path | None = Field(
        None, description="A folder whose files may be imported over HTTP, as file:///… (every worker must see it)"
    )
    import_origins: str = Field(
        "", description="Origins that may be imported from over HTTP, with blanks between: https://files.example"
    )
    import_gigabytes: float = Field(20, gt=0, description="How large an input may be that is fetched for an import")
    project_keys: Path | None = Field(
        None,
        description="The folder of the keys that pseudonyms are made with, which every worker must see; "
        "unset: keys/projects in the data folder",
    )

    terminology_url: str | None = Field(
        None, description="The FHIR base of a terminology server to ask for codes that are not carried here"
    )
    terminology_token: SecretStr | None = Field(None, description="The bearer token it wants, if it wants one")

    loopback_hooks: bool = Field(
        False, description="Send notifications over http to this machine too: for trying things out"
    )
    hook_origins: str = Field(
        "",
        description="Origins on private networks that notifications may go to, with blanks between: "
        "https://rota.internal:8443",
    )

    opt_out_days: float = Field(
        7, gt=0, description="Days that a list of national data opt-outs counts for: then planning and research stop"
    )

    @field_validator("database_url")
    @classmethod
    def _named(cls, url: str | None) -> str | None:
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("it names no PostgreSQL: write postgresql://account@host/name, or leave it unset")
        return url or None

    @field_validator("executor")
    @classmethod
    def _known(cls, told: str) -> str:
        if told != "procrastinate" and not DASK.fullmatch(told):
            raise ValueError("it is procrastinate, or a Dask scheduler: dask://host:8786, dask+tls://host:8786")
        if told != "procrastinate" and find_spec("distributed") is None:
            raise ValueError("Dask is not installed here: pip install 'fhirgw[dask]', or leave it unset")
        return told

    @field_validator("export_store")
    @classmethod
    def _object_store(cls, url: str | None) -> str | None:
        if url and not re.match(r"(s3|az|gs)://[^/]", url):
            raise ValueError("it is no object store: write s3://bucket/prefix, az://… or gs://…, or leave it unset")
        return url or None

    @field_validator("terminology_url")
    @classmethod
    def _web(cls, url: str | None) -> str | None:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError("it is no FHIR base: write https://terminology.example/fhir, or leave it unset")
        return url or None

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, text: str | None) -> str | None:
        if not all(ORIGIN.fullmatch(each) for each in _listed(text)):
            raise ValueError("an origin is a scheme, a host and a port: https://app.example:8443, or * for every one")
        return text or None

    @field_validator("other_controllers")
    @classmethod
    def _codes(cls, codes: str) -> str:
        if not all(map(is_ods_code, codes.split())):
            raise ValueError("each is an ODS code, as RAB, with blanks between")
        return codes

    @property
    def controllers(self) -> tuple[str, ...]:
        """Whose records these are: the gateway's own council first."""
        return (self.controller, *self.other_controllers.split())

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose web pages may call the gateway."""
        return _listed(self.cors_origins)

    @field_validator("import_origins")
    @classmethod
    def _imported_from(cls, origins: str) -> str:
        if any(urlsplit(each).path or not urlsplit(each).netloc for each in origins.replace(",", " ").split()):
            raise ValueError("each is an https origin without a path: https://files.example")
        return origins

    @field_validator("hook_origins")
    @classmethod
    def _hooked(cls, origins: str) -> str:
        split = [urlsplit(each) for each in origins.replace(",", " ").split()]
        if any(each.path or not each.netloc or each.scheme != "https" for each in split):
            raise ValueError("each is an https origin without a path: https://rota.internal:8443")
        return origins

    @property
    def postgres(self) -> Path:
        """The folder of the embedded PostgreSQL."""
        return self.data / "postgres"

    @property
    def export_folder(self) -> Path:
        """The folder of exports."""
        return self.exports or self.data / "exports"

    @property
    def signed_for(self) -> timedelta:
        """How long an address of the object store is good for that a caller is sent to."""
        return timedelta(seconds=self.signed_url_seconds)

    @property
    def import_spool(self) -> Path:
        """The folder of what imports have fetched, and tell of errors: beside exports, where every worker sees it."""
        return self.export_folder / "imports"

    @property
    def project_folder(self) -> Path:
        """The folder of the keys of projects."""
        return self.project_keys or self.data / "keys" / "projects"

    @property
    def key_folder(self) -> Path:
        """The folder of the gateway's own keys."""
        return self.keys or self.data / "keys" / "gateway"


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(each.strip() for each in (text or "").split(",") if each.strip())
