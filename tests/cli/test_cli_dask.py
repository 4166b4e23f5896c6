"""What the command line says of a Dask cluster that is not there, not named right, or not needed."""

import socket

import pytest

from fhirgw import settings
from fhirgw.cli.running import CODES
from fhirgw.jobs import cluster
from fhirgw.jobs.cluster import address
from fhirgw.settings import Settings
from tests.cli.conftest import Command


def test_what_the_setting_may_be(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address("dask://one:8786") == "tcp://one:8786"
    assert address("dask+tls://one.example:8786/") == "tls://one.example:8786"
    for right in ("procrastinate", "dask://one:8786", "dask+tls://[::1]:8786"):
        assert Settings(executor=right).executor == right
    for wrong in ("celery", "dask://one", "tcp://one:8786", "dask://one:8786/x", "dask://name:secret@one:8786"):
        ended = command("worker", FHIRGW_EXECUTOR=wrong)
        assert (ended.code, ended.out) == (2, "")
        assert "FHIRGW_EXECUTOR: " in ended.err and "dask://host:8786" in ended.err and "secret" not in ended.err
    ended = command("worker", FHIRGW_EXECUTOR="dask+tls://one:8786")
    assert ended.code == 2
    assert (
        "dask worker tls://one:8786 --nthreads 1 --resources fhirgw=1 --preload fhirgw.jobs.cluster_work" in ended.err
    )
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    ended = command("worker", FHIRGW_EXECUTOR="dask://one:8786")
    assert ended.code == 2
    assert "pip install 'fhirgw[dask]'" in ended.err


def test_nobody_serves_or_exports_for_a_scheduler_that_does_not_answer(
    command: Command, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        at = f"dask://127.0.0.1:{silent.getsockname()[1]}"
        for arguments in (["serve", "--port", "0"], ["export", "run"]):
            ended = command(*arguments, FHIRGW_EXECUTOR=at, FHIRGW_DATABASE_URL=database)
            assert ended.code == 4
            assert f"FHIRGW_EXECUTOR: no Dask scheduler answers at {at.replace('dask', 'tcp')}. Start it" in ended.err
        ended = command("serve", FHIRGW_EXECUTOR=at.replace("dask", "dask+tls"), FHIRGW_DATABASE_URL=database)
        assert ended.code == 4  # nobody named certificates
        assert "Dask's own TLS settings" in ended.err
    assert "no Dask scheduler answers" in CODES
