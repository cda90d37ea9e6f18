"""One text is cut into three splits, in its order and without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import sources
from lm.data.split import nearest_cuts
from lm.errors import UserError


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_or_a_folder_with_a_training_split_alone_is_cut_by_words(tmp_path, is_folder):
    root = tmp_path / "novel"
    file = root / "train.txt" if is_folder else tmp_path / "novel.txt"
    file.parent.mkdir(exist_ok=True)
    text = "".join(f"word {'more ' * (i % 7)}\n" for i in range(300))
    file.write_text(text)
    splits = sources.file_or_folder(root if is_folder else file)
    parts = [split.read_text() for split in splits]
    assert "".join(parts) == text
    assert [words(part) / words(text) for part in parts] == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert splits.train.parent.name.startswith("novel-")


def test_it_is_cut_between_documents_if_there_are_enough(tmp_path):
    file = tmp_path / "documents.txt"
    file.write_text("\n\n".join(f"title {i}\n" + "line of words\n" * 9 for i in range(40)))
    train, valid, test = (split.read_text() for split in sources.file_or_folder(file))
    assert valid.startswith("title 32\n")
    assert test.startswith("title 36\n")
    file.write_text("\n\n".join(["one line of words\n" * 50] * 2))
    train, *_ = sources.file_or_folder(file)
    assert words(train.read_text()) == 320


def test_another_text_of_the_same_name_has_other_splits_and_the_same_one_is_cut_once(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("a\nb\nc\n")
    first = sources.file_or_folder(file)
    written = first.train.stat().st_mtime_ns
    assert sources.file_or_folder(file) == first
    assert first.train.stat().st_mtime_ns == written
    file.write_text("a\nb\nd\n")
    assert sources.file_or_folder(file).test.read_text() == "d\n"
    assert first.test.read_text() == "c\n"


@pytest.mark.parametrize("text", ["a b c\n", "a\n\n \nb\n", "\n\n\n"])
def test_a_text_too_short_for_three_splits_is_refused(tmp_path, text):
    (tmp_path / "text.txt").write_text(text)
    with pytest.raises(UserError, match=r"is to be split into three, but has [012] lines with words: give more text"):
        sources.file_or_folder(tmp_path / "text.txt")


def test_a_folder_with_two_of_three_splits_is_not_cut(tmp_path):
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match="The test split is missing"):
        sources.file_or_folder(tmp_path)


POSITIONS = st.lists(st.integers(0, 100), min_size=2, max_size=30, unique=True).map(sorted)


@given(POSITIONS, st.floats(0, 100), st.floats(0, 100))
def test_cuts_are_different_in_order_and_nearest_where_there_is_room(positions, first, second):
    wanted = sorted((first, second))
    low, high = nearest_cuts(positions, wanted)
    assert 0 <= low < high < len(positions)
    nearest = min(abs(each - wanted[0]) for each in positions[:-1])
    assert abs(positions[low] - wanted[0]) == nearest
    assert abs(positions[high] - wanted[1]) == min(abs(each - wanted[1]) for each in positions[low + 1 :])
