"""Language models: opening the shipped one or a user's folder, and measuring them.

``opening``     :func:`open_model`, :func:`open_network`, :func:`decoder_layers`;
``evaluate``    loss, perplexity, bits per byte on token windows;
``shipped/``    the models in the package, each with its model card;
``train_code``  how the code model was trained.
"""

from rarefy.models.evaluate import bits_per_byte, perplexity, token_losses
from rarefy.models.opening import (
    SHIPPED,
    LanguageModel,
    decoder_layers,
    example_inputs,
    open_model,
    open_network,
)

__all__ = [
    "SHIPPED",
    "LanguageModel",
    "bits_per_byte",
    "decoder_layers",
    "example_inputs",
    "open_model",
    "open_network",
    "perplexity",
    "token_losses",
]
