"""Settings, the health probe, and the server as a process would run it."""

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from backend.api import __main__ as entry
from backend.api.app import create_app
from backend.api.probe import healthy
from backend.api.settings import Settings
from backend.tests.conftest import ROOT


@pytest.fixture(name="port")
def fixture_port() -> Iterator[int]:
    """The port of a server that listens on the loopback interface."""
    config = uvicorn.Config(
        create_app(Settings(model_dir=ROOT / "models")), port=0, log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(timeout=10)


def test_probe_finds_a_server(port: int) -> None:
    """A server that answers is healthy."""
    assert healthy(port)


def test_probe_without_a_server() -> None:
    """Port 1 is reserved: nothing listens there."""
    assert not healthy(1, timeout=0.5)


def test_settings_have_defaults() -> None:
    """Without environment the API listens on loopback only."""
    assert Settings.of({}) == Settings()
    assert Settings().host == "127.0.0.1"


def test_settings_from_the_environment() -> None:
    """Each setting can be given."""
    found = Settings.of({"MODEL_DIR": "/m", "HOST": "::1", "PORT": "81", "LOG_LEVEL": "DEBUG"})
    assert (str(found.model_dir), found.host, found.port, found.log_level) == (
        "/m",
        "::1",
        81,
        "DEBUG",
    )


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", ""])
def test_settings_refuse_bad_ports(port: str) -> None:
    """The message names the variable and the value."""
    with pytest.raises(ValueError, match=f"PORT must be .* not '{port}'"):
        Settings.of({"PORT": port})


@pytest.mark.parametrize(("name", "value"), [("PORT", "many"), ("LOG_LEVEL", "LOUD")])
def test_wrong_settings_end_with_status_2(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong setting is told in one line, not by a traceback."""
    monkeypatch.setenv(name, value)
    assert entry.main() == 2
    assert value in capsys.readouterr().err


def test_main_serves_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host and port reach the server."""
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: calls.append(options))
    monkeypatch.setenv("PORT", "8123")
    monkeypatch.delenv("HOST", raising=False)
    assert entry.main() == 0
    assert (calls[0]["host"], calls[0]["port"]) == ("127.0.0.1", 8123)
