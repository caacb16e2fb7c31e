"""Customer lifetime value: how often a customer will buy (BG/NBD), times how much (Gamma-Gamma).

Times are in weeks. For each customer:
    frequency  days with a purchase after the first one
    recency    from the first to the last purchase
    age        from the first purchase to the end of the observation, called T in the papers
    monetary   mean value of the repeat purchases; 0 if there is none

Sources: Fader, Hardie and Lee, "Counting Your Customers" the Easy Way, Marketing Science 24(2),
2005, equations 6 to 10; Fader and Hardie, The Gamma-Gamma Model of Monetary Value, 2013.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import hyp2f1

from backend.core.artifacts import ModelError, read_model

SCHEMA = "customer-intelligence/clv/v1"
NAME = "clv"
WEEKS_A_YEAR = 365.25 / 7

Floats: TypeAlias = NDArray[np.float64]


def _floats(value: ArrayLike) -> Floats:
    return np.asarray(value, dtype=np.float64)


@dataclass(frozen=True)
class BetaGeometric:
    """BG/NBD: buying at rates from Gamma(r, alpha), drop-out after each with p from Beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float

    def probability_alive(self, frequency: ArrayLike, recency: ArrayLike, age: ArrayLike) -> Floats:
        """Return the probability that a customer has not dropped out."""
        x, t_x, t = _floats(frequency), _floats(recency), _floats(age)
        # Without a repeat purchase the model has had no chance to drop the customer.
        repeat = np.where(x > 0, x, 1.0)
        odds = (
            self.a
            / (self.b + repeat - 1)
            * ((self.alpha + t) / (self.alpha + t_x)) ** (self.r + repeat)
        )
        return np.where(x > 0, 1 / (1 + odds), 1.0)

    def expected_purchases(
        self, weeks: ArrayLike, frequency: ArrayLike, recency: ArrayLike, age: ArrayLike
    ) -> Floats:
        """Return the expected number of purchases in the next weeks."""
        horizon, x, t = _floats(weeks), _floats(frequency), _floats(age)
        # The closed form has a removable singularity at a = 1.
        a = self.a if abs(self.a - 1) > 1e-6 else 1 + 1e-6
        shrink = ((self.alpha + t) / (self.alpha + t + horizon)) ** (self.r + x)
        series = hyp2f1(
            self.r + x, self.b + x, a + self.b + x - 1, horizon / (self.alpha + t + horizon)
        )
        growth = (a + self.b + x - 1) / (a - 1) * (1 - shrink * series)
        return _floats(growth * self.probability_alive(x, recency, t))


@dataclass(frozen=True)
class GammaGamma:
    """Gamma-Gamma: a customer's mean spend, drawn towards the population's by few purchases."""

    p: float
    q: float
    v: float

    def expected_spend(self, frequency: ArrayLike, monetary: ArrayLike) -> Floats:
        """Return the expected value of a purchase; the population's mean where frequency is 0."""
        x, mean = _floats(frequency), _floats(monetary)
        return _floats(self.p * (self.v + x * mean) / (self.p * x + self.q - 1))


@dataclass(frozen=True)
class ClvModel:
    """BG/NBD and Gamma-Gamma together."""

    purchases: BetaGeometric
    spend: GammaGamma

    def value(
        self,
        frequency: ArrayLike,
        recency: ArrayLike,
        age: ArrayLike,
        monetary: ArrayLike,
        *,
        weeks: int,
        annual_discount: float = 0.0,
    ) -> Floats:
        """Return the value of the purchases in the next whole weeks, discounted by the week."""
        x, t_x, t = (np.atleast_1d(_floats(item)) for item in (frequency, recency, age))
        if annual_discount == 0:
            bought = self.purchases.expected_purchases(weeks, x, t_x, t)
        else:
            ends = np.arange(weeks + 1, dtype=np.float64)[:, None]
            cumulated = self.purchases.expected_purchases(ends, x, t_x, t)
            factor = (1 + annual_discount) ** (-(ends[1:] - 0.5) / WEEKS_A_YEAR)
            bought = (np.diff(cumulated, axis=0) * factor).sum(axis=0)
        return _floats(bought * self.spend.expected_spend(x, np.atleast_1d(_floats(monetary))))

    def document(self) -> dict[str, Any]:
        """Return the model as a JSON document, without its provenance."""
        return {
            "schema": SCHEMA,
            "bg_nbd": asdict(self.purchases),
            "gamma_gamma": asdict(self.spend),
        }


def load(directory: Path) -> ClvModel:
    """Load the model from `<directory>/clv`; ModelError says what is wrong with it."""
    document = read_model(directory / NAME, SCHEMA)
    try:
        return ClvModel(
            purchases=BetaGeometric(**document["bg_nbd"]),
            spend=GammaGamma(**document["gamma_gamma"]),
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"the clv model in {directory} is malformed: {error!r}") from error
