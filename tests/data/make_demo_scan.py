"""Cut the demonstration scan from the independent scan; the card datasets/cards/demo_scan.md says what it is.

Run once, from the repository's root: PYTHONPATH=. python tests/data/make_demo_scan.py --data scan_dev.npz
"""

import argparse
from pathlib import Path

from benchmarks.convert_scan import convert

ROWS, COLUMNS = slice(4, 40), slice(0, 36)
"""36 x 36 pixels with parts of all 14 grains."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="scan_dev.npz")
    convert(parser.parse_args().data, Path(__file__).with_name("demo.hspy"), rows=ROWS, columns=COLUMNS)
