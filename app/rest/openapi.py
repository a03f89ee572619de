"""The OpenAPI description: what every operation has in common, and what can't be read off a signature."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from litestar import Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    Example,
    Operation,
    RequestBody,
    SecurityScheme,
    Tag,
)

from app.model import NodeRole, NodeSort, NodeStatus
from app.rest import examples
from app.rest.node_query import MAX_LIMIT, MAX_PAGE, MAX_TEXT, METADATA_PREFIX
from app.rest.openapi_page import DescriptionPage
from app.rest.parameters import ANY_TEXT, TIME, number, one_of, query, text
from app.rest.schemas import ErrorBody

_DESCRIPTIONS: Final = {
    400: "Invalid request body or parameters; `details` names each field",
    401: "Missing or invalid JWT token",
    403: "Insufficient permissions",
    404: "Node not found, or of another org",
    413: "The body is too large",
    429: "The caller creates faster than it may: try again after `Retry-After` seconds",
    500: "Something went wrong here; `requestId` stands in the log too",
    503: "The database cannot be reached at the moment",
}
BEARER: Final = "portalToken"


def answer(model: type[msgspec.Struct], description: str, example: Any) -> ResponseSpec:
    """A successful answer with the document's example."""
    return ResponseSpec(model, generate_examples=False, description=description, examples=[_example(example)])


def error_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """The error answers of an operation."""
    return {
        status: ResponseSpec(
            ErrorBody,
            generate_examples=False,
            description=_DESCRIPTIONS[status],
            examples=[_example(examples.error(status))],
        )
        for status in (*statuses, 500)
    }


def _example(value: Any) -> Example:
    return Example(summary="from the document", value=value)


@dataclass
class _WithBody(Operation):
    """An operation whose body has an example; a subclass says which."""

    def _set_example(self, example: Any, *, required: bool = True) -> None:
        if isinstance(self.request_body, RequestBody):
            self.request_body.required = required
            for media in self.request_body.content.values():
                media.example = example


@dataclass
class CreateOperation(_WithBody):
    """POST /nodes."""

    def __post_init__(self) -> None:
        self._set_example(examples.CREATE)


@dataclass
class UpdateOperation(_WithBody):
    """PUT /nodes/{id}."""

    def __post_init__(self) -> None:
        self._set_example(examples.UPDATE)


@dataclass
class TokenOperation(_WithBody):
    """POST /nodes/{id}/token: the body may be missing."""

    def __post_init__(self) -> None:
        self._set_example(examples.MAKE_TOKEN, required=False)


@dataclass
class ListOperation(Operation):
    """GET /nodes: its parameters are parsed by hand, since `metadata.<key>` is a family of them."""

    def __post_init__(self) -> None:
        words = text(MAX_TEXT)
        self.parameters = [
            query("page", "Page number", number(MAX_PAGE, 1)),
            query("limit", "Items per page", number(MAX_LIMIT, 10)),
            query("cursor", "`nextCursor` of the page before; stands above `page`", ANY_TEXT),
            query("sort", "`-` for descending; ties by `_id`", one_of(NodeSort, NodeSort.CREATED_DESCENDING)),
            query("status", "Only nodes of this status", one_of(NodeStatus)),
            query("role", "Only nodes that have this role", one_of(NodeRole)),
            query("name", "Only nodes of exactly this name", words),
            query("search", "Only nodes whose name or hostname contains this, in upper or lower case", words),
            query("orgId", "Only nodes of this org; for admins", words),
            query("changedSince", "Only nodes that changed at this time or later", TIME),
            query(f"{METADATA_PREFIX}<key>", "Only nodes whose `metadata` has this value at that key", ANY_TEXT),
        ]


async def _answer_in_json(response: Response[Any]) -> Response[Any]:
    """Litestar answers an unknown path below the description with a page of its own; ours are JSON."""
    if response.status_code == NotFoundException.status_code:
        raise NotFoundException
    return response


def openapi_config(*, version: str, base_path: str = "") -> OpenAPIConfig:
    """The description at `/schema` (for people) and `/schema/openapi.json`, open to all."""
    return OpenAPIConfig(
        title="AIWM Node API",
        version=version,
        description="GPU worker nodes of the Hydra platform: registration, authentication, monitoring, lifecycle.",
        openapi_router=Router(
            f"{base_path}/schema", route_handlers=[], include_in_schema=False, after_request=_answer_in_json
        ),
        render_plugins=[DescriptionPage(path="/"), JsonRenderPlugin()],
        security=[{BEARER: []}],
        components=Components(
            security_schemes={
                BEARER: SecurityScheme(
                    type="http", scheme="bearer", bearer_format="JWT", description="A portal token; not a node token"
                )
            }
        ),
        tags=[
            Tag("nodes", "GPU worker nodes and their tokens"),
            Tag("history", "What a node measured"),
            Tag("fleet", "All nodes together, now"),
            Tag("install", "What GPU machines download"),
            Tag("system", "The service itself"),
        ],
    )
