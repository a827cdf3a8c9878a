"""rarefy: few things matter; find which, keep only those, and learn when they are rarely seen.

Importing this package is light on purpose: every domain is its own subpackage
(``rarefy.operators``, ``rarefy.weights``, ...), imported when it is used.
"""

__version__ = "0.1.0"
