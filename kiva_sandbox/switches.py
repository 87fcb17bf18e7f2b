"""What the imitation can be told to do otherwise: every published contradiction about Kiva's API, and faults.

Set at start (`kiva-sandbox --naming camel`), at run time (`PATCH /_sandbox/switches`, and the page "Switches"), and for
one request alone, by its header `Kiva-Sandbox: naming=camel, fault=503`.
"""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from functools import cache, partial
from threading import Lock
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

HEADER = "Kiva-Sandbox"
Call = Literal["token", "loan_draft", "journals", "repayments", "loans", "config"]


class NoSuchSwitch(Exception):
    """A switch or a value of one that does not exist; the text names it, and what there is."""


class Switches(BaseModel):
    """All switches, each at its default unless told otherwise. What is Kiva's likeliest behaviour is the default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    naming: Annotated[
        Literal["snake", "camel"],
        Field(description="names in answers: as seen on the wire, or as Kiva's Swagger shows"),
    ] = "snake"
    token_answer: Annotated[
        Literal[2026, 2025],
        Field(description="order of the token answer's keys, and jti: a UUID, or short as until 2025"),
    ] = 2026
    refused_token: Annotated[
        Literal[401, 403], Field(description="status when a token is missing, garbled or expired; Kiva documents both")
    ] = 401
    empty_scope: Annotated[
        Literal[400, 200], Field(description="a token request none of whose scopes is authorised: refused, or no scope")
    ] = 400
    partial_scope: Annotated[
        Literal[200, 400],
        Field(
            description="a token request some of whose scopes are not authorised: a token for the others, or refused "
            "(invalid_scope) as by Spring's authorisation servers"
        ),
    ] = 200
    journal_path: Annotated[
        Literal["both", "singular"], Field(description="take journals at /partner and /partners, or at /partner alone")
    ] = "both"
    journal_body: Annotated[
        Literal["both", "wrapper"], Field(description='take {"journals": […]} and a bare list, or the wrapper alone')
    ] = "both"
    journal_success: Annotated[Literal[200, 201], Field(description="status when journals are archived")] = 200
    answers: Annotated[
        Literal["object", "list"],
        Field(description="journals and repayments are answered by an object, or a list of one"),
    ] = "object"
    duplicate_draft: Annotated[
        Literal["new", 409], Field(description="a draft for a loan id that has one: another draft, or refused")
    ] = "new"
    drafts: Annotated[
        Literal["lenient", "strict"],
        Field(description="a draft that PA2 would not publish: kept with PA2's messages, or refused with them (400)"),
    ] = "lenient"
    too_many_rows: Annotated[
        Literal["warning", 400], Field(description="a repayment report of more than 300 rows: a warning, or refused")
    ] = "warning"
    group_repayments: Annotated[
        Literal["group", "members"],
        Field(description="a group's repayment is reported by the group's id, or its members'"),
    ] = "group"
    fault: Annotated[
        Literal["off", "expired", 429, 500, 502, 503, 504, "lost", "not-json", "truncated"],
        Field(
            description="expired: the token is refused, however new; 429 to 503: nothing is done; "
            "504: done, but a gateway does not wait for it; lost: done, and the connection ends without an answer; "
            "not-json, truncated: done, and the answer is a web page, or half of it"
        ),
    ] = "off"
    retry_after: Annotated[
        Annotated[int, Field(ge=0, le=86_400)] | Literal["none"],
        Field(description="seconds, in Retry-After of a 429 or 503"),
    ] = "none"
    latency: Annotated[
        float, Field(ge=0, le=600, description="seconds between what was done and its answer, or the end without one")
    ] = 0.0
    fault_on: Annotated[Literal["all", Call], Field(description="which call meets fault and latency")] = "all"
    fault_times: Annotated[
        Annotated[int, Field(ge=1)] | Literal["always"], Field(description="how many calls meet them, before both end")
    ] = "always"

    def but(self, changes: Mapping[str, object]) -> "Switches":
        """These with some set otherwise. Digits in a text are a number, so that a header and a form can say 503.

        Raises:
            NoSuchSwitch: a name or a value does not exist; then none is changed.
        """
        unknown = sorted(changes.keys() - Switches.model_fields)
        if unknown:
            raise NoSuchSwitch(f"there is no switch {unknown[0][:40]!a}; there are {', '.join(Switches.model_fields)}")
        try:
            return Switches.model_validate(
                {**self.model_dump(), **{name: _number_or_same(value) for name, value in changes.items()}}
            )
        except ValidationError as error:
            wrong = sorted({str(mistake["loc"][0]) for mistake in error.errors()})
            raise NoSuchSwitch("; ".join(f"{name} must be one of: {choices(name)}" for name in wrong)) from None


DEFAULTS = Switches()


class Switchboard:
    """The switches of now: those of the start, until somebody changes them. Safe to use from several threads."""

    def __init__(self, start: Switches) -> None:
        self.start = start
        self._now = start
        self._lock = Lock()

    @property
    def now(self) -> Switches:
        """All switches as they stand; `fault_times` is how many calls are still to meet them."""
        with self._lock:
            return self._now

    def change(self, changes: Mapping[str, object]) -> Switches:
        """Set some otherwise, for all calls from now on. Raises NoSuchSwitch; then none is changed."""
        with self._lock:
            self._now = self._now.but(changes)
            return self._now

    def reset(self) -> None:
        """Go back to those of the start."""
        with self._lock:
            self._now = self.start

    def for_call(self, call: Call | None, header: str) -> Switches:
        """Those for one request, with what its `header` changes; one that is no call meets neither fault nor latency.

        A call that meets a fault or latency of now, and not of its header, is one less of `fault_times`. What a header
        says is about its own request, whatever `fault_on` of now is.

        Raises:
            NoSuchSwitch: the header names a switch or value that does not exist; then nothing is counted.
        """
        told = of_header(header)
        with self._lock:
            now = _meant_for(call, self._now)
            own = _meant_for(call, now.but({"fault_on": "all", **told}))
            of_now = {name for name, nothing in _NOTHING.items() if getattr(own, name) != nothing} - told.keys()
            if of_now and isinstance(self._now.fault_times, int):
                left = self._now.fault_times - 1
                self._now = self._now.but({"fault_times": left} if left else {**_NOTHING, "fault_times": "always"})
        return own


def of_header(header: str) -> dict[str, str]:
    """The switches in `naming=camel, fault=503`. Raises NoSuchSwitch for a part that is not one name and one value."""
    switches = {}
    for part in filter(None, (part.strip() for part in header.split(","))):
        name, equals, value = (text.strip() for text in part.partition("="))
        if not (name and equals and value) or name in switches:
            raise NoSuchSwitch(f"{HEADER} must read name=value, name=value, each name once")
        switches[name] = value
    return switches


class Number(NamedTuple):
    """A number that a switch can be: from `least` to `most`, if there is a most; `whole` or with a fraction."""

    least: int
    most: int | None
    whole: bool


def words(name: str) -> list[str]:
    """What a switch can be, without a number that it can be besides."""
    return [str(value) for kind in _kinds(name) for value in kind.get("enum", [kind.get("const")]) if value is not None]


def number(name: str) -> Number | None:
    """The number that a switch can be, beside its words."""
    for kind in _kinds(name):
        if kind.get("type") in ("integer", "number") and "minimum" in kind:
            return Number(kind["minimum"], kind.get("maximum"), kind["type"] == "integer")
    return None


def choices(name: str) -> str:
    """What a switch can be, in a line."""
    bounds = number(name)
    if not bounds:
        return ", ".join(words(name))
    most = "" if bounds.most is None else f" to {bounds.most}"
    return ", ".join([f"a number from {bounds.least}{most}", *words(name)])


def add_switch_options(parser: ArgumentParser) -> None:
    """Give `parser` an option for every switch; a bad value is refused with what it can be."""
    group = parser.add_argument_group(
        "switches", "What it does from the start; all of it can be changed while it runs."
    )
    for name, field in Switches.model_fields.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=partial(_option, name),
            default=field.default,
            metavar="VALUE",
            help=f"{field.description}. Choices: {choices(name)} (default: {field.default})",
        )


def switches_of(options: Namespace) -> Switches:
    """The switches that were said by those options."""
    return DEFAULTS.but({name: getattr(options, name) for name in Switches.model_fields})


def _option(name: str, text: str) -> object:
    try:
        return getattr(DEFAULTS.but({name: text}), name)
    except NoSuchSwitch as error:
        raise ArgumentTypeError(str(error)) from None


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    return cast("dict[str, dict[str, Any]]", Switches.model_json_schema()["properties"])


def _kinds(name: str) -> list[dict[str, Any]]:
    schema = _schemas()[name]
    return cast("list[dict[str, Any]]", schema.get("anyOf", [schema]))


_NOTHING = {"fault": "off", "latency": 0.0}


def _meant_for(call: Call | None, switches: Switches) -> Switches:
    if not call or switches.fault_on not in ("all", call):
        return switches.model_copy(update=_NOTHING)
    # Who asks for a token shows none that could have expired.
    return switches.model_copy(update={"fault": "off"}) if call == "token" and switches.fault == "expired" else switches


def _number_or_same(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return value
    return float(value) if "." in value else int(value)
