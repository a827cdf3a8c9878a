r"""Rollouts in which tools answer: what they write is read by the policy and learnt by nobody.

    policy       <a,mox>      <b,lir>      #tuk
    environment         [lir]        [tuk]
    own          1111111 00000 1111111 00000 1111

A completion holds both, so that lengths, texts and scoring stay as they are; the mask of the
policy's own tokens goes beside it, as ``batch.extra["own"]``, and is what a loss sums over
(:class:`rarefy.policy.vspo.VSPO` does, :class:`OwnTokens` makes any objective do so).

Source: the masking of retrieved tokens (Search-R1, arXiv 2503.09516; VSPO, arXiv 2512.07478).
Departures: results are fed in token by token beside rows that are still sampling, which costs
nothing while there are any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rarefy.policy.batches import Batch
from rarefy.policy.evaluation import Evaluation, judged
from rarefy.policy.rollout import Rollout, Scores, sample
from rarefy.policy.tasks import Problem, Task
from rarefy.policy.trainer import Objective, PolicyTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def parse_call(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Name and arguments of ``name,argument,...``; None unless all of them are there.

    Examples
    --------
    >>> parse_call("a,mox")
    ('a', ('mox',))
    >>> parse_call("amox") is None
    True
    """
    name, *arguments = text.split(",")
    return (name, tuple(arguments)) if name and arguments and all(arguments) else None


@dataclass(frozen=True)
class ToolEnv:
    """Tools, and how a text calls them.

    Parameters
    ----------
    tools : mapping of str to callable
        Each takes texts and returns one. NOTE: they are called with whatever the policy writes.
    max_calls : int, default 8
        Of a completion; later ones get no answer.
    parse : callable, default :func:`parse_call`
        Text of a call to name and arguments, or None.
    open, close : str, default "<" and ">"
        What a call stands between.
    result : str, default "[{}]"
        How the environment writes a result.
    failed : str, default "!"
        Result of a call that cannot be read, names no tool, or raises TypeError or ValueError.

    Examples
    --------
    >>> env = ToolEnv({"double": lambda n: str(2 * int(n))})
    >>> env.reply("twice 4 is <double,4>"), env.reply("<double>")
    ('[8]', '[!]')
    >>> env.attempts("<double,4>[8]<half,4>[!]<double")
    [True, False, False]
    """

    tools: Mapping[str, Callable[..., str]]
    max_calls: int = 8
    parse: Callable[[str], tuple[str, tuple[str, ...]] | None] = parse_call
    open: str = "<"
    close: str = ">"
    result: str = "[{}]"
    failed: str = "!"

    def __post_init__(self) -> None:
        if not self.tools:
            raise ValueError("tools is empty; at least one tool is wanted")
        if not self.open or not self.close or self.max_calls < 1:
            raise ValueError(
                f"open is {self.open!r}, close {self.close!r} and max_calls {self.max_calls}; two "
                "texts and at least one call are wanted"
            )

    def reply(self, text: str) -> str | None:
        """What the environment writes behind a text; None unless it ends with a call to answer."""
        if not text.endswith(self.close):
            return None
        calls = self._calls(text)
        last = calls[-1] if calls else None
        # A call that was closed before has its answer, if any, behind it.
        if last is None or last[1] != self.close or len(calls) > self.max_calls:
            return None
        called = self._readable(last[0])
        value = self.failed if called is None else self._run(*called)
        return self.result.format(value)

    def attempts(self, text: str) -> list[bool]:
        """Of each call that a text begins: whether it is closed, legible and to a known tool."""
        return [
            bool(rest) and self._readable(inside) is not None for inside, rest in self._calls(text)
        ]

    def _calls(self, text: str) -> list[tuple[str, str]]:
        """Of each call its inside, and the rest of the text from ``close`` to the next call."""
        calls = []
        for part in text.split(self.open)[1:]:
            inside, closed, rest = part.partition(self.close)
            calls.append((inside, closed + rest))
        return calls

    def _readable(self, inside: str) -> tuple[str, tuple[str, ...]] | None:
        called = self.parse(inside)
        return called if called is not None and called[0] in self.tools else None

    def _run(self, name: str, arguments: tuple[str, ...]) -> str:
        try:
            return self.tools[name](*arguments)
        except (TypeError, ValueError):  # as many arguments as the policy likes, of any form
            return self.failed


class ToolRollout(NamedTuple):
    """Completions with the tools' results in them."""

    rollout: Rollout
    own: Tensor
    """(B, T), bool: tokens that the policy sampled."""


@torch.no_grad()
def generate_with_tools(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    env: ToolEnv,
    *,
    max_new_tokens: int,
    n_completions: int = 1,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> ToolRollout:
    """Sample completions of prompts, with the environment writing behind each call.

    Parameters
    ----------
    model : transformers model
    tokenizer : transformers tokenizer
        Its end token ends a completion.
    prompts : sequence of str
    env : ToolEnv
    max_new_tokens : int
        Length limit of a completion, results included.
    n_completions : int, default 1
        Of each prompt, side by side.
    temperature : float, default 1
        0 takes the likeliest token.
    generator : torch.Generator, optional
        On the model's device; needed unless ``temperature`` is 0.

    Returns
    -------
    ToolRollout
        Log-probabilities are the policy's for all tokens; entropies are 0 where it did not sample.

    Raises
    ------
    ValueError
        Where a prompt is empty or does not fit the model's context with its completion, or where
        an argument is out of range.
    """
    asked = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    rollout, own = sample(
        model,
        asked,
        max_new_tokens=max_new_tokens,
        n_completions=n_completions,
        temperature=temperature,
        eos=[tokenizer.eos_token_id],
        padding=tokenizer.pad_token_id,
        generator=generator,
        writer=_Results(tokenizer, env, model.device),
    )
    return ToolRollout(rollout, own)


class _Results:
    """Writes what tools answer behind the calls, a token at a step."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, env: ToolEnv, device: torch.device
    ) -> None:
        self.tokenizer, self.env = tokenizer, env
        self.closing = torch.tensor(_closing_ids(tokenizer, env.close), device=device)
        self.pending: dict[int, deque[int]] = {}
        """By completion, the tokens still to be written."""

    def write(self, token: Tensor, rows: Tensor) -> Tensor:
        """Put the next token of each pending result in place of what was sampled."""
        own = torch.ones_like(token, dtype=torch.bool)
        if self.pending:
            for place, row in enumerate(rows.tolist()):
                if row in self.pending:
                    token[place] = self.pending[row].popleft()
                    own[place] = False
                    if not self.pending[row]:
                        del self.pending[row]
        return own

    def read(self, ids: Tensor, rows: Tensor, t: int, own: Tensor) -> None:
        """Answer the calls that end here."""
        ends = torch.isin(ids[rows, t], self.closing)
        for row in rows[own & ends].tolist():
            written = self.tokenizer.decode(ids[row, : t + 1], skip_special_tokens=True)
            reply = self.env.reply(written)
            if reply:
                tokens = self.tokenizer(reply, add_special_tokens=False)["input_ids"]
                self.pending[row] = deque(tokens)


def _closing_ids(tokenizer: PreTrainedTokenizerBase, close: str) -> list[int]:
    """Tokens that may end a call: those with the last character of ``close`` in them."""
    pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return [i for i, piece in enumerate(pieces) if close[-1] in piece]


def evaluate_with_tools(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    env: ToolEnv,
    *,
    tasks: Sequence[Task],
    max_new_tokens: int,
    n_completions: int,
    seed: int,
) -> tuple[Evaluation, ToolRollout]:
    """Sample completions of each problem and verify them; also the rollout, to look at further.

    Parameters
    ----------
    model : transformers model
    tokenizer : transformers tokenizer
    problems : sequence of Problem
    env : ToolEnv
    tasks : sequence of Task
        Those of the problems.
    max_new_tokens, n_completions, seed
        As for :func:`rarefy.policy.evaluate`.
    """
    sampled = generate_with_tools(
        model,
        tokenizer,
        [problem.prompt for problem in problems],
        env,
        max_new_tokens=max_new_tokens,
        n_completions=n_completions,
        generator=torch.Generator(model.device).manual_seed(seed),
    )
    return judged(sampled.rollout, tokenizer, problems, tasks=tasks), sampled


class ToolTrainer(PolicyTrainer):
    """A trainer whose completions may call tools.

    Its batches have ``extra["own"]``, its rows of figures ``parse_rate``, ``calls`` (begun, of a
    completion) and ``own_entropy``; ``n_tokens`` counts the policy's own tokens. The objective must
    leave the others out.

    Parameters
    ----------
    tools : ToolEnv
    *args, **kwargs
        As for :class:`rarefy.policy.PolicyTrainer`.
    """

    def __init__(self, *args: Any, tools: ToolEnv, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tools = tools

    def complete(self, problems: list[Problem], prompts: list[str] | None = None) -> Batch:
        """Sample a group of completions with tools for each problem, and score them."""
        asked = [problem.prompt for problem in problems] if prompts is None else prompts
        self._rounds += 1
        rollout, own = generate_with_tools(
            self.model,
            self.tokenizer,
            asked,
            self.tools,
            max_new_tokens=self.max_new_tokens,
            n_completions=self.group_size,
            temperature=self.temperature,
            generator=self.generator(f"rollout {self._rounds}"),
        )
        n_own = int(own.sum())
        self.n_rollouts += len(rollout)
        self.n_tokens += n_own
        verdicts = [self.tools.attempts(text) for text in rollout.text(self.tokenizer)]
        rates = [sum(calls) / len(calls) if calls else 0.0 for calls in verdicts]
        self.notes |= {
            "parse_rate": sum(rates) / len(rates),
            "calls": sum(map(len, verdicts)) / len(verdicts),
            "own_entropy": float(rollout.entropies.sum()) / n_own,
        }
        return self.judge(problems, asked, rollout).with_extra(own=own)


class OwnTokens(nn.Module):
    """Any objective, over the policy's own tokens only.

    Parameters
    ----------
    objective : Objective
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def advantages(self, batch: Batch) -> Tensor:
        """Those of the objective."""
        return self.objective.advantages(_own(batch))

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:
        """That of the objective."""
        return self.objective.loss(scores, _own(batch), trainer)


def _own(batch: Batch) -> Batch:
    return replace(batch, rollout=replace(batch.rollout, completion_mask=batch.extra["own"]))
