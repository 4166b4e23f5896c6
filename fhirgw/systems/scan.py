"""What is known of a CSV file before its rows are read: that it is there, whole and in its encoding."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import BinaryIO

from fhirgw.systems.system import ExtractError

CHUNK = 1 << 20
AGAIN = "Write the extract again"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def scan(path: Path, encoding: str) -> int:
    """The number of records after the header; raises ExtractError for a file not to be trusted to be whole.

    Counts line ends outside quotes (a quote toggles, a doubled one toggles twice): much faster than parsing.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    lines, quoted, last, offset, ascii_only = 0, False, "", 0, True
    with opened(path) as file:
        while chunk := file.read(CHUNK):
            text = _decoded(decoder, chunk, path, offset, encoding)
            if "\0" in text:
                raise _damaged(path, offset, chunk)
            pieces = text.split('"')
            lines += sum(piece.count("\n") for piece in pieces[quoted::2])
            quoted ^= len(pieces) % 2 == 0
            last, offset, ascii_only = text[-1:] or last, offset + len(chunk), ascii_only and text.isascii()
    _decoded(decoder, b"", path, offset, encoding)
    _whole(path, quoted, last)
    if not ascii_only and not encoding.startswith("utf") and _is_utf_8(path):
        # Read as a one-byte encoding every name with an accent would be wrong, and nothing would say so.
        raise ExtractError(str(path), f"the file is UTF-8, not {encoding}", "Name its encoding in system.yaml")
    return lines - 1


def opened(path: Path) -> BinaryIO:
    """The file for reading bytes, or an ExtractError that says why not."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        remedy = "Put it there, or leave its table out of the mappings"
        raise ExtractError(str(path), "the file is missing", remedy, "not-found") from None
    except OSError as error:
        raise ExtractError(str(path), f"the file cannot be read ({error.strerror})", "Allow reading it") from None


def _whole(path: Path, quoted: bool, last: str) -> None:
    if not last:
        raise ExtractError(str(path), "the file is empty: it has not even a header", AGAIN)
    if quoted:
        raise ExtractError(str(path), "the file ends inside a quoted cell: it was cut off", AGAIN)
    if last != "\n":
        # A file cut off inside its last cell would otherwise pass, with half a telephone number in it.
        rule = "the last line has no line end: the file may have been cut off"
        raise ExtractError(str(path), rule, f"{AGAIN}, or end its last line if it is whole")


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, path: Path, offset: int, encoding: str) -> str:
    try:
        return decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError as error:
        # error.object is what the decoder had kept of the chunk before, then this chunk.
        at = offset + len(chunk) - len(error.object) + error.start
        # The encoding as system.yaml has it: Python calls windows-1252 "charmap".
        rule = f"byte {at} (0x{error.object[error.start]:02x}) is not {encoding.removesuffix('-sig')}"
        place = f"{path}:{_line(path, at)}"
        if not chunk:
            raise ExtractError(place, f"{rule}: the file was cut off inside a character", AGAIN) from None
        hint = "It begins like UTF-16. " if at == 0 and chunk[:2] in UTF_16 else ""
        remedy = f"{hint}Write the extract in that encoding, or name its own in system.yaml"
        raise ExtractError(place, rule, remedy) from None


def _line(path: Path, at: int) -> int:
    """The line of the byte `at`, the first is 1; reads the file once more, which only a file in error costs."""
    line = 1
    with opened(path) as file:
        while at > 0 and (chunk := file.read(min(CHUNK, at))):
            line, at = line + chunk.count(b"\n"), at - len(chunk)
    return line


def _damaged(path: Path, offset: int, chunk: bytes) -> ExtractError:
    at = offset + max(chunk.find(0), 0)
    return ExtractError(str(path), f"byte {at} is a NUL: the file is damaged, or is not text", AGAIN)


def _is_utf_8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as file:
        try:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True
