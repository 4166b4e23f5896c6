"""What somebody probably meant by a search parameter that there is not: another word for it, or a slip of the hand.

Words of other APIs and of people's own systems are a table, because no likeness leads from `dob` to `birthdate`; and
what merely looks alike (`patient`, `active`) is no help.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

CLOSE = 0.7
"""From how alike on a name is offered: `statu` and `birth-date` are, `patient` and `active` are not."""

PAGES = "_count, and the next link for what follows"
WORDS = {
    **dict.fromkeys(("dob", "dateofbirth", "birthday", "birth", "born"), ("birthdate",)),
    **dict.fromkeys(("nhsnumber", "nhsno", "nhs", "mrn", "odscode", "ods"), ("identifier",)),
    **dict.fromkeys(("surname", "lastname", "familyname"), ("family", "name")),
    **dict.fromkeys(("forename", "firstname", "givenname"), ("given", "name")),
    **dict.fromkeys(("postcode", "postalcode", "zip", "zipcode"), ("address-postalcode",)),
    **dict.fromkeys(("sex",), ("gender",)),
    **dict.fromkeys(("gp", "practice", "surgery"), ("general-practitioner",)),
    **dict.fromkeys(("phonenumber", "mobile", "telephone"), ("phone", "telecom")),
    **dict.fromkeys(("mail", "emailaddress"), ("email", "telecom")),
    **dict.fromkeys(("patient", "person", "client", "serviceuser", "patientid"), ("patient", "subject", "_id")),
    **dict.fromkeys(("id", "uuid", "resourceid", "logicalid"), ("_id",)),
    **dict.fromkeys(("page", "offset", "skip", "start", "pagenumber", "getpages", "getpagesoffset"), (PAGES,)),
    **dict.fromkeys(("count", "limit", "size", "pagesize", "perpage", "top", "max", "maxresults", "rows"), ("_count",)),
    **dict.fromkeys(("sort", "order", "orderby", "sortby"), ("_sort",)),
    **dict.fromkeys(("since", "updated", "lastupdated", "modified", "modifiedsince"), ("_lastUpdated",)),
    **dict.fromkeys(("include", "expand"), ("_include",)),
    **dict.fromkeys(("revinclude",), ("_revinclude",)),
    **dict.fromkeys(("fields", "select", "elements"), ("_elements",)),
    **{each: (f"_{each}",) for each in ("format", "profile", "tag", "security", "source", "summary", "total")},
    **dict.fromkeys(("type", "types", "resourcetype"), ("type", "_type")),
    **dict.fromkeys(("from", "to", "fromdate", "todate", "startdate", "enddate", "when"), ("date", "period")),
    **dict.fromkeys(("q", "query", "search", "text", "filter"), ("name",)),
}
"""Other words, without case and punctuation, and what they may stand for: the first that there is."""


def meant(name: str, known: Collection[str]) -> str | None:
    """What to ask instead, of the names that are known and of R4's for every type; None where nobody can tell."""
    bare = "".join(each for each in name.casefold() if each.isalnum())
    for each in WORDS.get(bare, ()):
        if each in known or (each.startswith("_") and each != name):
            return each
    near = get_close_matches(name, known, n=1, cutoff=CLOSE)
    return near[0] if near else None
