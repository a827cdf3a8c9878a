"""Methods side by side: one start, the same problems, success by level against tokens generated.

    for each method:  train to each mark, then sample held-out problems and verify

A method's steps, checkpoints, marks and policy lie in a folder of its own, so that a run which was
stopped, or killed, goes on with the same numbers, and further methods can join later.

Methods that draw again, or hint, generate more in a step than others: compare them at equal tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from rarefy.evidence.figures import to_svg
from rarefy.evidence.files import write_whole
from rarefy.policy.ahpo import AHPO
from rarefy.policy.dler import DLER
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.grpo import GRPO, RLOO
from rarefy.policy.hints import HintPolicy, Template
from rarefy.policy.losses import token_mean
from rarefy.policy.metrics import pass_at_k
from rarefy.policy.pacs import PACS
from rarefy.policy.problems import Problems
from rarefy.policy.rollout import generate
from rarefy.policy.tasks import Problem
from rarefy.policy.trainer import Objective, PolicyTrainer, Sampler, plain
from rarefy.policy.vspo import VSPO, ValueRefill
from rarefy.rewards import RewardFunction
from rarefy.rewards.length import Truncation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.models import LanguageModel

CHECKPOINT_EVERY = 10


class Method(NamedTuple):
    """What differs between methods."""

    objective: Objective
    sampler: Sampler = plain
    shortens: bool = False
    """Whether a completion that does not end by itself earns nothing."""


METHODS: dict[str, Callable[[Template], Method]] = {
    "grpo": lambda _: Method(GRPO()),
    "rloo": lambda _: Method(RLOO()),
    "dapo": lambda _: Method(GRPO(eps_high=0.28, reduce=token_mean), Dynamic()),
    "pacs": lambda _: Method(PACS()),
    "dler": lambda _: Method(DLER(kl_coef=0.0), Dynamic(), shortens=True),
    "ghpo": lambda template: Method(GRPO(), HintPolicy(template=template, cold_start=4)),
    "ahpo": lambda _: Method(AHPO()),
    "vspo": lambda _: Method(VSPO(kl_coef=0.0), ValueRefill()),
}
"""The methods by name, made from how a hint stands in a prompt. Settings are the papers' but for
two: none holds on to a reference, and GHPO's cold start is a tenth of forty steps."""


@dataclass(frozen=True)
class Mark:
    """Where a policy stood after some steps."""

    step: int
    n_rollouts: int
    n_tokens: int
    """Generated in training so far, all that were thrown away included."""
    success: dict[str, float]
    """Share of right completions of held-out problems, by level."""
    pass_at: dict[str, float]
    """Chance that one of half a group's completions is right, by level."""


@dataclass(frozen=True)
class Setting:
    """What all methods have in common.

    Parameters
    ----------
    start : callable
        Opens the policy that all begin with.
    problems : callable
        The stream of problems, from its beginning.
    held_out : sequence of Problem
        What success is measured on.
    reward : RewardFunction
        A completion is right where it gives 1 or more.
    max_new_tokens, steps, every : int
        ``every`` so many steps there is a mark, and at the first and the last.
    n_prompts, group_size, minibatches, learning_rate, seed
        See :class:`rarefy.policy.PolicyTrainer`.
    """

    start: Callable[[], LanguageModel]
    problems: Callable[[], Problems]
    held_out: Sequence[Problem]
    reward: RewardFunction
    max_new_tokens: int
    steps: int
    every: int
    n_prompts: int = 16
    group_size: int = 8
    minibatches: int = 4
    learning_rate: float = 2e-4
    seed: int = 0

    @property
    def marks(self) -> list[int]:
        """Steps after which the policy is measured."""
        return sorted({*range(0, self.steps, self.every), self.steps})


def run_method(
    method: Method,
    setting: Setting,
    folder: Path,
    *,
    on_step: Callable[[dict[str, float]], None] | None = None,
    on_mark: Callable[[Mark], None] | None = None,
) -> list[Mark]:
    """Train one method to the end, from wherever its folder says that it was.

    Parameters
    ----------
    method : Method
    setting : Setting
    folder : Path
        Holds ``checkpoint.pt`` and ``marks.json``, and at the end ``policy/``, an ordinary
        ``save_pretrained`` folder.
    on_step : callable, optional
        Told each step's row of figures.
    on_mark : callable, optional
        Told each mark before it is written, and those found in the folder.

    Returns
    -------
    list of Mark

    Raises
    ------
    ValueError
        As :class:`rarefy.policy.PolicyTrainer` does; finished steps are kept.
    """
    found = read_marks(folder)
    for mark in found:
        if on_mark is not None:
            on_mark(mark)
    policy = folder / "policy"
    if len(found) == len(setting.marks) and (policy / "config.json").exists():
        return found
    model, tokenizer = setting.start()
    reward = setting.reward
    if method.shortens:
        limit = setting.max_new_tokens
        reward = Truncation(reward, limit, eos_token_id=tokenizer.eos_token_id)
    trainer = PolicyTrainer(
        model,
        tokenizer,
        setting.problems(),
        reward=reward,
        objective=method.objective,
        sampler=method.sampler,
        max_new_tokens=setting.max_new_tokens,
        n_prompts=setting.n_prompts,
        group_size=setting.group_size,
        minibatches=setting.minibatches,
        learning_rate=setting.learning_rate,
        seed=setting.seed,
    )
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    for target in setting.marks[len(found) :]:
        trainer.train(
            target, checkpoint=checkpoint, checkpoint_every=CHECKPOINT_EVERY, progress=on_step
        )
        mark = measure(trainer, setting.held_out)
        found.append(mark)
        if on_mark is not None:
            on_mark(mark)
        write_whole(folder / "marks.json", json.dumps([asdict(m) for m in found], indent=1) + "\n")
    tokenizer.save_pretrained(policy)
    model.save_pretrained(policy)
    return found


def read_marks(folder: Path) -> list[Mark]:
    """The marks that a method's folder holds, none where it has not begun."""
    path = folder / "marks.json"
    if not path.exists():
        return []
    return [Mark(**mark) for mark in json.loads(path.read_text(encoding="utf-8"))]


def measure(trainer: PolicyTrainer, problems: Sequence[Problem]) -> Mark:
    """Sample a group of completions for each problem, and verify them."""
    tokenizer = trainer.tokenizer
    rollout = generate(
        trainer.model,
        [tokenizer(problem.prompt)["input_ids"] for problem in problems],
        max_new_tokens=trainer.max_new_tokens,
        n_completions=trainer.group_size,
        temperature=trainer.temperature,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generator=torch.Generator(trainer.model.device).manual_seed(trainer.seed),
    )
    batch = trainer.judge(list(problems), [problem.prompt for problem in problems], rollout)
    size, k = trainer.group_size, trainer.group_size // 2
    right: dict[str, list[int]] = {}
    for problem, count in zip(problems, batch.n_solved.tolist(), strict=True):
        right.setdefault(str(problem.level), []).append(count)
    return Mark(
        trainer.step,
        trainer.n_rollouts,
        trainer.n_tokens,
        {level: sum(counts) / size / len(counts) for level, counts in sorted(right.items())},
        {
            level: sum(pass_at_k(size, count, k) for count in counts) / len(counts)
            for level, counts in sorted(right.items())
        },
    )


def svg(marks: Mapping[str, Sequence[Mark]]) -> str:
    """Draw success against tokens generated, a panel for each level and a line for each method."""
    return to_svg(lambda: _figure(marks), name="policy")


def _figure(marks: Mapping[str, Sequence[Mark]]) -> Figure:
    from matplotlib.figure import Figure

    levels = sorted({level for line in marks.values() for mark in line for level in mark.success})
    drawn = Figure(figsize=(max(4.6, 2.7 * len(levels)), 3.4))
    axes = drawn.subplots(1, len(levels), squeeze=False, sharey=True)[0]
    for panel, level in zip(axes, levels, strict=True):
        for name, line in marks.items():
            panel.plot(
                [mark.n_tokens / 1000 for mark in line],
                [mark.success[level] for mark in line],
                marker="o",
                markersize=3,
                label=name,
            )
        panel.set_title(f"level {level}")
        panel.set_xlabel("thousand tokens generated")
    axes[0].set_ylabel("success on held-out problems")
    axes[0].set_ylim(0, None)
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return drawn
