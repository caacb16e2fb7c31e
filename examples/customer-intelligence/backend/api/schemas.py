"""Bodies of requests and responses."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_pascal

YesNo = Literal["Yes", "No"]
OnInternet = Literal["Yes", "No", "No internet service"]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CustomerRecord(BaseModel):
    """A customer as in the telco table, under that table's column names."""

    model_config = ConfigDict(
        alias_generator=to_pascal, populate_by_name=True, extra="forbid", str_strip_whitespace=True
    )

    gender: Literal["Female", "Male"] = Field(alias="gender")
    senior_citizen: Literal[0, 1]
    partner: YesNo
    dependents: YesNo
    tenure: int = Field(alias="tenure", ge=0, le=1200, description="months with the company")
    phone_service: YesNo
    multiple_lines: Literal["Yes", "No", "No phone service"]
    internet_service: Literal["DSL", "Fiber optic", "No"]
    online_security: OnInternet
    online_backup: OnInternet
    device_protection: OnInternet
    tech_support: OnInternet
    streaming_tv: OnInternet = Field(alias="StreamingTV")
    streaming_movies: OnInternet
    contract: Literal["Month-to-month", "One year", "Two year"]
    paperless_billing: YesNo
    payment_method: Literal[
        "Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)"
    ]
    monthly_charges: NonNegative
    total_charges: NonNegative


class ChurnPrediction(BaseModel):
    """The probability of churn, and what speaks most for it and against it."""

    probability: float
    churn: bool = Field(description="whether the probability is 0.5 or more")
    contributions: dict[str, float] = Field(
        description="the five columns that move the log-odds most, the strongest first"
    )


class PurchaseHistory(BaseModel):
    """A customer's purchases so far; times in weeks."""

    model_config = ConfigDict(extra="forbid")

    frequency: int = Field(ge=0, le=10_000, description="days with a purchase after the first")
    recency: NonNegative = Field(description="weeks from the first to the last purchase")
    age: NonNegative = Field(le=5200, description="weeks since the first purchase")
    monetary: NonNegative = Field(description="mean value of a repeat purchase")
    weeks: int = Field(default=52, ge=1, le=520, description="horizon of the prediction")
    annual_discount: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def consistent(self) -> "PurchaseHistory":
        """Refuse histories that cannot be: the model would answer them with nonsense."""
        if self.recency > self.age:
            raise ValueError("recency must not exceed age")
        if (self.frequency == 0) != (self.recency == 0):
            raise ValueError("recency is 0 if and only if frequency is 0")
        if self.frequency > 0 and self.monetary == 0:
            raise ValueError("monetary must be above 0 where frequency is")
        return self


class ClvPrediction(BaseModel):
    """Expected purchases and their value within the horizon."""

    weeks: int
    probability_alive: float
    expected_purchases: float
    expected_spend: float = Field(description="expected value of one purchase")
    value: float = Field(description="expected value of all purchases in the horizon, discounted")


class RfmRecord(BaseModel):
    """Recency, frequency and monetary value of a customer."""

    model_config = ConfigDict(extra="forbid")

    recency_days: NonNegative = Field(description="days since the last purchase")
    frequency: int = Field(ge=1, description="days with a purchase")
    monetary: NonNegative = Field(description="mean value of such a day")


class Segment(BaseModel):
    """A segment's name."""

    segment: str


class CustomerSegment(Segment):
    """The segment of a known customer."""

    customer_id: str


class Health(BaseModel):
    """The process is up."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether all models are loaded, and for each that is not, the reason."""

    status: Literal["ready", "degraded"]
    loaded: list[str]
    problems: dict[str, str]


class Version(BaseModel):
    """What is running: code, revision, and the digest of each loaded model."""

    version: str
    revision: str
    models: dict[str, str]


class Problem(BaseModel):
    """Why a request cannot be answered."""

    detail: str
