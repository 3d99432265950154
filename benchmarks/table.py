"""Fills the tables of docs/performance.md from benchmarks/results, between the markers there.

python -m benchmarks.table
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import results
from unet_jax.benchmark.table import NAMES

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
NOT_MEASURED = "Not measured: {why}. This fills it in:\n\n```\n{command}\npython -m benchmarks.table\n```"


def against_torch(found: Mapping) -> str:
    """The rows against PyTorch; a row's floor is its operations over the rate of the fastest matrix product."""
    names = list(found["rows"][0]["against"])
    lines = [
        _origin(found) + f" {found['threads']} threads each.",
        "",
        "| work | GFLOP | floor, ms | unet_jax, ms | " + " | ".join(f"{name}, ms" for name in names)
        + " | " + " | ".join(f"against {name}" for name in names) + " |",
        "|---" * (4 + 2 * len(names)) + "|",
    ]  # fmt: skip
    for row in found["rows"]:
        rate = max(found["peak_tflops"][f"{library} {row['dtype']}"] for library in ("jax", "torch"))
        times = row["median_ms"]
        cells = [
            row["title"],
            f"{row['gflop']:.1f}",
            f"{row['gflop'] / rate:.1f}",
            f"{times['unet_jax']:.1f}",
            *(f"{times[name]:.1f}" for name in names),
            *(_ratio(row["against"][name]) for name in names),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    peaks = ", ".join(f"{name} {rate:.3f}" for name, rate in found["peak_tflops"].items())
    lines += ["", f"Matrix products, TFLOP/s: {peaks}."]
    for row in found["rows"]:
        if row["peak_memory_gb"]:
            peaks = ", ".join(f"{name} {peak:.2f}" for name, peak in row["peak_memory_gb"].items())
            lines += ["", f"Peak memory of the device, GB, {row['title']}: {peaks}."]
        if row.get("first_step_seconds"):
            firsts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in row["first_step_seconds"].items())
            lines += ["", f"The first step, compiling included, s, {row['title']}: {firsts}."]
    loads = [row["load"] for row in found["rows"] if row.get("load", 0) > found["threads"]]
    if loads:
        lines += ["", f"Other programs used the machine: its load was up to {max(loads):.1f}."]
    return "\n".join(lines)


def input_pipeline(found: Mapping) -> str:
    """Images a second of each contender."""
    size = "×".join(map(str, found["image"]))
    lines = [
        _origin(found),
        "",
        f"| {found['data']}, {found['slices']} slices of {size}, batch {found['batch']} | images/s | against it |",
        "|---|---|---|",
    ]
    for name, speed in found["images_per_second"].items():
        ratio = _ratio(found["against"][name], digits=1) if name in found["against"] else ""
        label = name if name == "unet_jax" else f"{name}, {found['workers']} workers"
        lines.append(f"| {label} | {speed:,.0f} | {ratio} |")
    bytes_an_image = found["image"][0] * found["image"][1] * (found["image"][2] + 1)
    copied = found["images_per_second"]["unet_jax"] * bytes_an_image / 1e9
    return "\n".join([*lines, "", f"Image and mask copied into batches: {copied:.1f} GB/s."])


def first_step(found: Mapping) -> str:
    """Seconds to the first step, cold and warm."""
    lines = [
        f"{_origin(found)} `python main.py {' '.join(found['arguments'])}`",
        "",
        "| compiled programs on disk | seconds | of processor |",
        "|---|---|---|",
    ]
    for label, key in (("no", "cold"), (f"yes, median of {len(found['warm'])}", "warm_median")):
        lines.append(f"| {label} | {found[key]['seconds']:.1f} | {found[key]['cpu_seconds']:.1f} |")
    return "\n".join(lines)


def memory(found: Mapping) -> str:
    """Host memory over the epochs."""
    epochs = len(found["megabytes"]["own"]) - 1
    lines = [
        f"{_origin(found)} `python main.py {' '.join(found['arguments'])}`, {epochs} epochs.",
        "",
        "| host memory, MB | first epoch | last epoch | peak, evaluation included | growth an epoch, from the third |",
        "|---|---|---|---|---|",
    ]
    for name, values in found["megabytes"].items():
        line = found["growth_an_epoch"][name]
        growth = f"{line['slope']:+.2f} ± {line['standard_error']:.2f}"
        lines.append(f"| {name} | {values[0]:.0f} | {values[-2]:.0f} | {max(values):.0f} | {growth} |")
    return "\n".join(lines)


def prediction(found: Mapping) -> str:
    """Seconds from the command to the masks, and their parts."""
    lines = [
        _origin(found),
        "",
        "| work | by | seconds | start | network | the rest | programs not compiled yet |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        for name, seconds in row["seconds"].items():
            split = (f"{row['split'][name][part]:.1f}" for part in ("start", "network", "rest"))
            is_known = name == "unet_jax" and row["first_seconds"] is not None
            first = f"{row['first_seconds']:.1f}" if is_known else ""
            lines.append(f"| {row['title']} | {name} | {seconds:.1f} | {' | '.join(split)} | {first} |")
    same = [row["same_pixels"] for row in found["rows"] if row["same_pixels"] is not None]
    if same:
        share = math.floor(1e4 * min(same)) / 1e4  # 100 % only if it is
        lines += ["", f"At least {share:.2%} of all pixels have the same mask on both sides."]
    return "\n".join(lines)


def gpu_round(found: Mapping) -> str:
    """What `--mode=benchmark` measured at full size, and the trainings."""
    measured = {name: one["benchmark"] for name, one in found.items() if "benchmark" in one}
    lines = []
    if measured:
        first = next(iter(measured.values()))
        lines += [
            _origin(first),
            "",
            "| recipe | data, ms | augmentation, ms (of a step) | step, ms (of the matrix product) | end to end, ms "
            "(speed of the step's) | inference, ms | memory, GB | compiling, s | first step, s: cold, warm |",
            "|---" * 9 + "|",
        ]
    for one in measured.values():
        step, starts = one["step"], one["first_step"]
        cells = [
            _recipe(one),
            f"{one['data']['p50_ms']:.2f}",
            f"{one['augmentation']['p50_ms']:.2f} ({one['augmentation']['of_step']:.1%})",
            f"{step['p50_ms']:.2f} ({step['share_of_measured_peak']:.0%})",
            f"{one['end_to_end']['p50_ms']:.2f} ({one['end_to_end']['of_step_only']:.1%})",
            f"{one['inference']['p50_ms']:.2f}",
            f"{one['memory_gb']['step_by_xla']:.2f}",
            f"{one['compiling']['compile_seconds']:.1f}",
            ", ".join(f"{starts[key]['seconds']:.1f}" for key in ("cold", "warm")) if starts else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for one in measured.values():
        if one["feeding"]:
            ways = ", ".join(
                f"{NAMES[name].format(**way)} {way['p50_ms']:.2f} ms ({way['of_step_only']:.1%})"
                for name, way in one["feeding"].items()
            )
            lines += ["", f"{_recipe(one)}: a step, and its speed by that of the step alone, with batches {ways}."]
    for name, one in found.items():
        if one.get("newest"):
            newest = one["newest"][-1]
            score = "undefined" if newest["val_dice"] is None else f"{newest['val_dice']:.3f}"
            lines += [
                "",
                f"{name}, trained for {one['seconds']:.0f} s: {one['epochs']} epochs, validation Dice {score}.",
            ]
    return "\n".join(lines)


# marker → what writes the section, the command that measures, and why it may be missing
SECTIONS: dict[str, tuple[Callable[[Mapping], str], str, str]] = {
    "against_torch_cpu_avx2": (against_torch, "python -m benchmarks.against_torch", "no such CPU was at hand"),
    "against_torch_cpu_avx512": (against_torch, "python -m benchmarks.against_torch", "no such CPU was at hand"),
    "against_torch_gpu": (against_torch, "python -m benchmarks.against_torch", "no GPU was at hand"),
    **{
        f"volumes_against_torch_{device}": (against_torch, "python -m benchmarks.volumes_against_torch", why)
        for device, why in (
            ("cpu_avx2", "no such CPU was at hand"),
            ("cpu_avx512", "no such CPU was at hand"),
            ("gpu", "no GPU was at hand since the script has rows for one"),
        )
    },
    **{
        f"prediction_{device}": (prediction, "python -m benchmarks.prediction", f"no {machine} was at hand")
        for device, machine in (("cpu_avx2", "such CPU"), ("cpu_avx512", "such CPU"), ("gpu", "GPU"))
    },
    "gpu_round": (gpu_round, "python -m benchmarks.gpu_round", "no GPU was at hand since the script was written"),
    "input_pipeline": (input_pipeline, "python -m benchmarks.input_pipeline", "no quiet machine was at hand"),
    **{
        f"first_step_cpu_{vectors}": (
            first_step,
            "python -m benchmarks.first_step -- --config=configs/default.py",
            "no such CPU was at hand",
        )
        for vectors in ("avx2", "avx512")
    },
    "memory": (memory, "python -m benchmarks.memory -- --config=configs/default.py", "no quiet machine was at hand"),
}


def fill(page: str, folder: Path = results.FOLDER) -> str:
    """The page with every section made from what was measured."""
    for name, (write, command, why) in SECTIONS.items():
        found = results.read(name, folder)
        text = write(found) if found else NOT_MEASURED.format(why=why, command=command)
        page = results.fill_section(page, name, text)
    return page


def _recipe(one: Mapping) -> str:
    """The network, its input and its type, of what `--mode=benchmark` measured."""
    config = one["config"]
    shape, dtype = "×".join(map(str, config["size"])), config["model"].get("dtype", "float32")
    return f"{config['model']['name']}, {shape}, batch {config['batch_size']}, {dtype}"


def _origin(found: Mapping) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    device = "" if found["device"] == "cpu" else f"{found['devices']} × {found['device']}; "
    return f"{found['date'][:10]}: {device}{found['machine']}; {versions}."


def _ratio(one: Mapping, digits: int = 2) -> str:
    return f"{one['ratio']:.{digits}f}× ({one['lower']:.{digits}f} to {one['upper']:.{digits}f})"


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text()))
