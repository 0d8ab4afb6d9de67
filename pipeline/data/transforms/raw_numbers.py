"""`np.random.PCG64(seed).random_raw(n)` of many seeds, compiled: NumPy takes 20 us for each one.

A frame's augmentation asks for seven numbers of a generator of its own. The algorithms are those of
NumPy's SeedSequence and of PCG64 (M. O'Neill, HMC-CS-2014-0905: XSL-RR 128/64), both of which NumPy
promises never to change; the tests hold this against them.
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import UInt32, UInt64

POOL = 4
"""Words of a SeedSequence's pool, and of a seed here: 128 bits."""
U32, U64 = np.uint32, np.uint64
MULTIPLIER = (U64(0x2360ED051FC65DA4), U64(0x4385DF649FCCF645))
"""PCG64's, high and low half."""


@numba.njit(cache=True, nogil=True)
@no_type_check
def _hashed(value, constant, factor):
    """The value mixed with a running constant, and the next constant."""
    value = U32(value ^ constant)
    constant = U32(constant * factor)
    value = U32(value * constant)
    return U32(value ^ (value >> U32(16))), constant


@numba.njit(cache=True, nogil=True)
@no_type_check
def _seed_state(words):
    """SeedSequence(words).generate_state(8): eight words of 32 bits as four of 64."""
    pool, constant = np.empty(POOL, np.uint32), U32(0x43B0D7E5)
    for i in range(POOL):
        pool[i], constant = _hashed(words[i], constant, U32(0x931E8875))
    for source in range(POOL):
        for target in range(POOL):
            if source != target:
                value, constant = _hashed(pool[source], constant, U32(0x931E8875))
                mixed = U32(U32(U32(0xCA01F9DD) * pool[target]) - U32(U32(0x4973F715) * value))
                pool[target] = U32(mixed ^ (mixed >> U32(16)))
    state, constant = np.empty(POOL, np.uint64), U32(0x8B51F9DD)
    for i in range(POOL):
        low, constant = _hashed(pool[2 * i % POOL], constant, U32(0x58F38DED))
        high, constant = _hashed(pool[(2 * i + 1) % POOL], constant, U32(0x58F38DED))
        state[i] = U64(low) | (U64(high) << U64(32))
    return state


@numba.njit(cache=True, nogil=True)
@no_type_check
def _times(a, b):
    """The product of two words of 64 bits: high and low half."""
    mask, half = U64(0xFFFFFFFF), U64(32)
    low = (a & mask) * (b & mask)
    middle = (a >> half) * (b & mask) + (low >> half)
    other = (a & mask) * (b >> half) + (middle & mask)
    high = (a >> half) * (b >> half) + (middle >> half) + (other >> half)
    return high, (other << half) | (low & mask)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _stepped(high, low, add_high, add_low):
    """state x MULTIPLIER + increment, in 128 bits."""
    new_high, new_low = _times(low, MULTIPLIER[1])
    new_high += high * MULTIPLIER[1] + low * MULTIPLIER[0]
    total = new_low + add_low
    return new_high + add_high + U64(total < new_low), total


@numba.njit(cache=True, nogil=True)
@no_type_check
def _draw(words, out):
    """One generator's numbers."""
    state = _seed_state(words)
    add_high = (state[2] << U64(1)) | (state[3] >> U64(63))
    add_low = (state[3] << U64(1)) | U64(1)
    # From 0, one step leads to the increment itself.
    low = add_low + state[1]
    high = add_high + state[0] + U64(low < add_low)
    high, low = _stepped(high, low, add_high, add_low)
    for i in range(len(out)):
        high, low = _stepped(high, low, add_high, add_low)
        turn, word = high >> U64(58), high ^ low
        out[i] = (word >> turn) | (word << ((U64(64) - turn) & U64(63)))


@numba.njit(cache=True, nogil=True)
@no_type_check
def _draw_all(seeds, out):
    for i in range(len(seeds)):
        _draw(seeds[i], out[i])


def random_raw(seeds: UInt32[np.ndarray, "B 4"], num: int) -> UInt64[np.ndarray, "B num"]:
    """The first `num` numbers of a PCG64 under each seed of 128 bits, lowest word first."""
    out = np.empty((len(seeds), num), np.uint64)
    _draw_all(seeds, out)
    return out
