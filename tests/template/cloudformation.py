"""CloudFormation as far as the tests need it, without AWS: read the template, translate it, see a stack of it."""

import copy
import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from samtranslator.translator.transform import transform

logging.getLogger("samtranslator").setLevel(logging.ERROR)
"""It warns that it does not know feature toggles, which are AWS's own."""

ROOT = Path(__file__).parents[2]
Template = dict[str, Any]
NO_VALUE = {"Ref": "AWS::NoValue"}


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, each read as its long form."""


def _long_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        raise TypeError(f"!{name} on a mapping is not used in this template")
    if name == "GetAtt":
        value = value.split(".", 1)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _long_form)


def read() -> Template:
    """The template as it is written; a copy, to be changed at will."""
    return copy.deepcopy(_parsed())


@cache
def _parsed() -> Template:
    template: Template = yaml.load((ROOT / "template.yaml").read_text(), _Loader)  # noqa: S506 a SafeLoader
    return template


def translate(source: Template, parameters: Mapping[str, str] | None = None) -> Template:
    """What CloudFormation makes of it: the SAM resources replaced by what they stand for.

    SAM puts parameters into some properties by itself, an API's policy among them: these ones, or the defaults.
    """
    source = copy.deepcopy(source)
    for resource in source["Resources"].values():
        for uri in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
            resource["Properties"][uri] = "s3://bucket/key"  # as `sam deploy` does after the upload
    with mock.patch.dict(os.environ, AWS_DEFAULT_REGION="us-east-1"):
        translated: Template = transform(source, dict(parameters or {}), _NoManagedPolicies())
    return translated


class _NoManagedPolicies:
    """SAM looks AWS's managed policies up by name in AWS; this template names none, so any filled list will do."""

    def load(self) -> dict[str, str]:
        return {"none": "arn:aws:iam::aws:policy/none"}


def defaults(template: Template) -> dict[str, str]:
    return {name: str(it["Default"]) for name, it in template["Parameters"].items() if "Default" in it}


def refusals(template: Template, parameters: Mapping[str, str]) -> list[str]:
    """Why CloudFormation refuses these parameters: the template's rules, then the parameters' own limits."""
    given = defaults(template) | dict(parameters)
    found = [
        assertion["AssertDescription"]
        for rule in template["Rules"].values()
        if _holds(rule["RuleCondition"], given)
        for assertion in rule["Assertions"]
        if not _holds(assertion["Assert"], given)
    ]
    return found + [f"{name} does not take {given.get(name)}" for name in _out_of_limits(template["Parameters"], given)]


def _out_of_limits(limits: Mapping[str, Mapping[str, Any]], given: Mapping[str, str]) -> Iterator[str]:
    for name, limit in limits.items():
        value = given.get(name)
        if (
            value is None
            or value not in map(str, limit.get("AllowedValues", [value]))
            or not re.fullmatch(limit.get("AllowedPattern", "(?s).*"), value)
            or (
                limit["Type"] == "Number" and not limit.get("MinValue", 0) <= int(value) <= limit.get("MaxValue", 10**9)
            )
        ):
            yield name


def as_deployed(template: Template, parameters: Mapping[str, str]) -> Template:
    """A translated template as a stack with these parameters has it: every condition decided."""
    given = defaults(template) | dict(parameters)
    conditions = template["Conditions"]
    true = {name for name, condition in conditions.items() if _holds(condition, given, conditions)}
    decided: Template = _decide(template, true)
    decided["Resources"] = {
        name: resource
        for name, resource in decided["Resources"].items()
        if "Condition" not in resource or resource["Condition"] in true
    }
    return decided


def _decide(node: Any, true: set[str]) -> Any:
    if isinstance(node, dict):
        if node.keys() == {"Fn::If"}:
            condition, then, otherwise = node["Fn::If"]
            return _decide(then if condition in true else otherwise, true)
        return {key: _decide(value, true) for key, value in node.items()}
    return [it for value in node if (it := _decide(value, true)) != NO_VALUE] if isinstance(node, list) else node


def _holds(node: Any, given: Mapping[str, str], conditions: Mapping[str, Any] | None = None) -> bool:
    if "Condition" in node:
        return _holds((conditions or {})[node["Condition"]], given, conditions)
    if "Fn::And" in node:
        return all(_holds(each, given, conditions) for each in node["Fn::And"])
    if "Fn::Not" in node:
        return not _holds(node["Fn::Not"][0], given, conditions)
    left, right = (given.get(side["Ref"]) if isinstance(side, dict) else side for side in node["Fn::Equals"])
    return bool(left == right)


def of_type(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """The properties of every resource of a type, by logical id."""
    return {name: it["Properties"] for name, it in template["Resources"].items() if it["Type"] == kind}


def named(value: Any) -> str:
    """A reference to another resource as it is said in words: `LedgerTable.Arn`, or the text of a Sub."""
    match value:
        case {"Ref": name} | {"Fn::Sub": name}:
            return str(name)
        case {"Fn::GetAtt": [name, attribute]}:
            return f"{name}.{attribute}"
    return str(value)


def listed(value: Any) -> list[Any]:
    """CloudFormation takes one thing for a list of one."""
    return value if isinstance(value, list) else [value]
