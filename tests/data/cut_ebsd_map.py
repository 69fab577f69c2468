"""Cut the orientation map of the tests from the full one.

Run from the repository root as ``python tests/data/cut_ebsd_map.py FULL.ang``; FULL.ang is
sdss_ferrite_austenite.ang of pyxem/orix-data (README.md in this folder says whose it is). Rows and columns are cut;
numbers stay as they are but for x and y, which start from 0 again, and the header says how many are left.
"""

import re
import sys
from pathlib import Path

ROWS, COLUMNS = (30, 70), (40, 80)
"""First and end of what is kept: both phases, and austenite twins."""

STEP = 1.5
"""Micrometres from pixel to pixel."""

OUT = Path(__file__).parent / "sdss_ferrite_austenite.ang"


def cut(text: str) -> str:
    """The text of the .ang file for fewer rows and columns."""
    lines = text.splitlines()
    header = [line for line in lines if line.startswith("#")]
    kept = []
    for line in lines[len(header) :]:
        values = line.split()
        row, column = round(float(values[4]) / STEP), round(float(values[3]) / STEP)
        if ROWS[0] <= row < ROWS[1] and COLUMNS[0] <= column < COLUMNS[1]:
            values[3:5] = f"{(column - COLUMNS[0]) * STEP:.5f}", f"{(row - ROWS[0]) * STEP:.5f}"
            kept.append(" ".join(values))
    sizes = {"NCOLS_ODD": COLUMNS[1] - COLUMNS[0], "NCOLS_EVEN": COLUMNS[1] - COLUMNS[0], "NROWS": ROWS[1] - ROWS[0]}
    whole = "\n".join(header)
    for key, size in sizes.items():
        whole = re.sub(rf"(# {key}: *)\d+", rf"\g<1>{size}", whole)
    return "\n".join([whole, *kept, ""])


if __name__ == "__main__":
    OUT.write_text(cut(Path(sys.argv[1]).read_text(encoding="utf-8")), encoding="utf-8")
