import json
import math

import pytest

from rarefy.evidence import Claim, Measurement, Measurements


def claim(**changes):
    return Claim(**({"id": "c1", "text": "", "metric": "loss", "arm": "a"} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"better": "less"}, "better is 'less'"),
        ({"kind": "log"}, "kind is 'log'"),
        ({"margin": math.nan}, "margin is nan"),
        ({"kind": "ratio"}, "give versus"),
        ({"kind": "ratio", "versus": "b", "margin": -1.0}, r"1 \+ margin > 0"),
    ],
)
def test_a_claim_that_cannot_be_decided_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        claim(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "loss of a ≤ 0"),
        ({"better": "higher", "margin": 4.0}, "loss of a ≥ 4"),
        ({"versus": "b"}, "loss of a lower than of b"),
        ({"versus": "b", "margin": -0.5}, "loss of a at most 0.5 higher than of b"),
        ({"versus": "b", "kind": "ratio", "margin": 1.0}, "loss of b ÷ of a above 2"),
        (
            {"versus": "b", "kind": "ratio", "better": "higher"},
            "loss of a ÷ of b above 1",
        ),
    ],
)
def test_a_claim_says_how_it_is_decided(changes, words):
    assert claim(**changes).test == words


def test_measurements_come_back_from_json():
    items = [
        Measurement("a", 1, "loss", 0.1 + 0.2),
        Measurement("a", 0, "loss", 1.0),
        Measurement("b", 0, "time", 3.0),
    ]
    m = Measurements(items)
    again = Measurements.from_json(json.loads(json.dumps(m.to_json(), allow_nan=False)))
    assert list(again) == items
    assert (again.arms, again.metrics, again.seeds) == (["a", "b"], ["loss", "time"], [0, 1])
    assert again.values("a", "loss") == [1.0, 0.1 + 0.2]
    assert again.values("b", "loss") == []


def test_a_value_that_is_not_finite_stays_out_of_json():
    m = Measurements([Measurement("a", 0, "loss", math.inf)])
    assert m.to_json()[0]["value"] is None
    assert math.isnan(Measurements.from_json(m.to_json()).values("a", "loss")[0])


def test_a_second_value_for_the_same_thing_is_refused():
    with pytest.raises(ValueError, match="loss of a at seed 0 was measured twice"):
        Measurements([Measurement("a", 0, "loss", 1.0), Measurement("a", 0, "loss", 1.0)])
