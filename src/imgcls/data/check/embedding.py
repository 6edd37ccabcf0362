"""Embeddings drawn in the plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgcls.core.randomness import derive_seed

__all__ = ["flat_map"]


def flat_map(vectors: NDArray[np.float32], method: str, *, seed: int) -> NDArray[np.float64]:
    """Bring vectors into two dimensions.

    Args:
        vectors: A row per record, (N, D).
        method: `pca` or `tsne`.
        seed: The seed of all chance.

    Returns:
        Coordinates (N, 2).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    state = derive_seed(seed, "map") % 2**32
    if method == "tsne" and len(vectors) > 3:
        perplexity = min(30.0, (len(vectors) - 1) / 3)
        made = TSNE(perplexity=perplexity, init="pca", random_state=state).fit_transform(vectors)
    else:
        count = min(2, *vectors.shape)
        with np.errstate(invalid="ignore"):  # of equal vectors no share of variance can be told
            made = PCA(count, random_state=state).fit_transform(vectors)
        made = np.pad(made, ((0, 0), (0, 2 - count)))
    return made.astype(np.float64)
