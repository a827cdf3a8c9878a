"""One file per paper: its claims, its arms, one measure function, one figure.

A recipe is a module of this package with ``PAPER``, ``setup``, ``measure`` and ``figure``; see
`Recipe` for the contract. Adding a file adds a paper: nothing is registered anywhere. Modules whose
names start with an underscore are the machinery.
"""

from rarefy.papers._discover import discover as discover
from rarefy.papers._discover import find as find
from rarefy.papers._markdown import markdown as markdown
from rarefy.papers._options import Option as Option
from rarefy.papers._options import options as options
from rarefy.papers._recipe import DOMAINS as DOMAINS
from rarefy.papers._recipe import Paper as Paper
from rarefy.papers._recipe import Recipe as Recipe
from rarefy.papers._recipe import Trial as Trial
from rarefy.papers._run import REPORTS as REPORTS
from rarefy.papers._run import run as run
