"""The page at `/`: what this is, and addresses to open."""

from __future__ import annotations

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from fhirgw.api.answer import refused
from fhirgw.api.context import base
from fhirgw.api.open import OPEN, opened
from fhirgw.fhir.issue import FhirError

LINKS = (
    ("/fhir/metadata", "what this server can do (CapabilityStatement)"),
    ("/fhir/Patient?_count=10", "ten people"),
    ("/fhir/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|", "people with an NHS number"),
    ("/fhir/Task?_count=10", "ten assessments and reviews"),
    ("/fhir/EpisodeOfCare?_count=10&_include=EpisodeOfCare:patient", "ten package lines with their people"),
)

PAGE = """<!doctype html>
<html lang="en-GB">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>fhirgw</title>
<style>body{{font:1.1em/1.5 system-ui,sans-serif;margin:3em auto;max-width:42em;padding:0 1em}}</style>
<h1>fhirgw</h1>
<p>An async FHIR R4 gateway between adult social care and the NHS. The FHIR base is <code>{base}</code>.</p>
<p>The addresses marked with * want an access token, as the header <code>Authorization: Bearer …</code>: opened in a
browser they answer 401. On the gateway's own machine <code>fhirgw token --app demo-ics</code> prints one; an
application gets its own at <code>{base}/oauth/token</code>, as
<a href="/fhir/.well-known/smart-configuration">SMART's configuration</a> says.</p>
<ul>
{links}
<li><a href="/homecare/desk">/homecare/desk</a>: the duty desk's screen, which asks for a token</li>
<li><a href="/homecare/upload">/homecare/upload</a>: where care providers send visits, by a token of theirs</li>
<li><a href="/homecare/guide">/homecare/guide</a>: how they are sent, with a spreadsheet or by a program</li>
<li><a href="/health/ready">/health/ready</a>: whether it can serve</li>
</ul>
</html>
"""


async def landing(request: Request) -> Response:
    """Plain HTML: nothing is loaded from elsewhere."""
    links = "\n".join(
        f'<li><a href="{escape(path)}">{escape(path)}</a>{"" if path in OPEN else "*"}: {escape(what)}</li>'
        for path, what in LINKS
    )
    try:
        return HTMLResponse(PAGE.format(base=escape(base(request)), links=links))
    except FhirError as error:
        return refused(error)


def routes() -> list[Route]:
    """The page."""
    return [opened("/", landing)]
