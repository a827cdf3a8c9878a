"""Text, tokens, interactions, images: the embedded standard library, the user's own files.

``stdlib``  the Python standard library's source and docstrings, read as text, never imported;
``text``    documents from a user's file or folder;
``tokens``  token streams, evaluation windows and seeded training batches;
``images``  digits, and images of a user's ``.npz`` file;
``tables``  a CSV or Parquet file as a design matrix and a target;
``files``   safetensors written whole or not at all, and read with one clear sentence;
``ioi``     sentences whose last word is the name said once, as words and as tokens;
``photographs``  grey photographs, whitened, and patches of them;
``interactions``  who chose what: a user's file, k-core, splits, a planted generator;
``stdlib_interactions``  which functions call what, and which docstrings say what;
``concept_tree``  parents and their children as directions, with the truth known.
``columns``  columns of tables larger than memory, in blocks: arrays, ``.npy``;
``plink``, ``table_columns``  such columns of PLINK genotypes, of CSV and Parquet.
"""

from rarefy.data.columns import Columns, array_columns, npy_columns, open_columns
from rarefy.data.concept_tree import ConceptTree, make_concept_tree
from rarefy.data.images import Images, digits, read_images
from rarefy.data.interactions import (
    Interactions,
    k_core,
    planted_interactions,
    read_interactions,
    split_interactions,
)
from rarefy.data.ioi import IOIEncoder, IOIPrompts, counterfactual, ioi_prompts
from rarefy.data.photographs import (
    photographs,
    read_photographs,
    sample_patches,
    whiten_retina,
)
from rarefy.data.plink import plink_columns, plink_phenotype
from rarefy.data.stdlib import HELD_OUT, Module, Passage, modules, passages
from rarefy.data.stdlib_interactions import docstring_words, function_calls
from rarefy.data.table_columns import csv_columns, parquet_columns, read_column
from rarefy.data.tables import Table, read_table
from rarefy.data.text import read_documents
from rarefy.data.tokens import encode, sample_windows, windows

__all__ = [
    "HELD_OUT",
    "Columns",
    "ConceptTree",
    "IOIEncoder",
    "IOIPrompts",
    "Images",
    "Interactions",
    "Module",
    "Passage",
    "Table",
    "array_columns",
    "counterfactual",
    "csv_columns",
    "digits",
    "docstring_words",
    "encode",
    "function_calls",
    "ioi_prompts",
    "k_core",
    "make_concept_tree",
    "modules",
    "npy_columns",
    "open_columns",
    "parquet_columns",
    "passages",
    "photographs",
    "planted_interactions",
    "plink_columns",
    "plink_phenotype",
    "read_column",
    "read_documents",
    "read_images",
    "read_interactions",
    "read_photographs",
    "read_table",
    "sample_patches",
    "sample_windows",
    "split_interactions",
    "whiten_retina",
    "windows",
]
