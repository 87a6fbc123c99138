"""How users name rules: `Mean2P`, `GM(iterations=3)`, `NNM+CWTM`, `Bucketing(2)+Krum`, `TwoPhase(Mean1P, Avg)`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from ostrakon.common.aggregation.matrix import PlacedRows
from ostrakon.common.aggregation.means import Aggregate
from ostrakon.common.aggregation.pre_aggregations import PRE_AGGREGATION_MAKERS, PreAggregation
from ostrakon.common.aggregation.registry import EXAMPLES, RULE_MAKERS
from ostrakon.common.aggregation.rule import Cost, Rule, check_minority
from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import Call, Expression, read_call, unknown

T = TypeVar("T", Rule, PreAggregation)

_LONGEST = 200
_GREATEST = 2**63 - 1


def rule(text: str) -> Rule:
    """The rule that a user named.

    >>> rule("Bucketing(2)+Krum").name
    'Bucketing(s=2)+Krum'

    Args:
        text: a rule's name, with parameters in parentheses if any, in front of it any number of pre-aggregations that
            are applied first, each with a `+` behind it.

    Raises:
        OstrakonError: no rule or parameter has this name, or a parameter cannot have this value.
    """
    if len(text) > _LONGEST:
        raise OstrakonError(f"a rule of {len(text)} characters cannot be read: {_LONGEST} are enough for any")
    try:
        *before, last = (read_call(part, example="GM(iterations=3)") for part in _parts(text))
    except OstrakonError as refusal:
        raise OstrakonError(f"rule {text!r}: {refusal}") from None
    made = _make("rule", RULE_MAKERS, last, {"pre-aggregation": PRE_AGGREGATION_MAKERS})
    for part in reversed(before):
        made = _compose(_make("pre-aggregation", PRE_AGGREGATION_MAKERS, part, {"rule": RULE_MAKERS}), made)
    return made


def _compose(before: PreAggregation, after: Rule) -> Rule:
    name = f"{before.name}+{after.name}"

    def function(x: PlacedRows, f: int) -> tuple[Aggregate, ...]:
        mixed = before.function(x, f)
        places = [[place for row in members for place in x.places[row]] for members in mixed.members]
        return tuple(
            Aggregate(one.vector, tuple(sorted(row for chosen in one.cluster for row in mixed.members[chosen])))
            for one in after.function(PlacedRows(mixed.x, places), f)
        )

    def applies(n: int, f: int) -> None:
        check_minority(n, f)
        try:
            after.applies(before.rows(n), f)
        except OstrakonError as refusal:
            if before.rows(n) == n:
                raise
            raise OstrakonError(
                f"{before.name} makes {before.rows(n)} vectors of those of n={n} workers, of which the f={f} can spoil "
                f"one each, and then: {refusal}. Give a smaller f, or leave {before.name} out"
            ) from None

    return replace(
        after,
        name=name,
        function=function,
        applies=applies,
        guarantee=before.guarantee(after.guarantee) if before.guarantee and after.guarantee else None,
        cost=Cost(
            f"{before.cost.time}, then {after.cost.time}",
            f"{before.cost.memory}, then {after.cost.memory}",
            lambda n, f: before.cost.vectors(n, f) + after.cost.vectors(n, f),
        ),
        formula=f"{before.formula}; then {after.formula}",
        source=f"{before.source}; {after.source}",
        reads_all=before.reads_all,
        side_by_side=None,
    )


def _make(
    kind: str, known: Mapping[str, Callable[..., T]], call: Call, elsewhere: Mapping[str, Mapping[str, Any]]
) -> T:
    for other, names in elsewhere.items():
        if call.name in names:
            raise OstrakonError(
                f"{call.name} is a {other}: write the pre-aggregations first and the rule last, as in NNM+CWTM"
            )
    if call.name not in known:
        raise unknown(kind, call.name, known)
    make = known[call.name]
    signature = inspect.signature(make)
    parameters = list(signature.parameters)
    if not parameters and (call.positional or call.named):
        came = ", ".join(call.named) or str(call.positional[0])
        raise OstrakonError(f"{kind} {call.name} takes no parameters, but {came} came: write {call.name}")
    listed = ", ".join(parameters)
    if len(call.positional) > len(parameters):
        raise OstrakonError(f"{kind} {call.name} takes {listed}, but {len(call.positional)} values came")
    values = dict(zip(parameters, call.positional, strict=False))
    for name, value in call.named.items():
        if name not in parameters:
            raise OstrakonError(f"{kind} {call.name} has no parameter {name} (known: {listed})")
        if name in values:
            raise OstrakonError(f"{kind} {call.name} is given {name} twice: give it once")
        values[name] = value
    for name, parameter in signature.parameters.items():
        if name in values:
            values[name] = _value(f"{kind} {call.name}", name, values[name], parameter.annotation)
        elif parameter.default is parameter.empty:
            example = next(one for one in EXAMPLES if one.startswith(f"{call.name}("))
            raise OstrakonError(f"{kind} {call.name} needs {listed}, as in {example}")
    made = make(**values)
    return _named(made, call.name, values) if call.positional or call.named else made


def _named(made: T, name: str, values: Mapping[str, Any]) -> T:
    """With its parameters in its name, but for rules that say them already."""
    if any(isinstance(value, Rule) for value in values.values()):
        return made
    return replace(made, name=f"{name}({', '.join(f'{key}={value!r}' for key, value in values.items())})")


def _value(whose: str, name: str, value: Any, kind: Any) -> Any:
    if kind is Rule:
        return rule(str(value))
    if isinstance(value, bool | Expression) or not isinstance(value, int | float):
        raise OstrakonError(f"{whose} cannot use {name} = {value!s}: give a number")
    if kind is not float and not isinstance(value, int):
        raise OstrakonError(f"{whose} cannot use {name} = {value!r}: give a whole number")
    if isinstance(value, int) and abs(value) > _GREATEST:
        raise OstrakonError(f"{whose} cannot use so large a {name}: give at most {_GREATEST}")
    return value


def _parts(text: str) -> list[str]:
    """The parts between those `+` that are in no parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "+" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


RULES: Mapping[str, Rule] = MappingProxyType(
    {name: make() for name, make in RULE_MAKERS.items() if not any(one.startswith(f"{name}(") for one in EXAMPLES)}
)
"""All rules that need no parameters, by name, with those that they have by default."""

PRE_AGGREGATIONS: Mapping[str, PreAggregation] = MappingProxyType(
    {name: make() for name, make in PRE_AGGREGATION_MAKERS.items()}
)
"""All pre-aggregations by name, with the parameters that they have by default."""
