"""Fixtures that several test files share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from backend.api.app import create_app
from backend.api.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TELCO = ROOT / "data" / "telco-customer-churn.csv"
CDNOW = ROOT / "data" / "cdnow-sample.txt"


@pytest.fixture(name="models")
def fixture_models(tmp_path: Path) -> Path:
    """A copy of the champion models, which a test may break."""
    return Path(shutil.copytree(ROOT / "models", tmp_path / "models"))


@pytest.fixture(name="client")
def fixture_client() -> Iterator[TestClient]:
    """A client of an API that serves the champion models."""
    with TestClient(create_app(Settings(model_dir=ROOT / "models"))) as client:
        yield client


@pytest.fixture(name="customer")
def fixture_customer() -> dict[str, Any]:
    """The first customer of the telco table, who stayed."""
    return {
        "gender": "Female",
        "SeniorCitizen": 0,
        "Partner": "Yes",
        "Dependents": "No",
        "tenure": 1,
        "PhoneService": "No",
        "MultipleLines": "No phone service",
        "InternetService": "DSL",
        "OnlineSecurity": "No",
        "OnlineBackup": "Yes",
        "DeviceProtection": "No",
        "TechSupport": "No",
        "StreamingTV": "No",
        "StreamingMovies": "No",
        "Contract": "Month-to-month",
        "PaperlessBilling": "Yes",
        "PaymentMethod": "Electronic check",
        "MonthlyCharges": 29.85,
        "TotalCharges": 29.85,
    }
