import numpy as np
import numpy.typing as npt

def count_rows(
    scores: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    row: npt.NDArray[np.int64],
    column: npt.NDArray[np.int64],
    out: npt.NDArray[np.int64],
    first_column: int,
    /,
) -> int: ...
