"""Settings of the API, read from the environment once at start."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What can be configured, with defaults for a developer's machine."""

    model_dir: Path = Path("models")
    host: str = "127.0.0.1"
    port: int = 8000
    log_level: str = "INFO"

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read MODEL_DIR, HOST, PORT and LOG_LEVEL; ValueError names what is wrong."""
        port = environment.get("PORT", str(cls.port))
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"PORT must be a number from 1 to 65535, not {port!r}")
        return cls(
            model_dir=Path(environment.get("MODEL_DIR", str(cls.model_dir))),
            host=environment.get("HOST", cls.host),
            port=int(port),
            log_level=environment.get("LOG_LEVEL", cls.log_level),
        )
