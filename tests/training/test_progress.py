import pytest

from configs import default
from unet_jax.training import progress


def epochs(*dice):
    return [{"epoch": number, "val_dice": value} for number, value in enumerate(dice, start=1)]


@pytest.mark.parametrize(
    ("dice", "finished"),
    [
        ((), False),
        ((0.5,), False),
        ((0.5, 0.4, 0.4), False),
        ((0.5, 0.4, 0.4, 0.5), True),  # as good is no better
        ((0.5, 0.4, 0.4, 0.6), False),
        ((0.0, 0.0, 0.0, 0.0, 0.0), False),  # nothing found yet
        (tuple(n / 10 for n in range(9)), True),  # all nine epochs
    ],
)
def test_early_stopping(dice, finished):
    config = default.get_config()
    config.train.update({"epochs": 9, "patience": 3})
    assert progress.finished(config, epochs(*dice)) is finished
    config.train.patience = 0
    assert progress.finished(config, epochs(*dice)) is (len(dice) == 9)


def test_the_line_of_an_epoch():
    records = [
        {"epoch": number, "train_loss": 0.25, "train_dice": 0.5, "val_dice": value, "seconds": 61.2}
        | {"spikes": number - 1, "skipped": 0}
        for number, value in ((1, 0.625), (2, 0.5))
    ]
    assert progress.epoch_line(records, 41, 10) == (
        "epoch 2/5: loss 0.250, Dice 0.500 training, 0.500 validation (best 0.625 in epoch 1), 61 s; "
        "gradient spikes so far: 1"
    )
    assert progress.epoch_line(records[:1], 50, 10).endswith("(best 0.625 in epoch 1), 61 s")
    records[1] |= {"spikes": 0, "skipped": 3}
    assert progress.epoch_line(records, 50, 10).endswith("61 s; steps skipped so far: 3")


def test_a_budget_of_steps_ends_the_run_in_whatever_epoch():
    config = default.get_config()
    config.train.update({"epochs": 9, "patience": 0})
    records = [{"epoch": 1, "val_dice": 0.5, "step": 10}, {"epoch": 2, "val_dice": 0.6, "step": 14}]
    assert progress.finished(config, records, 14)
    assert not progress.finished(config, records, 15)
    assert not progress.finished(config, [], 15)
