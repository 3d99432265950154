"""Numbers in sentences: "1 case", "1,439 slices", "12 min"."""


def count(number: int, what: str, several: str | None = None) -> str:
    """The number and what it counts, such as "1 case" or "1,439 slices".

    Args:
        number: how many.
        what: of one, such as "case".
        several: of all other numbers; with an s by default.
    """
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def duration(seconds: float) -> str:
    """As one would say it: "8.4 s", "40 s", "12 min" or "3 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"
