"""Validating what the mappings make, beside parsing it and holding it against a fhir.resources model."""

from __future__ import annotations

import json

import orjson
from fhir.resources.R4B import get_fhir_model_class

from fhirgw.fhir.issue import Resource
from fhirgw.shipped import path
from fhirgw.validation import validate
from tests.bench.figures import ROUNDS, Figure, seconds

REPEATS = 10
ENTRIES = (100, 1000)


def run() -> list[Figure]:
    """Resources a second by R4 and UK Core, the ratio to what models take, and how a Bundle's time grows."""
    mix = [json.loads(json.dumps(each)) for each in made()] * REPEATS
    texts = [orjson.dumps(each) for each in mix]
    rate = Figure("validating by R4 and UK Core", "resources/s", "target 10,000")
    models = Figure("parsing and a fhir.resources model (structure only)", "resources/s")
    ratio = Figure("validating against parsing and a model", "ratio")
    growth = Figure("a Bundle of 1,000 against one of 100, an entry", "ratio", "target 1")
    bundles = [bundle(mix, count) for count in ENTRIES]
    for _ in range(ROUNDS):
        ours = seconds(lambda: [validate(each) for each in mix])
        theirs = seconds(lambda: [modelled(each) for each in texts])
        small, large = (seconds(lambda each=each: validate(each)) for each in bundles)
        rate.values.append(len(mix) / ours)
        models.values.append(len(mix) / theirs)
        ratio.values.append(theirs / ours)
        growth.values.append((large / ENTRIES[1]) / (small / ENTRIES[0]))
    return [rate, models, ratio, growth]


def made() -> list[Resource]:
    """The mappings' golden resources: our own mix."""
    pairs = [pair for each in sorted(path("mappings").glob("*/*.golden.json")) for pair in json.loads(each.read_text())]
    return [pair["resource"] for pair in pairs if isinstance(pair.get("resource"), dict)]


def modelled(text: bytes) -> object:
    """What a model says of a body: its names, types and cardinality."""
    resource = orjson.loads(text)
    return get_fhir_model_class(resource["resourceType"]).model_validate(resource)


def bundle(mix: list[Resource], count: int) -> Resource:
    entries = [
        {"fullUrl": f"https://council.example/{at}/{each['resourceType']}/{each['id']}", "resource": each}
        for at, each in enumerate(mix[:count])
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}
