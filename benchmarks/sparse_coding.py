"""Sparse coding beside scikit-learn: codes of patches, and a dictionary to an equal objective.

Ratios over 1 mean ours is faster; ``goal`` is the ratio that the method card asks for.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode

from _timing import interleaved, row
from rarefy.data import photographs, sample_patches, whiten_retina
from rarefy.dictionaries import DictionaryLearner, sparse_codes
from rarefy.operators import L1

LAM, ATOMS = 0.15, 128


def rows() -> list[dict[str, Any]]:
    """Every comparison of sparse coding."""
    g = torch.Generator().manual_seed(0)
    patches = sample_patches(whiten_retina(photographs()), 8, 30_000, generator=g)
    return [encoding_row(patches[:2000]), learning_row(patches)]


def encoding_row(x: torch.Tensor) -> dict[str, Any]:
    """2,000 patches in 128 atoms, to within 0.1 % of the same objective."""
    dictionary = torch.nn.functional.normalize(torch.randn(ATOMS, 64, generator=_generator()))
    atoms, array = dictionary.numpy(), x.numpy()

    def ours() -> np.ndarray:
        return sparse_codes(x, dictionary, L1(LAM)).codes.numpy()

    def theirs() -> np.ndarray:
        return sparse_encode(array, atoms, algorithm="lasso_cd", alpha=LAM)

    if _objective(array, atoms, ours()) > 1.001 * _objective(array, atoms, theirs()):
        raise RuntimeError("our codes have a higher objective than scikit-learn's")
    quick, slow = interleaved(ours, theirs, repeats=5, warmup=1)
    return row("sparse-coding.encode", "sklearn sparse_encode lasso_cd", quick, slow, 5.0)


def learning_row(x: torch.Tensor) -> dict[str, Any]:
    """Seconds of learning to the objective that scikit-learn has after one pass."""
    array = x.numpy()
    start = perf_counter()
    peer = MiniBatchDictionaryLearning(
        ATOMS, alpha=LAM, batch_size=256, max_iter=1, fit_algorithm="cd", n_jobs=2, random_state=0
    ).fit(array)
    slow = perf_counter() - start
    target = _objective_of(x[:4000], peer.components_.astype(np.float32))
    for steps in (10, 20, 40, 80, 160, 320):
        learner = DictionaryLearner(ATOMS, L1(LAM), max_steps=steps, random_state=0)
        start = perf_counter()
        learner.fit(x)
        quick = perf_counter() - start
        if _objective_of(x[:4000], learner.components_) <= target:
            break
    else:
        raise RuntimeError("our dictionary did not reach scikit-learn's objective")
    peer_name = "sklearn MiniBatchDictionaryLearning cd, n_jobs=2"
    return row("sparse-coding.learn", peer_name, quick, slow, 3.0)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _objective_of(x: torch.Tensor, atoms: np.ndarray) -> float:
    atoms = atoms / np.linalg.norm(atoms, axis=1, keepdims=True).clip(1e-12)
    codes = sparse_codes(x, torch.from_numpy(atoms), L1(LAM)).codes
    return _objective(x.numpy(), atoms, codes.numpy())


def _objective(x: np.ndarray, atoms: np.ndarray, codes: np.ndarray) -> float:
    return float(((x - codes @ atoms) ** 2).sum() / 2 + LAM * np.abs(codes).sum())
