"""The Open Inference Protocol's datatypes and tensor declarations, in terms of numpy.

Source: Open Inference Protocol v2, "Tensor Data Types", https://github.com/kserve/open-inference-protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BYTES = "BYTES"

# Little-endian, as the protocol's raw form demands. BYTES elements are Python bytes objects.
NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    BYTES: np.dtype(np.object_),
}

DYNAMIC = -1


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives.

    Parameters
    ----------
    name
        Unique among the model's inputs, or among its outputs.
    datatype
        One of the protocol's names, for example ``"FP32"``, ``"INT64"`` or ``"BYTES"``.
    shape
        Sizes of the dimensions; -1 stands for any size.

    Raises
    ------
    ValueError
        The name is empty, the datatype unknown or a dimension below -1.
    """

    name: str
    datatype: str
    shape: Sequence[int]

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a tensor's name must be a non-empty string")
        if self.datatype not in NUMPY_DTYPES:
            raise ValueError(f"tensor {self.name!r}: datatype {self.datatype!r} is none of {', '.join(NUMPY_DTYPES)}")
        if any(size < DYNAMIC for size in self.shape):
            raise ValueError(
                f"tensor {self.name!r}: shape {self.shape!r} must hold integers, -1 for a dimension of any size"
            )
        object.__setattr__(self, "shape", tuple(self.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of this tensor's elements."""
        return NUMPY_DTYPES[self.datatype]

    def admits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape fits the declaration."""
        if len(shape) != len(self.shape):
            return False
        # On the path of every tensor: a generator would cost more than the comparisons.
        for declared, actual in zip(self.shape, shape, strict=True):  # noqa: SIM110
            if declared not in (actual, DYNAMIC):
                return False
        return True
