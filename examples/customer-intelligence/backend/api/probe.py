"""Ask the API of this container for its health: python -m backend.api.probe."""

import http.client
import sys

from backend.api.settings import Settings


def healthy(port: int, timeout: float = 2.0) -> bool:
    """Return whether the API on a port of this machine answers /healthz with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if healthy(Settings.of().port) else 1)
