"""Images hold what their service needs, and nothing that makes them rebuild for another's sake."""

import ast
import re
from pathlib import Path

import pytest

from backend.core.version import VERSION
from backend.tests.conftest import ROOT

SERVICES = ("api", "batch", "training", "monitoring")
DISTRIBUTIONS = {"sklearn": "scikit-learn", "prometheus_client": "prometheus-client"}


def pins(path: Path) -> dict[str, str]:
    """Return the versions of a requirements file by name."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line and line[0] != "#"]
    return dict(line.split("==") for line in lines)


def imports(folder: Path) -> set[str]:
    """Return the modules that the Python files of a folder import."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_services_agree_on_versions(service: str) -> None:
    """A service runs with the versions that the tests ran with."""
    all_pins = pins(ROOT / "requirements.txt")
    for name, version in pins(ROOT / "backend" / "requirements" / f"{service}.txt").items():
        assert all_pins.get(name) == version, name


@pytest.mark.parametrize("service", SERVICES)
def test_images_install_what_their_service_imports(service: str) -> None:
    """Every direct import is pinned."""
    installed = pins(ROOT / "backend" / "requirements" / f"{service}.txt")
    tops = {name.split(".")[0] for name in imports(ROOT / "backend" / service)}
    known = set(pins(ROOT / "requirements.txt"))
    for name in tops:
        distribution = DISTRIBUTIONS.get(name, name)
        assert distribution not in known or distribution in installed, name


@pytest.mark.parametrize("service", SERVICES)
def test_services_share_core_only(service: str) -> None:
    """An edit of one service's folder cannot change another one."""
    others = {f"backend.{name}" for name in SERVICES if name != service}
    for name in imports(ROOT / "backend" / service):
        assert not any(name.startswith(f"{other}.") for other in others), name


@pytest.mark.parametrize("service", SERVICES)
def test_images_copy_their_own_folder_only(service: str) -> None:
    """Dependencies come before code, and the user is not root."""
    text = (ROOT / "backend" / "docker" / f"{service}.Dockerfile").read_text("utf-8")
    folders = re.findall(r"^COPY backend/(\w+) ", text, re.MULTILINE)
    assert folders == ["core", service]
    assert text.index("RUN python -m pip") < text.index("COPY backend/core")
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)


def test_versions_agree() -> None:
    """The project file and the code name the same version."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'\nversion = "{VERSION}"\n' in text
