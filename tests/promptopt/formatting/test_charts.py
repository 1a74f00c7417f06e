"""What a reader of a chart must be able to see."""

import warnings
from pathlib import Path

import pytest
from PIL import Image

from evaluation.estimate import Estimate
from promptopt.formatting.charts import BLUE, Panel, Series, forest_plot, save_figure

UNDEFINED = Estimate(None, None, None, 1, "mean", "undefined")


@pytest.mark.parametrize("value", [1e4, 15.6, 0.0, -15.6])
def test_undefined_is_written_inside_the_panel_wherever_the_values_lie(value: float, tmp_path: Path) -> None:
    measured = Estimate(value, value - 1, value + 1, 9, "mean", "ok")
    panels = [
        Panel("one", ["a", "b"], [Series("", BLUE, [measured, UNDEFINED])]),
        Panel("two", ["a"], [Series("", BLUE, [UNDEFINED])]),
    ]
    figure = forest_plot(panels, "distance", zero=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a layout that could not be applied
        file = save_figure(figure, tmp_path / "chart.png")
    with Image.open(file) as image:
        assert image.width == 1500
    for axes in figure.axes:
        (text,) = [one for one in axes.texts if "undefined" in one.get_text()]
        place, panel = text.get_window_extent(), axes.get_window_extent()
        assert panel.x0 <= place.x0 < place.x1 <= panel.x1
        assert axes.get_position().width > 0.6
