"""Which customers training must not see."""

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def held_out(ids: pd.Series, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Mark the rows that training must not see, by their customers' ids.

    The choice hangs on a customer's id alone: in next week's table the same customers are held
    out, so a champion is never judged on rows that it was trained on.
    """
    limit = int(fraction * 2**32)
    return np.array(
        [
            int.from_bytes(hashlib.sha256(f"{seed}:{item}".encode()).digest()[:4], "big") < limit
            for item in ids
        ],
        dtype=np.bool_,
    )
