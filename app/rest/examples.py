"""The document's own examples, for the OpenAPI description."""

from typing import Any, Final

_NODE_ID: Final = "673e7a1f5c9d8e001234abcd"

CREATE: Final = {"name": "GPU-Worker-01", "role": ["worker"], "isLocal": False, "vpnIp": "10.0.1.5"}
CREATED: Final[dict[str, Any]] = {
    "_id": _NODE_ID,
    "name": "GPU-Worker-01",
    "role": ["worker"],
    "status": "pending",
    "isLocal": False,
    "vpnIp": "10.0.1.5",
    "websocketConnected": False,
    "lastHeartbeat": "2025-11-21T10:00:00.000Z",
    "owner": {"orgId": "68dd05b175d9e3c17bf97f60"},
    "createdBy": "68dcf365f6a92c0d4911b619",
    "createdAt": "2025-11-21T10:00:00.000Z",
    "updatedAt": "2025-11-21T10:00:00.000Z",
}
NODE: Final[dict[str, Any]] = CREATED | {
    "status": "online",
    "websocketConnected": True,
    "lastHeartbeat": "2025-11-21T10:05:00.000Z",
    "cpuCores": 32,
    "cpuModel": "AMD EPYC 7742",
    "ramTotal": 256,
    "ramUsage": 45.2,
    "gpuDevices": [
        {
            "deviceId": "GPU-0",
            "model": "NVIDIA A100",
            "memoryTotal": 80,
            "memoryFree": 60,
            "utilization": 25,
            "temperature": 45,
        }
    ],
    "tokenMetadata": {
        "tokenGeneratedAt": "2025-11-21T10:00:00.000Z",
        "tokenExpiresAt": "2026-11-21T10:00:00.000Z",
    },
    "updatedAt": "2025-11-21T10:05:00.000Z",
}
LIST: Final = {"data": [NODE], "total": 1, "page": 1, "limit": 10}
UPDATE: Final = {"name": "GPU-Worker-01-Updated", "status": "maintenance"}
UPDATED: Final = NODE | UPDATE | {"updatedAt": "2025-11-21T10:10:00.000Z"}
DELETED: Final = {"message": "Node deleted successfully"}
REVOKED: Final = {"message": "Node tokens revoked successfully"}
MAKE_TOKEN: Final = {"expiresIn": 31536000}
MADE_TOKEN: Final = {
    "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...",
    "expiresAt": "2026-11-21T10:00:00.000Z",
    "installScript": "#!/bin/bash\n# Hydra Node Installation Script\n...",
}
HEALTHY: Final = {"status": "ok"}

_ERRORS: Final = {
    400: "name: is required",
    401: "Missing or invalid JWT token",
    403: "Insufficient permissions",
    404: "Node not found",
    413: "Request Entity Too Large",
    429: "Too many nodes at a time: 600 a minute are allowed; try again in 3 s",
    500: "Internal server error",
    503: "The database cannot be reached at the moment; try again shortly",
}
_PHRASES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_ALSO: Final[dict[int, dict[str, Any]]] = {
    400: {"details": [{"field": "name", "message": "is required"}]},
    500: {"requestId": "5d5a7c9e4f6b4b1e9d3c2a1b0f9e8d7c"},
}
HEALTH: Final = {"status": "ok"}


def error(status: int) -> dict[str, Any]:
    """An error body of this status."""
    body = {
        "statusCode": status,
        "error": _PHRASES[status],
        "message": _ERRORS[status],
        "path": f"/nodes/{_NODE_ID}",
        "timestamp": "2025-11-21T10:00:00.000Z",
    }
    return body | _ALSO.get(status, {})
