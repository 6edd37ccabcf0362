"""What of an image survives another size, compression and light, in a form that is quick to compare.

Each thumbnail is normalised locally (Jarrett et al. 2009, "What is the best multi-stage architecture
for object recognition?", section 3.1: subtract the local mean, divide by the local standard
deviation), which takes brightness, contrast and uneven light away. Of a coarse normalised picture
the perceptual hash of `imagehash` is taken (pHash: the signs of its lowest cosine frequencies
around their median) to find candidates. Of a fine one the lowest Fourier frequencies are kept:
the correlation of two pictures, at small shifts too, is a product of their spectra.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["BAND", "Signatures", "similarity", "sketch"]

#: Highest frequency that is compared, in cycles per side; beyond it compression and resizing change too much.
BAND = 12

#: Shifts at which pictures are compared, in 1/64 of a side, both ways.
_SHIFT = 2

#: Widths of the local neighbourhoods in pixels of the thumbnail: of the hash, of the spectrum.
_COARSE, _FINE = 4.0, 1.5

#: Grey levels that the local deviation is lifted by, so that the noise of plain areas is not made large.
_FLOOR = 2.0

#: Grey levels by which a thumbnail must deviate from its blurred self; plainer ones are all alike.
_PLAIN = 1.0

#: Thumbnails, and pairs of spectra, that are treated together.
_BATCH, _PAIRS = 256, 8192


@attrs.frozen(kw_only=True, eq=False)
class Signatures:
    """What images are compared by.

    Attributes:
        hashes: The perceptual hash of each image, (N,), 64 bits.
        mirrored: That of its left-right mirror image, (N,).
        spectra: Low Fourier frequencies (N, 25 * 13), complex, of length 1.
        plain: Whether an image has too little texture to be compared, (N,).
    """

    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    spectra: NDArray[np.complex64]
    plain: NDArray[np.bool_]

    def take(self, positions: NDArray[np.int64]) -> Signatures:
        """Keep those of some images.

        Args:
            positions: Which images.

        Returns:
            Their signatures.
        """
        return Signatures(**{name: values[positions] for name, values in attrs.asdict(self, recurse=False).items()})


def sketch(thumbs: NDArray[np.uint8]) -> Signatures:
    """Compute the signatures of thumbnails, in parallel threads.

    Args:
        thumbs: Grey pictures (N, side, side).

    Returns:
        Their signatures.
    """
    batches = [thumbs[start : start + _BATCH] for start in range(0, len(thumbs), _BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = [attrs.astuple(part, recurse=False) for part in pool.map(_signatures, batches)]
    hashes, mirrored, spectra, plain = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Signatures(hashes=hashes, mirrored=mirrored, spectra=spectra, plain=plain)


def _signatures(thumbs: NDArray[np.uint8]) -> Signatures:
    pictures = thumbs.astype(np.float32)
    detail, coarse = _normalised(pictures, _COARSE)
    _, fine = _normalised(pictures, _FINE)
    grey = np.clip(coarse * 50 + 128, 0, 255).astype(np.uint8)
    return Signatures(
        hashes=_hashes(grey),
        mirrored=_hashes(grey[:, :, ::-1]),
        spectra=_spectra(fine),
        plain=detail.std(axis=(1, 2)) < _PLAIN,
    )


def _normalised(pictures: NDArray[np.float32], width: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    blur = _blur(pictures.shape[-1], width)
    detail = np.asarray(pictures - blur @ pictures @ blur.T, np.float32)
    spread = np.asarray(np.sqrt(blur @ (detail * detail) @ blur.T), np.float32)
    return detail, detail / (spread + np.float32(_FLOOR))


# A Gaussian blur of rows or columns as a matrix; at the edges the weights of what is there sum to 1.
def _blur(side: int, width: float) -> NDArray[np.float32]:
    place = np.arange(side)
    weights = np.exp(-((place[:, None] - place) ** 2) / (2 * width**2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _hashes(pictures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    import imagehash
    from PIL import Image

    bits = [imagehash.phash(Image.fromarray(np.ascontiguousarray(picture))).hash.ravel() for picture in pictures]
    return np.packbits(np.array(bits, dtype=bool).reshape(-1, 64), axis=1).view(np.uint64).ravel()


# Half of a real picture's spectrum says all; what stands for two frequencies counts twice.
def _spectra(pictures: NDArray[np.float32]) -> NDArray[np.complex64]:
    rows, columns = np.arange(-BAND, BAND + 1), np.arange(BAND + 1)
    spectra = np.fft.rfft2(pictures)[:, rows][:, :, columns].astype(np.complex64)
    spectra[:, BAND, 0] = 0  # the mean
    flat = (spectra * np.where(columns == 0, 1, np.sqrt(2)).astype(np.float32)).reshape(len(spectra), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.float32(1e-6))


def similarity(
    spectra: NDArray[np.complex64], first: NDArray[np.int64], second: NDArray[np.int64], *, mirror: bool = False
) -> NDArray[np.float32]:
    """Correlate pictures, at the best of small shifts.

    Args:
        spectra: Those of all pictures, (N, F).
        first: Positions (M,).
        second: Positions (M,) of what they are compared with.
        mirror: Whether the second pictures are mirrored left to right.

    Returns:
        Correlations (M,) from -1 to 1.
    """
    values = np.empty(len(first), np.float32)
    for start in range(0, len(first), _PAIRS):
        chosen = slice(start, start + _PAIRS)
        other = spectra[second[chosen]]
        product = spectra[first[chosen]] * np.conj(_mirror(other) if mirror else other)
        values[chosen] = (product.view(np.float32) @ _waves()).max(axis=1)
    return values


# Reversing columns turns the sign of their frequencies; by symmetry that is the conjugate at reversed rows.
def _mirror(spectra: NDArray[np.complex64]) -> NDArray[np.complex64]:
    square = spectra.reshape(-1, 2 * BAND + 1, BAND + 1)[:, ::-1]
    turn = np.exp(2j * np.pi * np.arange(BAND + 1) / 64).astype(np.complex64)
    return (np.conj(square) * turn).reshape(spectra.shape)


# The real part of a product with each wave is the inverse transform at one shift.
@functools.cache
def _waves() -> NDArray[np.float32]:
    shifts = np.arange(-_SHIFT, _SHIFT + 1)
    rows, columns = np.meshgrid(np.arange(-BAND, BAND + 1), np.arange(BAND + 1), indexing="ij")
    down, right = np.meshgrid(shifts, shifts, indexing="ij")
    angle = 2 * np.pi / 64 * (np.outer(rows, down) + np.outer(columns, right))
    return np.stack([np.cos(angle), -np.sin(angle)], axis=1).reshape(-1, shifts.size**2).astype(np.float32)
