"""`python -m rarefy` is the `rarefy` command."""

from rarefy.cli import main

main()
