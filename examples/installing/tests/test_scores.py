"""Tests of the scores."""

import pytest

from scores import clip


@pytest.mark.parametrize(("score", "want"), [(-0.5, 0.0), (0.25, 0.25), (7.0, 1.0)])
def test_clip(score: float, want: float) -> None:
    """A score is a probability, whatever comes in."""
    assert clip(score) == want
