"""How often a caller asks how something goes, some times at once and then as often as it gets on; and if it does."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable


class Patience:
    """A bucket for each job: `burst` questions at once, and `rate` a second from then on."""

    def __init__(self, burst: int = 60, rate: float = 2.0, kept: int = 10_000) -> None:
        self._burst, self._rate, self._kept = burst, rate, kept
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds(self, job: str) -> int:
        """Counts one more question; 0, or how many seconds to wait before the next."""
        now = time.monotonic()
        left, at = self._buckets.pop(job, (float(self._burst), now))
        left = max(-1.0, min(self._burst, left + (now - at) * self._rate) - 1)
        self._buckets[job] = (left, now)
        while len(self._buckets) > self._kept:
            self._buckets.popitem(last=False)
        return 0 if left >= 0 else 1 + int(-left / self._rate)


class Standstill:
    """How long jobs have been no further, as far as anybody has asked here: a worker may live and yet get nothing."""

    def __init__(self, kept: int = 10_000) -> None:
        self._kept = kept
        self._seen: OrderedDict[str, tuple[Hashable, float]] = OrderedDict()

    def seconds(self, job: str, far: Hashable) -> int:
        """Notes how far a job is; for how many seconds it has been seen there."""
        now = time.monotonic()
        before, since = self._seen.pop(job, (far, now))
        self._seen[job] = far, since if before == far else now
        while len(self._seen) > self._kept:
            self._seen.popitem(last=False)
        return int(now - self._seen[job][1])
