"""The `rarefy` command: one module for each verb."""

from rarefy.cli._main import main as main
