"""What a command says of errors that nobody waited for: their kind and place, never their message."""

import asyncio
import gc

import asyncpg
import pytest

from fhirgw.cli import console
from fhirgw.cli.console import Console
from fhirgw.cli.running import run


async def _left(error: Exception) -> None:
    """A task that fails while nobody waits for it."""

    async def fails() -> None:
        raise error

    task: object = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()


def test_what_nobody_waited_for_is_told_without_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    run(_left(ValueError("CanaryName")))
    said = capsys.readouterr()
    assert "ValueError" in said.err
    assert "test_cli_running.py:" in said.err
    assert "CanaryName" not in said.out + said.err
    assert said.out == ""


def test_that_the_database_is_away_is_left_to_who_asked_it(capsys: pytest.CaptureFixture[str]) -> None:
    run(_left(asyncpg.ConnectionDoesNotExistError("CanaryName")))
    said = capsys.readouterr()
    assert said.out + said.err == ""


@pytest.mark.parametrize(("every", "json", "lines"), [(0.0, False, 3), (60.0, False, 1), (0.0, True, 0)])
def test_a_log_is_told_now_and_then_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], every: float, json: bool, lines: int
) -> None:
    monkeypatch.setattr(console, "EVERY", every)
    with Console(json).stage("export", "resources") as stage:
        stage.detail = "1 of 4 parts, 85 MB/s"
        stage.update(1000, 4000)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == lines
    if lines == 3:  # at the beginning, once on the way, at the end
        assert told[1].startswith("export 1 of 4 parts, 85 MB/s: 0 s, 1,000 of 4,000 resources, ")
        assert told[1].endswith(" s left")
