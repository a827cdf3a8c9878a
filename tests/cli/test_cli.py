import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rarefy
from rarefy.cli import _main, main


@pytest.fixture
def rarefy_(coin):
    """Call the command in this process: exit status, standard output, standard error."""

    def call(*args):
        return CliRunner().invoke(_main.app, args)

    return call


def test_papers_lists_them_by_domain_with_the_last_verdicts(rarefy_):
    assert "fair-coin" in rarefy_("papers").stdout
    before = json.loads(rarefy_("papers", "--json").stdout)
    assert [(p["number"], p["slug"], p["domain"]) for p in before] == [
        (901, "fair-coin", "weights")
    ]
    assert [c["id"] for c in before[0]["claims"]] == ["c1", "c2", "c3"]
    assert before[0]["verdicts"] == {}
    rarefy_("run", "fair-coin", "--scale", "smoke")
    after = json.loads(rarefy_("papers", "--json").stdout)
    assert after[0]["verdicts"] == {
        "c1": "reproduced",
        "c2": "contradicted",
        "c3": "reproduced",
    }
    assert "2✓ 1✗" in rarefy_("papers").stdout


def test_papers_survives_a_report_that_is_broken(rarefy_, tmp_path):
    rarefy_("run", "fair-coin", "--scale", "smoke")
    (tmp_path / "rarefy-reports/fair-coin/report.json").write_text("{")
    assert json.loads(rarefy_("papers", "--json").stdout)[0]["verdicts"] == {}


def test_show_says_everything_about_a_paper(rarefy_):
    found = rarefy_("show", "901")
    assert found.exit_code == 0
    for part in ("Coins of known bias", "[bold] bias", "No throw is lost.", "--bias", "Random(0)"):
        assert part in found.stdout
    assert "inconclusive" not in found.stdout
    details = json.loads(rarefy_("show", "fair-coin", "--json").stdout)
    assert details["options"][0] == {
        "name": "bias", "type": "float", "choices": [], "many": False, "default": 0.9,
        "help": "How often the biased coin shows heads, between 0 and 1.",
    }  # fmt: skip


def test_run_prints_claims_and_writes_a_report(rarefy_, tmp_path):
    found = rarefy_("run", "901", "--scale", "smoke", "--out", "here")
    assert found.exit_code == 0
    assert "contradicted" in found.stdout
    assert "here/report.html" in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert (tmp_path / "here" / "report.json").exists()


def test_run_prints_only_json_when_asked(rarefy_, tmp_path):
    one = rarefy_("run", "fair-coin", "--scale", "smoke", "--json")
    report = tmp_path / "rarefy-reports" / "fair-coin" / "report.json"
    assert json.loads(one.stdout) == json.loads(report.read_text())


def test_run_takes_the_papers_own_options(rarefy_):
    found = rarefy_(
        "run", "--scale", "smoke", "fair-coin", "--bias", "0.25", "--model", "a b", "--loud",
        "--side", "tails", "--steps", "3", "--steps", "4", "--json",
    )  # fmt: skip
    assert json.loads(found.stdout)["options"] == {
        "bias": 0.25, "model": "a b", "side": "tails", "steps": [3, 4], "pause": 0.0, "loud": True,
    }  # fmt: skip


def test_help_of_run_shows_the_papers_own_options(rarefy_):
    assert "--bias" in rarefy_("run", "fair-coin", "--help").stdout
    assert "--bias" not in rarefy_("run", "--help").stdout
    # 901 is the value of --seeds here, not a paper.
    assert "--bias" not in rarefy_("run", "--seeds", "901", "--help").stdout


def test_several_papers_get_a_folder_and_their_own_options_each(rarefy_, tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    folder.mkdir()
    source = (Path(__file__).parents[1] / "papers" / "recipes" / "coin.py").read_text()
    (folder / "coin.py").write_text(source)
    other = source.replace("number=901", "number=902").replace("fair-coin", "other-coin")
    (folder / "other.py").write_text(other.replace("loud: bool", "shy: bool"))
    monkeypatch.setattr(rarefy.papers, "__path__", [str(folder)])
    found = rarefy_(
        "run", "901", "other-coin", "--scale", "smoke", "--shy", "--out", "both", "--json"
    )
    first, second = json.loads(found.stdout)
    assert "shy" not in first["options"]
    assert second["options"]["shy"] is True
    assert (tmp_path / "both" / "other-coin" / "report.html").exists()
    assert (tmp_path / "both" / "fair-coin" / "report.html").exists()


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["--strict"], 3),
        (["--strict", "--json"], 3),
        ([], 0),
    ],
)
def test_strict_fails_when_a_claim_is_not_reproduced(rarefy_, args, status):
    assert rarefy_("run", "fair-coin", "--scale", "smoke", *args).exit_code == status


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "fair-coins"], "did you mean fair-coin?"),
        (["show", "900"], "no paper '900'"),
        (["run"], "Missing argument"),
        (["run", "fair-coin", "--bias", "much"], "--bias"),
        (["run", "fair-coin", "--side", "edge"], "--side"),
        (["run", "fair-coin", "--bies", "1"], "--bies"),
        (["run", "fair-coin", "--seeds", "0"], "--seeds"),
        (["run", "fair-coin", "--scale", "huge"], "--scale"),
        (["sing"], "sing"),
    ],
)
def test_bad_usage_exits_with_2(rarefy_, args, message):
    found = rarefy_(*args)
    assert (found.exit_code, found.stdout) == (2, "")
    assert message in found.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "fair-coin", "--bias", "1.2"], "error: bias is 1.2, expected a number"),
        (["run", "fair-coin", "--on", "dask"], "error: on is 'dask'"),
        (["run", "fair-coin", "--out", "taken"], "error: taken is a file"),
        (["run", "fair-coin", "--out", "/proc/nowhere"], "error: /proc/nowhere"),
    ],
)
def test_a_clear_error_exits_with_1_and_no_traceback(
    coin, tmp_path, monkeypatch, capsys, args, message
):
    (tmp_path / "taken").write_text("")
    monkeypatch.setattr(sys, "argv", ["rarefy", *args])
    with pytest.raises(SystemExit) as stop:
        main()
    found = capsys.readouterr()
    assert (stop.value.code, found.out) == (1, "")
    assert message in found.err
    assert len(found.err.splitlines()) == 1


def test_ctrl_c_says_what_is_kept_and_the_next_run_goes_on(rarefy_, coin, monkeypatch):
    measure = coin.measure

    def stop(arm, shared, trial):
        if trial.seed == 1:
            raise KeyboardInterrupt
        return measure(arm, shared, trial)

    monkeypatch.setattr(coin, "measure", stop)
    found = rarefy_("run", "fair-coin", "--scale", "smoke")
    assert found.exit_code == 130
    kept = "2 measurements of fair-coin are kept in rarefy-reports/fair-coin/measurements.jsonl"
    assert kept in found.stderr
    monkeypatch.setattr(coin, "measure", measure)
    again = rarefy_("run", "fair-coin", "--scale", "smoke")
    assert again.exit_code == 0
    assert "going on after 2 measurements" in again.stderr


def test_tour_runs_one_paper_of_each_domain_and_makes_one_page(rarefy_, tmp_path):
    found = rarefy_("tour")
    page = tmp_path / "rarefy-reports" / "tour" / "index.html"
    assert found.exit_code == 0
    assert found.stdout.splitlines()[-1] == str(page)
    assert 'href="fair-coin/report.html"' in page.read_text()
    assert (page.parent / "fair-coin" / "report.html").exists()
    (report,) = json.loads(rarefy_("tour", "--json").stdout)
    assert (report["scale"], report["seeds"]) == ("default", [0, 1])


def test_a_long_run_says_where_it_is_on_standard_error(rarefy_, coin, monkeypatch):
    # A clock that jumps stands in for a run of minutes.
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("rarefy.cli._console.time.monotonic", lambda: next(clock))
    found = rarefy_("run", "fair-coin", "--scale", "smoke", "--json")
    assert "fair-coin  62 % seed 1, throwing" in found.stderr
    json.loads(found.stdout)


def test_version(rarefy_):
    assert rarefy_("--version").stdout == f"rarefy {rarefy.__version__}\n"


def test_listing_the_papers_is_light():
    # The whole command in a fresh interpreter, with what it imported at the end.
    script = """
import sys
import rarefy
assert len([m for m in sys.modules if m.startswith("rarefy")]) == 1
from rarefy.cli._main import app
app(["papers"], standalone_mode=False)
heavy = {"torch", "scipy", "matplotlib", "transformers", "numpy", "sklearn", "numba", "jinja2"}
sys.exit(", ".join(heavy & set(sys.modules)) or 0)
"""
    env = os.environ | {"PYTHONPATH": str(Path(rarefy.__file__).parents[1])}
    start = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
    # One second is the promise; the margin is for a busy machine.
    assert time.monotonic() - start < 3


def test_python_m_rarefy_is_the_command():
    env = os.environ | {"PYTHONPATH": str(Path(rarefy.__file__).parents[1])}
    command = [sys.executable, "-m", "rarefy", "show", "no-such-paper"]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert "no paper 'no-such-paper'" in found.stderr
