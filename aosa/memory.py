"""Too little memory: how it is told from other errors, and what to set then."""

from __future__ import annotations

import errno

import torch

from aosa.errors import AosaError

_SIGNS = (
    "DefaultCPUAllocator",  # PyTorch, on a CPU
    "out of memory",  # CUDA
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN
    "Insufficient memory",  # OpenCV
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, PyTorch or OpenCV says that memory could not be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return not isinstance(error, AosaError) and any(sign in str(error) for sign in _SIGNS)


def out_of_memory(error: Exception, batch_size: int | str | None) -> AosaError | None:
    """What to tell the user of an error that says so; None of any other.

    Args:
        batch_size: clips per forward pass; ``auto`` or None where the number is not known.
    """
    if not is_out_of_memory(error):
        return None
    if not isinstance(batch_size, int):
        batch_size, advice = "auto", "set batch_size to a small number, as batch_size=1"
    elif batch_size > 1:
        advice = f"set batch_size={max(1, batch_size // 4)} or less"
    else:
        advice = "that is the least already: take precision=bf16, another device, or a smaller model.spec"
    reason = (str(error) or type(error).__name__).split("\n")[0].split(". ")[0]
    return AosaError(f"out of memory with batch_size={batch_size}; {advice} ({reason})")
