"""Whether the service in this container is ready: exit code 0, or 1 and a sentence. The image's HEALTHCHECK.

It reads the settings that say where the service listens, and nothing else of the service: it runs every few seconds.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

SECONDS = 4.0


def connection() -> HTTPConnection:
    """To the service, over loopback: whose certificate that is does not matter."""
    port = int(os.environ.get("AIWM_PORT", "3305"))
    if not os.environ.get("AIWM_TLS_CERT"):
        return HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    import ssl  # noqa: PLC0415 – slow to import, and seldom needed

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)


def main() -> None:
    """Ask once."""
    base = os.environ.get("AIWM_BASE_PATH", "").strip("/")
    path = f"/{base}/health/ready" if base else "/health/ready"
    try:
        service = connection()
        service.request("GET", path)
        answer = service.getresponse()
        text = answer.read(500).decode(errors="replace")
    except (OSError, HTTPException) as error:
        sys.exit(f"The service does not answer at {path}: {error}")
    if answer.status != 200:
        sys.exit(f"The service is not ready, {path} says {answer.status}: {text}")


if __name__ == "__main__":
    main()
