"""One seed, and from it an independent generator for every use of chance."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["derive_seed", "generator"]


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """Make the generator of one use of chance.

    Uses with other keys are independent of each other, so that drawing more in one
    place never shifts the draws of another.

    Args:
        seed: The seed of the run, 0 or more.
        *keys: What the chance is for, such as `"sampler", epoch`.

    Returns:
        A generator that the same arguments always give again.

    Examples:
        >>> generator(42, "folds").integers(100) == generator(42, "folds").integers(100)
        np.True_
    """
    text = repr([int(seed), *(str(key) if isinstance(key, str) else int(key) for key in keys)])
    # A digest, since a seed sequence takes [1] and [1, 0] for the same.
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def derive_seed(seed: int, *keys: int | str) -> int:
    """Derive a 63-bit seed for a library that wants a plain number.

    Args:
        seed: The seed of the run, 0 or more.
        *keys: What the chance is for.

    Returns:
        A number from 0 to 2**63 - 1.

    Examples:
        >>> derive_seed(1, "weights") != derive_seed(2, "weights")
        True
    """
    return int(generator(seed, *keys).integers(2**63))
