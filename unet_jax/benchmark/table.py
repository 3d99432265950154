"""The results of `--mode=benchmark` as a table to read."""

# The ways of benchmark.feeding.
NAMES = {
    "in_turn": "in turn",
    "ahead": "sent ahead",
    "resident": "that stay on the device",
    "together": "of {steps} steps a program",
}


def table(results: dict) -> str:
    """The table of benchmark.json's contents."""
    config, peak, memory = results["config"], results["peak_tflops"], results["memory_gb"]
    lines = [
        f"{config['model']['name']}, {'×'.join(map(str, config['size']))}, batch {config['batch_size']}, on "
        f"{results['devices']} × {results['device']}",
        f"  {'':<12}{'images/s':>12}{'p50 ms':>10}{'p95 ms':>10}{'GFLOP':>10}{'floor ms':>10}{'TFLOP/s':>10}"
        f"{'of peak':>9}",
    ]
    for name in ("data", "augmentation", "step", "end_to_end", "inference"):
        row = results[name]
        line = f"  {name:<12}{row['images_per_second']:>12,.1f}{row['p50_ms']:>10.2f}{row['p95_ms']:>10.2f}"
        if "gflop" in row:
            line += f"{row['gflop']:>10.2f}{row['floor_ms']:>10.2f}{row['tflops_a_device']:>10.3f}"
            line += f"{row['share_of_measured_peak']:>9.1%}"
        lines.append(line)
    compiling = results["compiling"]
    if results["feeding"]:
        ways = ", ".join(
            f"{NAMES[name].format(**way)} {way['p50_ms']:.2f} ({way['of_step_only']:.1%})"
            for name, way in results["feeding"].items()
        )
        lines.append(f"  ms a step, and speed by step only, with batches {ways}")
    lines += [
        f"  end to end is {results['end_to_end']['of_step_only']:.1%} of step only; XLA counts "
        f"{_or_unknown(results['step']['gflop_by_xla'])} GFLOP a step",
        f"  augmentation, here a program of its own, takes {results['augmentation']['of_step']:.1%} of a step",
        f"  a matrix product: {peak['float32']:.3f} TFLOP/s float32, {peak['bfloat16']:.3f} bfloat16; published for "
        f"bfloat16: {_or_unknown(peak['published_bfloat16'])}",
        f"  the step: traced in {compiling['trace_seconds']:.2f} s, compiled in {compiling['compile_seconds']:.2f} s, "
        f"loaded from a cache in {compiling['load_seconds']:.2f} s",
    ]
    if results["first_step"]:
        cold, warm = (
            f"{one['seconds']:.1f} s ({one['cpu_seconds']:.1f} s of processor)"
            for one in (results["first_step"]["cold"], results["first_step"]["warm"])
        )
        lines.append(f"  from start to first step: {cold} compiling, {warm} with compiled programs on disk")
    lines.append(
        f"  memory, GB: device peak {_or_unknown(memory['device_peak'])}, step by XLA's plan "
        f"{_or_unknown(memory['step_by_xla'])}, host peak {memory['host_peak']:.2f}"
    )
    return "\n".join(lines)


def _or_unknown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
