"""The picture for a README: the charts alone, from the JSON of a run."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from exotide.report.__main__ import main
from exotide.report.run import Run, to_json


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_a_recorded_run_can_be_drawn_again(run: Run, tmp_path: Path, ending: str) -> None:
    source, target = tmp_path / "run.json", tmp_path / f"out.{ending}"
    source.write_text(to_json(run))
    assert main([str(source), str(target)]) == 0
    if ending == "svg":
        assert ET.fromstring(target.read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    else:
        assert target.read_text().startswith("<!doctype html>")


def test_what_is_no_run_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "run.json", tmp_path / "out.svg"
    source.write_text('{"format": 1}')
    assert main([str(source), str(target)]) == 2
    assert "is not the JSON of a demo" in capsys.readouterr().err
    assert not target.exists()
