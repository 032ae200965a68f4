"""Compaction in programs of fixed shape: the positions of set flags, in order, without a scatter."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnr._ops.indexing import gather_in_bounds

WORD = 32


class Flags(NamedTuple):
    """Flags packed into words, with the running number of set flags."""

    words: jax.Array  # (words,) uint32, lowest bit first
    end: jax.Array  # (words,) number of set flags up to and including each word

    @property
    def total(self) -> jax.Array:
        """Number of set flags."""
        return self.end[-1]


def pack(flags: jax.Array) -> Flags:
    """Packs flags of any shape in memory order."""
    bits = jnp.pad(flags.reshape(-1), (0, -flags.size % WORD)).reshape(-1, WORD)
    words = jnp.zeros(bits.shape[0], jnp.uint32)
    for bit in range(WORD):
        words |= bits[:, bit].astype(jnp.uint32) << np.uint32(bit)
    return Flags(words, jnp.cumsum(lax.population_count(words).astype(jnp.int32), dtype=jnp.int32))


def select(flags: Flags, rank: jax.Array) -> jax.Array:
    """Position of the `rank`-th set flag; any position in range where there is none."""
    word = jnp.searchsorted(flags.end, rank, side="right").astype(jnp.int32)
    word = jnp.minimum(word, flags.words.shape[0] - 1)
    bits = gather_in_bounds(flags.words, word)
    rank = rank - (gather_in_bounds(flags.end, word) - lax.population_count(bits).astype(jnp.int32))
    bits, rank, word = lax.optimization_barrier((bits, rank, word))
    # Bisection: is the flag in the lower half of the rest of the word?
    position = jnp.zeros_like(rank)
    for half in (16, 8, 4, 2, 1):
        low = (bits >> position.astype(jnp.uint32)) & np.uint32(2**half - 1)
        below = lax.population_count(low).astype(jnp.int32)
        upper = rank >= below
        rank = jnp.where(upper, rank - below, rank)
        position = jnp.where(upper, position + half, position)
    return word * WORD + position


def for_each(flags: Flags, block_size: int, body: Callable[[jax.Array, jax.Array, Any], Any], state: Any) -> Any:
    """Folds `body(positions, valid, state)` over blocks of the set flags' positions, in order.

    The last block is filled up with positions in range that are not valid.
    """

    def block(carry):
        first, state = carry
        rank = first + lax.iota(jnp.int32, block_size)
        valid = rank < flags.total
        positions = lax.optimization_barrier(jnp.where(valid, select(flags, rank), 0))
        return first + block_size, body(positions, valid, state)

    return lax.while_loop(lambda carry: carry[0] < flags.total, block, (jnp.int32(0), state))[1]
