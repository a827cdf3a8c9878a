"""Paper 26, beyond l1 sparse coding in V1: penalties of sparse coding compared at equal sparsity.

Dictionaries of whitened photographs are learned under l1, l0, CEL0 and the square root; the errors
of their codes are compared at equal numbers of active units, and the fields of their units by
Gabor fits. Test patches come from the other half of each photograph.

Departures: photographs that come with a library in place of van Hateren's (``--folder`` takes
these); the online surrogate in place of the gradient rule, and hundreds of batches in place of
thousands. A dictionary is learned near each sparsity compared, and its test codes are made at the
strength that gives that sparsity exactly. The kinds of fields are ours.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rarefy.evidence.claims import Measurements
from rarefy.papers._beyond_l1_claims import LEVELS, beyond_l1_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.papers._beyond_l1_learning import Shared

METHODS = ("soft", "hard", "cel0", "half")
LARGER = (256, 1024)

_BUNDLED: Literal["scikit-learn", "scikit-image"] = (
    "scikit-image" if find_spec("skimage") else "scikit-learn"
)

PAPER = Paper(
    number=26,
    slug="beyond-l1-v1",
    title="Beyond l1 sparse coding in V1",
    venue="PLoS Computational Biology 2023",
    authors_code="https://github.com/rentzi/sparseRegularizers",
    domain="dictionaries",
    arms=(*METHODS, *(f"soft, {atoms} atoms" for atoms in LARGER), "random atoms"),
    claims=beyond_l1_claims(),
    summary=(
        "Sparse codes of natural images are usually made with the l1 norm, which shrinks what it "
        "keeps. At the same number of active units, penalties nearer to l0 reconstruct several "
        "times better and need fewer units; all of them learn oriented fields like those of V1, "
        "and other kinds beside these when codes are sparse enough, where l1 reconstructs badly."
    ),
    usage="""\
import torch
from rarefy.data import photographs, sample_patches, whiten_retina
from rarefy.dictionaries import DictionaryLearner, receptive_field_report
from rarefy.operators import CEL0

g = torch.Generator().manual_seed(0)
patches = sample_patches(whiten_retina(photographs()), 12, 50_000, generator=g)
learner = DictionaryLearner(200, CEL0(0.3), random_state=0).fit(patches)
fields = torch.from_numpy(learner.components_).view(-1, 12, 12)
print(receptive_field_report(fields).shares)
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


def setup(
    trial: Trial,
    *,
    collection: Literal["scikit-learn", "scikit-image"] = _BUNDLED,
    folder: Path | None = None,
    f0: float = 0.4,
    patch: int = 12,
    units: int = 200,
) -> Shared:
    """Whiten photographs and draw patches of them.

    Parameters
    ----------
    collection : {"scikit-learn", "scikit-image"}
        Whose photographs: two, or eight; by default the eight where scikit-image is installed.
    folder : Path, optional
        Photographs of your own in place of these: .imc (van Hateren's), .png or .jpg.
    f0 : float
        Where the whitening filter cuts off, in cycles per pixel.
    patch : int
        Width of the patches whose fields are fitted, at least 8; the paper's are 16.
    units : int
        Atoms of those dictionaries; the paper's are 500 and more.
    """
    from rarefy.data.photographs import photographs, read_photographs
    from rarefy.papers._beyond_l1_learning import draw

    if not 0 < f0 < 10:
        raise ValueError(f"f0 must be between 0 and 10 cycles per pixel, got {f0}")
    if patch < 8:
        raise ValueError(f"patch must be at least 8 pixels wide, got {patch}")
    if units < 2:
        raise ValueError(f"units must be at least 2, got {units}")
    images = photographs(collection) if folder is None else read_photographs(folder)
    return draw(images, trial, f0=f0, patch=patch, units=units)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm: ``error_K`` is the relative error with K units active on average."""
    from rarefy.papers._beyond_l1_learning import errors, larger, random_atoms

    if arm == "random atoms":
        return {"selective": random_atoms(shared, trial).selective}
    if arm not in METHODS:
        return larger(int(arm.split()[1]), LEVELS[0], shared, trial)
    trial.progress("sparsity and error", 0.0)
    values = errors(arm, shared, trial, LEVELS)
    trial.progress("receptive fields", 0.4)
    return values | _fields(arm, shared, trial)


def _fields(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.dictionaries import class_entropy
    from rarefy.papers import _beyond_l1_learning as learning
    from rarefy.papers._beyond_l1_mosaic import pack

    method = learning.METHODS[arm]
    strengths = dict.fromkeys(
        s for s in (method.oriented, method.sparse, method.dense) if s is not None
    )
    steps = trial.pick(smoke=2, default=200, full=4000)
    found = dict(
        zip(
            strengths,
            learning.fields(arm, list(strengths), steps, shared, trial),
            strict=True,
        )
    )
    oriented = found[method.oriented]
    values = {"selective": oriented.report.selective}
    values |= {f"share_{kind}": share for kind, share in oriented.report.shares.items()}
    if method.sparse is not None:
        values["error_sparse"] = found[method.sparse].error
    if method.sparse is not None and method.dense is not None:
        sparse, dense = (class_entropy(found[s].report) for s in (method.sparse, method.dense))
        values |= {"entropy_5": sparse, "entropy_20": dense, "entropy_gain": sparse - dense}
    return values | (pack(oriented.dictionary, shared.patch) if trial.seed == 0 else {})


def figure(measurements: Measurements) -> Figure:
    """Error against sparsity, with and without shrinkage; the kinds of fields; a few of them."""
    from rarefy.papers._beyond_l1_mosaic import draw

    return draw(measurements, METHODS, LEVELS)
