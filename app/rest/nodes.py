"""The Node API: /nodes."""

from typing import Any, Final

from litestar import Controller, Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.params import JSONBody

from app.domain.node_list import NodeQuery
from app.domain.nodes import NodeDraft, Nodes
from app.model import Caller, CallerRole
from app.rest import examples, node_query
from app.rest.bodies import StrictBody, encode_metadata
from app.rest.guards import requires
from app.rest.node_editing import UpdateNode
from app.rest.node_id import PathId, checked
from app.rest.openapi import CreateOperation, ListOperation, TokenOperation, UpdateOperation, answer, error_responses
from app.rest.schemas import CreateNode, MakeToken, Message, NodeAnswer, NodeList, TokenAnswer

BODY_BYTES: Final = 256 * 1024

_OPERATOR: Final = [requires(CallerRole.OPERATOR)]
_NOT_STORED: Final = {"Cache-Control": "no-store"}


class NodeController(Controller):
    """Each handler: check what came, call the service, show what it says."""

    path = "/nodes"
    tags = ("nodes",)
    request_max_body_size = BODY_BYTES

    @post(
        operation_id="createNode",
        summary="Create a node",
        description="Creates a node in `pending` status, owned by the caller's org.",
        operation_class=CreateOperation,
        guards=_OPERATOR,
        dto=StrictBody[CreateNode],
        return_dto=None,
        responses={
            201: answer(NodeAnswer, "The node", examples.CREATED),
            **error_responses(400, 401, 403, 413, 429, 503),
        },
    )
    async def create_node(
        self,
        nodes: NamedDependency[Nodes],
        caller: NamedDependency[Caller],
        data: JSONBody[CreateNode],
    ) -> NodeAnswer:
        """POST /nodes."""
        draft = NodeDraft(
            name=data.name,
            role=tuple(data.role),
            is_local=data.is_local,
            vpn_ip=data.vpn_ip,
            metadata=encode_metadata(data.metadata),
            org_id=data.org_id,
        )
        return NodeAnswer.of(await nodes.create(caller, draft))

    @get(
        operation_id="listNodes",
        summary="List nodes",
        description=(
            "The nodes that the caller may see, page by page. `nextCursor` leads to the next page; along it no node "
            "is repeated or left out, whatever comes, goes or beats meanwhile (a node renamed during a walk by `name` "
            "is the exception). Along `lastHeartbeat` the cursor grows with the number of nodes shown."
        ),
        operation_class=ListOperation,
        responses={200: answer(NodeList, "One page", examples.LIST), **error_responses(400, 401, 403, 503)},
    )
    async def list_nodes(
        self, request: Request[Caller, None, Any], nodes: NamedDependency[Nodes], caller: NamedDependency[Caller]
    ) -> NodeList:
        """GET /nodes."""
        query: NodeQuery = node_query.parse(request.query_params.multi_items())
        return NodeList.of(await nodes.list(caller, query))

    @get(
        "/{node_id:str}",
        operation_id="getNode",
        summary="Get a node",
        description="One node with its hardware, its present state and its GPUs.",
        responses={200: answer(NodeAnswer, "The node", examples.NODE), **error_responses(400, 401, 403, 404, 503)},
    )
    async def get_node(
        self, nodes: NamedDependency[Nodes], caller: NamedDependency[Caller], node_id: PathId
    ) -> NodeAnswer:
        """GET /nodes/:id."""
        return NodeAnswer.of(await nodes.get(caller, checked(node_id)))

    @put(
        "/{node_id:str}",
        operation_id="updateNode",
        summary="Change a node",
        description=(
            "Partial: what is left out stays, null clears. Read-only fields are taken where they are unchanged, so that "
            "a node can be sent back as it was got. Status by hand: `installing|online|offline` to `maintenance`, and "
            "`maintenance` to `online`."
        ),
        operation_class=UpdateOperation,
        guards=_OPERATOR,
        dto=StrictBody[UpdateNode],
        return_dto=None,
        responses={
            200: answer(NodeAnswer, "The whole node", examples.UPDATED),
            **error_responses(400, 401, 403, 404, 413, 503),
        },
    )
    async def update_node(
        self,
        nodes: NamedDependency[Nodes],
        caller: NamedDependency[Caller],
        node_id: PathId,
        data: JSONBody[UpdateNode],
    ) -> NodeAnswer:
        """PUT /nodes/:id."""
        return NodeAnswer.of(await nodes.update(caller, checked(node_id), data.changes_of))

    @delete(
        "/{node_id:str}",
        status_code=200,
        operation_id="deleteNode",
        summary="Delete a node",
        description="Soft: its history stays. Its tokens are refused for ever, an open socket is closed.",
        guards=_OPERATOR,
        responses={200: answer(Message, "Done", examples.DELETED), **error_responses(400, 401, 403, 404, 503)},
    )
    async def delete_node(
        self, nodes: NamedDependency[Nodes], caller: NamedDependency[Caller], node_id: PathId
    ) -> Message:
        """DELETE /nodes/:id."""
        await nodes.delete(caller, checked(node_id))
        return Message("Node deleted successfully")

    @post(
        "/{node_id:str}/token",
        status_code=200,
        operation_id="makeNodeToken",
        summary="Generate a node token",
        description=(
            "A JWT for the node's worker, and the script that installs it. Older tokens stay valid unless "
            "`revokePrevious` says otherwise. The body may be missing."
        ),
        operation_class=TokenOperation,
        guards=_OPERATOR,
        dto=StrictBody[MakeToken],
        return_dto=None,
        responses={
            200: answer(TokenAnswer, "The token", examples.MADE_TOKEN),
            **error_responses(400, 401, 403, 404, 413, 429, 503),
        },
    )
    async def make_token(
        self,
        nodes: NamedDependency[Nodes],
        caller: NamedDependency[Caller],
        node_id: PathId,
        data: JSONBody[MakeToken] = MakeToken(),  # noqa: B008 - frozen
    ) -> Response[TokenAnswer]:
        """POST /nodes/:id/token."""
        made = await nodes.make_token(caller, checked(node_id), data.expires_in, revoke_previous=data.revoke_previous)
        return Response(TokenAnswer.of(made), media_type=MediaType.JSON, headers=_NOT_STORED)

    @delete(
        "/{node_id:str}/token",
        status_code=200,
        operation_id="revokeNodeTokens",
        summary="Revoke a node's tokens",
        description="All of them: the node is disabled, and its socket closed, until a new token is made.",
        guards=_OPERATOR,
        responses={200: answer(Message, "Done", examples.REVOKED), **error_responses(400, 401, 403, 404, 503)},
    )
    async def revoke_tokens(
        self, nodes: NamedDependency[Nodes], caller: NamedDependency[Caller], node_id: PathId
    ) -> Message:
        """DELETE /nodes/:id/token."""
        await nodes.revoke_tokens(caller, checked(node_id))
        return Message("Node tokens revoked successfully")
