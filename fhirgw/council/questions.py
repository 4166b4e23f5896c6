"""The questions of an assessment: the statutory ones by their national ids, and a carer's own.

STAT- and CA- ids are those of the draft PUB05 "Care Act needs assessment and plan" (OGL,
github.com/SocialCareData/standard), whose dictionary has no ids for carers: the CARER- ids are ours, after the carer's
outcomes in the Care and Support (Eligibility Criteria) Regulations 2015, regulation 3.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One question: its id, harbour's wide column for the answer, and its short text."""

    id: str
    column: str
    text: str


STATUTORY = (
    Question("STAT-HEALTH-01", "Q_HEALTH", "Health conditions that may affect day-to-day life"),
    Question("STAT-HOUSING-01", "Q_LIVES_ALONE", "Lives alone"),
    Question("STAT-FINANCE-01", "Q_FUNDING", "Potential funding status"),
)
OUTCOMES = (
    Question("CA-NUTRITION-01", "Q_NUTRITION", "Managing and maintaining nutrition"),
    Question("CA-HYGIENE-01", "Q_HYGIENE", "Maintaining personal hygiene"),
    Question("CA-TOILET-01", "Q_TOILET", "Managing toilet needs"),
    Question("CA-CLOTHING-01", "Q_CLOTHING", "Being appropriately clothed"),
    Question("CA-HOMESAFETY-01", "Q_HOME_SAFETY", "Using the home safely"),
    Question("CA-HABITABLEHOME-01", "Q_HABITABLE_HOME", "Maintaining a habitable home"),
    Question("CA-RELATIONSHIPS-01", "Q_RELATIONSHIPS", "Family and personal relationships"),
    Question("CA-WTEV-01", "Q_WORK", "Work, training, education or volunteering"),
    Question("CA-COMMUNITY-01", "Q_COMMUNITY", "Facilities and services in the community"),
    Question("CA-CARINGOTHERS-01", "Q_CARING", "Caring responsibilities for others"),
)
CARER = (
    Question("CARER-CHILD-01", "Q_CARER_CHILD", "Carrying out caring responsibilities for a child"),
    Question("CARER-OTHERS-01", "Q_CARER_OTHERS", "Providing care to other persons"),
    Question("CARER-HABITABLEHOME-01", "Q_CARER_HOME", "Maintaining a habitable home"),
    Question("CARER-NUTRITION-01", "Q_CARER_NUTRITION", "Managing and maintaining nutrition"),
    Question("CARER-RELATIONSHIPS-01", "Q_CARER_RELATIONSHIPS", "Family and personal relationships"),
    Question("CARER-WTEV-01", "Q_CARER_WORK", "Work, training, education or volunteering"),
    Question("CARER-COMMUNITY-01", "Q_CARER_COMMUNITY", "Facilities and services in the community"),
    Question("CARER-RECREATION-01", "Q_CARER_RECREATION", "Recreational activities"),
)
QUESTIONS = STATUTORY + OUTCOMES + CARER
