"""What a command says of errors that nobody waited for: their kind and place, never their message."""

import asyncio
import gc

import asyncpg
import pytest

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
