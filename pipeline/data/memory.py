"""Buffers that batches are written into, used again when nothing refers to a batch any more."""

import weakref
from collections import deque

import numpy as np
import torch
from jaxtyping import UInt8


class Memory:
    """Buffers, each lent to the tensors of one batch at a time; any thread may take and let go.

    `pinned` buffers are page-locked, so that CUDA can copy from them beside other work.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        # No lock: a finalizer may run wherever memory is let go, in the middle of `take` as well,
        # and would wait for itself. A deque's append and pop are atomic.
        self._free: deque[np.ndarray] = deque()

    def take(self, size: int) -> UInt8[np.ndarray, "size"]:
        """Bytes that no living array or tensor uses; their content is arbitrary.

        Views of the result, and tensors made of those, keep it alive, and its end frees the
        buffer. The memoryview matters: NumPy looks through arrays to the one that owns the
        memory, and would let views of the result hold that one instead.
        """
        buffer = self._fitting(size)
        if buffer is None:
            # A quarter more than needed, so that somewhat larger batches fit as well.
            buffer = self._new(size + size // 4)
        lent = np.frombuffer(buffer.data, dtype=np.uint8, count=size)
        weakref.finalize(lent, self._free.append, buffer).atexit = False
        return lent

    def _fitting(self, size: int) -> np.ndarray | None:
        """A free buffer of at least this size; smaller ones that come first are given up."""
        while True:
            try:
                buffer = self._free.pop()
            except IndexError:
                return None
            if len(buffer) >= size:
                return buffer

    def _new(self, size: int) -> np.ndarray:
        if self._pinned:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        return np.empty(size, dtype=np.uint8)
