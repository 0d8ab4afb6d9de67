"""Which number format convolutions and matrix products are computed in: `train.precision`.

A narrower format pays only where the device has arithmetic for it. Elsewhere torch emulates it: a
CPU with AVX2 alone needs several times as long for bf16 as for fp32.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BY_PREFERENCE: dict[str, tuple[Precision, ...]] = {"cpu": ("bf16",), "cuda": ("bf16", "fp16")}
"""What `auto` takes where it is native."""
NEEDED = {"cpu": "AVX512_BF16 and AMX", "cuda": "bf16 arithmetic (compute capability 8.0)"}
"""By a device's type, for bf16. fp16 is native on every GPU that torch supports and on no CPU: a
convolution's backward pass has no kernel there, even with AVX512_FP16."""
ONEDNN_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
WITHOUT_BF16 = ("AVX512_CORE", "AVX512_CORE_VNNI")
"""Limits under which oneDNN emulates bf16 although it calls it supported."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a run is computed in, and why."""

    name: Precision
    reason: str
    """One sentence without its full stop; names the measured factor where it is emulated."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes that must agree: this one's rank, their number, sums over them."""

    rank: int = 0
    number: int = 1
    add: Callable[[Tensor], Tensor] = lambda values: values
    """Elementwise sum over all ranks."""


def choose_precision(
    asked: Literal["auto", "fp32", "bf16", "fp16"],
    *,
    key: str,
    device: torch.device,
    began: str = "",
    ranks: Ranks = Ranks(),
) -> Choice:
    """The precision that `key`, set to `asked`, means on `device`; every rank must call it.

    `auto` is what all ranks compute natively, and fp32 otherwise; anything else is obeyed. `began`
    is what the run was computed in before it was stopped (rank 0's counts; empty = nothing yet): it
    goes on in that, whatever is asked.
    """
    native, first = _agreed(device, began, ranks)
    name: Precision
    if first:
        name, reason = first, f"precision {first}, in which this run began"
    elif asked != "auto":
        name, reason = asked, f"precision {asked} as {key} asks"
    else:
        fitting: list[Precision] = [one for one in BY_PREFERENCE[device.type] if one in native]
        name = fitting[0] if fitting else "fp32"
        reason = _reason(name, device)
    if name == "fp32" or name in native:
        return Choice(name=name, reason=reason)
    return Choice(name=name, reason=f"{reason}; {_emulated(name, key, device, ranks)}")


def autocast(name: Precision, device: torch.device) -> torch.autocast:
    """Convolutions and matrix products of the block in this format; nothing for fp32."""
    dtype = DTYPES.get(name, torch.bfloat16)
    return torch.autocast(device.type, dtype, enabled=name in DTYPES)


def round_products(name: Precision, device: torch.device) -> None:
    """On CUDA, TF32 for the products that stay fp32 beside a narrower format; not beside fp32.

    TF32 rounds factors to 10 bits and adds in fp32. Set for this process.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if name == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = name != "fp32"


def native_precisions(device: torch.device) -> set[Precision]:
    """The formats beside fp32 for which this device has arithmetic of its own."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return {"bf16", "fp16"} if has_bf16 else {"fp16"}
    return {"bf16"} if _cpu_has_bf16() else set()


def _cpu_has_bf16() -> bool:
    """Both must say so: oneDNN also supports what it emulates, flags know nothing of its limit."""
    if any(os.environ.get(limit, "").upper() in WITHOUT_BF16 for limit in ONEDNN_LIMITS):
        return False
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16", False) or flags.get("amx_bf16", False))


def slowdown(name: Precision, device: torch.device) -> float:
    """How many times fp32's time a small convolution takes here, forward and backward.

    Takes 20 ms for emulated bf16 on a CPU, and is asked for only where a format is emulated.
    """
    image = torch.randn(1, 32, 24, 32, device=device)
    weight = torch.randn(32, 32, 3, 3, device=device, requires_grad=True)
    return _convolution_s(image, weight, name) / _convolution_s(image, weight, "fp32")


def _convolution_s(image: Tensor, weight: Tensor, name: Precision) -> float:
    """Least seconds of two turns after one that warms up.

    On a CPU the time of this thread, which other processes of the machine do not lengthen.
    """
    clock = time.thread_time if image.device.type == "cpu" else time.perf_counter
    seconds = []
    for _ in range(3):
        started = clock()
        with autocast(name, image.device):
            out = F.conv2d(image, weight, padding=1)
        (gradient,) = torch.autograd.grad(out.sum(), weight)
        float(gradient.sum())  # waits for a GPU
        seconds.append(clock() - started)
    return min(seconds[1:])


def _agreed(
    device: torch.device, began: str, ranks: Ranks
) -> tuple[set[Precision], Precision | None]:
    """What every rank computes natively, and rank 0's `began`."""
    own = native_precisions(device)
    flags = [float(name in own) for name in PRECISIONS]
    code = 1 + PRECISIONS.index(began) if began and not ranks.rank else 0
    sums = ranks.add(torch.tensor([*flags, code], device=device)).tolist()
    everyone = zip(PRECISIONS, sums, strict=False)
    native: set[Precision] = {name for name, number in everyone if number == ranks.number}
    return native, PRECISIONS[int(sums[-1]) - 1] if sums[-1] else None


def _reason(name: Precision, device: torch.device) -> str:
    what, needed = {"cpu": "CPU", "cuda": "GPU"}[device.type], NEEDED[device.type]
    if name == "bf16":
        return f"precision bf16, which this {what} computes natively"
    if name == "fp16":
        return f"precision fp16 with a gradient scaler, as this {what} lacks {needed}"
    return f"precision fp32, as this {what} lacks {needed} and would emulate bf16"


def _emulated(name: Precision, key: str, device: torch.device, ranks: Ranks) -> str:
    """The slowest rank's factor in words."""
    factors = torch.zeros(ranks.number, device=device)
    if name not in native_precisions(device):
        factors[ranks.rank] = slowdown(name, device)
    factor = float(ranks.add(factors).max())
    return (
        f"this device emulates {name}: a convolution takes {factor:.1f} times as long as in fp32 "
        f"({key}=auto lets a new run choose)"
    )
