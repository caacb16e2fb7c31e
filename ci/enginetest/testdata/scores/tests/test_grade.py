"""Tests of grades."""

import pytest

from scores.grade import grade


def test_pass() -> None:
    """Half of the points are enough."""
    assert grade(50) == "pass"


def test_fail() -> None:
    """Less is not."""
    assert grade(49.9) == "fail"


def test_out_of_range() -> None:
    """A score has bounds."""
    with pytest.raises(ValueError, match="101"):
        grade(101)
