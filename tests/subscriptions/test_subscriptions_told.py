"""Who subscribes is told what happens: of what they may see, once, in its order, signed, and audited before."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature

from tests.subscriptions.receiving import verified
from tests.subscriptions.subscribing import World


async def test_a_change_is_told_after_a_handshake(world: World) -> None:
    id = await world.subscribed(world.council)
    (handshake,) = world.receiver.got
    assert (handshake.kind, handshake.status["status"], handshake.numbers) == ("handshake", "requested", [])
    seen = world.observe()
    await world.turn()
    (told,) = world.told()
    assert told.numbers == [1] and told.foci == [f"Observation/{seen}"]
    assert told.status["subscription"] == {"reference": f"{world.gateway.base}/Subscription/{id}"}
    assert told.bundle["type"] == "history" and told.status["events-since-subscription-start"] == "1"
    await world.turn(2)
    assert len(world.told()) == 1


async def test_a_receiver_verifies_it_by_the_published_keys(world: World) -> None:
    await world.subscribed(world.council)
    world.observe()
    await world.turn()
    keys = world.keys()
    (told,) = world.told()
    header = verified(told, keys)
    assert header["url"] == f"{world.receiver.url}/hook" and header["typ"] == "fhir-notification"
    with pytest.raises(InvalidSignature):
        verified(told, keys, told.body.replace(b"Observation", b"Conditions "))
