"""Readers of the two source tables. Needs pandas, which the API image does without."""

from pathlib import Path

import numpy as np
import pandas as pd

from backend.core.churn import CATEGORICAL, NUMERIC

CHURN_ID = "customerID"
CHURN_LABEL = "Churn"


class TableError(Exception):
    """A table is missing, empty or not of the expected shape; the message says which."""


def read_customers(path: Path) -> pd.DataFrame:
    """Read the telco table with its columns typed.

    The total charges of a customer in the first month are blank in the source: nothing has
    been billed yet, so they become 0. The label becomes 0 or 1.
    """
    table = _read_csv(path)
    wanted = [CHURN_ID, *NUMERIC, *CATEGORICAL, CHURN_LABEL]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise TableError(f"{path} lacks the columns {', '.join(missing)}")
    table = table[wanted].copy()
    new = table["TotalCharges"].str.strip() == ""
    table.loc[new, "TotalCharges"] = "0"
    for name in NUMERIC:
        table[name] = pd.to_numeric(table[name], errors="coerce")
    unknown = sorted(set(table[CHURN_LABEL]) - {"Yes", "No"})
    if unknown:
        raise TableError(f"{path}: {CHURN_LABEL} must be Yes or No, not {unknown[0]!r}")
    table[CHURN_LABEL] = (table[CHURN_LABEL] == "Yes").astype("int64")
    return table


def read_transactions(path: Path) -> pd.DataFrame:
    """Read CDNOW purchases: columns customer_id, date, quantity, value.

    The sample's rows have five fields (the second is a sequence number), the master's four.
    """
    try:
        rows = pd.read_csv(path, sep=r"\s+", header=None, dtype=str)
    except FileNotFoundError:
        raise TableError(f"{path} does not exist") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise TableError(f"{path} cannot be read: {error}") from error
    if rows.iloc[0, 0] == "customer_id":
        rows = rows.iloc[1:]
    if rows.shape[1] == 5:
        rows = rows.drop(columns=1)
    if rows.shape[1] != 4:
        raise TableError(f"{path} has {rows.shape[1]} fields a row, expected 4 or 5")
    if rows.empty:
        raise TableError(f"{path} has no rows")
    rows.columns = pd.Index(["customer_id", "date", "quantity", "value"])
    try:
        return pd.DataFrame(
            {
                "customer_id": rows["customer_id"].to_numpy(),
                "date": pd.to_datetime(rows["date"], format="%Y%m%d").to_numpy(),
                "quantity": pd.to_numeric(rows["quantity"]).to_numpy(),
                "value": pd.to_numeric(rows["value"]).to_numpy(),
            }
        )
    except ValueError as error:
        raise TableError(f"{path} has a malformed row: {error}") from error


def purchase_days(transactions: pd.DataFrame) -> pd.DataFrame:
    """Sum up purchases by customer and day: the models count days, not baskets."""
    return transactions.groupby(["customer_id", "date"], as_index=False, sort=True)["value"].sum()


def purchase_summary(transactions: pd.DataFrame, end: pd.Timestamp) -> pd.DataFrame:
    """Return frequency, recency, age (weeks) and monetary by customer, up to and with `end`.

    Customers whose first purchase lies after `end` are left out.
    """
    days = purchase_days(transactions[transactions["date"] <= end])
    if days.empty:
        raise TableError(f"no purchase up to {end.date()}")
    grouped = days.groupby("customer_id")
    first, last = grouped["date"].min(), grouped["date"].max()
    frequency = grouped["date"].count() - 1
    first_value = grouped["value"].first()
    repeat_value = grouped["value"].sum() - first_value
    monetary = np.where(frequency > 0, repeat_value / frequency.clip(lower=1), 0.0)
    return pd.DataFrame(
        {
            "frequency": frequency.astype("float64"),
            "recency": (last - first).dt.days / 7,
            "age": (end - first).dt.days / 7,
            "monetary": monetary,
        }
    )


def rfm(transactions: pd.DataFrame, end: pd.Timestamp) -> pd.DataFrame:
    """Return recency_days, frequency and monetary by customer, as of `end`.

    Recency is the days since the last purchase, frequency the days with a purchase, monetary
    the mean value of such a day.
    """
    days = purchase_days(transactions[transactions["date"] <= end])
    if days.empty:
        raise TableError(f"no purchase up to {end.date()}")
    grouped = days.groupby("customer_id")
    return pd.DataFrame(
        {
            "recency_days": (end - grouped["date"].max()).dt.days.astype("float64"),
            "frequency": grouped["date"].count().astype("float64"),
            "monetary": grouped["value"].mean(),
        }
    )


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise TableError(f"{path} does not exist") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read: {error}") from error
    if table.empty:
        raise TableError(f"{path} has no rows")
    return table
