"""Scenes as text, and answers as they are read."""

import pytest

from rarefy.policy.tasks.helix.answers import (
    Unreadable,
    binary_grid,
    cells,
    grid,
    number,
    numbers,
    write_cells,
    write_grid,
)
from rarefy.policy.tasks.helix.scenes import Bars, Board, Network, describe, paint


def test_a_board_is_described_with_all_it_holds():
    scene = Board(
        (("1", "."), ("#", "12")),
        above=("1,2", "0"),
        below=("b", "c"),
        left=("x", "y"),
        right=("p", "q"),
        regions=(("A", "A"), ("A", "B")),
        notes=("note",),
    )
    assert describe(scene).splitlines() == [
        "above: 1,2 0",
        "below: b c",
        "left: x y",
        "right: p q",
        " 1  .",
        " # 12",
        "regions:",
        "A A",
        "A B",
        "note",
    ]


def test_networks_and_bars_are_described():
    edges = (("0", "1", "3"), ("1", "2", ""))
    assert describe(Network(("0", "1", "2"), edges)) == "nodes: 0 1 2\nedges: 0-1:3 1-2"
    assert describe(Network(("0", "1", "2"), edges, directed=True)).endswith("0->1:3 1->2")
    assert describe(Bars((3, 0), notes=("n",))) == "3 0\nn"


def test_pictures_show_differences():
    def picture(scene):
        return paint(scene).tobytes()

    one, two = Board((("1", "."),)), Board((("2", "."),))
    assert picture(one) != picture(two)
    assert picture(one) != picture(Board(one.cells, left=("3",)))
    assert picture(one) != picture(Board(one.cells, regions=(("A", "B"),)))
    plain, other = (Network(("0", "1", "2"), ((a, "2", ""),)) for a in "01")
    assert picture(plain) != picture(other)
    assert picture(plain) != picture(Network(plain.nodes, plain.edges, directed=True))
    assert picture(Bars((1, 2))) != picture(Bars((2, 1)))


def test_what_is_written_is_read_again():
    assert grid(write_grid([1, 2, 3, 4, 5, 6], 3), 2, 3) == [["1", "2", "3"], ["4", "5", "6"]]
    assert cells(write_cells([(0, 0), (11, 3)])) == [(0, 0), (11, 3)]
    assert binary_grid("01\n 1 1 ", 2, 2) == [[0, 1], [1, 1]]
    assert numbers(" 1, 2\n-3 ") == [1, 2, -3]


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (number, "1_0"),
        (number, "١"),
        (number, "1234567890"),
        (number, "1.0"),
        (numbers, "1 x"),
        (cells, "(1,2) 3"),
        (cells, "(1,1234)"),
        (cells, "1,2"),
        (lambda text: grid(text, 2, 2), "1 2"),
        (lambda text: grid(text, 1, 2), "1 2 3"),
        (lambda text: binary_grid(text, 1, 2), "0 2"),
    ],
)
def test_other_shapes_are_refused(read, text):
    with pytest.raises(Unreadable):
        read(text)
