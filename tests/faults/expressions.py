"""DynamoDB's condition and update expressions, as much of them as the layer writes; anything else is an error.

Source: Amazon DynamoDB Developer Guide, "Condition and filter expressions" and "Update expressions".
"""

import operator
import re
from decimal import Decimal
from functools import cache

_COMPARATORS = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Invalid(Exception):
    """What DynamoDB would refuse with a ValidationException, or what is not understood here."""


@cache
def condition(text):
    """A function of (item, names, values) that says whether the condition holds; an empty text always does."""
    if not text:
        return lambda *_: True
    parser = _Parser(text)
    found = parser.either()
    parser.end()
    return found


@cache
def update(text):
    """A function of (item, names, values) that changes the item. All values are read before anything is written."""
    parser = _Parser(text)
    clauses = []
    while parser.more():
        clause = parser.take("SET", "REMOVE", "ADD")
        clauses += parser.list_of({"SET": parser.assignment, "REMOVE": parser.removal, "ADD": parser.addition}[clause])
    parser.end()

    def apply(item, names, values):
        changes = [clause(item, names, values) for clause in clauses]
        if len({name for name, _ in changes}) < len(changes) or any(name == "pk" for name, _ in changes):
            raise Invalid("an attribute twice, or the key")
        for name, value in changes:
            if value is None:
                item.pop(name, None)
            else:
                item[name] = value

    return apply


def check_substitutes(texts, names, values):
    """DynamoDB refuses a name or a value that no expression uses."""
    used = _substitutes(tuple(texts))
    if used != names.keys() | values.keys():
        raise Invalid(f"substitutes that do not fit the expressions: {sorted(used ^ {*names, *values})}")


@cache
def _substitutes(texts):
    return frozenset(re.findall(r"[#:]\w+", " ".join(texts)))


def _comparable(value):
    """Type and value; numbers by their worth."""
    if value is None:
        return None
    ((sort, content),) = value.items()
    return sort, Decimal(content) if sort == "N" else content


class _Parser:
    def __init__(self, text):
        self._text = text
        self._tokens = [*re.findall(r"[#:]?\w+|<>|<=|>=|\S", text), ""]

    def more(self):
        return self._tokens[0] != ""

    def end(self):
        if self.more():
            raise Invalid(f"not understood from {self._tokens[0]!r} on: {self._text}")

    def take(self, *expected):
        token = self._tokens.pop(0)
        if not token or (expected and token not in expected):
            raise Invalid(f"{token!r} where {expected or 'something'} should be: {self._text}")
        return token

    def list_of(self, part):
        parts = [part()]
        while self._tokens[0] == ",":
            self.take(",")
            parts.append(part())
        return parts

    # --- conditions ---

    def either(self):
        parts = [self.both()]
        while self._tokens[0] == "OR":
            self.take("OR")
            parts.append(self.both())
        return lambda *of: any(part(*of) for part in parts)

    def both(self):
        parts = [self.single()]
        while self._tokens[0] == "AND":
            self.take("AND")
            parts.append(self.single())
        return lambda *of: all(part(*of) for part in parts)

    def single(self):
        if self._tokens[0] == "NOT":
            self.take("NOT")
            inner = self.single()
            return lambda *of: not inner(*of)
        if self._tokens[0] == "(":
            self.take("(")
            inner = self.either()
            self.take(")")
            return inner
        if self._tokens[0] in ("attribute_exists", "attribute_not_exists"):
            wanted = self.take() == "attribute_exists"
            self.take("(")
            name = self._name()
            self.take(")")
            return lambda item, names, _: (name(names) in item) is wanted
        if self._tokens[0] in ("contains", "begins_with"):
            function = self.take()
            self.take("(")
            name = self._name()
            self.take(",")
            wanted = self._operand()
            self.take(")")
            if function == "begins_with":
                return lambda item, names, values: item.get(name(names), {"S": ""})["S"].startswith(
                    wanted(item, names, values)["S"]
                )
            return lambda item, names, values: (
                wanted(item, names, values)["S"] in item.get(name(names), {"SS": []})["SS"]
            )
        return self._comparison()

    def _comparison(self):
        left = self._operand()
        sign = self.take("=", "<>", "<", "<=", ">", ">=", "IN")
        if sign == "IN":
            self.take("(")
            choices = self.list_of(self._operand)
            self.take(")")
            return lambda *of: any(_compare("=", left(*of), choice(*of)) for choice in choices)
        right = self._operand()
        return lambda *of: _compare(sign, left(*of), right(*of))

    # --- updates; each gives (name, new value), None to remove it ---

    def assignment(self):
        name = self._name()
        self.take("=")
        value = self._value()

        def assign(item, names, values):
            found = value(item, names, values)
            if found is None:
                raise Invalid("there is no such attribute to take the value from")
            return name(names), found

        return assign

    def removal(self):
        name = self._name()
        return lambda _, names, __: (name(names), None)

    def addition(self):
        name, operand = self._name(), self._operand()

        def add(item, names, values):
            ((sort, added),) = operand(item, names, values).items()
            if sort == "SS":
                return name(names), {sort: sorted({*item.get(name(names), {sort: []})[sort], *added})}
            before = Decimal(item.get(name(names), {"N": "0"})["N"])
            return name(names), {"N": str(before + Decimal(added))}

        return add

    def _value(self):
        if self._tokens[0] not in ("if_not_exists", "list_append"):
            return self._operand()
        function = self.take()
        self.take("(")
        first = self._value()
        self.take(",")
        second = self._value()
        self.take(")")
        if function == "list_append":
            return lambda *of: {"L": [*first(*of)["L"], *second(*of)["L"]]}
        return lambda *of: second(*of) if first(*of) is None else first(*of)

    # --- names and values ---

    def _operand(self):
        if self._tokens[0].startswith(":"):
            token = self.take()
            return lambda _, __, values: values[token]
        name = self._name()
        return lambda item, names, _: item.get(name(names))

    def _name(self):
        token = self.take()
        if not re.fullmatch(r"#?[A-Za-z]\w*", token) or self._tokens[0] in (".", "["):
            raise Invalid(f"{token!r} is no name, or a path, which is not understood: {self._text}")
        return operator.itemgetter(token) if token.startswith("#") else lambda _: token


def _compare(sign, left, right):
    """What is not there equals nothing, and is neither less nor more; nor are two of different types."""
    one, other = _comparable(left), _comparable(right)
    if sign == "<>":
        return one != other
    if one is None or other is None or one[0] != other[0]:
        return False
    return _COMPARATORS[sign](one[1], other[1])
