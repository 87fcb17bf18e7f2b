"""What template.yaml asks for, and what samconfig.toml answers: the parameters of a stack."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

Template = Mapping[str, Any]
Chosen = Mapping[str, str]
"""Parameters by name, each with its value as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of the template, with what CloudFormation lets it be. Without a default it must be given."""

    name: str
    description: str
    default: str | None
    allowed: Sequence[str] = ()
    pattern: str = ""
    at_least: float | None = None
    at_most: float | None = None
    constraint: str = ""

    def refusal(self, value: str) -> str:
        """Why CloudFormation will not take a value; empty where it will."""
        if self.allowed and value not in self.allowed:
            return f"must be one of {', '.join(self.allowed)}"
        if self.pattern and not re.fullmatch(self.pattern, value):
            return self.constraint or f"must match {self.pattern}"
        if self.at_least is None and self.at_most is None:
            return ""
        low, high = self.at_least or 0, float("inf") if self.at_most is None else self.at_most
        fits = re.fullmatch(r"[0-9]{1,15}", value) and low <= int(value) <= high
        return "" if fits else f"must be a number from {low:g} to {high:g}"


def read(file: Path) -> Template:
    """A template of CloudFormation or SAM, with its short forms as long ones.

    Read with SAM's own translator, which takes a second and is of use to those commands alone that deploy.
    """
    template: Template = import_module("samtranslator.yaml_helper").yaml_parse(file.read_text(encoding="utf-8"))
    return template


def parameters_of(template: Template) -> dict[str, Parameter]:
    """The parameters of a template, by name."""
    return {name: _parameter(name, said) for name, said in template["Parameters"].items()}


def _parameter(name: str, said: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=name,
        description=said.get("Description", ""),
        default=str(said["Default"]) if "Default" in said else None,
        allowed=list(map(str, said.get("AllowedValues", []))),
        pattern=said.get("AllowedPattern", ""),
        at_least=said.get("MinValue"),
        at_most=said.get("MaxValue"),
        constraint=said.get("ConstraintDescription", ""),
    )


def given(stage: str, samconfig: str) -> dict[str, str]:
    """What an environment of samconfig.toml says of the parameters: a list of `Name=value`, or a text of them."""
    written = tomllib.loads(samconfig)[stage]["deploy"]["parameters"].get("parameter_overrides", [])
    items = [written] if isinstance(written, str) else written
    return dict(_pair(pair) for item in items for pair in shlex.split(item))


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def refusals(parameters: Mapping[str, Parameter], chosen: Chosen) -> Iterator[str]:
    """Why CloudFormation will not take what was chosen, by parameter; its Rules are left to it."""
    for name in chosen.keys() - parameters.keys():
        yield f"{name}: is no parameter of template.yaml"
    for name, parameter in parameters.items():
        if name in chosen and (refused := parameter.refusal(chosen[name])):
            yield f"{name}={chosen[name]}: {refused}"
        elif name not in chosen and parameter.default is None:
            yield f"{name}: must be given"


def arguments(chosen: Chosen) -> list[str]:
    """What goes behind SAM's `--parameter-overrides`; an empty value is quoted, or SAM would not see the parameter."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in chosen.values())
    return [f'{name}="{value}"' for name, value in zip(chosen, quoted, strict=True)]
