"""`python -m unet_jax`, the same program as the command `unet-jax`."""

from unet_jax.runtime import start_up


def run() -> None:
    """Runs the command line, and ends the process with its exit code."""
    # Before the other imports: re-executing would import them twice.
    start_up.re_execute()

    from unet_jax.command_line import program

    program.run()


if __name__ == "__main__":
    run()
