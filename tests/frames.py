"""The document's frames of a worker, to be changed by tests."""

from typing import Any


def register() -> dict[str, Any]:
    """NODE_REGISTER."""
    return {
        "type": "NODE_REGISTER",
        "messageId": "5d5a7c9e-0001",
        "timestamp": "2026-11-23T12:00:00.000Z",
        "data": {
            "hostname": "gpu-server-01",
            "ipAddress": "192.168.1.100",
            "publicIpAddress": "203.0.113.10",
            "os": "Ubuntu 22.04 LTS",
            "cpuCores": 32,
            "cpuModel": "AMD EPYC 7742",
            "ramTotal": 256,
            "diskTotal": 2048,
            "gpuDevices": [
                {
                    "deviceId": "GPU-0",
                    "model": "NVIDIA A100",
                    "memoryTotal": 80,
                    "memoryFree": 80,
                    "utilization": 0,
                    "temperature": 35,
                }
            ],
            "daemonVersion": "1.0.0",
            "uptimeSeconds": 3600,
            "containerRuntime": "docker",
        },
    }


def heartbeat(timestamp: str = "2026-11-23T12:00:30.000Z", **extra: Any) -> dict[str, Any]:
    """TELEMETRY_HEARTBEAT."""
    return {
        "type": "TELEMETRY_HEARTBEAT",
        "messageId": "5d5a7c9e-0002",
        "timestamp": timestamp,
        "data": {
            "status": "online",
            "uptimeSeconds": 3630,
            "cpuUsage": 45.2,
            "ramUsage": 62.8,
            "activeDeployments": 2,
            "gpuStatus": [{"deviceId": "GPU-0", "utilization": 85, "temperature": 72}],
        },
    } | extra


def metrics(timestamp: str = "2026-11-23T12:00:30.000Z", **extra: Any) -> dict[str, Any]:
    """TELEMETRY_METRICS."""
    return {
        "type": "TELEMETRY_METRICS",
        "messageId": "5d5a7c9e-0003",
        "timestamp": timestamp,
        "data": {
            "timestamp": timestamp,
            "cpu": {"usage": 45.2, "cores": 32, "temperature": 55},
            "memory": {"total": 256, "used": 160, "free": 96, "usage": 62.5},
            "disk": {"total": 2048, "used": 1024, "free": 1024, "usage": 50.0},
            "network": {"bytesIn": 1000000, "bytesOut": 500000},
            "gpus": [
                {
                    "deviceId": "GPU-0",
                    "model": "NVIDIA A100",
                    "memoryTotal": 80,
                    "memoryUsed": 20,
                    "memoryFree": 60,
                    "utilization": 85,
                    "temperature": 72,
                    "powerUsage": 250,
                }
            ],
        },
    } | extra


def gpu_event(timestamp: str = "2026-11-23T12:00:30.000Z", **extra: Any) -> dict[str, Any]:
    """GPU_EVENT, of the extension gpuEvents."""
    return {
        "type": "GPU_EVENT",
        "messageId": "5d5a7c9e-0004",
        "timestamp": timestamp,
        "data": {
            "timestamp": timestamp,
            "deviceId": "GPU-0",
            "kind": "xid",
            "detail": {"xid": 79, "message": "fell off the bus"},
        },
    } | extra


def token_renew(timestamp: str = "2026-11-23T12:00:30.000Z") -> dict[str, Any]:
    """TOKEN_RENEW, of the extension tokenRenewal."""
    return {"type": "TOKEN_RENEW", "messageId": "5d5a7c9e-0005", "timestamp": timestamp}


DETAILS: dict[str, Any] = {
    "smClock": 1410,
    "memoryClock": 1593,
    "fanSpeed": 104.5,
    "pcieRx": 12_000_000,
    "pcieTx": 3_400_000,
    "energy": 123_456_789,
    "eccCorrected": 3,
    "eccUncorrected": 0,
    "throttleReasons": ["sw_thermal", "power_cap"],
}
"""Of a GPU in metrics, of the extension gpuDetails."""
