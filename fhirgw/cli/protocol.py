"""HTTP as uvicorn reads it, but what it cannot read is answered with an OperationOutcome, as everything else is.

501 for a method that is none of HTTP's, 400 for what is no HTTP: nobody knows yet who asks, nor what for.
https://www.rfc-editor.org/rfc/rfc9110#section-15.6.2
"""

from __future__ import annotations

import sys

from httptools import HttpParserInvalidMethodError
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fhirgw.api.answer import FHIR_JSON
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import Issue, outcome

NO_METHOD = Issue("not-supported", "This is no method of HTTP: methods are written in capitals, as GET")
NO_HTTP = Issue("structure", "This could not be read as an HTTP request: correct its first line or its headers")


class Protocol(HttpToolsProtocol):
    """The protocol of one connection."""

    def send_400_response(self, msg: str) -> None:
        """Called while what the parser raised is handled; the connection ends with it, since nobody knows where a
        request after it would begin."""
        unknown = isinstance(sys.exc_info()[1], HttpParserInvalidMethodError)
        body = encode(outcome([NO_METHOD if unknown else NO_HTTP]))
        head = f"content-type: {FHIR_JSON}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[501 if unknown else 400] + head.encode() + body)
        self.transport.close()
