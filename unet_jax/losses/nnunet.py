"""The loss of nnU-Net (version 2, Isensee et al. 2021), in the terms of `config.loss`."""

# nnU-Net's, in the Dice of each region.
SMOOTH = 1e-5


def loss_weights(*, batch_dice: bool, regions: int = 0, ignored: bool = False) -> dict[str, dict]:
    """Cross-entropy plus Dice; their sum is nnU-Net's plus 1, whose Dice loss runs from -1 to 0.

    Args:
        batch_dice: whether Dice pools the samples of a batch; a plan's configuration says so.
        regions: how many classes overlap, each with a sigmoid of its own; 0 where classes exclude each other.
        ignored: whether masks may have pixels that nobody labelled. nnU-Net then sums the cross-entropy over the
            regions, of which it takes the mean otherwise.

    Returns:
        What `total_loss` and `deep_supervision_loss` take.
    """
    dice = {"weight": 1.0, "smooth": SMOOTH, "per_sample": not batch_dice}
    if not regions:
        return {"ce": {"weight": 1.0}, "dice": dice}
    return {"bce": {"weight": float(regions if ignored else 1)}, "dice": dice | {"sigmoid": True}}
