"""The picture of the modules is the one that the import statements give."""

import runpy
from pathlib import Path

import pytest
import structure

SCRIPT = Path(__file__).parents[1] / "docs" / "architecture.py"
if not SCRIPT.exists():
    pytest.skip("installed without its source tree", allow_module_level=True)
script = runpy.run_path(str(SCRIPT))


def test_the_picture_is_up_to_date():
    again = "run `python docs/architecture.py`"
    assert SCRIPT.with_suffix(".svg").read_text() == script["draw"](), again


def test_every_room_is_in_the_picture():
    assert {*script["BOXES"], *script["TOOLS"]} == {*structure.WALLS}


def test_arrows_point_down():
    places = script["BOXES"]
    assert script["imports"]()
    for a, b in script["imports"]():
        assert places[a][1] < places[b][1], (a, b)


def test_the_page_names_every_room_and_fits_one_page():
    page = SCRIPT.with_suffix(".md").read_text()
    assert all(f"`{room.split('.')[0]}" in page for room in structure.WALLS)
    assert len(page.splitlines()) <= 70
