import numpy as np
import pytest
from nnunet_arrays import arrays, plans_of

from unet_jax.auto import first_stage
from unet_jax.auto.runs import Run
from unet_jax.data import splits
from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.data.pool_index import Record
from unet_jax.data.splits import Split
from unet_jax.files import write_json
from unet_jax.plan import cascade, previous_masks, run_plan
from unet_jax.plan.prepared import PreparedCase
from unet_jax.plan.preprocess import Geometry
from unet_jax.plan.run_plan import RunPlan

CT = Geometry((1.0, 0.8999999761581421, 0.8999999761581421), (46, 46, 45), ((0, 46), (0, 46), (0, 45)))


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Masks of three cases, of which the third is a fold's; its logits are nnU-Net's own."""
    golden, plans = arrays("real_cascade"), plans_of(tmp_path, "real_cascade")
    logits = np.moveaxis(golden["lowres_logits"], 0, -1) / np.float32(16)
    mask = np.ones((1, 2, 2), np.uint8)
    cases = [Case(name, name, np.zeros((1, 2, 2, 1), np.float32), mask) for name in "abc"]
    data = DataSet(cases, {}, "", {})
    run = Run("3d_lowres", 0, tmp_path / "3d_lowres" / "fold0")
    write_json(run.folder / "config.json", {})
    write_json(run.folder / "evaluation" / "test" / "metrics.json", {"checkpoint_step": 7})
    splits.write(Split("patient", {"a": ["a"]}, {"b": ["b"]}, {"c": ["c"]}), run.folder / "split.json")
    calls = []

    class Settings:
        plan = RunPlan(plans, "3d_lowres", run_plan.describe(["CT"], ["x", "y"]))

        @classmethod
        def of_run(cls, *_):
            return cls

    class Prepared:
        name, geometry, image = "c", CT, np.zeros((*logits.shape[:3], 1), np.float32)

    def prepare(config, data, plan, positions):
        calls.append(positions)
        return dict.fromkeys(positions, Prepared)

    monkeypatch.setattr(first_stage, "SegmentSettings", Settings)
    monkeypatch.setattr(first_stage, "prepare_cases", prepare)
    monkeypatch.setattr(first_stage, "load_network", lambda *_: (None, None))
    monkeypatch.setattr(first_stage.segment, "whole_logits", lambda *_: logits)

    def make():
        first_stage.write_masks(tmp_path, [run], "3d_cascade_fullres", plans, data)
        return first_stage.folder_of(tmp_path, "3d_lowres", "3d_cascade_fullres")

    expected = cascade.from_logits(logits, CT.shape, plans.configurations["3d_lowres"], Settings.plan.dataset)
    return make, calls, expected, run


def test_a_fold_gives_the_masks_of_the_cases_that_it_never_saw(made):
    make, calls, expected, run = made
    folder = make()
    assert calls == [[2]]
    found = previous_masks.read(folder, {"c": expected.shape}, (1, 2))
    np.testing.assert_array_equal(found["c"].mask, expected)
    make()
    assert calls == [[2]]
    # Trained again, it makes them anew.
    write_json(run.folder / "evaluation" / "test" / "metrics.json", {"checkpoint_step": 8})
    make()
    assert calls == [[2], [2]]


def test_a_prepared_case_shows_the_mask_as_channels(made, tmp_path):
    make, _, expected, _ = made
    mask = previous_masks.read(make(), {"c": expected.shape}, (1, 2))["c"]

    class Case(PreparedCase):
        image = np.zeros((*expected.shape, 3), np.float32)

    case = Case("c", CT, expected.shape, (), tmp_path, Record({}, {}), mask)
    assert case.channels.shape == (*expected.shape, 5)
    np.testing.assert_array_equal(case.channels[..., 3] == 1, expected == 1)
    assert Case("c", CT, expected.shape, (), tmp_path, Record({}, {})).channels is Case.image
