"""nnU-Net's plans files (nnUNetPlans.json), in and out.

Source: nnunetv2 2.8.1, experiment_planning/experiment_planners and utilities/plans_handling/plans_handler.py.
"""

from typing import Any

from unet_jax.errors import InputError
from unet_jax.plan import inheritance, intensities, nnunet_network
from unet_jax.plan.dataset import READERS
from unet_jax.plan.fields import (
    FLAG,
    SIZE,
    TEXT,
    Fields,
    Kind,
    number,
    one_of,
    or_none,
    permutation,
    sequence,
    whole,
)
from unet_jax.plan.nnunet_legacy import modernise
from unet_jax.plan.normalisation import NNUNET
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.resample import Resampling
from unet_jax.plan.spacing import inverse

PREPROCESSOR = "DefaultPreprocessor"
LABELS = "LabelManager"
RESAMPLE, KEEP = "resample_data_or_seg_to_shape", "no_resampling_hack"
SCHEMES = {theirs: ours for ours, theirs in NNUNET.items()}
# What the file calls the arrays of a case, and whether they are masks.
KINDS = {"images": ("data", False), "masks": ("seg", True), "logits": ("probabilities", False)}


def to_json(plans: Plans) -> dict[str, Any]:
    """The plan as nnU-Net writes it.

    Raises:
        InputError: nnU-Net has no reader for the files.
    """
    if plans.reader is None:
        raise InputError(
            f"{plans.dataset}: nnU-Net reads {', '.join(sorted({e for ends in READERS.values() for e in ends}))}: "
            "convert the files to write a plan for it."
        )
    whole_ones = {name: _configuration(each) for name, each in plans.configurations.items()}
    return {
        "dataset_name": plans.dataset,
        "plans_name": plans.name,
        "original_median_spacing_after_transp": list(plans.median_spacing),
        "original_median_shape_after_transp": list(plans.median_shape),
        "image_reader_writer": plans.reader,
        "transpose_forward": list(plans.transpose_forward),
        "transpose_backward": list(inverse(plans.transpose_forward)),
        "configurations": {
            name: inheritance.own(values, whole_ones.get(values.get(inheritance.KEY)))
            for name, values in whole_ones.items()
        },
        "experiment_planner_used": plans.planner,
        "label_manager": LABELS,
        "foreground_intensity_properties_per_channel": intensities.to_json(plans.intensities),
    }


def _configuration(each: Configuration) -> dict[str, Any]:
    how = {ours: _resampling(getattr(each, ours), is_mask) for ours, (_, is_mask) in KINDS.items()}
    values = {
        "data_identifier": each.data,
        "preprocessor_name": PREPROCESSOR,
        "batch_size": each.batch_size,
        "patch_size": list(each.patch_size),
        "median_image_size_in_voxels": list(each.median_shape),
        "spacing": list(each.spacing),
        "normalization_schemes": [NNUNET[scheme] for scheme in each.normalisation],
        "use_mask_for_norm": list(each.inside_only),
        "resampling_fn_data": how["images"][0],
        "resampling_fn_seg": how["masks"][0],
        "resampling_fn_data_kwargs": how["images"][1],
        "resampling_fn_seg_kwargs": how["masks"][1],
        "resampling_fn_probabilities": how["logits"][0],
        "resampling_fn_probabilities_kwargs": how["logits"][1],
        "architecture": nnunet_network.to_json(each.network, each.axes),
        "batch_dice": each.batch_dice,
    }
    if each.next_stages:
        values["next_stage"] = each.next_stages[0] if len(each.next_stages) == 1 else list(each.next_stages)
    parent = {} if each.inherits_from is None else {inheritance.KEY: each.inherits_from}
    previous = {} if each.previous_stage is None else {"previous_stage": each.previous_stage}
    return parent | values | previous


def _resampling(how: Resampling, is_mask: bool) -> tuple[str, dict[str, Any]]:
    if not how.enabled:
        return KEEP, {}
    options = {"order": how.order, "order_z": how.order_z, "force_separate_z": how.separate_z}
    return RESAMPLE, {"is_seg": is_mask, **options}


def _read_stages(value: Any) -> tuple[str, ...]:
    return sequence(TEXT).read([value] if isinstance(value, str) else value)


STAGES = Kind("a configuration's name, or a list of them", _read_stages)


def from_json(values: dict[str, Any], faults: list[str]) -> Plans | None:
    """The plan of a file; None where `faults` were found, a line each."""
    fields = Fields(_renamed(values), "", faults)
    order = fields.take("transpose_forward", permutation(3))
    backward = fields.take("transpose_backward", permutation(3))
    if order and backward and backward != inverse(order):
        undone = list(inverse(order))
        faults.append(f"transpose_backward is {list(backward)}: transpose_forward {list(order)} is undone by {undone}.")
    fields.take("label_manager", one_of([LABELS]), LABELS)
    plans = {
        "dataset": fields.take("dataset_name", TEXT),
        "name": fields.take("plans_name", TEXT),
        "planner": fields.take("experiment_planner_used", TEXT),
        "reader": fields.take("image_reader_writer", one_of(READERS)),
        "median_spacing": fields.take("original_median_spacing_after_transp", sequence(number(above=0), [3])),
        "median_shape": fields.take("original_median_shape_after_transp", sequence(whole(1), [3])),
        "transpose_forward": order,
        "intensities": intensities.from_fields(fields.inner("foreground_intensity_properties_per_channel"), faults),
        "configurations": inheritance.read_all(
            fields.take("configurations", inheritance.CONFIGURATIONS), _read_configuration, faults
        ),
    }
    fields.close()
    return None if faults else Plans(**plans)


def _read_configuration(fields: Fields) -> Configuration | None:
    modernise(fields)
    fields.take("preprocessor_name", one_of([PREPROCESSOR]))
    patch = fields.take("patch_size", sequence(whole(1), [2, 3]))
    values = {
        "spacing": fields.take("spacing", sequence(number(above=0), [2, 3])),
        "patch_size": patch,
        "batch_size": fields.take("batch_size", whole(1)),
        "median_shape": fields.take("median_image_size_in_voxels", sequence(SIZE, [2, 3])),
        "normalisation": fields.take("normalization_schemes", sequence(one_of(SCHEMES))),
        "inside_only": fields.take("use_mask_for_norm", sequence(FLAG)),
        "network": nnunet_network.read(fields.inner("architecture"), len(patch or ())),
        "batch_dice": fields.take("batch_dice", FLAG),
        **{ours: _read_resampling(fields, theirs, is_mask) for ours, (theirs, is_mask) in KINDS.items()},
        "data": fields.take("data_identifier", TEXT),
        "previous_stage": fields.take("previous_stage", TEXT, None),
        "next_stages": fields.take("next_stage", STAGES, ()),
        "inherits_from": fields.take(inheritance.KEY, TEXT, None),
    }
    fields.close()
    if fields.faults:
        return None
    values["normalisation"] = tuple(SCHEMES[scheme] for scheme in values["normalisation"])
    return Configuration(**values)


def _read_resampling(fields: Fields, theirs: str, is_mask: bool) -> Resampling | None:
    name = fields.take(f"resampling_fn_{theirs}", one_of([RESAMPLE, KEEP]))
    options = fields.inner(f"resampling_fn_{theirs}_kwargs")
    if name != RESAMPLE:
        # With another function, other options are none of ours.
        if name == KEEP:
            options.close()
        return Resampling(order=0, enabled=False)
    options.take("is_seg", one_of([is_mask]))
    order = options.take("order", one_of(range(4)), 3)
    order_z = options.take("order_z", one_of(range(4)), 0)
    separate = options.take("force_separate_z", or_none(FLAG), None)
    options.close()
    if order is None or order_z is None:
        return None
    return Resampling(order=order, order_z=order_z, separate_z=separate)


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Plans of the first releases have an older name for the intensities."""
    old, new = "foreground_intensity_properties_by_modality", "foreground_intensity_properties_per_channel"
    return {new if key == old and new not in values else key: value for key, value in values.items()}
