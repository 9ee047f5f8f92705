"""Plots of camera paths: what is drawn where, and how failures are told."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.camera.plot import plot_trajectories
from worldr1_core.errors import MissingExtraError, OutputError, TrajectoryError


def paths():
    target = trajectory_from_prompt("push in, then orbit left", 17)
    return {"commanded": target, "estimated": target.resample(9)}


def test_the_view_from_above_shows_x_and_z():
    above, _ = plot_trajectories(paths()).axes
    line = next(line for line in above.lines if line.get_label() == "commanded")
    np.testing.assert_allclose(line.get_xydata(), paths()["commanded"].positions[:, [0, 2]])


def test_axes_are_equal_and_hold_the_whole_path():
    above, perspective = plot_trajectories(paths()).axes
    assert above.get_aspect() == 1.0
    spans = [np.ptp(limits) for limits in (perspective.get_xlim(), perspective.get_ylim(), perspective.get_zlim())]
    np.testing.assert_allclose(spans, spans[0])
    positions = paths()["commanded"].positions
    assert above.get_ylim()[0] <= float(positions[:, 2].min())
    assert above.get_ylim()[1] >= float(positions[:, 2].max())


def test_frusta_open_in_the_viewing_direction():
    above, _ = plot_trajectories({"path": trajectory_from_prompt("pan right", 2)}).axes
    frusta = [line.get_xydata() for line in above.lines if len(line.get_xydata()) > 5]
    centres = [points.mean(axis=0) for points in frusta]
    assert all(centre[1] > 0 for centre in centres)
    assert centres[-1][0] > centres[0][0], "after panning right the frustum points further right"


@pytest.mark.parametrize("prompt", ["fixed", "pan left"])
def test_a_camera_that_stays_in_place_can_be_drawn(prompt):
    above, _ = plot_trajectories({"path": trajectory_from_prompt(prompt, 5)}).axes
    assert "stays in place" in above.get_title()


def test_png_is_a_picture_with_ink(tmp_path):
    plot_trajectories(paths(), tmp_path / "new" / "path.png", title="push in")
    pixels = np.asarray(Image.open(tmp_path / "new" / "path.png").convert("L"))
    assert min(pixels.shape) > 400
    assert 0.01 < (pixels < 200).mean() < 0.5


def test_svg_is_written(tmp_path):
    plot_trajectories(paths(), tmp_path / "path.svg")
    assert "<svg" in (tmp_path / "path.svg").read_text()


def test_labels_stand_in_the_legend_and_more_paths_than_colours_work():
    many = {f"path {index}": replace(paths()["commanded"]) for index in range(8)}
    figure = plot_trajectories(many)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(many)


def test_pyplot_and_its_global_state_stay_untouched():
    code = (
        "import sys; from worldr1_core.camera import trajectory_from_prompt; "
        "from worldr1_core.camera.plot import plot_trajectories; "
        "plot_trajectories({'a': trajectory_from_prompt('push in', 3)}); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nothing_to_draw_is_refused():
    with pytest.raises(TrajectoryError, match="nothing to draw"):
        plot_trajectories({})


def test_unknown_suffixes_and_places_are_refused(tmp_path):
    with pytest.raises(OutputError, match=r"cannot draw '.pgn'.*Did you mean '.png'"):
        plot_trajectories(paths(), tmp_path / "path.pgn")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        plot_trajectories(paths(), tmp_path / "file" / "path.png")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        plot_trajectories(paths(), tmp_path / "path.png")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'worldr1-core\[plot\]'"):
        plot_trajectories(paths())
