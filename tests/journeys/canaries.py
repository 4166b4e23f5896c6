"""What must never be told outside a record: the numbers, names and postcodes of everybody the council knows."""

from fhirgw.council.council import Council


def canaries(council: Council) -> set[str]:
    """The NHS numbers, faulty ones too, surnames and postcodes of all people and their kin."""
    people, kin = council.records["person"], council.records["relationship"]
    homes = [home for each in people for home in each.addresses.values()] + [each.address for each in kin]
    told = {each.nhs_number for each in people} | {each.family for each in (*people, *kin)}
    return {each for each in told | {home.postcode for home in homes} if each}


def told(canaries: set[str], text: str) -> set[str]:
    """Those that the text tells, as words of their own: an id or a hash may hold any ten digits."""
    return {each for each in canaries if _tells(text, each)}


def _tells(text: str, word: str) -> bool:
    at = text.find(word)
    while at >= 0:
        around = text[max(at - 1, 0) : at] + text[at + len(word) : at + len(word) + 1]
        if not any(each.isalnum() or each in "-_" for each in around):
            return True
        at = text.find(word, at + 1)
    return False
