"""Turns a score into a grade."""

import six


def grade(score: float) -> str:
    """Return the grade of a score between 0 and 100."""
    if not 0 <= score <= 100:
        raise ValueError(f"score {score} is not between 0 and 100")
    return six.ensure_str("pass" if score >= 50 else "fail")
