"""Version of the platform, and the revision that an image was built from."""

import os

VERSION = "1.4.0"


def revision() -> str:
    """Return the commit the image was built from, "unknown" outside of an image."""
    return os.environ.get("GIT_REVISION", "") or "unknown"
