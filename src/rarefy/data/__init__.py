"""Text and token data: the embedded standard-library corpus, the user's own files, windows.

``stdlib``  the Python standard library's source and docstrings, read as text, never imported;
``text``    documents from a user's file or folder;
``tokens``  token streams, evaluation windows and seeded training batches.
"""

from rarefy.data.stdlib import HELD_OUT, Module, Passage, modules, passages
from rarefy.data.text import read_documents
from rarefy.data.tokens import encode, sample_windows, windows

__all__ = [
    "HELD_OUT",
    "Module",
    "Passage",
    "encode",
    "modules",
    "passages",
    "read_documents",
    "sample_windows",
    "windows",
]
