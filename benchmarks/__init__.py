"""rarefy against its peers, side by side on this machine, as ratios."""
