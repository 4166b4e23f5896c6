"""What may be subscribed to: the topics of `profiles/topics.yaml`, each with what triggers it and how it is narrowed.

A topic is a SubscriptionTopic of R5, whose words are used; R4 knows it by its canonical alone.
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/components.html#subscription-topics
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fhirgw import shipped
from fhirgw.fhir.criterion import Criterion, Missing, Tokens
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD, personal, supported
from fhirgw.fhir.query import CONTROLS, Query

FILE = "topics.yaml"
CANONICAL = "https://fhirgw.uk/fhir/SubscriptionTopic/"
RECORD = "record"
"""In place of a type: every type that is of a person."""

Kind = Literal["create", "update", "delete"]
"""What the change log calls what happened."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Trigger(_Strict):
    resource: str
    when: tuple[Kind, ...] = Field(min_length=1)
    current: str = ""
    previous: str = ""


class _Topic(_Strict):
    name: str = Field(pattern="[a-z][a-z-]{1,62}")
    title: str
    triggers: tuple[_Trigger, ...] = Field(min_length=1)
    filters: tuple[str, ...]


class _File(_Strict):
    topics: tuple[_Topic, ...] = Field(min_length=1)


class Trigger(NamedTuple):
    """A change of a type that is one of `kinds`, to what meets all of `current` from what met all of `previous`."""

    type: str
    kinds: tuple[Kind, ...]
    current: tuple[Criterion, ...]
    previous: tuple[Criterion, ...]


class Topic(NamedTuple):
    """`url` is its canonical; `filters` are names of search parameters."""

    url: str
    title: str
    triggers: tuple[Trigger, ...]
    filters: tuple[str, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The types whose changes trigger it."""
        return tuple(dict.fromkeys(each.type for each in self.triggers))


@cache
def topics() -> Mapping[str, Topic]:
    """Each by its canonical. Raises ValueError that names the file, the topic and the fault."""
    return read(shipped.path("profiles") / FILE)


def read(path: Path) -> Mapping[str, Topic]:
    """The topics of a file. Raises ValueError."""
    try:
        told = _File.model_validate(yaml.safe_load(path.read_text()))
        found = [_topic(each) for each in told.topics]
    except (ValidationError, FhirError, yaml.YAMLError) as error:
        raise ValueError(f"profiles/{path.name}: {error}") from None
    return MappingProxyType({each.url: each for each in found})


def _topic(told: _Topic) -> Topic:
    triggers = tuple(each for one in told.triggers for each in _triggers(told.name, one))
    for name in told.filters:
        if not any(name in supported(each.type) for each in triggers):
            raise ValueError(f"{told.name}: no type of it has the search parameter {name}: correct its filters")
    return Topic(CANONICAL + told.name, told.title, triggers, told.filters)


def _triggers(name: str, told: _Trigger) -> Iterator[Trigger]:
    types = _of_persons() if told.resource == RECORD else (told.resource,)
    if {*types} - {*HELD}:
        raise ValueError(f"{name}: {told.resource} is no type that is held here: name one, or `{RECORD}`")
    for each in types:
        previous = criteria(each, told.previous)
        if not all(isinstance(one, Tokens | Missing) for one in previous):
            raise ValueError(f"{name}: previous: is about codes and references alone: say the rest in current")
        yield Trigger(each, told.when, criteria(each, told.current), previous)


def _of_persons() -> tuple[str, ...]:
    """The types that are of a person, but for the audit and for what tells how others came to be."""
    return tuple(each for each in HELD if each == "Patient" or (personal(each) and each not in _APART))


_APART = ("AuditEvent", "Provenance", "Group")


def criteria(resource_type: str, text: str, base: str = "") -> tuple[Criterion, ...]:
    """What a search of the type asks, spelt as in an address. Raises FhirError."""
    pairs = parse_qsl(text, keep_blank_values=True)
    if any(pair[0] in CONTROLS or pair[0].startswith(("_include", "_revinclude", "_has")) for pair in pairs):
        raise FhirError(Issue("invalid", "a topic is narrowed by search parameters, and not by how results look"))
    return Query.parse(resource_type, pairs, False, base).criteria


def known(url: str) -> Topic:
    """The topic of a canonical. Raises FhirError that says which there are."""
    if found := topics().get(url.partition("|")[0]):
        return found
    listed = ", ".join(topics())
    told = f"There is no such topic here: name one that the CapabilityStatement lists ({listed})"
    raise FhirError(Issue("not-supported", told, "Subscription.criteria"))


def narrowed(topic: Topic, filters: Sequence[str], base: str = "") -> tuple[Trigger, ...]:
    """The topic's triggers, each with what the filters ask of its type.

    A filter is `[Type?]parameter=value&…`; without a type it is of each type of the topic, and `patient` then also of
    the Patient themselves. Raises FhirError, which quotes no value.
    """
    asked = [_filter(topic, each, at, base) for at, each in enumerate(filters)]
    return tuple(
        each._replace(current=(*each.current, *(one for found in asked for one in found.get(each.type, ()))))
        for each in topic.triggers
    )


def _filter(topic: Topic, text: str, at: int, base: str) -> dict[str, tuple[Criterion, ...]]:
    """What a filter asks, by type."""
    place = f"Subscription.criteria.extension[{at}].valueString"
    kind, question, rest = text.rpartition("?")
    types = (kind,) if question else topic.types
    if {*types} - {*topic.types}:
        told = f"A filter is of a type of its topic ({', '.join(topic.types)}): Type?parameter=value"
        raise FhirError(Issue("value", told, place))
    pairs = parse_qsl(rest, keep_blank_values=True)
    names = [name.partition(":")[0].partition(".")[0] for name, _ in pairs]
    if not pairs or not {*names} <= {*topic.filters}:
        told = f"This topic is filtered by {', '.join(topic.filters)}: write parameter=value, and & between them"
        raise FhirError(Issue("not-supported", told, place))
    try:
        return {each: tuple(_asked(each, *pair, base) for pair in pairs) for each in types}
    except FhirError as error:
        raise FhirError(*(Issue(each.code, each.diagnostics, place) for each in error.issues)) from None


def _asked(resource_type: str, name: str, value: str, base: str) -> Criterion:
    if resource_type == "Patient" and name == "patient":
        name, value = "_id", ",".join(each.rpartition("/")[2] for each in value.split(","))
    (found,) = Query.parse(resource_type, [(name, value)], False, base).criteria
    return found
