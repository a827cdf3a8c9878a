"""`rarefy sae eval`, `compare` and `features`: what an autoencoder is worth, and what is in it."""

from __future__ import annotations

import json as json_
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rarefy.cli import _console
from rarefy.cli._language import SHIPPED, Language, open_language
from rarefy.evidence.files import write_whole
from rarefy.papers import REPORTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.dictionaries import SparseAutoencoder

HELD_OUT = 160
"""Windows to measure on: 20,480 tokens of the default length."""

_DENSE = 0.1
"""A latent that fires on more than this share of the tokens is called dense."""

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an autoencoder.")]
Model = Annotated[str | None, typer.Option(help="Its model. [default: the one it was trained on]")]
Layer = Annotated[
    str | None,
    typer.Option(metavar="N|NAME", help="Its layer. [default: the one it was trained on]"),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="TEXT",
        help="A text file or folder, of which the last fifth is used. [default: the held-out part "
        "of what it was trained on]",
    ),
]
Length = Annotated[
    int | None,
    typer.Option(min=2, help="Tokens a window of text. [default: as it was trained, else 128]"),
]
Device = Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON.")]


class Opened(NamedTuple):
    """An autoencoder, and what it was trained on."""

    sae: SparseAutoencoder
    model: str | None
    site: str | int
    data: Path | None
    length: int
    skip: int
    architecture: str


def evaluate(
    folder: Folder,
    model: Model = None,
    layer: Layer = None,
    data: Data = None,
    length: Length = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure an autoencoder on held-out text, alone and inside its model."""

    def stopped() -> str:
        return "stopped; nothing was written"

    with _console.watching("eval", stopped) as watch:
        watch("opening the model", 0.0)
        opened = _open(folder, model, layer, data, length, device)
        language = _language(opened, device)
        watch("measuring", 0.5)
        found = figures(opened.sae, language, opened.site, skip=opened.skip)
    if json:
        _console.print_json(_record(folder, opened) | found)
    else:
        print_figures(_title(opened), [(str(folder), opened.architecture, found)])


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of autoencoders.")
    ],
    model: Model = None,
    layer: Layer = None,
    data: Data = None,
    length: Length = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the picture and the numbers.")] = REPORTS
    / "compare-sae",
    json: Json = False,
) -> None:
    """Measure autoencoders of one layer on the same text: a table, and FVU against L0."""
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file, a folder is wanted", param_hint="--out")

    def stopped() -> str:
        return "stopped; nothing was written"

    rows = []
    with _console.watching("compare", stopped) as watch:
        watch("opening the model", 0.0)
        opened = [_open(folder, model, layer, data, length, device) for folder in folders]
        first = opened[0]
        for folder, other in zip(folders, opened, strict=True):
            if (other.model, other.site) != (first.model, first.site):
                raise ValueError(
                    f"{folder} is of {_title(other)}, {folders[0]} of {_title(first)}: "
                    "autoencoders of one layer can be compared"
                )
        language = _language(first, device)
        for place, (folder, each) in enumerate(zip(folders, opened, strict=True)):
            watch(f"measuring {folder}", place / len(folders))
            found = figures(each.sae, language, first.site, skip=first.skip)
            rows.append((str(folder), each.architecture, found))
    from rarefy.evidence.figures import to_svg

    picture = out / "compare.svg"
    write_whole(picture, to_svg(lambda: _pareto(rows), name="compare-sae"))
    records = [_record(Path(row[0]), each) | row[2] for row, each in zip(rows, opened, strict=True)]
    record = {"autoencoders": records, "figure": str(picture)}
    write_whole(out / "compare.json", json_.dumps(record, indent=1, allow_nan=False) + "\n")
    if json:
        _console.print_json(record)
    else:
        print_figures(_title(first), rows)
        _console.out.print(f"picture: {picture}", style="dim", soft_wrap=True)


def features(
    folder: Folder,
    feature: Annotated[
        list[int] | None, typer.Option(help="A latent to show; give it again for more.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Without --feature, so many, spread over all densities.")
    ] = 60,
    examples: Annotated[int, typer.Option(min=1, help="Examples of each.")] = 8,
    windows: Annotated[int, typer.Option(min=1, help="Windows of text to search.")] = 2000,
    model: Model = None,
    layer: Layer = None,
    data: Data = None,
    length: Length = None,
    device: Device = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="The page. [default: features.html in DIR]")
    ] = None,
    json: Json = False,
) -> None:
    """Write a page with the strongest examples of features and what they do to the next token."""
    page = folder / "features.html" if out is None else out

    def stopped() -> str:
        return "stopped; nothing was written"

    with _console.watching("features", stopped) as watch:
        watch("opening the model", 0.0)
        opened = _open(folder, model, layer, data, length, device)
        language = _language(opened, device, windows=windows)
        from rarefy.dictionaries.features import describe_features, features_page

        found = describe_features(
            *(opened.sae, language.model, language.tokenizer, language.evaluation, opened.site),
            latents=feature or None,
            n_features=count,
            n_examples=examples,
            skip=opened.skip,
            progress=watch,
        )
        facts = {
            "autoencoder": f"{opened.architecture}, {opened.sae.n_latents:,} latents",
            "trained on": _title(opened),
            "text searched": f"{found.tokens:,} tokens, held out from training",
            "command": f"rarefy sae features {folder}",
        }
        title = f"Features of {_title(opened)}"
        write_whole(page, features_page(found, title=title, facts=facts))
    if json:
        shown = [each._asdict() | {"peaks": each.peaks} for each in found.features]
        _console.print_json({"page": str(page), "tokens": found.tokens, "features": shown})
    else:
        _console.out.print(
            f"{len(found.features)} features on {found.tokens:,} tokens; page: {page}",
            soft_wrap=True,
        )


def figures(
    sae: SparseAutoencoder, language: Language, site: str | int, *, skip: int
) -> dict[str, float]:
    """Measure an autoencoder on a language's held-out windows."""
    from rarefy.dictionaries import evaluate, evaluate_spliced, harvest

    windows = language.evaluation
    alone = evaluate(sae, harvest(language.model, windows, site, skip=skip))
    inside = evaluate_spliced(language.model, windows, site, sae, skip=skip)
    return {
        "l0": alone.l0,
        "fvu": alone.fvu,
        "dead": alone.dead,
        "dense": float((alone.density > _DENSE).float().mean()),
        "loss_clean": inside.clean,
        "loss_spliced": inside.spliced,
        "loss_zero": inside.zero,
        "loss_mean": inside.mean,
        "loss_recovered": inside.recovered,
        "loss_recovered_from_mean": inside.recovered_from_mean,
        "kl": inside.kl,
    }


def print_figures(title: str, rows: list[tuple[str, str, dict[str, float]]]) -> None:
    """Print a table of autoencoders, one a row, and what the model's losses were."""
    from rich.table import Table

    percent: Callable[[float], str] = lambda share: f"{100 * share:.1f} %"  # noqa: E731
    table = Table(title=title, title_justify="left")
    table.add_column("autoencoder", overflow="fold")
    for name in ("L0", "FVU", "dead", "dense", "recovered", "KL"):
        table.add_column(name, justify="right")
    for folder, architecture, found in rows:
        table.add_row(
            f"{folder} ({architecture})",
            f"{found['l0']:.1f}",
            f"{found['fvu']:.4f}",
            percent(found["dead"]),
            percent(found["dense"]),
            percent(found["loss_recovered"]),
            f"{found['kl']:.4f}",
        )
    _console.out.print(table)
    first = rows[0][2]
    _console.out.print(
        f"loss of the model, nats a token: {first['loss_clean']:.4f} clean, "
        + "".join(f"{f['loss_spliced']:.4f} spliced, " for _, _, f in rows[:1] if len(rows) == 1)
        + f"{first['loss_mean']:.4f} with the layer at its mean, {first['loss_zero']:.4f} at zero",
        style="dim",
    )


def _open(
    folder: Path,
    model: str | None,
    layer: str | None,
    data: Path | None,
    length: int | None,
    device: str,
) -> Opened:
    from rarefy.dictionaries import load
    from rarefy.dictionaries.formats import read_metadata

    sae = load(folder).to(device)
    kept = read_metadata(folder)
    if "layer" not in kept and layer is None:
        raise ValueError(f"{folder} does not say which layer it was trained on: give --layer")
    if "model" not in kept and model is None:
        raise ValueError(f"{folder} does not say which model it was trained on: give --model")
    site = kept.get("layer") if layer is None else int(layer) if layer.isdigit() else layer
    text = kept.get("data") if data is None else data
    return Opened(
        sae=sae,
        model=kept.get("model") if model is None else model,
        site=site,  # type: ignore[arg-type]
        data=None if text is None else Path(text),
        length=int(kept.get("length", 128)) if length is None else length,
        skip=int(kept.get("skip", 1)),
        architecture=kept.get("architecture", type(sae.activation).__name__),
    )


def _language(opened: Opened, device: str, *, windows: int = HELD_OUT) -> Language:
    from rarefy.dictionaries import site_width

    language = open_language(
        opened.model, data=opened.data, length=opened.length, device=device, held_out=windows
    )
    width = site_width(language.model, opened.site)
    if width != opened.sae.d_in:
        raise ValueError(
            f"the autoencoder is of width {opened.sae.d_in}, {_title(opened)} of width {width}"
        )
    return language


def _title(opened: Opened) -> str:
    site = opened.site
    return f"{opened.model or SHIPPED}, " + (f"layer {site}" if isinstance(site, int) else site)


def _record(folder: Path, opened: Opened) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "model": opened.model or SHIPPED,
        "layer": opened.site,
        "architecture": opened.architecture,
        "latents": opened.sae.n_latents,
    }


def _pareto(rows: list[tuple[str, str, dict[str, float]]]) -> Figure:
    """FVU against L0, a line for every architecture."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    for name in dict.fromkeys(architecture for _, architecture, _ in rows):
        points = sorted((f["l0"], f["fvu"]) for _, a, f in rows if a == name)
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xscale("log")
    axes.set_xlabel("L0, active latents a token")
    axes.set_ylabel("FVU, fraction of variance unexplained")
    axes.legend()
    return figure
