import cv2
import numpy as np

from unet_jax.report.curves import write, write_dice_by_fold, write_folds


def _size(path):
    return cv2.imread(str(path)).shape[:2]


def _epochs(*dices):
    return [
        {"epoch": number, "train_loss": 1 / number, "val_loss": 2 / number, "train_dice": dice / 2, "val_dice": dice}
        for number, dice in enumerate(dices, 1)
    ]


def test_curves_show_every_epoch_and_mark_the_first_best(tmp_path, drawn):
    write(tmp_path / "new" / "curves.png", _epochs(0.2, 0.8, 0.5, 0.8))
    loss, dice = drawn[0].axes
    training, validation = loss.lines
    np.testing.assert_allclose(training.get_xydata(), [(1, 1), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)])
    np.testing.assert_allclose(validation.get_ydata(), [2, 1, 2 / 3, 1 / 2])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    train, validation, best = dice.lines
    np.testing.assert_allclose(train.get_ydata(), [0.1, 0.4, 0.25, 0.4])
    np.testing.assert_allclose(validation.get_ydata(), [0.2, 0.8, 0.5, 0.8])
    assert list(best.get_xdata()) == [2, 2]
    assert best.get_label() == "best: 0.800"
    height, width = _size(tmp_path / "new" / "curves.png")
    assert (height, width) == (round(3.4 * 110), 9 * 110)


def test_curves_of_folds_have_a_line_a_fold_and_a_label_a_kind(tmp_path, drawn):
    write_folds(tmp_path / "curves.png", [_epochs(0.2, 0.8), _epochs(0.4, 0.6, 0.7)])
    loss, dice = drawn[0].axes
    assert [line.get_xdata().tolist() for line in loss.lines] == [[1, 2], [1, 2], [1, 2, 3], [1, 2, 3]]
    assert [line.get_ydata().tolist() for line in dice.lines[1::2]] == [[0.2, 0.8], [0.4, 0.6, 0.7]]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    assert len(dice.get_legend().get_texts()) == 2


def test_one_epoch_is_a_point_above_a_whole_number(tmp_path, drawn):
    write(tmp_path / "curves.png", _epochs(0.5))
    write_folds(tmp_path / "folds.png", [_epochs(0.5)])
    for figure in drawn:
        for panel in figure.axes:
            assert panel.lines[0].get_marker() == "o"
            low, high = panel.get_xlim()
            assert [tick for tick in panel.get_xticks() if low <= tick <= high] == [1]


def test_one_epoch_makes_a_curve_too(tmp_path, recwarn):
    write(tmp_path / "curves.png", _epochs(0.0))
    assert _size(tmp_path / "curves.png") == (374, 990)
    assert [str(warning.message) for warning in recwarn] == []


def test_an_old_run_has_no_validation_loss_and_one_that_was_not_finite_leaves_a_gap(tmp_path, drawn):
    epochs = _epochs(0.2, 0.4, 0.6)
    epochs[1]["val_loss"] = None
    write(tmp_path / "curves.png", epochs)
    np.testing.assert_array_equal(drawn[0].axes[0].lines[1].get_ydata(), [2, np.nan, 2 / 3])
    for record in epochs:
        del record["val_loss"]
    write(tmp_path / "curves.png", epochs)
    assert [line.get_label() for line in drawn[1].axes[0].lines] == ["training"]


def test_epochs_whose_dice_is_undefined_leave_a_gap_and_none_is_the_best(tmp_path, drawn):
    epochs = _epochs(0.2, 0.4, 0.1)
    for record in epochs[1:]:
        record["val_dice"] = None
    write(tmp_path / "curves.png", epochs)
    _, validation, best = drawn[0].axes[1].lines
    np.testing.assert_array_equal(validation.get_ydata(), [0.2, np.nan, np.nan])
    assert best.get_label() == "best: 0.200"
    write(tmp_path / "curves.png", epochs[1:])
    assert drawn[1].axes[1].lines[-1].get_label() == "last: undefined"


def test_a_fold_has_a_dot_a_patient_and_a_line_at_its_median(tmp_path, drawn):
    write_dice_by_fold(tmp_path / "folds.png", {0: [0.9, 0.1, 0.5], 1: []})
    [panel] = drawn[0].axes
    assert panel.lines[0].get_ydata().tolist() == [0.1, 0.5, 0.9]
    assert panel.collections[0].get_segments()[0][:, 1].tolist() == [0.5, 0.5]
    assert len(panel.collections) == 1
