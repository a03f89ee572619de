"""Every error that a person or a worker can meet, in one tree.

A message is a sentence for whoever meets it: what was wrong, with what, what to do.

=======================  ======  =====================  ==========
error                    HTTP    WebSocket error code   close code
=======================  ======  =====================  ==========
StartupError             –       –                      –          (exit code 1)
AiwmError                500     INTERNAL_ERROR         1011
├── InvalidRequest       400     –                      –
├── Unauthorized         401     –                      –
├── Forbidden            403     –                      –
├── TooManyRequests      429     –                      –
├── StorageUnavailable   503     INTERNAL_ERROR         1011
├── ProviderUnavailable  503     –                      –
├── NodeNotFound         404     NODE_NOT_FOUND         4404
├── DeviceNotFound       404     –                      –
├── NodeInactive         403     NODE_INACTIVE          4403
├── InvalidToken         401     INVALID_TOKEN          4401
│   └── TokenExpired     401     TOKEN_EXPIRED          4401
├── RegistrationFailed   –       REGISTRATION_FAILED    –
├── InvalidMessage       –       INVALID_MESSAGE        –
├── UnknownType          –       UNKNOWN_TYPE           –
├── SampleTooOld         –       SAMPLE_TOO_OLD         –
├── SampleInFuture       –       SAMPLE_IN_FUTURE       –
├── SampleRefused        –       SAMPLE_REFUSED         –
└── TokenRenewalRefused  –       TOKEN_RENEWAL_REFUSED  –
=======================  ======  =====================  ==========
"""

from typing import ClassVar, Self

import msgspec


class StartupError(Exception):
    """One sentence for the person at the terminal; the command prints it and exits with 1."""


class FieldProblem(msgspec.Struct, frozen=True):
    """One field of a request that is wrong, and why."""

    field: str
    message: str


class AiwmError(Exception):
    """An error with an answer: an HTTP status, a WebSocket error code, a close code."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    close_code: ClassVar[int] = 1011
    default: ClassVar[str] = "Internal server error"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or self.default
        super().__init__(self.message)


class InvalidRequest(AiwmError):
    """A body or a parameter that does not fit; `details` names each field."""

    status = 400
    default = "The request is not valid"

    def __init__(self, *problems: FieldProblem, message: str | None = None) -> None:
        self.details = problems
        super().__init__(message or "; ".join(f"{problem.field}: {problem.message}" for problem in problems))

    @classmethod
    def of(cls, field: str, message: str) -> Self:
        """The usual case: one field, one sentence."""
        return cls(FieldProblem(field, message))


class Unauthorized(AiwmError):
    """No portal token, or not a valid one."""

    status = 401
    default = "Missing or invalid JWT token"


class Forbidden(AiwmError):
    """A valid portal token whose role or claims do not allow this."""

    status = 403
    default = "Insufficient permissions"


class TooManyRequests(AiwmError):
    """A caller that is faster than it may be; `retry_after` is in seconds."""

    status = 429
    default = "Too many requests; try again later"

    def __init__(self, message: str | None = None, *, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StorageUnavailable(AiwmError):
    """The database cannot be reached at the moment; nothing was lost, try again."""

    status = 503
    default = "The database cannot be reached at the moment; try again shortly"


class ProviderUnavailable(AiwmError):
    """The identity provider's keys are not known, so that nobody can say whether its token is good."""

    status = 503
    default = "The identity provider's keys cannot be fetched at the moment; try again shortly"


class NodeNotFound(AiwmError):
    """Deleted, of another org, or never there: the three look the same from outside."""

    status = 404
    code = "NODE_NOT_FOUND"
    close_code = 4404
    default = "Node not found"


class DeviceNotFound(AiwmError):
    """A GPU that this node never had."""

    status = 404
    default = "This node never had a GPU of this deviceId: GET /nodes/:id lists those it has"


class NodeInactive(AiwmError):
    """The node's tokens were revoked and no new one was made since."""

    status = 403
    code = "NODE_INACTIVE"
    close_code = 4403
    default = "Node is disabled or banned"


class InvalidToken(AiwmError):
    """A node token that is not ours, not for this door, or revoked."""

    status = 401
    code = "INVALID_TOKEN"
    close_code = 4401
    default = "Invalid JWT token"


class TokenExpired(InvalidToken):
    """A node token past its `exp`."""

    code = "TOKEN_EXPIRED"
    default = "JWT token has expired"


class RegistrationFailed(AiwmError):
    """Telemetry from a node that never sent NODE_REGISTER."""

    code = "REGISTRATION_FAILED"
    default = "This node has not registered yet: send NODE_REGISTER first"


class InvalidMessage(AiwmError):
    """A frame of the wrong shape; the message names the field."""

    code = "INVALID_MESSAGE"
    default = "The frame is not a valid message"


class UnknownType(AiwmError):
    """A frame whose `type` is none of the protocol's."""

    code = "UNKNOWN_TYPE"
    default = "Unknown message type"


class SampleTooOld(AiwmError):
    """A sample older than what the service keeps raw."""

    code = "SAMPLE_TOO_OLD"


class SampleInFuture(AiwmError):
    """A sample further ahead of the server's clock than clocks may differ."""

    code = "SAMPLE_IN_FUTURE"


class SampleRefused(AiwmError):
    """A sample that the database itself refuses, isolated from its batch; or of a GPU that no number is left for."""

    code = "SAMPLE_REFUSED"
    default = "The database refused this sample"


class TokenRenewalRefused(AiwmError):
    """A node token that is not renewed, or not now; it stays as good as it was."""

    code = "TOKEN_RENEWAL_REFUSED"
    default = "This service does not renew tokens: make a new one at the portal before this one expires"
