"""Scorers of pairs of texts: what dimensions of reasoning are filled with.

    scorer([(context, text), ...]) -> [s_1, ...]          higher is better

:class:`LexicalScorer` needs no model; :class:`rarefy.rewards.TraceJudge` is rarefy's own small one;
the other two wrap what is on the Hugging Face hub: a reranker, and an outcome reward model.

Source: DRM (arXiv 2510.11457) takes a reranker for relevance and a reward model for coherence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Scorer = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""Pairs (context, text) to one number each."""


class LexicalScorer:
    """Cosine of the TF-IDF vectors of the two texts, in [0, 1].

    Parameters
    ----------
    analyzer : {"word", "char"}, default "word"
        Words, or runs of one to three characters.

    Notes
    -----
    Document frequencies are those of the call's texts. Two texts without a token in common have 0,
    and so have two empty ones. Copying the question scores best: see the dimensions together.

    Examples
    --------
    >>> near, far = LexicalScorer()([("two apples", "apples are two"), ("two apples", "pears")])
    >>> near > far == 0
    True
    """

    def __init__(self, *, analyzer: str = "word") -> None:
        if analyzer not in ("word", "char"):
            raise ValueError(f"analyzer is {analyzer!r}; 'word' or 'char' is wanted")
        self.analyzer = analyzer

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Score each pair."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = [text for pair in pairs for text in pair]
        vectorizer = (
            TfidfVectorizer(analyzer="char", ngram_range=(1, 3))
            if self.analyzer == "char"
            else TfidfVectorizer(token_pattern=r"\w+")
        )
        try:
            vectors = vectorizer.fit_transform(texts)
        except ValueError:  # no text has a token
            return [0.0] * len(pairs)
        # Rows have norm 1 or 0, so that products are cosines.
        return np.asarray(vectors[::2].multiply(vectors[1::2]).sum(axis=1)).ravel().tolist()


class CrossEncoderScorer:
    """A reranker or entailment model of ``sentence-transformers``.

    Parameters
    ----------
    model : str or CrossEncoder
        A name on the hub, a folder, or a model.
    label : int, optional
        Of a model with several outputs, the one that counts: entailment of an NLI model.
    batch_size : int, default 32

    Raises
    ------
    ImportError
        If a name is given and ``sentence-transformers`` is not installed.
    """

    def __init__(self, model: Any, *, label: int | None = None, batch_size: int = 32) -> None:
        if isinstance(model, str):
            try:
                from sentence_transformers import CrossEncoder
            except ImportError as error:
                raise ImportError(
                    "CrossEncoderScorer needs sentence-transformers: "
                    "pip install 'rarefy[retrieval]'"
                ) from error
            model = CrossEncoder(model)
        self.model = model
        self.label = label
        self.batch_size = batch_size

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Score each pair."""
        found = np.asarray(
            self.model.predict(
                [list(pair) for pair in pairs], batch_size=self.batch_size, show_progress_bar=False
            ),
            dtype=np.float64,
        )
        if found.ndim == 2 and found.shape[1] > 1:
            if self.label is None:
                raise ValueError(
                    f"the cross-encoder has {found.shape[1]} outputs; say which counts by label="
                )
            found = found[:, self.label]
        return found.reshape(len(pairs)).tolist()


class RewardModelScorer:
    """An outcome reward model of one logit, as ``AutoModelForSequenceClassification`` opens it.

    Parameters
    ----------
    model : str or transformers model
    tokenizer : transformers tokenizer, optional
        The model's own by default, where a name is given. Its chat template, if it has one, makes
        a conversation of the pair; else the two texts are handed over as a pair.
    batch_size : int, default 16
    max_length : int, default 1024
        Tokens; longer pairs are cut off at the end.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        batch_size: int = 16,
        max_length: int = 1024,
    ) -> None:
        if isinstance(model, str):
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            tokenizer = tokenizer or AutoTokenizer.from_pretrained(model)
            model = AutoModelForSequenceClassification.from_pretrained(model)
        if tokenizer is None:
            raise ValueError("tokenizer is missing; a reward model given as a model needs its own")
        if model.config.num_labels != 1:
            raise ValueError(
                f"the reward model has {model.config.num_labels} outputs; one logit is wanted"
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.max_length = max_length

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Score each pair."""
        import torch

        found: list[float] = []
        for start in range(0, len(pairs), self.batch_size):
            some = pairs[start : start + self.batch_size]
            with torch.no_grad():
                logits = self.model(**self._encoded(some).to(self.model.device)).logits
            found += logits[:, 0].float().tolist()
        return found

    def _encoded(self, pairs: Sequence[tuple[str, str]]) -> Any:
        if getattr(self.tokenizer, "chat_template", None):
            texts = [
                self.tokenizer.apply_chat_template(
                    [
                        {"role": "user", "content": context},
                        {"role": "assistant", "content": text},
                    ],
                    tokenize=False,
                )
                for context, text in pairs
            ]
            given: tuple[list[str], ...] = (texts,)
        else:
            given = ([context for context, _ in pairs], [text for _, text in pairs])
        return self.tokenizer(
            *given,
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        )


def scored(scorer: Scorer, pairs: Sequence[tuple[str, str]], *, name: str) -> NDArray[np.float64]:
    """What a scorer says of pairs, checked.

    Raises
    ------
    ValueError
        If there is not one finite number for each pair.
    """
    found = np.asarray(scorer(pairs), dtype=np.float64)
    if found.shape != (len(pairs),):
        raise ValueError(
            f"the scorer of {name} returned shape {found.shape} for {len(pairs)} pairs; one number "
            "for each is wanted"
        )
    if not np.isfinite(found).all():
        first = int(np.flatnonzero(~np.isfinite(found))[0])
        raise ValueError(
            f"the scorer of {name} gave {found[first]} for the pair {pairs[first]!r}; a finite "
            "number is wanted"
        )
    return found
