"""Whether a dashboard has the shape that Grafana reads.

Grafana publishes `dashboard.jsonschema.json`, 67 KB of somebody else's, which is not copied here. The SDK's models are
made from the same source, and know more: the options of each kind of panel, too. They build and do not validate; so a
file is held against their annotations: a field that they do not name, one that is missing, a value of another type or
of no enumeration. Of queries of the PostgreSQL data source neither knows anything: those have a struct of our own.
"""

import importlib
from collections.abc import Iterator, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel, RowPanel

from tests.dashboards.boards import Json, panels


class DataSourceRef(msgspec.Struct, forbid_unknown_fields=True):
    """Which data source."""

    type: str
    uid: str


class Target(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A query of the PostgreSQL data source, written as SQL."""

    ref_id: str
    datasource: DataSourceRef
    format: Literal["time_series", "table"]
    raw_query: Literal[True]
    editor_mode: Literal["code"]
    raw_sql: str


def mistakes(board: Json) -> Iterator[str]:
    """A sentence for each place where the shape is not Grafana's."""
    yield from _differences(board, Dashboard, "")
    for panel in panels(board):
        name = f"Panel {panel.get('title')!r}"
        yield from (f"{name}: {sentence}" for sentence in _particular(panel))


def _particular(panel: Json) -> Iterator[str]:
    """What is wrong with what only this kind of panel has."""
    kind = str(panel.get("type"))
    try:
        models = importlib.import_module(f"grafana_foundation_sdk.models.{kind.replace('-', '')}")
    except ImportError:
        yield f"Grafana's SDK knows no panel of type {kind!r}."
        return
    yield from _differences(panel.get("options"), models.Options, "options")
    custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
    if custom is not None:
        yield from _differences(custom, models.FieldConfig, "fieldConfig.defaults.custom")


NOT_REQUIRED: Final = {"placement"}
"""Where the SDK always writes a constant that the published schema does not ask for."""


def _differences(value: object, hint: Any, path: str) -> Iterator[str]:
    if hint in (Any, object):
        return
    if hint is Dataquery:
        yield from _target(value, path)
    elif get_origin(hint) in (Union, UnionType):
        yield from _of_union(value, get_args(hint), path)
    elif get_origin(hint) is list:
        members = dict(enumerate(value)) if isinstance(value, list) else None
        yield from _of_members(members, "list", get_args(hint)[0], path)
    elif get_origin(hint) is dict:
        yield from _of_members(value if isinstance(value, dict) else None, "object", get_args(hint)[1], path)
    elif get_origin(hint) is Literal or issubclass(hint, Enum):
        allowed = get_args(hint) if get_origin(hint) is Literal else [member.value for member in hint]
        if value not in allowed:
            yield f"{path} is {value!r}, and not one of {', '.join(map(repr, allowed))}."
    elif hint in (str, bool, int, float):
        types = (int, float) if hint is float else (hint,)
        if not isinstance(value, types) or (isinstance(value, bool) and hint is not bool):
            yield f"{path} is {value!r}, and not of type {hint.__name__}."
    else:
        yield from _of_model(value, hint, path)


def _of_model(value: object, model: type, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path} is {value!r}, and not an object."
        return
    fields = {_plain(name.removesuffix("_val")): (name, hint) for name, hint in get_type_hints(model).items()}
    for key, inner in value.items():
        here = f"{path}.{key}".lstrip(".")
        if _plain(key) not in fields:
            yield f"{here} is nothing that Grafana knows."
        else:
            yield from _differences(inner, fields[_plain(key)][1], here)
    there = {_plain(key) for key in value}
    for plain, (name, hint) in fields.items():
        if plain not in there | NOT_REQUIRED and NoneType not in get_args(hint):
            yield f"{f'{path}.{name}'.lstrip('.').removesuffix('_val')} is missing."


def _of_union(value: object, hints: tuple[Any, ...], path: str) -> Iterator[str]:
    """The fewest complaints that one of them has."""
    if set(hints) == {Panel, RowPanel}:
        is_row = isinstance(value, dict) and value.get("type") == "row"
        hints = (RowPanel if is_row else Panel,)
    elif value is None and NoneType in hints:
        return
    yield from min((list(_differences(value, hint, path)) for hint in hints if hint is not NoneType), key=len)


def _of_members(members: Mapping[Any, object] | None, kind: str, hint: Any, path: str) -> Iterator[str]:
    if members is None:
        yield f"{path} is no {kind}."
        return
    for key, inner in members.items():
        yield from _differences(inner, hint, f"{path}[{key!r}]")


def _target(value: object, path: str) -> Iterator[str]:
    try:
        msgspec.convert(value, Target)
    except msgspec.ValidationError as error:
        yield f"{path} is no query in SQL: {error}."


def _plain(name: str) -> str:
    """Of `auto_min`, `autoMin` and `queryCachingTTL` the files have each its own spelling."""
    return name.replace("_", "").lower()
