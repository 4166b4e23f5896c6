"""How often a registration may ask: so many requests a minute, which may come in one burst.

The generic cell rate algorithm: one number for each registration, the moment at which its quota will be whole again.
Counted in each serving process by itself, which has its share of the rate: all of them together never let in more, and
an application that asks one alone gets less. The library `limits` (5.8.0, 2026) is well kept, but in memory it takes
15 µs a request and starts a thread every 10 ms to forget; this takes one, and forgets by itself.
https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-10.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

CHARGE = "fhirgw.charge"
"""Where in a request's scope the function is that counts what it asks for besides (`charge(number)`)."""

WINDOW = 60.0
MOST = 10_000
"""Registrations counted at once."""


class Quota(NamedTuple):
    """What is left to a registration after a request; `wait`: seconds until it may ask again, 0 if it may now."""

    rate: int
    remaining: int
    whole: float
    wait: float

    def headers(self) -> dict[str, str]:
        """What the caller is told."""
        told = {
            "ratelimit-policy": f'"registration";q={self.rate};w={WINDOW:.0f}',
            "ratelimit": f'"registration";r={self.remaining};t={ceil(self.whole)}',
        }
        return told | {"retry-after": str(max(1, ceil(self.wait)))} if self.wait else told


class Limits:
    """The registrations' quotas, of which `processes` have a share each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, processes: int = 1) -> None:
        self._clock, self._processes = clock, processes
        self._whole: dict[str, float] = {}

    def take(self, key: str, rate: int) -> Quota:
        """One request more. A request that has to wait takes nothing."""
        now = self._clock()
        rate = max(1, rate // self._processes)
        each = WINDOW / rate
        whole = max(self._whole.get(key, now), now) + each
        if whole - now > WINDOW + 1e-9:
            return Quota(rate, 0, whole - each - now, whole - now - WINDOW)
        if len(self._whole) >= MOST and key not in self._whole:
            self._forget(now)
        self._whole[key] = whole
        return Quota(rate, int((WINDOW - (whole - now)) / each + 1e-6), whole - now, 0.0)

    def charge(self, key: str, rate: int, more: int) -> Quota:
        """What one request asked for besides, all of it, also what is beyond the quota: who owes waits the longer."""
        now = self._clock()
        rate = max(1, rate // self._processes)
        each = WINDOW / rate
        whole = self._whole[key] = max(self._whole.get(key, now), now) + more * each
        return Quota(rate, max(0, int((WINDOW - (whole - now)) / each + 1e-6)), whole - now, 0.0)

    def _forget(self, now: float) -> None:
        """Those whose quota is whole again need not be known; if that is nobody, the one who asked first is."""
        self._whole = {key: whole for key, whole in self._whole.items() if whole > now}
        if len(self._whole) >= MOST:
            del self._whole[next(iter(self._whole))]
