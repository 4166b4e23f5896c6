"""The county in figures: what sizes the made-up council.

From Essex's published adult social care strategies, 2017 to 2023, for its 17,000 supported adults; where they give no
figure the value is an assumption of ours, under ASSUMED.
"""

from __future__ import annotations

from datetime import date

TODAY = date(2026, 3, 31)
"""The day the council's reporting copy was taken. No clock: the same seed gives the same council for ever."""

ADULTS = 17_000
"""Adults supported at any one time; every other figure is scaled to the number of adults asked for."""

GROUPS = {"older": 9_600, "learning-disability": 4_000, "sensory-physical": 2_200, "mental-health": 1_200}

SUPPORTED_CARERS = 4_000
KNOWN_CARERS = 8_960
TECHNOLOGY_USERS = 19_000
VIDEO_PHONE_USERS = 2_000
HOMECARE_PROVIDERS = 300
CARE_HOMES = 400
GP_PRACTICES = 180

# ASSUMED
SUPPORTED_WITH_TECHNOLOGY = 0.6
"""Share of supported adults who have care technology; the other users have nothing else."""
LEFT = 0.08
"""Former people on the books for each supported adult: died, or moved away, in the last two years."""
REABLED = 0.1
"""The same: reablement was all they needed."""
TURNED_AWAY = 0.03
"""The same: assessed, and not eligible."""
CASELOAD = 25
"""Supported adults a worker."""
CHECKED_AND_TRUE = 0.94
"""Share of NHS numbers that were traced and verified."""


def scaled(figure: float, adults: int, least: int = 0) -> int:
    """The county's figure for a council of `adults` adults, and never under `least`."""
    return max(least, round(figure * adults / ADULTS))
