"""The commands that simulate: recipes with tables in tables, scans written, bad input refused in one sentence."""

import json
import re

import numpy as np
import pytest

from dpcurate import cli
from dpcurate.errors import InputError
from dpcurate.microstructure import Specimen
from dpcurate.recipe import load_recipe, read_recipe, recipe_toml
from dpcurate.simulate_cli import parse_range
from dpcurate.simulation_recipe import SimulatingRecipe
from dpcurate.truth import read_truth


def names(folder):
    return {path.name for path in folder.iterdir()}


FULL = """
phases = ["Ni.cif"]
[scan]
scale_inv_angstrom = 0.03
[simulation]
physics = "kinematical"
orientations = "texture"
texture = [
    {crystal = [0, 0, 1], lab = [0, 0, 1], spread_deg = 3, weight = 0.5},
    {orientation = [1, 0, 0, 0], spread_deg = 2, weight = 0.5},
]
[simulation.sample]
mosaic_deg = "off"
[simulation.sample.instrument]
descan_px = "off"
dose_electrons = [100, 1e5]
[virtual_scan]
rows = 5
microstructure = "map.ang"
[virtual_scan.grain_model.twin_laws."a b.c"]
angle_deg = 60
axis = [1, 1, 1]
[virtual_scan.specimen]
wedge_share = 1
"""


def test_a_recipe_with_tables_in_tables_survives_its_file(tmp_path):
    (tmp_path / "full.toml").write_text(FULL, encoding="utf-8")
    chosen = read_recipe(SimulatingRecipe, tmp_path / "full.toml", virtual_scan__specimen__probe_sigma_pixels=0.25)
    assert chosen.simulation.sample.mosaic_deg is None
    assert chosen.simulation.sample.instrument.descan_px is None
    assert chosen.virtual_scan.specimen == Specimen(wedge_share=1, probe_sigma_pixels=0.25)
    assert chosen.virtual_scan.grain_model.twin_laws["a b.c"].angle_deg == 60
    assert chosen.virtual_scan.microstructure == str(tmp_path / "map.ang")
    (tmp_path / "again.toml").write_text(recipe_toml(chosen), encoding="utf-8")
    assert read_recipe(SimulatingRecipe, tmp_path / "again.toml") == chosen
    (tmp_path / "default.toml").write_text(recipe_toml(SimulatingRecipe()), encoding="utf-8")
    assert read_recipe(SimulatingRecipe, tmp_path / "default.toml") == SimulatingRecipe()


def test_indexing_takes_a_recipe_for_simulations_and_keeps_nothing_of_them(tmp_path):
    (tmp_path / "full.toml").write_text(FULL, encoding="utf-8")
    chosen = load_recipe(tmp_path / "full.toml")
    assert chosen.scan.scale_inv_angstrom == 0.03
    assert "simulation" not in recipe_toml(chosen)
    with pytest.raises(InputError, match=r"full\.toml: simulation\.no_such"):
        read_recipe(SimulatingRecipe, tmp_path / "full.toml", simulation__no_such=1)


SMALL = ("--rows", "6", "--columns", "6", "--grains", "3", "--pixels", "32", "--scale", "0.06")
NI = ("--phase", "datasets/phases/Ni.cif")
STEEL_MAP = "tests/data/sdss_ferrite_austenite.ang"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `dpcurate` with some words; gives exit code and what it wrote."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_words(*words):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(word) for word in words])
        return stop.value.code, capsys.readouterr()

    return run_words


def test_the_command_writes_a_scan_of_two_phases_of_a_real_map(run, tmp_path):
    steel = ("--phase", "datasets/phases/Fe-fcc.cif", "--phase", "datasets/phases/Fe-bcc.cif")
    called = ("--phase-name", "austenite", "--phase-name", "ferrite", "--microstructure", STEEL_MAP)
    size = ("--rows", "8", "--columns", "8", "--pixels", "32", "--scale", "0.06", "--thickness", "100,200")
    out = tmp_path / "steel.hspy"
    code, _ = run("simulate-scan", out, *steel, *called, *size, "--physics", "kinematical", "--dose", "500")
    assert code == 0
    truth = read_truth(out)
    assert truth is not None
    assert set(np.unique(truth.phase_id)) == {0, 1}
    assert np.isclose([truth.thickness_angstrom.min(), truth.thickness_angstrom.max()], [100, 200]).all()
    record = json.loads((tmp_path / "steel.simulation.json").read_text(encoding="utf-8"))
    assert record["conditions"]["dose_electrons"] == pytest.approx(500)
    assert record["specimen"]["microstructure"] == STEEL_MAP


def test_textured_grains_lie_as_the_texture_says(tmp_path, run):
    part = "{crystal = [0, 0, 1], lab = [0, 0, 1], spread_deg = 0, weight = 1}"
    text = f'[simulation]\nphysics = "kinematical"\norientations = "texture"\ntexture = [{part}]\n'
    (tmp_path / "t.toml").write_text(text, encoding="utf-8")
    assert run("simulate-scan", tmp_path / "t.hspy", *NI, *SMALL, "--recipe", tmp_path / "t.toml")[0] == 0
    truth = read_truth(tmp_path / "t.hspy")
    assert truth is not None
    assert np.allclose(np.hypot(truth.quat[..., 1], truth.quat[..., 2]), 0, atol=1e-6), "turned about the beam alone"


CELL = "_cell_length_a 3\n_cell_length_b 3\n_cell_length_c 3\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
CIF = f"data_x\n{CELL}_cell_angle_gamma 90\n_symmetry_Int_Tables_number 1\n_symmetry_space_group_name_H-M 'P 1'\n"
SITES = "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
UNKNOWN = f"{CIF}{SITES}Xx1 Xx 0 0 0\n"
LARGE = CIF.replace(" 3\n", " 90\n") + f"{SITES}Ni1 Ni 0 0 0\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (SMALL, "no phase given"),
        ((*SMALL, "--phase", "none.cif"), "none.cif: no such file"),
        ((*SMALL, "--phase", "{folder}/unknown.cif"), "no scattering factor of Xx"),
        ((*SMALL, "--phase", "{folder}/large.cif"), "phase large: a pattern has about .* beams .* GiB"),
        ((*NI, *SMALL, "--thickness", "0,100"), "thickness_limits_angstrom .* must be above 0"),
        ((*NI, *SMALL, "--thickness", "500,100"), "in rising order"),
        ((*NI, *SMALL, "--thickness", "1e6"), "at most 100000"),
        ((*NI, *SMALL, "--thickness", "nan"), "must be above 0|finite number"),
        ((*NI, *SMALL, "--thickness", "thick"), "--thickness thick: expected LOW,HIGH"),
        ((*NI, *SMALL, "--dose", "-5"), "dose_electrons: expected a range above 0"),
        ((*NI, *SMALL, "--dose", "1e12"), "dose_electrons: expected a range above 0 to 1e"),
        ((*NI, *SMALL, "--scale", "0.9"), "--scale 0.9: .* rad, over 0.3"),
        ((*NI, *SMALL, "--grains", "30"), "n_grains 30"),
        ((*NI, *SMALL, "--physics", "magic"), "simulation.physics"),
        ((*NI, *SMALL, "--device", "tpu9"), "--device tpu9: not usable here"),
        ((*NI, "--microstructure", "none.ang"), "none.ang: no such file"),
        ((*NI, "--microstructure", "datasets/phases/Ni.cif"), "Ni.cif: not readable as an orientation map"),
        ((*NI, "--microstructure", STEEL_MAP), "phase Ni is not in it; its phases are"),
        ((*NI, "--microstructure", STEEL_MAP, "--grains", "4"), "--grains is about random grains"),
        ((*NI, "--microstructure", STEEL_MAP, "--rows", "4"), "--rows and --columns go together"),
        ((*NI, *SMALL, "--recipe", "none.toml"), "none.toml: no such recipe"),
        ((*NI, *SMALL, "--recipe", "{folder}/around.toml"), "a virtual scan has no index"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(words, message, run, tmp_path):
    (tmp_path / "unknown.cif").write_text(UNKNOWN, encoding="utf-8")
    (tmp_path / "large.cif").write_text(LARGE, encoding="utf-8")
    (tmp_path / "around.toml").write_text('[simulation]\norientations = "around"\n', encoding="utf-8")
    (tmp_path / "out").mkdir()
    words = [word.format(folder=tmp_path) for word in words]
    code, shown = run("simulate-scan", tmp_path / "out" / "scan.hspy", *words)
    assert code == 2
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in shown.err
    assert re.search(message, line), line
    assert names(tmp_path / "out") == set()


def test_a_place_that_cannot_hold_a_scan_is_refused(run, tmp_path):
    kinematical = (*NI, *SMALL, "--physics", "kinematical")
    (tmp_path / "there.hspy").write_text("mine", encoding="utf-8")
    for name, message in {
        "there.hspy": "exists already",
        "scan.tif": "written as .hspy",
        "none/scan.hspy": "there is no folder",
    }.items():
        code, shown = run("simulate-scan", tmp_path / name, *kinematical)
        assert code == 2
        assert message in shown.err
    assert names(tmp_path) == {"there.hspy"}
    assert (tmp_path / "there.hspy").read_text(encoding="utf-8") == "mine"


def test_a_range_is_two_numbers_or_one():
    assert parse_range("--x", "1,2.5") == (1, 2.5)
    assert parse_range("--x", "3") == (3, 3)
    assert parse_range("--x", None) is None
    with pytest.raises(InputError, match="--x 1,2,3"):
        parse_range("--x", "1,2,3")
