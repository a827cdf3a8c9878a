"""Models and how they are measured: the shipped or a user's language model, recommenders.

``opening``     :func:`open_model`, :func:`open_network`, :func:`decoder_layers`;
``evaluate``    loss, perplexity, bits per byte on token windows;
``recommenders``  :class:`MF`, :class:`LightGCN`, :class:`NeuMF`, :class:`MultVAE`;
``item_knn``    :class:`ItemKNN`: neighbourhoods, without training;
``characters``  :func:`character_tokenizer`, :func:`character_model`: policies letter by letter;
``hashed``      :class:`QREmbedding`: large tables out of small ones;
``ranking``     recall and NDCG over all items;
``shipped/``    the models in the package, each with its model card;
``train_code``  how the code model was trained;
``train_ioi``   how the IOI model was.
"""

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.models.evaluate import bits_per_byte, perplexity, token_losses
from rarefy.models.hashed import QREmbedding, hash_tables_
from rarefy.models.item_knn import ItemKNN
from rarefy.models.opening import (
    SHIPPED,
    LanguageModel,
    decoder_layers,
    example_inputs,
    open_model,
    open_network,
)
from rarefy.models.ranking import evaluate_ranking, rank_items
from rarefy.models.recommenders import MF, LightGCN, MultVAE, NeuMF, Recommender

__all__ = [
    "MF",
    "SHIPPED",
    "ItemKNN",
    "LanguageModel",
    "LightGCN",
    "MultVAE",
    "NeuMF",
    "QREmbedding",
    "Recommender",
    "bits_per_byte",
    "character_model",
    "character_tokenizer",
    "decoder_layers",
    "evaluate_ranking",
    "example_inputs",
    "hash_tables_",
    "open_model",
    "open_network",
    "perplexity",
    "rank_items",
    "token_losses",
]
