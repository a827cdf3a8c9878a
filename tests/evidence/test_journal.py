import pytest

from rarefy.evidence.files import write_whole
from rarefy.evidence.journal import Entry, Journal

HEADER = {"paper": "p", "scale": "smoke", "options": {"x": 0.1}}
ONE = Entry("a", 0, {"loss": 0.1 + 0.2, "bad": float("inf")}, 1.5, 10.0)
TWO = Entry("b", 0, {"loss": 2.0}, 0.5, 11.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "measurements.jsonl"


def test_a_stopped_run_goes_on_with_the_same_numbers(path):
    Journal(path, HEADER).append(ONE)
    again = Journal(path, HEADER)
    assert again.entries == {("a", 0): ONE}
    assert "going on after 1 measurements" in again.started


def test_a_torn_last_line_is_dropped_before_anything_is_appended(path):
    journal = Journal(path, HEADER)
    journal.append(ONE)
    whole = path.read_bytes()
    journal.append(TWO)
    for cut in (len(whole) + 1, len(path.read_bytes()) - 1):
        path.write_bytes(path.read_bytes()[:cut])
        again = Journal(path, HEADER)
        assert again.entries == {("a", 0): ONE}
        assert path.read_bytes() == whole
        again.append(TWO)
        assert Journal(path, HEADER).entries == {("a", 0): ONE, ("b", 0): TWO}


def test_other_settings_never_mix_and_nothing_is_lost(path):
    Journal(path, HEADER).append(ONE)
    other = Journal(path, HEADER | {"options": {"x": 0.2}})
    assert other.entries == {}
    assert "other settings" in other.started
    kept = path.with_name("measurements.old.jsonl")
    assert len(kept.read_text().splitlines()) == 2


def test_a_complete_run_is_measured_anew(path):
    journal = Journal(path, HEADER)
    journal.append(ONE)
    journal.finish()
    again = Journal(path, HEADER)
    assert (again.entries, again.started) == ({}, "")
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.parametrize("torn", [b"", b'{"paper": "p"'])
def test_a_torn_header_is_no_obstacle(path, torn):
    path.parent.mkdir()
    path.write_bytes(torn)
    Journal(path, HEADER).append(ONE)
    assert Journal(path, HEADER).entries == {("a", 0): ONE}


def test_a_file_of_something_else_is_left_alone(path):
    path.parent.mkdir()
    path.write_text("my notes\n")
    with pytest.raises(FileExistsError, match="not a journal"):
        Journal(path, HEADER)
    assert path.read_text() == "my notes\n"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_whole(path, "old é")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \udc80")
    assert path.read_text(encoding="utf-8") == "old é"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
