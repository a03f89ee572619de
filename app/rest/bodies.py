"""Request bodies: strict JSON, every wrong field named at once.

Litestar's own decoding turns "1" into 1 and stops at the first problem; this one does neither.
"""

from collections.abc import Callable, Generator, Mapping
from functools import cache
from ipaddress import ip_address
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from app.errors import FieldProblem, InvalidRequest
from app.rest.wording import NUL, choices_of, worded

METADATA_BYTES: Final = 16 * 1024

Body = TypeVar("Body", bound=msgspec.Struct)

_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class StrictBody(AbstractDTO[Body], Generic[Body]):
    """Lets Litestar decode a handler's `data` by `decode`, and describe it as the struct that it is."""

    def decode_bytes(self, value: bytes) -> Any:
        """The body as the handler's struct. Raises InvalidRequest."""
        return decode(value, self.model_type)

    def decode_builtins(self, value: Any) -> Any:  # noqa: ARG002 - the base class's signature, here and below
        """Forms are not taken."""
        raise _not_an_object()

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Nothing to prepare: there is no transfer model."""

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,  # noqa: ARG003
        handler_id: str,  # noqa: ARG003
        schema_creator: Any,
    ) -> Reference | Schema:
        """The struct's own schema, and nothing else."""
        reference: Reference = schema_creator.for_field_definition(FieldDefinition.from_annotation(cls.model_type))
        schema_creator.schema_registry.from_reference(reference).schema.additional_properties = False
        return reference

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:  # noqa: ARG003
        """None: see `create_for_field_definition`."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:  # noqa: ARG003
        """None: see `create_for_field_definition`."""
        return False


class _Expected(NamedTuple):
    name: str
    decoder: msgspec.json.Decoder[Any]
    is_required: bool
    choices: tuple[str, ...]


def decode(raw: bytes, model: type[Body]) -> Body:
    """A JSON object as a struct. Raises InvalidRequest that names every field that does not fit."""
    try:
        given = _FIELDS.decode(raw)
    except msgspec.ValidationError:
        raise _not_an_object() from None
    except _UNREADABLE as error:
        raise InvalidRequest.of("body", f"is not valid JSON: {error}") from None
    expected = _expected(model)
    problems = [FieldProblem(name, "is not a field of this request") for name in given if name not in expected]
    values: dict[str, Any] = {}
    for name, field in expected.items():
        if name not in given:
            if field.is_required:
                problems.append(FieldProblem(name, "is required"))
            continue
        try:
            values[field.name] = _value(name, given[name], field)
        except InvalidRequest as error:
            problems.extend(error.details)
    if problems:
        raise InvalidRequest(*problems)
    return model(**values)


def encode_metadata(metadata: Mapping[str, Any] | None) -> str | None:
    """Metadata as JSON text, as the storage takes it."""
    return None if metadata is None else msgspec.json.encode(metadata).decode()


@cache
def _expected(model: type[msgspec.Struct]) -> Mapping[str, _Expected]:
    return {
        field.encode_name: _Expected(
            field.name, msgspec.json.Decoder(field.type), field.required, choices_of(field.type)
        )
        for field in msgspec.structs.fields(model)
    }


def _value(name: str, raw: msgspec.Raw, field: _Expected) -> Any:
    try:
        value = field.decoder.decode(raw)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise InvalidRequest.of(name + place.rstrip("`"), worded(message, field.choices)) from None
    except _UNREADABLE as error:
        raise InvalidRequest.of(name, f"is not valid JSON: {error}") from None
    if _has_nul(value):
        raise InvalidRequest.of(name, NUL)
    problem = _CHECKS[name](value) if name in _CHECKS and value is not None else None
    if problem is not None:
        raise InvalidRequest.of(name, problem)
    return value


def _not_an_object() -> InvalidRequest:
    return InvalidRequest.of("body", "must be a JSON object")


def _has_nul(value: Any) -> bool:
    """Whether NUL stands anywhere in it, keys included. By hand: the nesting may be deeper than the stack."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        match found:
            case str() if "\0" in found:
                return True
            case dict():
                waiting.extend(found)
                waiting.extend(found.values())
            case list() | tuple():
                waiting.extend(found)
    return False


def _check_address(value: str) -> str | None:
    try:
        ip_address(value)
    except ValueError:
        return "must be an IP address"
    return "must be an IP address without a zone" if "%" in value else None


def _check_role(value: list[Any]) -> str | None:
    return "names a role twice" if len(set(value)) < len(value) else None


def _check_metadata(value: Mapping[str, Any]) -> str | None:
    size = len(msgspec.json.encode(value))
    return None if size <= METADATA_BYTES else f"takes {size} bytes as JSON; {METADATA_BYTES} are allowed"


# By field name: the same name means the same in every request.
_CHECKS: Final[Mapping[str, Callable[[Any], str | None]]] = {
    "vpnIp": _check_address,
    "role": _check_role,
    "metadata": _check_metadata,
}
