"""`rarefy policy train`: methods of reinforcement learning side by side on verifiable problems."""

from __future__ import annotations

import importlib
import json as json_
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rarefy.cli import _console
from rarefy.evidence.files import write_whole
from rarefy.papers import REPORTS

if TYPE_CHECKING:
    from rich.table import Table

    from rarefy.models import LanguageModel
    from rarefy.policy.bakeoff import Mark, Setting
    from rarefy.policy.problems import Problems
    from rarefy.policy.tasks import Problem, Task
    from rarefy.rewards import RewardFunction

app = typer.Typer(
    help="Policies that learn from rewards which are almost always zero.", no_args_is_help=True
)

_HELD_OUT = 48
"""Problems of each level of a task that success is measured on."""
_ROWS_HELD_OUT = 8
"""Of a data set's rows, each so many-th is kept back; 256 of them at most."""
_TRIED_FIRST = 4
"""Completions that tell whether a reward works at all."""


@app.callback()
def _group() -> None:
    """Policies that learn from rewards which are almost always zero."""


@app.command("train")
def train(
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="countdown, calculator, permute, sort, rewrite, path, sat, sudoku4. The shipped "
            "policy knows countdown, permute and rewrite.",
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="A,B,...", help="grpo, rloo, dapo, pacs, dler, ghpo, ahpo, vspo.")
    ] = "grpo",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="A model folder or hub name; without it, the shipped policy."
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            exists=True,
            dir_okay=False,
            help="Rows with a prompt, and a level, trace and answer where there are such, instead "
            "of --task; every eighth is kept back to measure on.",
        ),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="PKG.MODULE:FUNCTION",
            help="With --dataset: f(prompts, completions, completion_ids, **columns), as in TRL; "
            "right is 1 or more. It runs in a process of its own.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time limit of --reward for a completion.")] = 1.0,
    levels: Annotated[
        str, typer.Option(metavar="L,L,...", help="Levels of --task, from 1 to 5.")
    ] = "1,2,3,4",
    steps: Annotated[int, typer.Option(min=1, help="Steps of each method.")] = 40,
    every: Annotated[
        int | None, typer.Option(min=1, help="Steps between measurements. [default: a quarter]")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts a step.")] = 16,
    group: Annotated[int, typer.Option(help="Completions of each prompt, at least 2.")] = 8,
    minibatches: Annotated[int, typer.Option(min=1, help="Optimizer steps for each batch.")] = 4,
    length: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens a completion at most. [default: what experts need and 8; or 256]"
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate. [default: 2e-4, with --model 1e-6]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of problems, completions and orders.")] = 0,
    device: Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the report and the policies.")] = REPORTS
    / "policy",
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Train a policy by several methods from one start; success by level and what it cost.

    Every method begins with the same policy and sees the same problems. After Ctrl-C, or a kill,
    the same command goes on from the last checkpoints with the same numbers; more methods can be
    added to it.
    """
    from rarefy.policy.bakeoff import METHODS, run_method, svg
    from rarefy.policy.hints import marked, told

    names = _names(method, known=list(METHODS), option="--method")
    if (task is None) == (dataset is None):
        raise typer.BadParameter("either --task or --dataset is wanted", param_hint="--task")
    if (dataset is None) != (reward is None):
        raise typer.BadParameter("--dataset and --reward belong together", param_hint="--reward")
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file, a folder is wanted", param_hint="--out")
    settings: dict[str, Any] = {
        "task": task,
        "levels": levels if task else None,
        "model": model,
        "dataset": None if dataset is None else str(dataset),
        "reward": reward,
        "steps": steps,
        "every": every or max(1, steps // 4),
        "prompts": prompts,
        "group": group,
        "minibatches": minibatches,
        "length": length,
        "lr": lr if lr is not None else (2e-4 if model is None else 1e-6),
        "seed": seed,
    }
    _refuse_other_settings(out / "settings.json", settings)
    setting = _setting(settings, seconds=seconds, device=device)

    marks: dict[str, list[Mark]] = {name: [] for name in names}
    begun: dict[str, int] = {}
    with _watching(marks, setting) as watch, _told(out, begun):
        for name in names:

            def on_step(row: dict[str, float], name: str = name) -> None:
                begun[name] = int(row["step"])
                watch(name, row)

            def on_mark(mark: Mark, name: str = name) -> None:
                # Not before: a request that is refused leaves nothing.
                if not (out / "settings.json").exists():
                    write_whole(out / "settings.json", json_.dumps(settings, indent=1) + "\n")
                marks[name].append(mark)
                watch(name, None)

            made = METHODS[name](marked if task else told)
            run_method(made, setting, out / name, on_step=on_step, on_mark=on_mark)
    write_whole(out / "success.svg", svg(marks))
    record = settings | {
        "methods": {name: [vars(mark) for mark in line] for name, line in marks.items()},
        "policies": {name: str(out / name / "policy") for name in names},
        "figure": str(out / "success.svg"),
    }
    write_whole(out / "report.json", json_.dumps(record, indent=1, allow_nan=False) + "\n")
    if json:
        _console.print_json(record)
    else:
        _console.out.print(_table(marks, {}, final=True))
        _console.out.print(
            f"{len(setting.held_out)} held-out problems; picture: {out / 'success.svg'}",
            style="dim",
            soft_wrap=True,
        )


def _names(text: str, *, known: Sequence[str], option: str) -> list[str]:
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise typer.BadParameter(
            f"{(', '.join(unknown) or text)!r} is none of {', '.join(known)}", param_hint=option
        )
    return names


def _setting(settings: dict[str, Any], *, seconds: float, device: str) -> Setting:
    """Open what is to be trained on; whatever is wrong with it is bad usage."""
    from rarefy.models import SHIPPED, open_model
    from rarefy.policy.bakeoff import Setting

    source = settings["model"] or SHIPPED / "policy"

    def start() -> LanguageModel:
        return open_model(source, device=device)

    problems: Callable[[], Problems]
    if settings["task"]:
        problems, held_out, reward = _of_tasks(settings)
        length = max(len(problem.completion) for problem in held_out) + 8
    else:
        problems, held_out = _of_rows(Path(settings["dataset"]), settings["seed"])
        reward = _Trusted(_imported(settings["reward"]), seconds=seconds)
        length = 256
    return Setting(
        start,
        problems,
        held_out,
        reward,
        max_new_tokens=settings["length"] or length,
        steps=settings["steps"],
        every=settings["every"],
        n_prompts=settings["prompts"],
        group_size=settings["group"],
        minibatches=min(settings["minibatches"], settings["prompts"]),
        learning_rate=settings["lr"],
        seed=settings["seed"],
    )


def _of_tasks(
    settings: dict[str, Any],
) -> tuple[Callable[[], Problems], list[Problem], RewardFunction]:
    import random

    from rarefy.policy.problems import TaskProblems
    from rarefy.policy.tasks import LEVELS, TASKS, verified

    names = _names(settings["task"], known=list(TASKS), option="--task")
    known = [str(level) for level in LEVELS]
    chosen = [int(level) for level in _names(settings["levels"], known=known, option="--levels")]
    tasks: list[Task] = [TASKS[name] for name in names]
    held_out = []
    for task in tasks:
        for level in chosen:
            rng = random.Random(f"{settings['seed']} held out {task.name} {level}")
            held_out += [task.sample(level, rng, split="eval") for _ in range(_HELD_OUT)]
    shares = {(task, level): 1.0 for task in tasks for level in chosen}
    return lambda: TaskProblems(shares, seed=settings["seed"]), held_out, verified


def _of_rows(path: Path, seed: int) -> tuple[Callable[[], Problems], list[Problem]]:
    from rarefy.policy.problems import RowProblems, read_jsonl

    try:
        rows = read_jsonl(path)
        kept = rows[_ROWS_HELD_OUT - 1 :: _ROWS_HELD_OUT][:256]
        if not kept:
            raise ValueError(
                f"{path} has {len(rows)} rows, of which every {_ROWS_HELD_OUT}th is kept back to "
                f"measure on; at least {_ROWS_HELD_OUT} are wanted"
            )
        held_out = RowProblems(kept, seed=seed).draw(len(kept))
        rest = [row for place, row in enumerate(rows, 1) if place % _ROWS_HELD_OUT]
        RowProblems(rest, seed=seed)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--dataset") from error
    return lambda: RowProblems(rest, seed=seed), held_out


def _imported(name: str) -> RewardFunction:
    """Import ``pkg.module:function``, from the folder that the command is given in too."""
    module, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), function)
    # Importing a user's module may raise anything.
    except Exception as error:
        raise typer.BadParameter(
            f"{name!r} cannot be imported ({type(error).__name__}: {error}); a function of a "
            "module, such as my_rewards:exact, is wanted",
            param_hint="--reward",
        ) from error
    if not callable(found):
        raise typer.BadParameter(f"{name!r} is no function", param_hint="--reward")
    return found


class _Trusted:
    """A guarded reward; one that fails on the first completions altogether ends the run."""

    def __init__(self, reward: RewardFunction, *, seconds: float) -> None:
        from rarefy.rewards import Guarded

        self._reward = Guarded(reward, seconds=seconds)
        self._works = False

    def __call__(
        self, prompts: Any, completions: Any, completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        if not self._works:
            first = slice(_TRIED_FIRST)
            try:
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    self._reward(
                        prompts[first],
                        completions[first],
                        completion_ids and completion_ids[first],
                        **{name: values[first] for name, values in columns.items()},
                    )
            except RuntimeError as error:  # its process does not start
                raise ValueError(str(error)) from error
            if sum(self._reward.failures.values()) == len(prompts[first]):
                reason = str(told[-1].message).partition("the first: ")[2]
                raise ValueError(
                    f"the reward {self._reward.__name__!r} fails on every completion: {reason}"
                )
            self._works = True
        return self._reward(prompts, completions, completion_ids, **columns)


def _refuse_other_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other settings."""
    if not path.exists():
        return
    before = json_.loads(path.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if before.get(name) != value:
            raise typer.BadParameter(
                f"the run in {path.parent} was begun with {name} {before.get(name)}, not {value}: "
                "give the same, another --out, or remove that folder",
                param_hint="--out",
            )


@contextmanager
def _told(out: Path, begun: dict[str, int]) -> Iterator[None]:
    """Say what went wrong, and what is kept; the exit status is 2, or 130 after Ctrl-C."""

    def kept() -> str:
        done = ", ".join(f"{steps} of {name}" for name, steps in begun.items())
        return f"finished steps ({done}) are kept in {out}" if done else "no step was finished"

    try:
        yield
    except KeyboardInterrupt:
        _console.note(f"stopped; {kept()}, and the same command goes on from there")
        raise typer.Exit(130) from None
    except ValueError as error:
        _console.fail(error)
        _console.note(kept())
        raise typer.Exit(2) from None


Watch = Callable[[str, dict[str, float] | None], None]


@contextmanager
def _watching(marks: dict[str, list[Mark]], setting: Setting) -> Iterator[Watch]:
    """Show a table that is alive on a terminal, and a line now and then elsewhere.

    Warnings are sentences above it, each once.
    """
    rows: dict[str, dict[str, float]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("once", RuntimeWarning)
        warnings.showwarning = lambda message, *_, **__: _console.note(f"warning: {message}")
        if _console.err.is_interactive:
            from rich.live import Live

            with Live(console=_console.err, transient=True, auto_refresh=False) as live:

                def show(name: str, row: dict[str, float] | None) -> None:
                    if row is not None:
                        rows[name] = row
                    live.update(_table(marks, rows), refresh=True)

                yield show
            return
        with _console.watching("policy", lambda: "stopped") as lines:

            def tell(name: str, row: dict[str, float] | None) -> None:
                if row is not None:
                    done = list(marks).index(name) + row["step"] / setting.steps
                    lines(f"{name}: {_figures(row)}", done / len(marks))

            yield tell


def _figures(row: dict[str, float]) -> str:
    names = ("success", "all_wrong", "entropy", "mean_length", "grad_norm")
    shown = [f"{name} {row[name]:.3g}" for name in names if name in row]
    return f"step {row['step']:.0f}, {', '.join(shown)}"


def _table(
    marks: dict[str, list[Mark]], rows: dict[str, dict[str, float]], *, final: bool = False
) -> Table:
    """Where each method stands: its last step, and success at its last mark with its gain."""
    from rich.table import Table

    levels = sorted({level for line in marks.values() for mark in line for level in mark.success})
    table = Table(title="success on held-out problems, by level", title_justify="left")
    table.add_column("method")
    for name in ("step", "rollouts", "tokens", *(f"level {level}" for level in levels)):
        table.add_column(name, justify="right")
    if not final:
        for name in ("trained on", "all wrong", "entropy"):
            table.add_column(name, justify="right")
    first = next((line[0] for line in marks.values() if line), None)
    if final and first is not None:
        cells = [f"{first.success[level]:.3f}" for level in levels]
        table.add_row("start", "0", "0", "0", *cells, style="dim")
    for method, line in marks.items():
        if not line:
            table.add_row(method, style="dim")
            continue
        row, last = rows.get(method, {}), line[-1]
        now = {
            "step": row.get("step", float(last.step)),
            "n_rollouts": row.get("n_rollouts", float(last.n_rollouts)),
            "n_tokens": row.get("n_tokens", float(last.n_tokens)),
        }
        cells = [f"{value:,.0f}" for value in now.values()]
        cells += [f"{last.success[level]:.3f}" for level in levels]
        if not final:
            cells += [f"{row[name]:.2f}" if name in row else ""
                      for name in ("success", "all_wrong", "entropy")]  # fmt: skip
        table.add_row(method, *cells)
    return table
