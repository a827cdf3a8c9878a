r"""Hints for prompts of which every completion failed: the first part of a known solution.

    roll out G completions of each prompt
    for omega in (0.25, 0.5, 0.75):
        for the groups that are still all wrong:  ask prompt + first omega of the trace, G times

    J = mean over groups, completions, tokens of  min(rho A, clip(rho) A),
    rho = pi(o_t | prompt that was asked, o_<t) / pi_old(the same)

A group is replaced as a whole, so its advantages are those of GRPO among completions of one
prompt, and groups that nothing ailed are GRPO's to the last bit. Held-out problems are never
evaluated with hints.

Source: GHPO (arXiv 2507.10628, section 3), and its authors' code for what the paper leaves open:
hints grow within a step, not over training. Departures: every row is scored under its own prompt
(the released trainer scores a group rescued early under the plain prompt when a later stage runs);
no hint holds the answer; a hint that does not fit the context is left out and counted.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from rarefy.policy.batches import Batch, join
from rarefy.policy.rollout import left_pad
from rarefy.policy.tasks import Problem, hinted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rarefy.policy.trainer import PolicyTrainer

Cut = Literal["char", "token", "line"]
Template = Callable[[Problem, str], str]
"""``template(problem, prefix)``: the prompt with a hint."""
Trigger = Callable[[Tensor], Tensor]
"""Right (1) and wrong (0), shape (groups, completions), to a bool for each group: does it fail?"""

_STEP = re.compile(r"[^;\n]*(?:[;\n]+|$)")


def all_wrong(solved: Tensor) -> Tensor:
    """Groups without a right completion: GHPO's detector of difficulty.

    Parameters
    ----------
    solved : Tensor, shape (groups, completions)
        1 for right completions, else 0; whatever else was rewarded, such as a format.

    Returns
    -------
    bool Tensor, shape (groups,)

    Examples
    --------
    >>> all_wrong(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    tensor([ True, False])
    """
    return (solved <= 0).all(1)


def hint_prefix(
    trace: str,
    ratio: float,
    *,
    cut: Cut = "char",
    answer: str = "",
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> str:
    r"""The first part of a solution, never as far as its answer.

    Parameters
    ----------
    trace : str
    ratio : float in [0, 1]
        Share of the trace, in units of the cut, rounded.
    cut : {"char", "token", "line"}, default "char"
        Unit: characters (the authors'), tokens, or whole steps, each ended by ";" or a line break.
    answer : str, default ""
        The hint ends before the first place where this stands by itself, not as part of a longer
        word or number. NOTE: a short answer may stand somewhere by chance, and cut the hint there.
    tokenizer : transformers tokenizer, optional
        A fast one; needed for ``cut="token"``.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the ratio is not in [0, 1], the cut is none of the three, or a tokenizer is missing.

    Examples
    --------
    >>> hint_prefix("3;+5.8;*2.16", 0.5), hint_prefix("3;+5.8;*2.16", 0.5, cut="line")
    ('3;+5.8', '3;+5.8;')
    >>> hint_prefix("2 + 2 = 4, so x is 4", 1.0, answer="4")
    '2 + 2 = '
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio is {ratio}; a share of the trace, from 0 to 1, is wanted")
    if cut == "char":
        end = round(ratio * len(trace))
    elif cut == "line":
        ends = [step.end() for step in _STEP.finditer(trace) if step.group()]
        end = _at([0, *ends], ratio)
    elif cut == "token":
        if tokenizer is None:
            raise ValueError('cut is "token", which needs a tokenizer')
        spans = tokenizer(trace, add_special_tokens=False, return_offsets_mapping=True)
        end = _at([0, *(stop for _, stop in spans["offset_mapping"])], ratio)
    else:
        raise ValueError(f'cut must be "char", "token" or "line", got {cut!r}')
    if answer:
        told = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", trace)
        end = min(end, told.start()) if told else end
    return trace[:end]


def marked(problem: Problem, prefix: str) -> str:
    """The hint behind "~" inside the prompt: the form of the suite, which its policies know.

    Examples
    --------
    >>> marked(Problem("countdown", 2, "n3,5,2>16=", "", ""), "3;+5")
    'n3,5,2>16~3;+5='
    """
    return hinted(replace(problem, trace=prefix), 1.0)


def told(problem: Problem, prefix: str) -> str:
    r"""The hint behind a sentence that says what it is: for models that read instructions.

    Examples
    --------
    >>> print(told(Problem("rows", 1, "What is 3 * 4 + 1?", "", ""), "3 * 4 = 12"))
    What is 3 * 4 + 1?
    <BLANKLINE>
    A correct solution begins as below. You may build on it, but write a full solution of your own.
    3 * 4 = 12
    """
    return (
        f"{problem.prompt}\n\nA correct solution begins as below. You may build on it, but write "
        f"a full solution of your own.\n{prefix}"
    )


class HintReport(NamedTuple):
    """What hinting did to a batch; counts are of groups."""

    ratios: tuple[float, ...]
    tried: tuple[int, ...]
    """Groups rolled out again at each ratio."""
    rescued: tuple[int, ...]
    """Of these, groups that no longer failed."""
    n_groups: int
    all_wrong_before: int
    all_wrong_after: int
    success_before: float
    """Share of the completions of plain prompts that are right."""
    hinted_success: float | None
    """The same of groups that are learnt from with a hint; None where there are none."""
    mean_ratio: float
    """Of the hints that are learnt from, plain prompts having 0."""
    missing: int
    """Failing groups without a trace."""
    too_long: int
    """Hinted prompts that did not fit the context."""

    @property
    def notes(self) -> dict[str, float]:
        """Figures for the trainer's log."""
        n = max(self.n_groups, 1)
        figures = {
            "all_wrong_before": self.all_wrong_before / n,
            "all_wrong_after": self.all_wrong_after / n,
            "plain_success": self.success_before,
            "hint_ratio": self.mean_ratio,
            "hint_missing": float(self.missing),
            "hint_too_long": float(self.too_long),
        }
        for ratio, tried, rescued in zip(self.ratios, self.tried, self.rescued, strict=True):
            figures[f"hinted_{ratio:g}"] = tried / n
            if tried:
                figures[f"rescued_{ratio:g}"] = rescued / tried
        if self.hinted_success is not None:
            figures["hinted_success"] = self.hinted_success
        return figures


@dataclass(frozen=True)
class HintPolicy:
    """GHPO's sampler: groups that fail are asked again, with ever longer hints.

    With :class:`rarefy.policy.GRPO` for the objective it is the method of the paper. It holds no
    state: a trainer that is resumed goes on as if it had not stopped.

    Parameters
    ----------
    ratios : sequence of float, default 0.25, 0.5 and 0.75
        Shares of the trace, in the order they are tried; the paper's.
    cut : {"char", "token", "line"}, default "char"
        See :func:`hint_prefix`.
    template : callable, default :func:`marked`
        Puts a hint into a prompt; :func:`told` is for instruction models.
    trigger : callable, default :func:`all_wrong`
        See :data:`Trigger`. Looked at again after each stage.
    keep : {"last", "best"}, default "last"
        Of the attempts at a failing group the last one (the paper's), or the one whose rewards
        vary most, the earliest of equals: a longer hint does not always help.
    score_prompt : {"hinted", "plain"}, default "hinted"
        Under which prompt completions are learnt: the one that was asked (the paper's), or the
        plain one, with old log-probabilities under it. The latter trains what is evaluated, with
        completions the policy would not have sampled.
    cold_start : int, default 20
        First steps without hints, in which a policy learns the format; the paper's.
    strict : bool, default False
        Whether a failing problem without a trace is an error; else it is left as it is.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    ratios: Sequence[float] = (0.25, 0.5, 0.75)
    cut: Cut = "char"
    template: Template = marked
    trigger: Trigger = all_wrong
    keep: Literal["last", "best"] = "last"
    score_prompt: Literal["hinted", "plain"] = "hinted"
    cold_start: int = 20
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.ratios or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise ValueError(
                f"ratios is {tuple(self.ratios)}; at least one share above 0, up to 1, is wanted"
            )
        if self.keep not in ("last", "best"):
            raise ValueError(f'keep must be "last" or "best", got {self.keep!r}')
        if self.score_prompt not in ("hinted", "plain"):
            raise ValueError(f'score_prompt must be "hinted" or "plain", got {self.score_prompt!r}')
        if self.cold_start < 0:
            raise ValueError(f"cold_start is {self.cold_start}, expected 0 steps or more")

    def __call__(self, trainer: PolicyTrainer, n_prompts: int) -> Batch:
        """Roll out the next problems, and again with hints what fails."""
        batch = trainer.draw(n_prompts)
        if trainer.step < self.cold_start:
            return batch.with_extra(hint_ratio=torch.zeros_like(batch.rewards))
        batch, report = self.mend(trainer, batch)
        trainer.notes.update(report.notes)
        return batch

    def mend(self, trainer: PolicyTrainer, batch: Batch) -> tuple[Batch, HintReport]:
        """Ask the failing groups of a batch again.

        Parameters
        ----------
        trainer : PolicyTrainer
        batch : Batch
            Of plain prompts, before its advantages are known.

        Returns
        -------
        batch : Batch
            The same problems in the same order; ``extra["hint_ratio"]`` (B,) is 0 for plain
            prompts.
        report : HintReport

        Raises
        ------
        ValueError
            Where ``strict`` is set and a failing problem has no trace.
        """
        failing = self._fails(batch)
        missing = [g for g in failing if not batch.problems[g].trace]
        if missing:
            self._say_missing(batch.problems[missing[0]])
        attempts = [batch.with_extra(hint_ratio=torch.zeros_like(batch.rewards))]
        at = list(range(len(batch)))  # the kept attempt of each group, as a row of all attempts
        spread = batch.groups.var(1).tolist()
        tried, rescued, too_long = [], [], 0
        todo = [g for g in failing if batch.problems[g].trace]
        for ratio in self.ratios:
            prompts = {g: self._prompt(trainer, batch.problems[g], ratio) for g in todo}
            long = [g for g, prompt in prompts.items() if prompt and not _fits(trainer, prompt)]
            too_long += len(long)
            # Where nothing of the trace may be told yet, or no more fits, the group waits.
            asked = [g for g, prompt in prompts.items() if prompt and g not in long]
            tried.append(len(asked))
            if not asked:
                rescued.append(0)
                continue
            again = trainer.complete(
                [batch.problems[g] for g in asked], [prompts[g] for g in asked]
            )
            first = sum(map(len, attempts))
            attempts.append(again.with_extra(hint_ratio=torch.full_like(again.rewards, ratio)))
            for row, (g, varies) in enumerate(
                zip(asked, again.groups.var(1).tolist(), strict=True)
            ):
                if self.keep == "last" or varies > spread[g]:
                    at[g], spread[g] = first + row, varies
            still = {asked[row] for row in self._fails(again)}
            rescued.append(len(asked) - len(still))
            todo = [g for g in todo if g in still or g not in asked]
        kept = join(attempts).select(at) if len(attempts) > 1 else attempts[0]
        report = self._report(batch, kept, tried, rescued, len(missing), too_long)
        if self.score_prompt == "plain":
            kept = _under_plain_prompts(trainer, kept)
        return kept, report

    def _fails(self, batch: Batch) -> list[int]:
        solved = batch.solved.view(-1, batch.group_size).float()
        return self.trigger(solved).nonzero()[:, 0].tolist()

    def _prompt(self, trainer: PolicyTrainer, problem: Problem, ratio: float) -> str:
        """The prompt with a hint; empty where the hint would be."""
        prefix = hint_prefix(
            problem.trace, ratio, cut=self.cut, answer=problem.answer, tokenizer=trainer.tokenizer
        )
        return self.template(problem, prefix) if prefix else ""

    def _say_missing(self, problem: Problem) -> None:
        if self.strict:
            raise ValueError(
                f"the problem {problem.prompt!r} fails and has no trace to take a hint from; give "
                "every row a trace, or set strict=False to leave such problems as they are"
            )
        warnings.warn(
            "some failing problems have no trace to take a hint from and are left as they are; "
            "hint_missing in the history counts them",
            RuntimeWarning,
            stacklevel=3,
        )

    def _report(
        self,
        before: Batch,
        after: Batch,
        tried: Sequence[int],
        rescued: Sequence[int],
        missing: int,
        too_long: int,
    ) -> HintReport:
        levels = after.extra["hint_ratio"]
        with_hint = after.solved[levels > 0].float()
        return HintReport(
            tuple(self.ratios),
            tuple(tried),
            tuple(rescued),
            len(before),
            int((before.n_solved == 0).sum()),
            int((after.n_solved == 0).sum()),
            float(before.solved.float().mean()),
            float(with_hint.mean()) if len(with_hint) else None,
            float(levels.mean()),
            missing,
            too_long,
        )


@dataclass(frozen=True)
class FixedHint:
    """Problems that are always asked with a hint, solved or not: a baseline.

    With ``when=lambda problem: problem.level >= 4`` and a staged curriculum it is GRPO-CL-H(0.5);
    a ratio of 1 is near to supervision.

    Parameters
    ----------
    ratio : float, default 0.5
    when : callable, optional
        Which problems; all by default.
    cut : {"char", "token", "line"}, default "char"
    template : callable, default :func:`marked`
    """

    ratio: float = 0.5
    when: Callable[[Problem], bool] | None = None
    cut: Cut = "char"
    template: Template = marked

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio is {self.ratio}; a share above 0, up to 1, is wanted")

    def __call__(self, trainer: PolicyTrainer, n_prompts: int) -> Batch:
        """Roll out the next problems, with their hints."""
        problems = trainer.problems.draw(n_prompts)
        prompts, ratios = [], []
        for problem in problems:
            prompt = self._prompt(trainer, problem)
            prompts.append(prompt or problem.prompt)
            ratios.append(self.ratio if prompt else 0.0)
        batch = trainer.complete(problems, prompts)
        levels = torch.tensor(ratios, device=batch.rewards.device)
        trainer.notes["hint_ratio"] = float(levels.mean())
        return batch.with_extra(hint_ratio=levels.repeat_interleave(batch.group_size))

    def _prompt(self, trainer: PolicyTrainer, problem: Problem) -> str:
        if not problem.trace or (self.when is not None and not self.when(problem)):
            return ""
        prefix = hint_prefix(
            problem.trace,
            self.ratio,
            cut=self.cut,
            answer=problem.answer,
            tokenizer=trainer.tokenizer,
        )
        prompt = self.template(problem, prefix) if prefix else ""
        return prompt if prompt and _fits(trainer, prompt) else ""


def _at(ends: Sequence[int], ratio: float) -> int:
    """End of the last of the first units; ``ends`` begins with that of none."""
    return ends[round(ratio * (len(ends) - 1))]


def _fits(trainer: PolicyTrainer, prompt: str) -> bool:
    context = getattr(trainer.model.config, "max_position_embeddings", None)
    length = len(trainer.tokenizer(prompt)["input_ids"]) + trainer.max_new_tokens
    return context is None or length <= context


@torch.no_grad()
def _under_plain_prompts(trainer: PolicyTrainer, batch: Batch) -> Batch:
    """The batch with hinted prompts replaced by plain ones, and its rows scored under these."""
    has_hint = batch.extra["hint_ratio"].view(-1, batch.group_size)[:, 0] > 0
    if not bool(has_hint.any()):
        return batch
    part = batch.select(has_hint)
    plain = [problem.prompt for problem in part.problems]
    ids, mask = left_pad(
        [trainer.tokenizer(prompt)["input_ids"] for prompt in plain],
        pad_token_id=0,
        device=batch.rewards.device,
    )
    rollout = replace(
        part.rollout,
        prompt_ids=ids.repeat_interleave(batch.group_size, dim=0),
        prompt_mask=mask.repeat_interleave(batch.group_size, dim=0),
    )
    scores = trainer.score(rollout)
    rollout = replace(rollout, logps=scores.logps, entropies=scores.entropies)
    part = replace(part, prompts=plain, rollout=rollout)
    # Back to the order of the problems.
    order = torch.cat([(~has_hint).nonzero()[:, 0], has_hint.nonzero()[:, 0]]).argsort()
    return join([batch.select(~has_hint), part]).select(order)
