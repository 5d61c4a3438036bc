"""The picture of the modules is the one that the import statements give."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "architecture.py"
if not SCRIPT.exists():
    pytest.skip("installed without its source tree", allow_module_level=True)
script = runpy.run_path(str(SCRIPT))


def test_the_picture_is_up_to_date():
    again = "run `python docs/architecture.py`"
    assert SCRIPT.with_suffix(".svg").read_text() == script["draw"](), again


def test_every_module_is_in_the_picture():
    drawn = set(script["BOXES"]) | script["TOOLS"] | {"__init__", "__main__", "demo"}
    drawn |= {helper for *_, helpers in script["BOXES"].values() for helper in helpers}
    there = {
        path.stem if path.is_file() else path.name
        for path in script["PACKAGE"].iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert not there - drawn


def test_arrows_point_down():
    places = script["BOXES"]
    assert script["imports"]()
    for a, b in script["imports"]():
        assert places[a][1] < places[b][1], (a, b)
