"""SageMaker's Search over plain records: filters, sort order and pages (pure)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any, TypeVar

Record = dict[str, Any]
Item = TypeVar("Item")


class BadSearch(ValueError):
    """A search expression or page token that AWS refuses; the message says why."""


def search(
    records: Iterable[Record],
    expression: Record | None,
    *,
    sort_by: str | None = None,
    sort_order: str | None = None,
    properties: frozenset[str],
) -> list[Record]:
    """Filter and sort records as the Search operation does.

    Args:
        records: The records, as Describe answers them.
        expression: A SearchExpression, or None for all records.
        sort_by: A property; None is the time of the last change.
        sort_order: ``"Ascending"`` or ``"Descending"`` (None).
        properties: The first parts of the property names that exist.

    Raises:
        BadSearch: A property does not exist, or an operator does not fit its value.
    """
    _matches({}, expression or {}, properties)  # refused also where there is nothing to look in
    found = [record for record in records if _matches(record, expression or {}, properties)]
    key = sort_by or "LastModifiedTime"
    _known(key, properties)
    reverse = sort_order != "Ascending"

    def order(record: Record) -> tuple[int, Any]:
        value = next(iter(_values(record, key)), None)
        if isinstance(value, datetime):
            value = value.timestamp()
        if value is None:
            return (0, 0)
        return (1, value) if isinstance(value, (int, float)) else (2, str(value))

    return sorted(found, key=order, reverse=reverse)


def page(items: list[Item], token: str | None, size: int | None) -> tuple[list[Item], str | None]:
    """Cut one page out of a result.

    Args:
        items: The whole result.
        token: The NextToken of the page before.
        size: MaxResults; None is AWS's 10.

    Raises:
        BadSearch: The token is not one of ours.
    """
    start = 0
    if token:
        try:
            start = int(json.loads(base64.urlsafe_b64decode(token))["start"])
        except (ValueError, KeyError, TypeError):
            raise BadSearch("The NextToken is invalid.") from None
    end = start + (size or 10)
    if end >= len(items):
        return items[start:], None
    following = base64.urlsafe_b64encode(json.dumps({"start": end}).encode()).decode()
    return items[start:end], following


def _matches(record: Record, expression: Record, properties: frozenset[str]) -> bool:
    outcomes = [_filter(record, item, properties) for item in expression.get("Filters") or []]
    outcomes += [
        _nested(record, item, properties) for item in expression.get("NestedFilters") or []
    ]
    outcomes += [
        _matches(record, item, properties) for item in expression.get("SubExpressions") or []
    ]
    if expression.get("Operator") == "Or" and outcomes:
        return any(outcomes)
    return all(outcomes)


def _nested(record: Record, nested: Record, properties: frozenset[str]) -> bool:
    # All filters have to hold for one and the same item of the list.
    parent = str(nested["NestedPropertyName"])
    _known(parent, properties)
    items = record.get(parent.split(".")[0]) or []
    names = [dict(item, Name=str(item["Name"]).split(".")[-1]) for item in nested["Filters"]]
    return any(
        all(_filter(item, wanted, frozenset(item)) for wanted in names)
        for item in (items if isinstance(items, list) else [items])
    )


def _filter(record: Record, wanted: Record, properties: frozenset[str]) -> bool:
    name, operator = str(wanted["Name"]), wanted.get("Operator") or "Equals"
    expected = wanted.get("Value")
    _known(name, properties)
    values = [value for value in _values(record, name) if value is not None]
    if operator == "Exists":
        return bool(values)
    if operator == "NotExists":
        return not values
    if expected is None:
        raise BadSearch(f"A filter with the operator {operator} needs a value.")
    if operator == "NotEquals":
        return not any(_equal(value, expected) for value in values)
    if operator == "In":
        return any(_equal(value, one) for value in values for one in str(expected).split(","))
    compare: Callable[[Any, str], bool] | None = _COMPARISONS.get(operator)
    if compare is None:
        raise BadSearch(f"The operator {operator} is not supported.")
    return any(compare(value, str(expected)) for value in values)


def _known(name: str, properties: frozenset[str]) -> None:
    if name.split(".")[0] not in properties:
        raise BadSearch(f"Unknown property name: {name}")


def _values(record: Record, name: str) -> list[Any]:
    """All values a property has in a record: several when it runs through a list."""
    first, _, rest = name.partition(".")
    value = record.get(first)
    if not rest:
        return [] if value is None else [value]
    if first == "Tags":
        return [tag["Value"] for tag in value or [] if tag["Key"] == rest]
    if first == "Parameters":
        # The rest is one name, which may have dots of its own.
        found = (value or {}).get(rest)
        return [] if found is None else list(found.values())
    if first == "Metrics":
        metric, _, statistic = rest.rpartition(".")
        wanted = statistic.lower()
        return [
            number
            for summary in value or []
            if summary["MetricName"] == metric
            for key, number in summary.items()
            if key.lower() == wanted
        ]
    if isinstance(value, list):
        return [deep for item in value for deep in _values(item, rest)]
    return _values(value, rest) if isinstance(value, dict) else []


def _equal(value: Any, expected: str) -> bool:
    return _ordered(value, expected, lambda order: order == 0)


def _ordered(value: Any, expected: str, holds: Callable[[int], bool]) -> bool:
    wanted: Any = expected
    try:
        if isinstance(value, datetime):
            wanted = datetime.fromisoformat(expected.replace("Z", "+00:00"))
            if wanted.tzinfo is None:
                wanted = wanted.replace(tzinfo=timezone.utc)
        elif isinstance(value, (int, float)):
            wanted = float(expected)
        else:
            value = str(value)
    except ValueError:
        return False
    return holds((value > wanted) - (value < wanted))


_COMPARISONS: dict[str, Callable[[Any, str], bool]] = {
    "Equals": _equal,
    "Contains": lambda value, expected: expected in str(value),
    "GreaterThan": lambda value, expected: _ordered(value, expected, lambda order: order > 0),
    "GreaterThanOrEqualTo": lambda value, expected: _ordered(
        value, expected, lambda order: order >= 0
    ),
    "LessThan": lambda value, expected: _ordered(value, expected, lambda order: order < 0),
    "LessThanOrEqualTo": lambda value, expected: _ordered(
        value, expected, lambda order: order <= 0
    ),
}
