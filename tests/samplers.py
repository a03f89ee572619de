"""A machine that does not exist, for the daemon to sample; `python -m tests.samplers` is a daemon of it."""

import threading
from typing import Any

GPUS = 8


class FakeSampler:
    """A machine with GPUs. Whatever it is told to raise or to wait for, it does."""

    def __init__(self, gpus: int = GPUS) -> None:
        self.device_ids = [f"GPU-5f8f{number:04x}-0000-4000-8000-000000000000" for number in range(gpus)]
        self.pending_events: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self.hangs: threading.Event | None = None
        """Metrics are not answered before it is set."""
        self.taken = 0

    def facts(self) -> dict[str, Any]:
        """Hardware."""
        return {
            "hostname": "gpu-server-01",
            "os": "Ubuntu 22.04 LTS",
            "cpuCores": 32,
            "ramTotal": 256,
            "diskTotal": 2048,
            "gpuDevices": [
                {"deviceId": it, "model": "NVIDIA H100 80GB HBM3", "memoryTotal": 80} for it in self.device_ids
            ],
            "daemonVersion": "1.0.0",
        }

    def heartbeat(self) -> dict[str, Any]:
        """A sign of life."""
        self._fail()
        return {
            "status": "online",
            "uptimeSeconds": 3630,
            "cpuUsage": 45.2,
            "ramUsage": 62.8,
            "gpuStatus": [{"deviceId": it, "utilization": 85, "temperature": 72} for it in self.device_ids],
        }

    def metrics(self) -> dict[str, Any]:
        """A measurement that tells one from the next: the network counter."""
        self._fail()
        if self.hangs is not None:
            self.hangs.wait(60)
        self.taken += 1
        return {
            "cpu": {"usage": 45.2, "cores": 32, "temperature": 55},
            "memory": {"total": 256, "used": 160, "free": 96, "usage": 62.5},
            "disk": {"total": 2048, "used": 1024, "free": 1024, "usage": 50.0},
            "network": {"bytesIn": self.taken, "bytesOut": 500000},
            "gpus": [
                {
                    "deviceId": it,
                    "model": "NVIDIA H100 80GB HBM3",
                    "memoryTotal": 80,
                    "memoryUsed": 20,
                    "memoryFree": 60,
                    "utilization": 85,
                    "temperature": 72,
                    "powerUsage": 650.5,
                    "smClock": 1980,
                    "throttleReasons": ["power_cap"],
                }
                for it in self.device_ids
            ],
        }

    def events(self) -> list[dict[str, Any]]:
        """What was put into `pending_events`."""
        events, self.pending_events = self.pending_events, []
        return events

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class TellingSampler(FakeSampler):
    """It tells which measurement it takes."""

    def metrics(self) -> dict[str, Any]:
        """A measurement."""
        measured = super().metrics()
        print(f"measured {self.taken}.", flush=True)
        return measured


if __name__ == "__main__":
    from app.worker import command
    from app.worker.backoff import Backoff, Patience

    # A service that is back is found soon: a test need not wait for a minute.
    command.main(open_sampler=lambda *_: TellingSampler(), patience=Patience(trouble=Backoff(0.2, 1.0)))
