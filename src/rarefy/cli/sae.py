"""`rarefy sae train [MODEL]`: from a language model to a trained sparse autoencoder."""

from __future__ import annotations

import json as json_
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rarefy.cli import _console, sae_judge
from rarefy.cli._language import SHIPPED, open_language
from rarefy.cli.sae_judge import HELD_OUT, figures, print_figures
from rarefy.evidence.files import write_whole
from rarefy.papers import REPORTS

if TYPE_CHECKING:
    from rarefy.dictionaries import SparseAutoencoder

app = typer.Typer(
    help="Sparse autoencoders: train one on a model, judge it, look at its features.",
    no_args_is_help=True,
)

_EVERY = 2
"""Of the standard library's modules, every so many are trained on: 1.5 million of the shipped
model's tokens."""


@app.callback()
def _group() -> None:
    """Sparse autoencoders: train one on a model, judge it, look at its features."""


class Architecture(StrEnum):
    """The named architectures."""

    relu = "relu"
    gated = "gated"
    jumprelu = "jumprelu"
    topk = "topk"
    batchtopk = "batchtopk"
    abstopk = "abstopk"
    matryoshka = "matryoshka"
    mutual_choice = "mutual-choice"
    feature_choice = "feature-choice"
    mp = "mp"
    afa = "afa"


class Format(StrEnum):
    """Whose folder is written."""

    rarefy = "rarefy"
    saelens = "saelens"
    sparsify = "sparsify"


@app.command("train")
def train(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A model folder or hub name; without it, the shipped model."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="N|NAME",
            help="A layer's number, from 0, or a module's dotted name. [default: half way up]",
        ),
    ] = None,
    activation: Annotated[Architecture, typer.Option(help="The architecture.")] = Architecture.topk,
    k: Annotated[int, typer.Option(min=1, help="Active latents a token, or their aim.")] = 32,
    width: Annotated[
        str, typer.Option(metavar="F|Nx", help="Latents, or times the width of the layer.")
    ] = "8x",
    tokens: Annotated[
        str, typer.Option(metavar="N", help="Tokens to train on, such as 500K or 20M.")
    ] = "1M",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT",
            help="A text file or folder; its last fifth is kept back to measure on. Without it, "
            "the standard library: training modules train, held-out ones measure.",
        ),
    ] = None,
    length: Annotated[int, typer.Option(min=2, help="Tokens a window of text.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Tokens a training step.")] = 2048,
    buffer: Annotated[
        int, typer.Option(min=1, help="Activations in memory, and shuffled together.")
    ] = 65_536,
    lr: Annotated[
        float | None,
        typer.Option(help="Peak learning rate. [default: 2e-4 times sqrt(16384 / latents)]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the decoder's start and all orders.")] = 0,
    device: Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")] = "cpu",
    format: Annotated[
        Format, typer.Option(help="Whose folder to write; rarefy opens all of them.")
    ] = Format.rarefy,
    out: Annotated[Path, typer.Option(help="Folder of the autoencoder.")] = REPORTS / "sae",
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Train a sparse autoencoder on a layer of a language model, and measure it on other text.

    A run that was stopped goes on from its checkpoint when the same command is given again. Under
    torchrun (``torchrun --nproc-per-node 2 -m rarefy sae train ...``) its processes share the text
    and every batch.
    """
    budget = _tokens(tokens)
    factor, latents = _width(width)
    if lr is not None and not lr > 0:
        raise typer.BadParameter(f"lr is {lr:g}, above 0 is wanted", param_hint="--lr")
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file, a folder is wanted", param_hint="--out")
    training = out / "training"
    if out.is_dir() and any(out.iterdir()) and not training.is_dir():
        raise typer.BadParameter(f"{out} is already there", param_hint="--out")
    settings: dict[str, Any] = {
        "model": model,
        "layer": layer,
        "architecture": activation.value,
        "k": k,
        "width": width,
        "tokens": budget,
        "data": None if data is None else str(data),
        "length": length,
        "batch": batch,
        "buffer": buffer,
        "lr": lr,
        "seed": seed,
    }

    def stopped() -> str:
        if (training / "checkpoint.pt").exists():
            return f"stopped; a checkpoint is kept in {training}, and the same command goes on"
        return "stopped before the first checkpoint; nothing is kept"

    with _console.watching("train", stopped) as watch, _joined(device) as (rank, size):
        if size > 1:
            settings["processes"] = size
        _refuse_other_settings(training / "settings.json", settings)
        watch("opening the model", 0.0)
        language = open_language(
            *(model,), data=data, length=length, device=device, every=_EVERY, held_out=HELD_OUT
        )
        from rarefy.data import windows
        from rarefy.dictionaries import fit, resolve_site, site_width
        from rarefy.models import decoder_layers

        site: str | int
        if layer is None:
            site = len(decoder_layers(language.model)) // 2
        else:
            site = int(layer) if re.fullmatch(r"-?\d+", layer) else layer
        resolve_site(language.model, site)
        if latents is None:
            latents = round(factor * site_width(language.model, site))
        if k > latents:
            raise ValueError(f"k is {k}, more than the {latents} latents of --width {width}")
        new = rank == 0 and not training.exists()
        if rank == 0:
            _begin(training, settings)
        try:
            sae = fit(
                language.model,
                windows(language.calibration, length),
                site,
                activation=activation.value,
                k=k,
                n_latents=latents,
                tokens=budget,
                batch_size=batch,
                buffer_tokens=buffer,
                lr=lr,
                seed=seed,
                checkpoint=training / "checkpoint.pt",
                progress=watch if rank == 0 else None,
            )
        finally:
            if new and not (training / "checkpoint.pt").exists():
                _forget(training)
        if rank:
            return
        watch("measuring", 1.0)
        found = figures(sae, language, site, skip=1)
        metadata = settings | {"layer": site, "skip": 1, "held_out": found}
        _keep(sae, out, format.value, metadata)
    record = {"out": str(out), "latents": sae.n_latents} | metadata
    if json:
        _console.print_json(record)
    else:
        print_figures(f"{model or SHIPPED}, {_site_name(site)}", [(str(out), activation, found)])
        _console.out.print(
            f"{activation.value}, {sae.n_latents:,} latents, trained on {budget:,} tokens; "
            f"written to {out}",
            style="dim",
            soft_wrap=True,
        )


app.command("eval")(sae_judge.evaluate)
app.command("compare")(sae_judge.compare)
app.command("features")(sae_judge.features)


def _site_name(site: str | int) -> str:
    return f"layer {site}" if isinstance(site, int) else site


def _tokens(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", text.strip(), re.IGNORECASE)
    count = 0
    if found:
        count = round(float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[found[2].upper()])
    if count < 1:
        raise typer.BadParameter(
            f"{text!r} is no number of tokens: such as 500K or 20M is wanted",
            param_hint="--tokens",
        )
    return count


def _width(text: str) -> tuple[float, int | None]:
    """Times the width of the layer, or a number of latents."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(x?)", text.strip().lower())
    if not found or float(found[1]) == 0 or (not found[2] and "." in found[1]):
        raise typer.BadParameter(
            f"{text!r} is no width: a number of latents, or 8x such as it is times the layer's, "
            "is wanted",
            param_hint="--width",
        )
    return (float(found[1]), None) if found[2] else (1.0, int(found[1]))


def _refuse_other_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other settings."""
    if not path.exists():
        return
    before = json_.loads(path.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if before.get(name) != value:
            raise ValueError(
                f"the run in {path.parent} was begun with {name} {before.get(name)}, not {value}: "
                "give the same, another --out, or remove that folder"
            )


def _begin(training: Path, settings: dict[str, Any]) -> None:
    """Say with what a run was begun."""
    write_whole(training / "settings.json", json_.dumps(settings, indent=1) + "\n")


@contextmanager
def _joined(device: str) -> Iterator[tuple[int, int]]:
    """Number of this process, and of all that ``torchrun`` has started."""
    from rarefy.dictionaries.parallel import joined

    with joined(device) as found:
        yield found


def _forget(training: Path) -> None:
    """Remove a run that has no checkpoint, and its folder where nothing else is in it."""
    shutil.rmtree(training, ignore_errors=True)
    if training.parent.is_dir() and not any(training.parent.iterdir()):
        training.parent.rmdir()


def _keep(sae: SparseAutoencoder, out: Path, format: Any, metadata: dict[str, Any]) -> None:
    """Write the autoencoder beside its training folder, then remove that."""
    from rarefy.dictionaries import save

    written = out / "training" / "finished"
    shutil.rmtree(written, ignore_errors=True)
    save(sae, written, format=format, metadata=metadata)
    # What a folder is known by is its tensors: they come last.
    for path in sorted(written.iterdir(), key=lambda path: path.suffix == ".safetensors"):
        os.replace(path, out / path.name)
    shutil.rmtree(out / "training")
