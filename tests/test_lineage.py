"""From a dataset to index and scan by hash: what is as it was, what changed, what is not here."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from dpcurate import lineage
from dpcurate.curate import build_dataset
from dpcurate.datasets_cli import app
from dpcurate.errors import InputError
from dpcurate.scans import sha256_of
from dpcurate.store import open_dataset
from tests.small_scan import scan_of, small_index


@pytest.fixture
def built(tmp_path, tmp_path_factory):
    """An index and a scan that a test may damage, and the dataset built of them."""
    made = small_index(tmp_path_factory.getbasetemp())
    scan = shutil.copy(scan_of(made), tmp_path / "own.hspy")
    index = shutil.copytree(made, tmp_path / "own.index")
    info = json.loads((index / "index.json").read_text())
    info["scan"]["path"] = str(scan)
    (index / "index.json").write_text(json.dumps(info))
    return index, scan, build_dataset([index], root=tmp_path, simulated=2, progress=False)


def states(folder, **options):
    return [[link.state for link in chain] for chain in lineage.lineage(open_dataset(folder).manifest, **options)]


def test_a_dataset_leads_to_its_index_and_its_scan_by_hash(built):
    index, scan, folder = built
    (of_scan, simulated) = lineage.lineage(open_dataset(folder).manifest, scan_hash=sha256_of)
    assert [link.sha256 for link in of_scan] == [sha256_of(index / "crystal_map.h5"), sha256_of(scan)]
    assert [link.state for link in of_scan] == [lineage.AS_IT_WAS] * 2
    assert simulated[0].kind == "simulation"
    assert states(folder)[0] == [lineage.AS_IT_WAS, lineage.NOT_COMPARED]


def test_what_changed_or_is_gone_is_told(built):
    index, scan, folder = built
    with open(scan, "ab") as stream:
        stream.write(b"more")
    assert states(folder, scan_hash=sha256_of)[0] == [lineage.AS_IT_WAS, lineage.CHANGED]
    info = json.loads((index / "index.json").read_text())
    info["scan"]["sha256"] = "0" * 64
    (index / "index.json").write_text(json.dumps(info))
    assert states(folder)[0][0] == "changed since: it names another scan"
    (index / "index.json").write_text("[")
    assert states(folder)[0][0] == lineage.CHANGED
    shutil.rmtree(index)
    assert states(folder)[0][0] == lineage.GONE


def test_show_prints_the_lineage_and_verify_compares_it(built):
    index, scan, folder = built
    shown = CliRunner().invoke(app, ["show", str(folder)]).stdout
    assert (
        f"  index {index}  SHA-256 {sha256_of(index / 'crystal_map.h5')}  as it was\n    scan {scan}  SHA-256" in shown
    )
    compared = CliRunner().invoke(app, ["verify", str(folder), "--sources"])
    assert compared.exit_code == 0
    assert f"SHA-256 {sha256_of(scan)}  as it was" in compared.stdout
    (index / "crystal_map.h5").write_bytes(b"")
    failed = CliRunner().invoke(app, ["verify", str(folder), "--sources"])
    assert isinstance(failed.exception, InputError)
    assert "own.index: changed since own@" in str(failed.exception)


@pytest.mark.parametrize("path", ["\0", "/" + 5000 * "x", "/dev/zero", "/", ""])
def test_a_crafted_path_leads_nowhere(built, path):
    manifest = open_dataset(built[2]).manifest
    source = manifest.sources[0].model_copy(update={"index_path": path, "scan_path": path})
    crafted = manifest.model_copy(update={"sources": (source,)})
    assert [link.state for link in lineage.lineage(crafted, scan_hash=sha256_of)[0]] == [lineage.GONE] * 2
