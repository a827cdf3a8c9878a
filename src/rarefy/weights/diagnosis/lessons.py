"""Ten lessons on what the numbers of a sparse network mean; every finding names the one it is from.

Source: Liu and Wang 2023, "Ten lessons we have learned in the new Sparseland" (arXiv 2302.02596).
Departures: the answers are ours; 1 to 6 take up the confusions of the paper's abstract, 7 to 10
complete them from the same authors' other work, so the list is a checklist *after* the handbook.
"""

from __future__ import annotations

from typing import NamedTuple


class Lesson(NamedTuple):
    """A question that is often confused, and a short answer."""

    number: int
    title: str
    question: str
    answer: str


LESSONS: tuple[Lesson, ...] = (
    Lesson(
        1,
        "dense or sparse",
        "Is a sparse network better than a small dense one with as many weights?",
        "It depends on the size and on how it was trained; measure it. Train the widest dense "
        "network with no more weights for as long, and compare with that, not with the large "
        "dense one alone.",
    ),
    Lesson(
        2,
        "structure",
        "Is unstructured sparsity useless, and structured sparsity fast?",
        "Unstructured masks keep more accuracy; they are fast only with a kernel for them and "
        "beyond its break-even density. Whole rows are fast anywhere, N:M where the hardware has "
        "it. Time the layer you have.",
    ),
    Lesson(
        3,
        "pruning or sparse training",
        "Do pruning and sparse training compete?",
        "Pruning makes inference cheap, sparse training makes training cheap as well. Compare "
        "within one class, or state both costs.",
    ),
    Lesson(
        4,
        "dense to sparse or sparse to sparse",
        "Was the network ever dense while it trained?",
        "Only a run that starts sparse bounds the peak of memory and compute. The density on the "
        "way counts, not the one at the end.",
    ),
    Lesson(
        5,
        "static or dynamic",
        "Does the mask move?",
        "A moving mask tries out more weights than it holds. That tends to win when it is very "
        "sparse and trains for long; report how many positions were ever active.",
    ),
    Lesson(
        6,
        "before, during or after training",
        "When was the network pruned, and who paid for the dense one?",
        "Pruning after training starts from a trained dense network. Its training belongs to the "
        "cost unless you would have had it anyway.",
    ),
    Lesson(
        7,
        "which sparsity",
        "Sparse as a share of what?",
        "Of the prunable weights, of all parameters, of all but the embeddings: three numbers. "
        "Say which, and say whether zeros in frozen layers count.",
    ),
    Lesson(
        8,
        "effective sparsity",
        "Do all kept weights take part?",
        "A kept weight without a path from input to output does nothing, and a layer without any "
        "cuts the network. Count the weights on a path.",
    ),
    Lesson(
        9,
        "weights, operations, speed",
        "Is a tenth of the weights a tenth of the work?",
        "A convolution uses each weight once a pixel, so allocation changes the operations at "
        "equal density; and a zero in a dense kernel saves nothing. Count, then time, and check "
        "that pruned weights stay zero when the model runs.",
    ),
    Lesson(
        10,
        "a fair comparison",
        "Are two results comparable?",
        "Same data, steps, tuning, starting point and denominator; three seeds with an interval; "
        "no choices made on the test set; and random masks of the same layer densities as the "
        "baseline to beat.",
    ),
)
"""Lessons 1 to 10, in order."""
