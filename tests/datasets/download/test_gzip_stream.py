"""The gzip layer: whole, cut, flipped, with garbage after it, and far too well compressed."""

import gzip
import hashlib
import io
import random

import pytest

from pipeline.datasets.download.gzip_stream import PackedFile, TarBytes

PLAIN = random.Random(0).randbytes(300_000)


def stream(data: bytes, *, max_ratio: float = 20, said: list | None = None) -> TarBytes:
    said = [] if said is None else said
    packed = PackedFile(
        io.BytesIO(data), num_bytes=len(data), progress=lambda *numbers: said.append(numbers)
    )
    return TarBytes(packed, name="x.tar.gz", max_ratio=max_ratio)


def read_all(data: bytes, max_ratio: float = 20) -> bytes:
    tar, pieces = stream(data, max_ratio=max_ratio), []
    while piece := tar.read(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def refused(data: bytes, max_ratio: float = 20) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the caller checks the sentence
        read_all(data, max_ratio)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_content_comes_out_and_the_md5_is_of_the_packed_bytes():
    data = gzip.compress(PLAIN)
    packed = PackedFile(io.BytesIO(data), num_bytes=len(data), progress=lambda *numbers: None)
    tar = TarBytes(packed, name="x", max_ratio=20)
    assert tar.read_exactly(len(PLAIN)) == PLAIN
    assert tar.read(1) == b""
    assert packed.md5 == hashlib.md5(data).hexdigest()
    assert packed.num_read == len(data)


def test_several_gzip_members_are_one_stream():
    assert read_all(gzip.compress(PLAIN[:1000]) + gzip.compress(PLAIN[1000:])) == PLAIN


def test_progress_counts_packed_megabytes_up_to_all_of_them():
    said: list[tuple[int, int]] = []
    data = gzip.compress(random.Random(1).randbytes(2_500_000))
    stream(data, said=said).read_exactly(2_500_000)
    assert said[0] == (1, 3)
    assert said[-1] == (3, 3)
    assert said == sorted(said)


@pytest.mark.parametrize("length", [9, 15, 1000, -9, -8, -4, -1])
def test_a_cut_file_is_refused(length: int):
    assert "x.tar.gz is truncated after" in refused(gzip.compress(PLAIN)[:length])


def test_a_flipped_bit_is_refused():
    data = bytearray(gzip.compress(PLAIN))
    data[len(data) // 2] ^= 1
    assert "is damaged or no gzip file" in refused(bytes(data))


@pytest.mark.parametrize(("position", "name"), [(-5, "CRC check failed"), (-1, "Incorrect length")])
def test_a_wrong_checksum_or_length_is_refused(position: int, name: str):
    data = bytearray(gzip.compress(PLAIN))
    data[position] ^= 1
    assert name in refused(bytes(data))


def test_garbage_after_the_end_is_refused():
    assert "is damaged or no gzip file" in refused(gzip.compress(PLAIN) + b"garbage")


@pytest.mark.parametrize("data", [b"PK\x03\x04 a zip file", b"\x1f"])
def test_another_kind_of_file_is_refused(data: bytes):
    assert "Not a gzipped file" in refused(data)


def test_a_bomb_is_given_up_long_before_its_end():
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    tar = stream(bomb)
    with pytest.raises(ValueError, match=r"more than data\.max_ratio=20 times its size"):
        tar.read_exactly(200_000_000)
    assert tar._num_bytes < 30_000_000


def test_a_small_file_may_be_all_padding():
    assert len(read_all(gzip.compress(bytes(1_000_000)))) == 1_000_000


def test_the_limit_on_the_ratio_can_be_raised():
    assert len(read_all(gzip.compress(bytes(20_000_000)), max_ratio=1100)) == 20_000_000
