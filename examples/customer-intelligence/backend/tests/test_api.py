"""The API with models, without, and with broken ones."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from backend.api.app import create_app
from backend.api.settings import Settings
from backend.core import churn
from backend.core.artifacts import digest
from backend.core.version import VERSION
from backend.tests.conftest import ROOT

HISTORY = {"frequency": 2, "recency": 30.43, "age": 38.86, "monetary": 22.35, "weeks": 39}


def of(models: Path) -> TestClient:
    """Return a client of an API that serves the models of a folder."""
    return TestClient(create_app(Settings(model_dir=models)))


@pytest.mark.parametrize("path", ["/health", "/healthz"])
def test_health_needs_no_model(tmp_path: Path, path: str) -> None:
    """A restart would not bring the models back, so liveness does not ask for them."""
    with of(tmp_path) as client:
        answer = client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_ready_with_models(client: TestClient) -> None:
    """All models are loaded."""
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "loaded": ["churn", "clv", "segmentation"],
        "problems": {},
    }


def test_not_ready_without_models(tmp_path: Path) -> None:
    """Each missing model is named, with what to do."""
    with of(tmp_path / "nowhere") as client:
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "degraded"
    assert set(answer.json()["problems"]) == {"churn", "clv", "segmentation"}
    assert "churn/model.json does not exist: train" in answer.json()["problems"]["churn"]


def test_one_broken_model_leaves_the_others_served(models: Path) -> None:
    """Only the routes of the broken model answer 503."""
    (models / "clv" / "model.json").write_text("{", encoding="utf-8")
    with of(models) as client:
        ready, broken = client.get("/readyz"), client.post("/predict/clv", json=HISTORY)
        served = client.get("/segments/00004")
    assert ready.json()["loaded"] == ["churn", "segmentation"]
    assert broken.status_code == 503
    assert "clv/model.json cannot be read" in broken.json()["detail"]
    assert broken.headers["Retry-After"] == "10"
    assert served.status_code == 200


def test_models_that_arrive_later_need_no_restart(tmp_path: Path) -> None:
    """Readiness looks again."""
    with of(tmp_path / "models") as client:
        before = client.get("/readyz").status_code
        shutil.copytree(ROOT / "models", tmp_path / "models")
        after = client.get("/readyz").status_code
    assert (before, after) == (503, 200)


def test_version_names_code_and_models(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator can tell what is running."""
    monkeypatch.setenv("GIT_REVISION", "0123abc")
    answer = client.get("/version").json()
    assert answer["version"] == VERSION
    assert answer["revision"] == "0123abc"
    assert answer["models"]["churn"] == digest(ROOT / "models" / "churn" / "model.json")


def test_churn(client: TestClient, customer: dict[str, Any]) -> None:
    """The route answers what the model says, with the strongest reasons first."""
    answer = client.post("/predict/churn", json=customer).json()
    model = churn.load(ROOT / "models")
    assert answer["probability"] == pytest.approx(
        model.predict({name: [value] for name, value in customer.items()})[0]
    )
    assert answer["churn"] == (answer["probability"] >= 0.5)
    sizes = [abs(part) for part in answer["contributions"].values()]
    assert len(sizes) == 5 and sizes == sorted(sizes, reverse=True)


def test_churn_falls_with_the_contract(client: TestClient, customer: dict[str, Any]) -> None:
    """Those bound for two years leave less."""
    monthly = client.post("/predict/churn", json=customer).json()["probability"]
    customer["Contract"] = "Two year"
    assert client.post("/predict/churn", json=customer).json()["probability"] < monthly


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Contract", "Ten years"),
        ("tenure", -1),
        ("MonthlyCharges", "NaN"),
        ("SeniorCitizen", 2),
        ("Surprise", 1),
    ],
)
def test_churn_refuses_bad_records(
    client: TestClient, customer: dict[str, Any], column: str, value: object
) -> None:
    """The answer names the column."""
    answer = client.post("/predict/churn", json={**customer, column: value})
    assert answer.status_code == 422
    assert column in str(answer.json()["detail"])


def test_churn_refuses_categories_that_training_has_not_seen(
    models: Path, customer: dict[str, Any]
) -> None:
    """A valid category is of no use to a model that never met it."""
    path = models / "churn" / "model.json"
    text = path.read_text(encoding="utf-8").replace('"Electronic check"', '"Cheque"')
    path.write_text(text, encoding="utf-8")
    with of(models) as client:
        answer = client.post("/predict/churn", json=customer)
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "the model was not trained on PaymentMethod=Electronic check"
    )


def test_clv_of_the_papers_customer(client: TestClient) -> None:
    """Fader and Hardie predict 1.226 purchases in 39 weeks for CDNOW's first customer."""
    answer = client.post("/predict/clv", json=HISTORY).json()
    assert answer["expected_purchases"] == pytest.approx(1.226, abs=0.001)
    assert 0 < answer["probability_alive"] < 1
    assert answer["value"] == pytest.approx(
        answer["expected_purchases"] * answer["expected_spend"], rel=1e-9
    )


def test_clv_is_less_when_discounted(client: TestClient) -> None:
    """Money that comes later is worth less."""
    plain = client.post("/predict/clv", json=HISTORY).json()["value"]
    answer = client.post("/predict/clv", json={**HISTORY, "annual_discount": 0.15})
    assert 0.9 * plain < answer.json()["value"] < plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recency": 50}, "recency must not exceed age"),
        ({"frequency": 0}, "recency is 0 if and only if frequency is 0"),
        ({"monetary": 0}, "monetary must be above 0"),
        ({"weeks": 0}, "greater than or equal to 1"),
    ],
)
def test_clv_refuses_impossible_histories(
    client: TestClient, change: dict[str, float], message: str
) -> None:
    """The answer says what is wrong."""
    answer = client.post("/predict/clv", json={**HISTORY, **change})
    assert answer.status_code == 422
    assert message in str(answer.json()["detail"])


@pytest.mark.parametrize(
    ("recency", "frequency", "monetary", "name"),
    [(5, 12, 60, "champions"), (190, 5, 32, "loyal"), (480, 1, 15, "dormant")],
)
def test_segment(
    client: TestClient, recency: float, frequency: int, monetary: float, name: str
) -> None:
    """Typical customers land where a marketer would put them."""
    body = {"recency_days": recency, "frequency": frequency, "monetary": monetary}
    assert client.post("/segment", json=body).json() == {"segment": name}


def test_segment_of_a_known_customer(client: TestClient) -> None:
    """Customers of the training table have their segment by id; others are 404."""
    assert client.get("/segments/00004").json() == {
        "customer_id": "00004",
        "segment": "loyal",
    }
    missing = client.get("/segments/nobody")
    assert (missing.status_code, missing.json()["detail"]) == (404, "there is no customer nobody")


def test_metrics(client: TestClient, customer: dict[str, Any]) -> None:
    """Requests are counted by route template; a raw path would make a series a customer."""
    client.post("/predict/churn", json=customer)
    client.get("/segments/00004")
    client.get("/no/such/page")
    text = client.get("/metrics").text
    assert 'http_requests_total{method="POST",route="/predict/churn",status="200"} 1.0' in text
    assert 'http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'route="/segments/{customer_id}"' in text
    assert 'predictions_total{model="churn"} 1.0' in text
    assert 'model_loaded{model="clv"} 1.0' in text
    assert "/segments/00004" not in text


def test_metrics_tell_of_missing_models(tmp_path: Path) -> None:
    """An alert can hang on the gauge."""
    with of(tmp_path) as client:
        assert 'model_loaded{model="churn"} 0.0' in client.get("/metrics").text


def test_metrics_count_crashes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that no handler takes is a 500 in the metrics."""

    def crash(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("backend.core.segmentation.SegmentationModel.assign", crash)
    body = {"recency_days": 5, "frequency": 2, "monetary": 9}
    with pytest.raises(RuntimeError, match="on purpose"):
        client.post("/segment", json=body)
    assert 'route="/segment",status="500"} 1.0' in client.get("/metrics").text
