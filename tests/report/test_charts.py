import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.report.charts import GAP, Series, curves, dice_strip, nice_step, stack


def _strip(scores):
    return dice_strip(scores, metrics.distribution(list(scores.values())))


def _shares(element, key):
    return [float(one.get(key).rstrip("%")) / 100 for one in element]


def test_a_dot_stands_at_each_patients_dice_and_lines_at_mean_and_median():
    scores = {"p": 0.25, "q": 0.5, "r": 1.0, "s": 0.0}
    strip = _strip(scores)
    dots = strip.findall("circle")
    assert {dot.find("title").text: place for dot, place in zip(dots, _shares(dots, "cx"), strict=True)} == {
        "p: 0.250": 0.25,
        "q: 0.500": 0.5,
        "r: 1.000": 1.0,
        "s: 0.000": 0.0,
    }
    lines = {line.get("class"): _shares([line], "x1")[0] for line in strip.findall("line")}
    assert lines["mean"] == pytest.approx(0.4375, abs=1e-4)
    assert lines["median"] == pytest.approx(0.375, abs=1e-4)
    assert "mean 0.438" in strip.get("aria-label")


@pytest.mark.parametrize("number", [1, 2, 400])
def test_any_number_of_patients_fits_in_the_strip(number):
    strip = _strip({f"p{n}": 0.9 for n in range(number)})
    heights = [float(dot.get("cy")) for dot in strip.findall("circle")]
    assert len(heights) == number
    assert min(heights) > 31
    assert float(strip.get("height")) < 250
    assert len(set(heights)) == number


def test_stacked_dots_do_not_overlap_and_levels_are_filled_from_below():
    values = sorted(np.random.default_rng(0).random(200).tolist())
    levels = stack(values)
    for level in range(max(levels) + 1):
        places = [value for value, its in zip(values, levels, strict=True) if its == level]
        assert (np.diff(places) >= GAP).all()
    assert stack([0.1, 0.5, 0.9]) == [0, 0, 0]
    assert stack([0.5, 0.5, 0.5, 0.9]) == [0, 1, 2, 0]


def test_curves_rise_as_their_values_do():
    figure = curves("Dice", [1, 2, 3], [Series("validation", "validation", [0.0, 0.5, 1.0])], {"best": 3}, 1.0)
    line = figure.find(".//polyline").get("points")
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.split())
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 - y1 == pytest.approx(y1 - y2)
    assert y0 > y2
    [mark] = figure.findall(".//line[@class='mark']")
    assert float(mark.get("x1")) == pytest.approx(x2)
    assert figure.find("svg").get("aria-label") == "Dice over 3 epochs: validation from 0.000 to 1.000."


@pytest.mark.parametrize("epochs", [1, 2, 61, 500])
def test_any_number_of_epochs_can_be_drawn(epochs):
    numbers = list(range(1, epochs + 1))
    figure = curves("Loss", numbers, [Series("training", "training", [1 / n for n in numbers])], {"best": epochs}, 1.05)
    assert len(figure.find(".//polyline").get("points").split()) == epochs
    assert 1 <= sum(text.text.isdigit() for text in figure.iter("text") if text.get("class") == "tick") <= 10


@pytest.mark.parametrize(
    ("least", "step"), [(0.2, 0.2), (0.21, 0.5), (0.07, 0.1), (1.0, 1), (3.0, 5), (7.0, 10), (0.0, 1)]
)
def test_steps_are_round_numbers(least, step):
    assert nice_step(least) == pytest.approx(step)
