"""Serve the API: python -m backend.api. Configured by the environment, see settings.py."""

import sys

import uvicorn

from backend.api.app import create_app
from backend.api.settings import Settings
from backend.core import logs


def main() -> int:
    """Serve until SIGTERM; return 2 if a setting is wrong."""
    try:
        settings = Settings.of()
        logs.configure(settings.log_level)
    except ValueError as error:
        sys.stderr.write(f"customer-intelligence-api: {error}\n")
        return 2
    # No access log: the metrics count requests, and a line a request costs more than most answers.
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=20,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
