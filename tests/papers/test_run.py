import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import rarefy
from rarefy.papers import run

SEED_BY_SEED = ["setup 0", "fair 0", "biased 0", "setup 1", "fair 1", "biased 1"]


def numbers(report):
    return [(m.arm, m.seed, m.metric, m.value) for m in report.measurements]


def test_a_run_measures_seed_by_seed_and_judges(coin, calls, tmp_path):
    report = run(coin, scale="smoke")
    assert calls() == SEED_BY_SEED
    assert [j.verdict for j in report.judgements] == ["reproduced", "contradicted", "reproduced"]
    assert report.seeds == (0, 1)
    folder = tmp_path / "rarefy-reports" / "fair-coin"
    assert json.loads((folder / "report.json").read_text()) == report.to_json()
    assert (folder / "figure.svg").read_text().startswith("<svg")


def test_the_same_seed_gives_the_same_measurements(coin, tmp_path):
    one = run(coin, scale="smoke", out=tmp_path / "one")
    two = run(coin, scale="smoke", seeds=3, out=tmp_path / "two")
    assert numbers(one) == [m for m in numbers(two) if m[1] < 2]


@pytest.mark.parametrize("stop_at", ["fair 0", "biased 0", "setup 1", "biased 1"])
def test_a_stopped_run_goes_on_and_ends_with_the_same_numbers(
    coin, calls, tmp_path, monkeypatch, stop_at
):
    whole = run(coin, scale="smoke", out=tmp_path / "whole")
    calls()
    count = coin._count

    def stop(what, seed):
        count(what, seed)
        if f"{what} {seed}" == stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(coin, "_count", stop)
    with pytest.raises(KeyboardInterrupt):
        run(coin, scale="smoke", out=tmp_path / "out")
    assert not (tmp_path / "out" / "report.json").exists()
    first = calls()
    monkeypatch.setattr(coin, "_count", count)
    notes = []
    again = run(
        coin, scale="smoke", out=tmp_path / "out", progress=lambda *said: notes.append(said)
    )
    assert numbers(again) == numbers(whole)
    done = [c for c in first[:-1] if not c.startswith("setup")]
    # Only what is missing is measured, and a seed with nothing missing is not set up.
    wanted = [c for c in SEED_BY_SEED if c not in done]
    if "biased 0" in done:
        wanted.remove("setup 0")
    assert calls() == wanted
    assert ("going on after" in str(notes[0])) == bool(done)


def test_a_killed_process_goes_on_and_ends_with_the_same_numbers(coin, tmp_path):
    script = (
        "import sys, rarefy.papers as p; p.__path__ = [sys.argv[1]]\n"
        "p.run(p.find('fair-coin'), scale='smoke', seeds=4, options={'pause': 0.1})"
    )
    recipes = str(Path(__file__).parent / "recipes")
    # The child runs elsewhere, so a relative PYTHONPATH would no longer find this rarefy.
    env = os.environ | {"PYTHONPATH": str(Path(rarefy.__file__).parents[1])}
    journal = tmp_path / "rarefy-reports" / "fair-coin" / "measurements.jsonl"
    deadline = time.monotonic() + 20
    with subprocess.Popen([sys.executable, "-c", script, recipes], env=env) as child:
        try:
            while not journal.exists() or len(journal.read_text().splitlines()) < 4:
                assert child.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            child.kill()
    notes = []
    report = run(
        coin, scale="smoke", seeds=3, options={"pause": 0.1}, progress=lambda *n: notes.append(n)
    )
    assert "going on after 3 measurements" in notes[0][0]
    assert numbers(report) == numbers(run(coin, scale="smoke", seeds=3, out=tmp_path / "whole"))


def test_other_options_start_afresh(coin, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(coin, "figure", None)
    with pytest.raises(TypeError):
        run(coin, scale="smoke", out=tmp_path)
    calls()
    monkeypatch.undo()
    monkeypatch.setenv("RAREFY_TEST_CALLS", str(tmp_path / "calls"))
    notes = []
    run(
        coin,
        scale="smoke",
        out=tmp_path,
        options={"bias": 0.8},
        progress=lambda *n: notes.append(n),
    )
    assert "other settings" in notes[0][0]
    assert calls() == SEED_BY_SEED


def test_a_finished_run_is_measured_anew(coin, calls, tmp_path):
    for _ in range(2):
        run(coin, scale="smoke", out=tmp_path)
        assert calls() == SEED_BY_SEED


def test_progress_goes_from_nothing_to_all(coin, tmp_path):
    said = []
    run(coin, scale="smoke", out=tmp_path, progress=lambda m, f=None: said.append((m, f)))
    fractions = [fraction for _, fraction in said]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert ("seed 1, throwing", 0.625) in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": "huge"}, "scale is 'huge'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"on": "dask"}, "on is 'dask'"),
        ({"device": "quantum"}, "device 'quantum' cannot be used here"),
        ({"options": {"bies": 1}}, "no option 'bies'"),
        ({"options": {"bias": 3.0}}, "bias is 3.0"),
    ],
)
def test_bad_settings_are_refused_and_leave_no_report(coin, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run(coin, out=tmp_path / "out", **settings)
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_report_folder_that_is_a_file_is_refused(coin, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file"):
        run(coin, out=tmp_path / "out")


def test_a_metric_that_is_no_number_is_named(coin, tmp_path, monkeypatch):
    monkeypatch.setattr(coin, "measure", lambda arm, shared, trial: {"heads": "many"})
    with pytest.raises(ValueError, match="fair-coin: heads of fair is 'many'"):
        run(coin, scale="smoke", out=tmp_path)


def test_an_arm_that_diverges_leaves_its_claims_open(coin, tmp_path, monkeypatch):
    rate = {"fair": 0.5, "biased": float("nan")}
    monkeypatch.setattr(coin, "measure", lambda arm, shared, trial: {"heads": rate[arm], "lost": 0})
    report = run(coin, scale="smoke", out=tmp_path)
    assert [j.verdict for j in report.judgements] == ["inconclusive", "inconclusive", "reproduced"]
    assert "NaN" not in (tmp_path / "report.json").read_text()


class FakeRay(types.ModuleType):
    """As much of Ray as a run needs, in this process; tasks finish last first."""

    def __init__(self):
        super().__init__("ray")
        self.address, self.open, self.gpus = "unset", False, None

    def init(self, address, log_to_driver):
        self.address, self.open = address, True

    def shutdown(self):
        self.open = False

    def remote(self, function):
        def options(num_gpus):
            self.gpus = num_gpus
            return types.SimpleNamespace(remote=lambda *args: (function, args))

        return types.SimpleNamespace(options=options)

    def wait(self, pending):
        return pending[-1:], pending[:-1]

    def get(self, finished):
        return [function(*args) for function, args in finished]


@pytest.mark.parametrize(("on", "address"), [("ray", None), ("ray://host:1", "ray://host:1")])
def test_ray_gives_the_same_numbers(coin, calls, tmp_path, monkeypatch, on, address):
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    report = run(coin, scale="smoke", out=tmp_path / "ray", on=on)
    assert calls() == SEED_BY_SEED[3:] + SEED_BY_SEED[:3]
    assert (ray.address, ray.open, ray.gpus) == (address, False, 0)
    assert numbers(report) == numbers(run(coin, scale="smoke", out=tmp_path / "here"))


def test_ray_that_is_missing_is_named_with_its_extra(coin, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"rarefy\[cluster\]"):
        run(coin, scale="smoke", out=tmp_path, on="ray")
