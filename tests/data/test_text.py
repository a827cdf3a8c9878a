import pytest

from rarefy.data import read_documents


def test_a_file_is_one_document_without_its_byte_order_mark(tmp_path):
    path = tmp_path / "notes"
    path.write_bytes(b"\xef\xbb\xbfh\xc3\xa9llo")
    assert read_documents(path) == ["héllo"]


def test_a_folder_gives_its_text_files_in_order_without_hidden_blank_or_other_ones(tmp_path):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.py").write_text("first")
    (tmp_path / "blank.md").write_text(" \n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "hidden.txt").write_text("hidden")
    assert read_documents(tmp_path) == ["first", "second"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"PK\x03\x04\0\0", "binary file"),
        (b"caf\xe9", r"not UTF-8 text \(byte 3"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path, content, message):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_documents(path)


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such text file or folder"):
        read_documents(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no text"):
        read_documents(tmp_path)
