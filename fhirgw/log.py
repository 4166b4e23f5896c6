"""How every process of the gateway logs: one line of JSON for each thing worth saying, or plain text for people."""

from __future__ import annotations

import logging

import structlog

from fhirgw.settings import Settings


def configure_log(settings: Settings) -> None:
    """To be called once by each process.

    uvicorn's access log is off: it writes whole addresses, and a search's address may name a person.
    """
    logging.getLogger("uvicorn.access").disabled = True
    shown = structlog.processors.JSONRenderer() if settings.log == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            shown,
        ]
    )
