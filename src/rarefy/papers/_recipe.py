"""The contract of a recipe: what a paper's file says, and what its functions are handed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

from rarefy.evidence.claims import Claim, Measurements

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

Scale = Literal["smoke", "default", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)

# In the order of the house: the sparse wing, then the signal wing.
DOMAINS = (
    "weights",
    "activations",
    "attention",
    "dictionaries",
    "regression",
    "retrieval",
    "rewards",
    "policy",
    "agents",
    "control",
    "recommend",
    "vision",
    "graphs",
)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Everything about a paper that is data.

    Parameters
    ----------
    number : int
        Its number among rarefy's papers.
    slug : str
        Its short name: lower-case words joined by hyphens.
    title, venue : str
        As published.
    authors_code : str
        Where the authors' own code is; empty when there is none.
    domain : str
        The floor-2 package that holds the method, one of `DOMAINS`.
    arms : tuple of str
        What is compared, in the order it is measured.
    claims : tuple of Claim
        What the paper says about the arms.
    summary : str
        What the paper finds, in two or three plain sentences.
    usage : str
        A few lines of Python that use the method without the recipe.
    seeds : mapping
        How many seeds each scale runs by default.
    tour_seeds : int
        How many seeds `rarefy tour` runs; 0 leaves the paper to others of its domain.

    Raises
    ------
    ValueError
        If the parts do not fit together, such as a claim about an arm that is not there.
    """

    number: int
    slug: str
    title: str
    venue: str
    authors_code: str
    domain: str
    arms: tuple[str, ...]
    claims: tuple[Claim, ...]
    summary: str
    usage: str
    seeds: Mapping[Scale, int] = field(
        default_factory=lambda: {"smoke": 2, "default": 5, "full": 10}
    )
    tour_seeds: int = 2

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.slug) or self.slug.isdigit():
            raise ValueError(f"slug is {self.slug!r}; expected lower-case words joined by hyphens")
        if self.domain not in DOMAINS:
            raise ValueError(
                f"{self.slug}: domain is {self.domain!r}, expected one of {', '.join(DOMAINS)}"
            )
        if set(self.seeds) != set(SCALES) or min(self.seeds.values()) < 1 or self.tour_seeds < 0:
            raise ValueError(
                f"{self.slug}: seeds is {dict(self.seeds)}, expected at least one seed for each of "
                f"{', '.join(SCALES)}"
            )
        ids = [claim.id for claim in self.claims]
        for what, names in (("arms", self.arms), ("claims", ids)):
            if not names or len(set(names)) != len(names):
                raise ValueError(
                    f"{self.slug}: {what} must be at least one, each named once; got {names}"
                )
        for claim in self.claims:
            for arm in filter(None, (claim.arm, claim.versus)):
                if arm not in self.arms:
                    raise ValueError(
                        f"{self.slug}: claim {claim.id} speaks of {arm!r}, which is not an arm"
                    )


class Progress(Protocol):
    """How long work says where it is."""

    def __call__(self, message: str, fraction: float | None = None, /) -> None:
        """Say what is being done and, when known, how much of it is done (0 to 1)."""


def silent(message: str, fraction: float | None = None, /) -> None:  # noqa: ARG001
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Trial:
    """One seed of one run, as the functions of a recipe see it.

    Parameters
    ----------
    seed : int
        The seed. Everything random in the trial must come from it.
    scale : {"smoke", "default", "full"}
        ``smoke`` ends within 10 s, ``default`` within 3 minutes on two cores (all its seeds and
        arms together), ``full`` is for a GPU.
    device : str
        A torch device, for what runs on torch.
    progress : Progress
        Call it as ``trial.progress("pruning layer 3", 0.4)``; the fraction is of the current arm.

    Examples
    --------
    >>> Trial(seed=0, scale="smoke").pick(smoke=10, default=100, full=1000)
    10
    """

    seed: int
    scale: Scale = "default"
    device: str = "cpu"
    progress: Progress = silent

    def pick(self, *, smoke: T, default: T, full: T) -> T:
        """Choose the value that belongs to this trial's scale."""
        return {"smoke": smoke, "default": default, "full": full}[self.scale]

    def generator(self) -> torch.Generator:
        """Make a CPU generator at this trial's seed.

        Each call starts the same stream anew, so that an arm draws the same numbers whether or not
        other arms ran before it.
        """
        import torch

        return torch.Generator().manual_seed(self.seed)


class Recipe(Protocol):
    """A module of `rarefy.papers`: a paper, and three functions that measure it.

    A recipe imports heavy libraries inside its functions; at the top of the file stand only this
    module and `rarefy.evidence.claims`, so that listing the papers stays fast.
    """

    __name__: str
    PAPER: Paper

    def setup(self, trial: Trial, **options: Any) -> Any:
        """Make what the arms of one seed share.

        The keyword-only parameters are the recipe's options: their types, defaults and the
        *Parameters* section of the docstring become ``rarefy run PAPER --help``.
        """

    def measure(self, arm: str, shared: Any, trial: Trial) -> Mapping[str, float]:
        """Measure one arm: a dictionary of metrics.

        It must leave ``shared`` as it was and draw its random numbers from the trial, because a run
        that was stopped goes on with only the arms that are missing.
        """

    def figure(self, measurements: Measurements) -> Figure:
        """Draw the paper's point from the measurements."""
