import json

import jax
import numpy as np
import pytest
from volumes import write

from configs import nnunet
from unet_jax.benchmark import benchmark
from unet_jax.benchmark.subject import for_device, random_like
from unet_jax.benchmark.table import table
from unet_jax.data.case import Case
from unet_jax.data.slices import Slices
from unet_jax.errors import InputError


@pytest.fixture(scope="module")
def measured(settings, configure, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("benchmark")
    # The phantom's own size: resizing takes matrix products too.
    config = configure(
        settings
        | {"benchmark.seconds": 0.05, "benchmark.trace": True, "data.image_size": 32}
        | {"benchmark.feeding": True}
    )
    order = []
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((benchmark.memory, "peaks"), (benchmark.rates, "peak_tflops")):
            patch.setattr(module, name, _noting(order, getattr(module, name)))
        return benchmark.benchmark(config, workdir), workdir, order


def _noting(order, function):
    def noted(*arguments):
        order.append(function.__name__)
        return function(*arguments)

    return noted


def test_what_measures_the_peak_is_not_counted_as_memory(measured):
    assert measured[2] == ["peaks", "peak_tflops"]


def test_the_results_are_written_as_they_are(measured):
    results, workdir, _ = measured
    assert json.loads((workdir / "benchmark.json").read_text()) == json.loads(json.dumps(results))
    assert list((workdir / "trace").rglob("*.xplane.pb"))


def test_rates_follow_from_the_medians(measured, settings):
    results, *_ = measured
    for part in ("data", "augmentation", "step", "end_to_end", "inference"):
        one = results[part]
        assert one["images_per_second"] == pytest.approx(settings["train.batch_size"] * 1e3 / one["p50_ms"])
        assert 0 < one["p50_ms"] <= one["p95_ms"]
        assert one["samples"] >= 3
    step = results["step"]
    assert step["tflops_a_device"] == pytest.approx(step["gflop"] / step["p50_ms"])
    assert step["share_of_measured_peak"] == pytest.approx(step["tflops_a_device"] / results["peak_tflops"]["float32"])
    assert step["floor_ms"] == pytest.approx(step["gflop"] / results["peak_tflops"]["float32"])
    assert results["end_to_end"]["of_step_only"] > 0


def test_every_way_of_feeding_is_measured(measured):
    results, *_ = measured
    assert {name: one["steps"] for name, one in results["feeding"].items()} == {
        "in_turn": 1,
        "ahead": 1,
        "resident": 1,
        "together": 8,
    }
    assert all(one["p50_ms"] > 0 and one["of_step_only"] > 0 for one in results["feeding"].values())
    line = next(line for line in table(results).splitlines() if "with batches in turn" in line)
    assert f"of 8 steps a program {results['feeding']['together']['p50_ms']:.2f} (" in line


def test_operations_are_those_of_the_network(measured, settings):
    results, *_ = measured
    # On CPU and GPU, channels are mixed before upsampling, at a quarter of the pixels.
    upsampled = 4 if jax.default_backend() in ("cpu", "gpu") else 1
    # Width 2, depth 2, three channels, 32×32 pixels: its convolutions' multiply-adds a pixel of full size.
    encoder = 9 * (3 * 2 + 2 * 2) + 9 * (2 * 4 + 4 * 4) / 4
    decoder = 9 * ((4 / upsampled + 2) * 2 + 2 * 2) + 2
    network = 2 * (encoder + decoder) * 32**2 * settings["train.batch_size"] / 1e9
    assert results["inference"]["gflop"] == pytest.approx(network)
    # Forward, gradient of the weights, and that of the input for all but the first.
    assert results["step"]["gflop"] == pytest.approx(3 * network, rel=0.1)


def test_the_table_shows_every_part(measured):
    results, *_ = measured
    lines = table(results).splitlines()
    for part, line in zip(("data", "augmentation", "step", "end_to_end", "inference"), lines[2:7], strict=True):
        assert line.split()[0] == part
        assert f"{results[part]['p50_ms']:.2f}" in line.split()
    starts = {"seconds": 12.34, "cpu_seconds": 5.67}
    assert "from start to first step" not in table(results)
    assert "12.3 s (5.7 s of processor)" in table(results | {"first_step": {"cold": starts, "warm": starts}})


def test_images_of_mixed_sizes_keep_their_sizes_in_a_measured_batch():
    cases = [
        Case(str(side), str(side), np.ones((1, side, side, 3), np.uint8), np.ones((1, side, side), np.uint8))
        for side in (4, 6)
    ]
    batch = random_like(for_device(Slices(cases).gather([0, 1])))
    assert batch["size"].tolist() == [[4, 4], [6, 6]]
    assert batch["image"].shape == (2, 6, 6, 3)


PATCHES = {
    "data.source": "nifti",
    "data.patch": (8, 8, 8),
    "data.val_fraction": 0.25,
    "data.test_fraction": 0.25,
    "train.batch_size": 2,
    "model": {"name": "nnunet", "features": (2, 4), "rank": 3, "deep_supervision": True},
    "loss": {"ce": 1.0, "dice": 1.0},
    "benchmark.seconds": 0.05,
}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    return {"data.root": str(write(folder / "Dataset001_Balls")), "data.cache": str(folder / "cache")}


def test_patches_are_measured_as_slices_are(configure, volumes, tmp_path):
    results = benchmark.benchmark(configure(PATCHES | volumes), tmp_path)
    assert results["config"]["size"] == (8, 8, 8)
    # Multiply-adds an output voxel: two convolutions a stage, a transposed one, two after [upsampled, skip], the head.
    coarse = (27 * (2 * 4 + 4 * 4)) / 8
    network = 2 * (27 * (1 * 2 + 2 * 2) + coarse + 4 * 2 + 27 * (4 * 2 + 2 * 2) + 2 * 3) * 8**3 * 2 / 1e9
    assert results["inference"]["gflop"] == pytest.approx(network)
    for part in ("data", "augmentation", "step", "end_to_end", "inference"):
        assert results[part]["images_per_second"] == pytest.approx(2 * 1e3 / results[part]["p50_ms"])
    assert results["augmentation"]["of_step"] == pytest.approx(
        results["augmentation"]["p50_ms"] / results["step"]["p50_ms"]
    )
    assert table(results).startswith("nnunet, 8×8×8, batch 2, on ")
    assert json.loads((tmp_path / "benchmark.json").read_text())["config"]["size"] == [8, 8, 8]


def test_the_configuration_of_a_plan_is_measured_with_the_same_floors(volumes, tmp_path):
    config = nnunet.get_config()
    given = volumes | {"data.folds": 0, "plan.configuration": "3d_fullres", "model.features": (2, 2, 2)}
    config.update_from_flattened_dict(given | {"benchmark.seconds": 0.05, "train.batch_size": 2})
    results = benchmark.benchmark(config.copy_and_resolve_references(), tmp_path)
    size = results["config"]["size"]
    assert len(size) == 3
    # Strides of 2; multiply-adds as above, with two features at every stage.
    stages = 27 * ((1 * 2 + 2 * 2) + (2 * 2 + 2 * 2) * (1 / 8 + 1 / 64))
    up = (2 * 2 + 27 * (4 * 2 + 2 * 2)) * (1 + 1 / 8) + 2 * 3
    assert results["inference"]["gflop"] == pytest.approx(2 * (stages + up) * np.prod(size) * 2 / 1e9)
    for part in ("step", "end_to_end", "inference"):
        row = results[part]
        assert row["floor_ms"] == pytest.approx(row["gflop"] / results["peak_tflops"]["float32"])
        assert row["share_of_measured_peak"] == pytest.approx(row["floor_ms"] / row["p50_ms"])
        assert f"{row['floor_ms']:.2f}" in next(line for line in table(results).splitlines() if f"  {part}  " in line)


def test_of_several_configurations_one_is_to_be_named(configure, volumes, tmp_path):
    config = configure(PATCHES | volumes | {"data.patch": None, "plan.configurations": ("2d", "3d_fullres")})
    with pytest.raises(InputError, match=r"set config\.plan\.configuration to 2d, 3d_fullres"):
        benchmark.benchmark(config, tmp_path)
