"""Claims, measurements, intervals, verdicts and reports: how rarefy says what holds.

Nothing here imports a heavy library on the way in; scipy, matplotlib, jinja2 and rich are imported
by the functions that need them.
"""

from rarefy.evidence.claims import Claim as Claim
from rarefy.evidence.claims import Measurement as Measurement
from rarefy.evidence.claims import Measurements as Measurements
from rarefy.evidence.environment import environment as environment
from rarefy.evidence.journal import Journal as Journal
from rarefy.evidence.report import Report as Report
from rarefy.evidence.verdict import Effect as Effect
from rarefy.evidence.verdict import Estimate as Estimate
from rarefy.evidence.verdict import Judgement as Judgement
from rarefy.evidence.verdict import estimate as estimate
from rarefy.evidence.verdict import judge as judge
