"""The routes. They are async though they only compute: none takes longer than a thread's start."""

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from backend.api.schemas import (
    ChurnPrediction,
    ClvPrediction,
    CustomerRecord,
    CustomerSegment,
    Health,
    Problem,
    PurchaseHistory,
    Readiness,
    RfmRecord,
    Segment,
    Version,
)
from backend.api.store import LOADERS, ModelStore
from backend.api.telemetry import Metrics
from backend.core.version import VERSION, revision

TOP_CONTRIBUTIONS = 5
DEGRADED: dict[int | str, dict[str, Any]] = {503: {"model": Problem}}

router = APIRouter()


def _store(request: Request) -> ModelStore:
    store: ModelStore = request.app.state.store
    return store


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


@router.get("/health", include_in_schema=False)
@router.get("/healthz", tags=["operation"])
async def healthz() -> Health:
    """Say that the process is up, whatever the state of its models."""
    return Health()


@router.get("/readyz", tags=["operation"], responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Say whether all models are loaded; 503 with the reasons if not."""
    store = _store(request)
    store.load()
    if store.problems:
        response.status_code = 503
    return Readiness(
        status="degraded" if store.problems else "ready",
        loaded=sorted(store.models),
        problems=store.problems,
    )


@router.get("/version", tags=["operation"])
async def version(request: Request) -> Version:
    """Say which code and which models are running."""
    return Version(version=VERSION, revision=revision(), models=_store(request).digests)


@router.get("/metrics", tags=["operation"], response_class=Response)
async def prometheus(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    found = _metrics(request)
    for name in LOADERS:
        found.loaded.labels(name).set(name in _store(request).models)
    return Response(generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST)


@router.post("/predict/churn", tags=["predictions"], responses=DEGRADED)
async def predict_churn(customer: CustomerRecord, request: Request) -> ChurnPrediction:
    """Predict whether a customer will leave."""
    model = _store(request).churn
    record = customer.model_dump(by_alias=True)
    unknown = model.unknown_categories(record)
    if unknown:
        raise HTTPException(422, f"the model was not trained on {', '.join(unknown)}")
    probability = float(model.predict({name: [value] for name, value in record.items()})[0])
    parts = model.contributions(record)
    strongest = sorted(parts, key=lambda name: -abs(parts[name]))[:TOP_CONTRIBUTIONS]
    _metrics(request).predictions.labels("churn").inc()
    return ChurnPrediction(
        probability=probability,
        churn=probability >= 0.5,
        contributions={name: parts[name] for name in strongest},
    )


@router.post("/predict/clv", tags=["predictions"], responses=DEGRADED)
async def predict_clv(history: PurchaseHistory, request: Request) -> ClvPrediction:
    """Predict how often a customer will buy, and for how much."""
    model = _store(request).clv
    past = (history.frequency, history.recency, history.age)
    value = model.value(
        *past, history.monetary, weeks=history.weeks, annual_discount=history.annual_discount
    )
    _metrics(request).predictions.labels("clv").inc()
    return ClvPrediction(
        weeks=history.weeks,
        probability_alive=float(model.purchases.probability_alive(*past)),
        expected_purchases=float(model.purchases.expected_purchases(history.weeks, *past)),
        expected_spend=float(model.spend.expected_spend(history.frequency, history.monetary)),
        value=float(value[0]),
    )


@router.post("/segment", tags=["segments"], responses=DEGRADED)
async def assign_segment(customer: RfmRecord, request: Request) -> Segment:
    """Assign a customer to a segment by recency, frequency and monetary value."""
    model = _store(request).segmentation
    name = model.assign([customer.recency_days, customer.frequency, customer.monetary])[0]
    _metrics(request).predictions.labels("segmentation").inc()
    return Segment(segment=name)


@router.get(
    "/segments/{customer_id}", tags=["segments"], responses={**DEGRADED, 404: {"model": Problem}}
)
async def known_segment(customer_id: str, request: Request) -> CustomerSegment:
    """Return the segment of a customer of the training table."""
    name = _store(request).segmentation.assignments.get(customer_id)
    if name is None:
        raise HTTPException(404, f"there is no customer {customer_id}")
    return CustomerSegment(customer_id=customer_id, segment=name)
