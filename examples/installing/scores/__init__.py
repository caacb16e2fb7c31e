"""Scores of customers."""


def clip(score: float) -> float:
    """Return the score as a probability, between 0 and 1."""
    return min(1.0, max(0.0, score))
