"""`auto` takes what the device computes natively, and what is emulated is said with its factor."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from pipeline.config.load import load
from pipeline.config.schema import Config
from pipeline.models import precision
from pipeline.models.precision import Ranks, autocast, choose_precision, native_precisions, slowdown
from tests.helpers.repository import REPOSITORY

CPU = torch.device("cpu")
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
SHOW = """
import torch
from pipeline.models.precision import choose_precision, native_precisions
cpu = torch.device("cpu")
print(sorted(native_precisions(cpu)))
print(choose_precision("auto", key="train.precision", device=cpu).reason)
print(choose_precision("bf16", key="train.precision", device=cpu).reason)
"""


def chosen(asked, *, native: set, monkeypatch: pytest.MonkeyPatch, device: str = "cpu", **facts):
    monkeypatch.setattr(precision, "native_precisions", lambda device: native)
    monkeypatch.setattr(precision, "slowdown", lambda name, device: 7.66)
    return choose_precision(asked, key="train.precision", device=torch.device(device), **facts)


def shown(**environment: str) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=os.environ | environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.splitlines()


@pytest.mark.parametrize("asked", ["auto", "bf16"])
def test_where_bf16_is_native_it_is_taken_and_nothing_is_said_to_be_slow(asked, monkeypatch):
    choice = chosen(asked, native={"bf16"}, monkeypatch=monkeypatch)
    assert choice.name == "bf16"
    assert "emulates" not in choice.reason


def test_without_native_bf16_a_cpu_takes_fp32_and_says_what_it_lacks(monkeypatch):
    choice = chosen("auto", native=set(), monkeypatch=monkeypatch)
    assert choice.name == "fp32"
    assert choice.reason == (
        "precision fp32, as this CPU lacks AVX512_BF16 and AMX and would emulate bf16"
    )


def test_an_emulated_format_that_was_asked_for_is_obeyed_with_its_measured_factor(monkeypatch):
    choice = chosen("bf16", native=set(), monkeypatch=monkeypatch)
    assert choice.name == "bf16"
    assert choice.reason == (
        "precision bf16 as train.precision asks; this device emulates bf16: a convolution takes "
        "7.7 times as long as in fp32 (train.precision=auto lets a new run choose)"
    )


@pytest.mark.parametrize("asked", ["auto", "fp32"])
def test_a_run_goes_on_in_what_it_began_in(asked, monkeypatch):
    native = chosen(asked, native={"bf16"}, began="bf16", monkeypatch=monkeypatch)
    assert (native.name, native.reason) == ("bf16", "precision bf16, in which this run began")
    emulated = chosen(asked, native=set(), began="bf16", monkeypatch=monkeypatch)
    assert emulated.name == "bf16"
    assert "in which this run began; this device emulates bf16: " in emulated.reason
    assert chosen("auto", native={"bf16"}, began="fp32", monkeypatch=monkeypatch).name == "fp32"


def test_ranks_take_what_all_of_them_have_and_tell_the_slowest_ones_factor(monkeypatch):
    """Another rank on a node without bf16; what it adds is made up here."""

    def with_old_node(values: torch.Tensor) -> torch.Tensor:
        return values + torch.tensor([0.0, 9.25]) if len(values) == 2 else values

    ranks = Ranks(rank=0, number=2, add=with_old_node)
    assert chosen("auto", native={"bf16"}, ranks=ranks, monkeypatch=monkeypatch).name == "fp32"
    told = chosen("bf16", native={"bf16"}, ranks=ranks, monkeypatch=monkeypatch).reason
    assert "a convolution takes 9.2 times as long" in told
    alike = Ranks(rank=0, number=2, add=lambda values: 2 * values)
    assert chosen("auto", native={"bf16"}, ranks=alike, monkeypatch=monkeypatch).name == "bf16"


def test_only_rank_0_says_what_the_run_began_in(monkeypatch):
    first = Ranks(rank=1, number=2, add=lambda values: values + torch.tensor([0.0, 1.0, 0.0, 2.0]))
    choice = chosen("auto", native={"bf16"}, began="fp32", ranks=first, monkeypatch=monkeypatch)
    assert choice.name == "bf16"


def test_a_gpu_without_bf16_takes_fp16(monkeypatch):
    """The sums that ranks exchange are tensors on the device: here they stay on the CPU."""
    make = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda values, device=None: make(values))
    choice = chosen("auto", native={"fp16"}, device="cuda", monkeypatch=monkeypatch)
    assert choice.name == "fp16"
    assert choice.reason.startswith("precision fp16 with a gradient scaler, as this GPU lacks")
    both = chosen("auto", native={"bf16", "fp16"}, device="cuda", monkeypatch=monkeypatch)
    assert both.name == "bf16"


def test_an_avx2_cpu_takes_fp32_and_measures_bf16_as_slower():
    """As most laptops are; oneDNN's limit makes any x86 such a CPU."""
    native, auto, asked = shown(**AVX2)
    assert native == "[]"
    assert auto.startswith("precision fp32, as this CPU lacks")
    factor = re.search(r"takes ([0-9.]+) times as long", asked)
    assert factor is not None
    assert float(factor[1]) > 1.5


def test_a_cpu_with_avx512_but_no_bf16_arithmetic_takes_fp32():
    """oneDNN calls bf16 supported there, and emulates it."""
    native, auto, _ = shown(ONEDNN_MAX_CPU_ISA="AVX512_CORE")
    assert native == "[]"
    assert auto.startswith("precision fp32")


def test_a_cpu_is_native_only_if_its_flags_and_onednn_say_so():
    flags = Path("/proc/cpuinfo").read_text()
    has_bf16 = bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", flags))
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    expected = {"bf16"} if has_bf16 and supported else set()
    assert native_precisions(CPU) == expected


def test_the_factor_is_that_of_the_formats_time_over_fp32s(monkeypatch):
    seconds = {"bf16": 0.5, "fp32": 0.125}
    monkeypatch.setattr(precision, "_convolution_s", lambda image, weight, name: seconds[name])
    assert slowdown("bf16", CPU) == 4.0


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_autocast_computes_convolutions_in_the_format(name, dtype):
    with autocast(name, CPU):
        assert F.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)).dtype == dtype


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("configs/*.yaml")), ids=lambda path: path.stem
)
def test_no_config_asks_for_arithmetic_that_some_machines_emulate(path: Path):
    assert load(path).train.precision in ("auto", "fp32")
    assert Config().train.precision == "auto"
