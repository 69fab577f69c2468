"""The tables of benchmarks/index.py as Markdown."""

from statistics import median

from failure_classes import CLASSES


def accuracy_table(numbers: list[dict]) -> list[str]:
    """Markdown of shares, errors, speed and memory of each method on each scan."""
    lines = [
        "| scan | method | within 3°, all | inside grains | median error | of the right ones | patterns/s, all of it "
        "| matching alone | library, s | peak memory, GiB |",
        "| --- " * 10 + "|",
    ]
    for row in numbers:
        lines.append(
            f"| {row['scan']} | {row['method']} | {row['within_3_deg']:.1%} | {row['within_3_deg_inside']:.1%} "
            f"| {row['median_deg']:.2f}° | {row['median_of_right_deg']:.2f}° | {row['patterns_per_s']:.0f} "
            f"| {row['matching_alone_per_s']:.0f} | {row['library_s']:.0f} | {row['peak_gib']:.2f} |"
        )
    return lines


def failure_table(numbers: list[dict]) -> list[str]:
    """Markdown of the failure classes."""
    lines = ["| scan | method | " + " | ".join(CLASSES) + " |", "| --- " * (2 + len(CLASSES)) + "|"]
    for row in numbers:
        lines.append(
            f"| {row['scan']} | {row['method']} | " + " | ".join(f"{row[name]:.1%}" for name in CLASSES) + " |"
        )
    return lines


def speed_table(measured: list[dict[str, float]], scan: str) -> list[str]:
    """Markdown of the rounds of speed, and of the middle one with the range in parentheses."""
    if not measured:
        return []
    lines = [f"Patterns a second on the whole scan {scan}, polar transform included, taking turns:", ""]
    names = ("dpcurate, single patterns", "dpcurate, all that it does", "pyxem, tuned")
    lines.append(f"| round | {' | '.join(names)} | ratio, single patterns | ratio, all | load before |")
    lines.append("| --- " * 7 + "|")
    rows = []
    for each in measured:
        single, every, pyxem = each["single"], each["all"], each["pyxem"]
        rows.append((single, every, pyxem, single / pyxem, every / pyxem, each["load"]))
    for number, row in enumerate(rows, start=1):
        lines.append(f"| {number} | " + " | ".join(f"{value:.1f}" for value in row) + " |")
    spread = [f"{median(column):.1f} ({min(column):.1f} to {max(column):.1f})" for column in zip(*rows, strict=True)]
    lines.append("| median | " + " | ".join(spread) + " |")
    return lines


def grain_table(grains: dict[str, dict[str, float]]) -> list[str]:
    """Markdown of what became of the true grains in dpcurate's maps."""
    names = list(next(iter(grains.values())))
    lines = ["| scan | " + " | ".join(names) + " |", "| --- " * (1 + len(names)) + "|"]
    for scan, row in grains.items():
        lines.append(f"| {scan} | " + " | ".join(f"{row[name]:.3g}" for name in names) + " |")
    return lines
