"""Random numbers that depend on what is drawn, not on when: same sub-scan, same noise."""

from __future__ import annotations

import hashlib

import numpy as np


def rng_for(seed: int, sub_scan_id: str, frame: int, stream: str = "") -> np.random.Generator:
    """Return the generator of one frame's noise.

    Parameters
    ----------
    seed : int
        Seed of the run; any integer.
    sub_scan_id : str
        Id of the sub-scan.
    frame : int
        Frame number within the sub-scan; 0 for an image.
    stream : str
        Tells apart what is drawn independently for one frame, e.g. a detector's name.

    Returns
    -------
    numpy.random.Generator
        A counter-based generator (Philox, Salmon et al., SC11, doi:10.1145/2063384.2063405) keyed
        by a BLAKE2 digest of the arguments.
    """
    words = (str(seed), sub_scan_id, str(frame), stream)
    digest = hashlib.blake2b(digest_size=16)
    for word in words:
        raw = word.encode()
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))
