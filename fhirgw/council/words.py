"""Names, streets and towns of people and places that do not exist, from short lists of our own.

Postcodes are of the area ZZ, which Royal Mail does not use; telephone numbers are from the ranges Ofcom keeps for drama
(01632 960000 to 960999, 07700 900000 to 900999); e-mail addresses end in .example (RFC 2606). All text is Windows-1252.
"""

from __future__ import annotations

import unicodedata
from random import Random

from fhirgw.council.facts import Address
from fhirgw.council.odds import between, pick

COUNTY = "Saltings"

_TEXT = """
Ada Agnes Aisha Alice Amara Amy Anita Anna Barbara Beryl Brenda Carol Catherine Chloë Christine Daphne Dawn
Deborah Diane Doreen Dorothy Edith Eileen Elaine Elizabeth Ellen Esther Ewa Farah Fatima Fiona Florence Frances
Gemma Gillian Gloria Grace Hannah Hazel Helen Hilda Irene Iris Ivy Jane Janet Jasmine Jean Jessica Joan Joyce
Judith Julie Karen Kathleen Laura Leila Lilian Linda Lorna Lucy Maeve Margaret Maria Marion Mary Maureen Mei
Monica Nadia Nicola Nora Olive Pamela Patricia Pauline Pearl Phyllis Priya Rachel Renée Rita Rose Ruth Sandra
Sarah Sheila Shirley Siân Sonia Stella Susan Sylvia Tamsin Teresa Valerie Vera Violet Wendy Winifred Yvonne Zoë

Abdul Adam Alan Albert Alfred Andrew Anthony Arjun Arthur Barry Basil Brian Carl Cecil Charles Christopher Clive
Colin Conor Cyril Daniel David Dean Dennis Derek Desmond Donald Douglas Edward Eric Ernest Francis Frank
Frederick Gareth Geoffrey George Gerald Gordon Graham Harold Harry Henry Herbert Howard Hugh Ian Imran Ivor Jack
James Jason John Joseph Karl Keith Kenneth Kevin Kwame Lee Leonard Leslie Luke Malcolm Marek Mark Martin Matthew
Maurice Michael Mohammed Neil Nigel Norman Oliver Patrick Paul Peter Philip Piotr Ralph Raymond Reginald Richard
Robert Roger Ronald Roy Samuel Seán Sidney Simon Stanley Stephen Stuart Terence Thomas Timothy Trevor Victor
Vikram Walter Wayne William

Abbott Ahmed Allen Archer Bailey Baker Barker Begum Bennett Bishop Blackwood Boyd Brewer Brooks Browne Burton
Butcher Carr Chambers Chan Clarke Coleman Cooper Crane Cross Dale Davies Deane Denham Desai Drake Dunn Eastwood
Ellis Fairweather Farmer Fenn Fisher Fletcher Ford Fowler French Gardner Garside Gill Goodwin Green Griffin Hale
Hammond Harper Harris Hart Hayward Hewitt Holland Hopkins Howe Hughes Hunter Hussain Ives Jackson Jarvis
Jennings Jones Kaur Kemp Khan King Knight Kowalska Kumar Lamb Lane Larkin Lawson Lee Lewis Lowe Mallory Marsh
Martin Mason Mensah Miller Mills Moss Müller Neal Newman Noakes Norris Oakley Okafor O'Brien O'Connor Osborne
Page Palmer Parker Patel Pearce Perry Pike Poole Potter Quinn Rahman Reed Reeves Rowe Rowland Sadler Salter
Saunders Sawyer Scott Shah Sharp Shaw Shepherd Silva Singh Skinner Slater Smith-Jones Spence Steele Stone Sutton
Tanner Taylor Thorne Tiller Turner Tyler Underwood Vance Wade Walker Waller Warren Watts Webb Weaver Wells West
Wheeler White Wilde Winter Wood Wright Yates

Alder Anchor Ash Barley Beacon Birch Bramble Brick Bridge Brook Chapel Cherry Church Clover Copse Corn Cowslip
Creek Curlew Dock Elder Elm Estuary Fen Ferry Foundry Gorse Granary Grove Harbour Hawthorn Heron Hill Ivy Kiln
Lapwing Larch Lime Malt Maple Marsh Meadow Mill Oak Orchard Oyster Park Pear Plover Pond Poplar Primrose Quay
Reed Rowan Saltmarsh School Sedge Shore Station Swan Tannery Teal Tide Vine Walnut Warren Water Weir Willow
Wharf Yew
"""

WOMEN, MEN, FAMILIES, STREETS = (tuple(block.split()) for block in _TEXT.split("\n\n"))
WAYS = ("Road", "Road", "Street", "Lane", "Close", "Avenue", "Drive", "Gardens", "Way", "Crescent")
TOWNS = (
    "Ashmere",
    "Brackney",
    "Colneford",
    "Dunholt",
    "Eastwick",
    "Fenhythe",
    "Great Marling",
    "Hallowell",
    "Kingsbrook",
    "Little Thorpe",
    "Ottersea",
    "Witchley",
)
"""One a district: the district's number is in its postcodes."""

_UNITS = "ABDEFGHJLNPQRSTUWXYZ"
"""The letters Royal Mail uses in the last two places of a postcode."""


def address(rng: Random) -> Address:
    """A home, or any other place, somewhere in the county."""
    district = int(rng.random() * len(TOWNS))
    flat = f"Flat {between(rng, 1, 24)}" if rng.random() < 0.18 else None
    street = f"{between(rng, 1, 140)} {pick(rng, STREETS)} {pick(rng, WAYS)}"
    postcode = f"ZZ{district + 1} {between(rng, 1, 9)}{pick(rng, _UNITS)}{pick(rng, _UNITS)}"
    uprn = f"999{between(rng, 0, 999_999_999):09}"
    return Address(flat or street, street if flat else None, TOWNS[district], COUNTY, postcode, uprn)


def landline(rng: Random) -> str:
    """A telephone number that rings nowhere."""
    return f"01632 960{between(rng, 0, 999):03}"


def mobile(rng: Random) -> str:
    """A mobile number that rings nowhere."""
    return f"07700 900{between(rng, 0, 999):03}"


def email(given: str, family: str, domain: str) -> str:
    """An address at a domain that cannot exist, in plain ASCII."""
    plain = unicodedata.normalize("NFKD", f"{given}.{family}".replace("'", "")).encode("ascii", "ignore").decode()
    return f"{plain.lower()}@{domain}.example"
