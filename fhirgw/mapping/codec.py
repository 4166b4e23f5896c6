"""How one cell of text becomes one value of FHIR, and back: named pairs of functions that lose nothing.

`encode` takes the cell as the extract wrote it, `decode` gives it back letter for letter: what cannot come back the
same is refused (Refusal), unless its field is one-way. A codec knows a sample of its own, which mappings are tried on
when they are loaded. Long because it is a table: a short function for each codec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fhirgw.fhir import nhs
from fhirgw.mapping.localtime import ISO_DATE, ISO_LOCAL, Layout, date_codec, local_codec
from fhirgw.mapping.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Codec:
    """A pair of inverse functions; `types` are the FHIR types it can fill; `sample` is a cell it takes;

    `cells` are all the cells (or, for `many`, the parts of cells) it takes, where they can be listed.
    """

    name: str
    encode: Callable[[str], Any]
    decode: Callable[[Any], str]
    types: frozenset[str]
    sample: str
    many: bool = False
    cells: tuple[str, ...] = ()


TEXTUAL = frozenset(
    [
        "string",
        "markdown",
        "code",
        "id",
        "uri",
        "url",
        "canonical",
        "oid",
        "base64Binary",
        "http://hl7.org/fhirpath/System.String",
    ]
)
_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def text_value(value: str) -> str:
    """Text that FHIR can carry: not blank, no control characters. https://hl7.org/fhir/R4/datatypes.html#string"""
    if value.isspace() or _UNWANTED.search(value):
        raise Refusal("text", "text must not be blank or hold control characters", "Remove them at the source")
    return value


def _back(value: Any) -> str:
    if not isinstance(value, str):
        raise Refusal("text", "the source holds text here", "Send a string")
    return value


def _text(_: Options) -> Codec:
    return Codec("text", text_value, _back, TEXTUAL, "Sample")


def _checked(
    name: str, sound: Callable[[str], bool], rule: str, remedy: str, sample: str
) -> Callable[[Options], Codec]:
    """A codec that passes text which satisfies `sound` and refuses the rest."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not sound(value):
            raise Refusal(name.replace("_", "-"), rule, remedy)
        return value

    return lambda _: Codec(name, check, check, TEXTUAL, sample)


def _date(options: Options) -> Codec:
    encode, decode = date_codec(options.format or ISO_DATE)
    return Codec("date", encode, decode, frozenset({"date", "dateTime"}), decode("2025-06-15"))


def _local_datetime(options: Options) -> Codec:
    encode, decode = local_codec(options.format or ISO_LOCAL, options.timezone)
    return Codec(
        "local_datetime",
        encode,
        decode,
        frozenset({"dateTime", "instant"}),
        decode("2025-06-15T10:30:00+01:00"),
    )


_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def _datetime(options: Options) -> Codec:
    rule = "a time must be written YYYY-MM-DDTHH:MM:SS with its offset"
    made = _checked("datetime", lambda v: bool(_INSTANT.fullmatch(v)), rule, "Add the offset", "2025-06-15T10:30:00Z")
    codec = made(options)
    return Codec("datetime", codec.encode, codec.decode, frozenset({"dateTime", "instant"}), codec.sample)


_INTEGER = re.compile(r"0|-?[1-9]\d{0,8}")
_DECIMAL = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,18})?")
_REFUSE_NUMBER = (
    "number",
    "a number must be written plainly (12 or 12.50)",
    "Remove signs, spaces, leading zeros",
)


def _integer(_: Options) -> Codec:
    def encode(value: str) -> int:
        if not _INTEGER.fullmatch(value):
            raise Refusal(*_REFUSE_NUMBER)
        return int(value)

    def decode(value: Any) -> str:
        if type(value) is not int:
            raise Refusal("number", "the source holds whole numbers here", "Send an integer")
        return str(value)

    return Codec("integer", encode, decode, frozenset({"integer", "positiveInt", "unsignedInt", "decimal"}), "2")


def _decimal(_: Options) -> Codec:
    def encode(value: str) -> Decimal:
        if not _DECIMAL.fullmatch(value):
            raise Refusal(*_REFUSE_NUMBER)
        return Decimal(value)

    def decode(value: Any) -> str:
        if type(value) not in (Decimal, int):
            raise Refusal("number", "the source holds a number here", "Send a decimal")
        return str(value)

    return Codec("decimal", encode, decode, frozenset({"decimal"}), "12.50")


def _boolean(options: Options) -> Codec:
    forward = dict(options.values) or {"true": True, "false": False}
    back = {meaning: spelling for spelling, meaning in forward.items()}
    if len(forward) != 2 or set(back) != {True, False}:
        raise ValueError("values must spell true once and false once")
    return Codec(
        "boolean", *_lookup("boolean", forward, back), frozenset({"boolean"}), next(iter(forward)), cells=tuple(forward)
    )


def _lookup(
    name: str, forward: Mapping[str, Any], back: Mapping[Any, str]
) -> tuple[Callable[..., Any], Callable[..., str]]:
    known = ", ".join(sorted(forward))

    def encode(value: str) -> Any:
        try:
            return forward[value]
        except KeyError:
            raise Refusal(name, f"the value must be one of: {known}", "Correct it, or add it to the mapping") from None

    def decode(value: Any) -> str:
        try:
            return back[value]
        except (KeyError, TypeError):
            raise Refusal(name, "the source has no word for this value", "Add it to the mapping") from None

    return encode, decode


def _time(options: Options) -> Codec:
    layout = Layout(options.format or "%H:%M:%S")
    refusal = ("time", f"a time of day must exist and be written {layout.shape}", "Correct it at its source")
    whole = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d")

    def encode(value: str) -> str:
        try:
            clock = layout.read(value, "HMS", ":")
        except ValueError:
            raise Refusal(*refusal) from None
        if not whole.fullmatch(clock):
            raise Refusal(*refusal)
        return clock

    def decode(value: Any) -> str:
        if not isinstance(value, str) or not whole.fullmatch(value) or ("S" not in layout.parts and value[6:] != "00"):
            raise Refusal(*refusal)
        parts = dict(zip("HMS", value.split(":"), strict=True))
        return re.sub(r"%(.)", lambda part: parts[part[1]], layout.text)

    return Codec("time", encode, decode, frozenset({"time"}), decode("10:30:00"))


def _split(name: str, separator: str, item: Codec, sample: str) -> Codec:
    """Text that lists values between separators <-> a list of them."""

    def encode(value: str) -> list[Any]:
        parts = value.split(separator)
        if not all(parts):
            raise Refusal(name, f"each part between '{separator}' must be filled", "Remove empty parts")
        return [item.encode(part) for part in parts]

    def decode(value: Any) -> str:
        if not isinstance(value, list):
            raise Refusal(name, "the source lists values here", "Send a list")
        parts = [item.decode(part) for part in value]
        if any(separator in part for part in parts):
            raise Refusal(name, f"a part must not hold '{separator}'", "Send it without")
        return separator.join(parts)

    return Codec(name, encode, decode, item.types, sample, many=True, cells=item.cells)


def _words(options: Options) -> Codec:
    return _split("words", " ", _text(options), "Anna Maria")


def _lines(options: Options) -> Codec:
    return _split("lines", "\n", _text(options), "1 High Street\nOld Town")


def _list(options: Options) -> Codec:
    if options.values:
        forward = dict(options.values)
        encode, decode = _lookup("code", forward, {meaning: spelling for spelling, meaning in forward.items()})
        item = Codec("code", encode, decode, TEXTUAL, next(iter(forward)), cells=tuple(forward))
    else:
        item = CODECS[options.item](Options(format=options.format, timezone=options.timezone))
    return _split("list", options.separator, item, item.sample)


@dataclass(frozen=True, slots=True)
class Options:
    """What a field says to its codec."""

    format: str | None = None
    timezone: str = "Europe/London"
    values: Mapping[str, Any] = None  # type: ignore[assignment]
    separator: str = ","
    item: str = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", self.values or {})


_PHONE = re.compile(r"\+?[0-9][0-9 ()\-]{4,22}[0-9]( ?(x|ext) ?\d{1,6})?")

CODECS: dict[str, Callable[[Options], Codec]] = {
    "text": _text,
    "words": _words,
    "lines": _lines,
    "list": _list,
    "date": _date,
    "local_datetime": _local_datetime,
    "datetime": _datetime,
    "time": _time,
    "integer": _integer,
    "decimal": _decimal,
    "boolean": _boolean,
    "nhs_number": _checked(
        "nhs_number",
        nhs.is_nhs_number,
        "an NHS number has ten digits, the last of them a modulus 11 check",
        "Trace the number, or leave it blank",
        "9990000018",
    ),
    "postcode": _checked(
        "postcode",
        nhs.is_postcode,
        "a postcode is written in capitals with one space (CM1 1QH)",
        "Correct it, or leave it blank",
        "CM1 1QH",
    ),
    "uprn": _checked("uprn", nhs.is_uprn, "a UPRN has 1 to 12 digits", "Look it up, or leave it blank", "100000000001"),
    "ods_code": _checked(
        "ods_code", nhs.is_ods_code, "an ODS code has 3 to 12 capitals and digits", "Look it up", "Z9C01"
    ),
    "phone": _checked(
        "phone",
        lambda v: bool(_PHONE.fullmatch(v)),
        "a telephone number has digits, spaces and brackets only",
        "Move words to another column",
        "01632 960123",
    ),
}
"""Every codec a mapping may name, by that name."""
