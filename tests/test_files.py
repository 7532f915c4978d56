import pytest

from perturbcast._files import written_whole
from perturbcast.errors import NotWritable


def write_half(path):
    with written_whole(path) as draft:
        draft.write_text("half of the sec")
        raise KeyboardInterrupt


def test_a_file_is_whole_or_as_it_was_and_no_draft_stays(tmp_path):
    path = tmp_path / "table.csv"
    with written_whole(path) as draft:
        draft.write_text("first")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_a_coded_error_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(NotWritable), written_whole(folder / "table.csv"):
            pytest.fail("the work was begun")
