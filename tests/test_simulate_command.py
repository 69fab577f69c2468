"""`dpcurate simulate`: a dataset that its manifest and its card can make again; bad input refused in one sentence."""

import re
import shlex

import numpy as np
import pytest

import dpcurate
from dpcurate import cli
from dpcurate.errors import InputError
from dpcurate.orientations import disorientation_deg
from dpcurate.phases import read_cif
from dpcurate.recipe import read_recipe
from dpcurate.schema import CONDITIONS
from dpcurate.simulation_plan import SimulationPlan
from dpcurate.simulation_recipe import SimulatingRecipe
from dpcurate.simulator import draw, make_simulator, simulate, training_parents
from dpcurate.store import open_dataset, verify
from tests.small_scan import scan_of, small_index

NI, LINIO2 = "datasets/phases/Ni.cif", "datasets/phases/LiNiO2.cif"
SMALL = ("--pixels", "32", "--scale", "0.05", "--physics", "kinematical", "--number", "7")
SIMULATED = "[simulation]\nphysics = 'kinematical'\nk_max_inv_angstrom = 0.8\n"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `dpcurate` with some words; gives exit code, result, and what it complained about."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_words(*words):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(word) for word in words])
        shown = capsys.readouterr()
        last = shown.out.strip().splitlines()[-1:]
        return stop.value.code, last[0] if last else "", shown.err

    return run_words


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return small_index(tmp_path_factory.mktemp("simulate"))


def made_again(dataset, parents=()):
    """The simulated patterns that a manifest describes, and their labels."""
    manifest = dataset.manifest
    simulator = make_simulator(SimulationPlan.model_validate(manifest.simulation), manifest.phases, parents=parents)
    drawn = draw(simulator, np.arange(simulator.plan.number))
    return simulate(simulator, drawn), drawn


def command_of(folder, into):
    """The words of the command in a card, and the recipe that it asks for saved in a folder."""
    card = (folder / "card.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^```console\n(dpcurate .*)\n```$", card, re.MULTILINE)
    words = shlex.split(line)[1:]
    for name, text in re.findall(r"^With this saved as (.*):\n\n```toml\n(.*?)^```$", card, re.MULTILINE | re.DOTALL):
        (into / name).write_text(text, encoding="utf-8")
        words[words.index("--recipe") + 1] = str(into / name)
    return words


def test_the_manifest_makes_the_same_patterns_again(run, tmp_path):
    code, folder, _ = run("simulate", "--phase", NI, "--phase", LINIO2, *SMALL, "--root", tmp_path, "--name", "two")
    assert code == 0
    dataset = open_dataset(folder)
    assert dataset.path.parent == tmp_path / "two"
    assert verify(dataset.path) == []
    counts, drawn = made_again(dataset)
    np.testing.assert_array_equal(dataset.patterns(np.arange(7)), counts)
    np.testing.assert_array_equal(dataset.read("orientation"), drawn.orientation)
    np.testing.assert_array_equal(dataset.read("phase_id"), np.arange(7) % 2)
    np.testing.assert_array_equal(dataset.read("draw"), np.arange(7))
    np.testing.assert_array_equal(dataset.read("confidence"), 1)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--thickness", "150,300", "--dose", "9000", "--precession", "0.4", "--beam-energy", "120", "--seed", "5"),
        ("--recipe", "{folder}/asked.toml"),
    ],
)
def test_the_card_tells_the_conditions_and_a_command_that_gives_the_same_version(options, run, tmp_path):
    part = "{crystal = [0, 0, 1], lab = [0, 0, 1], spread_deg = 3, weight = 0.5}"
    text = f"[scan]\ncenter_xy = [15, 17]\n[simulation]\norientations = 'texture'\ntexture = [{part}]\nspread_deg = 1\n"
    text += "[simulation.sample]\nmosaic_deg = 'off'\nring_chance = 1\n"
    (tmp_path / "asked.toml").write_text(text, encoding="utf-8")
    words = [word.format(folder=tmp_path) for word in options]
    code, folder, _ = run("simulate", "--phase", NI, *SMALL, *words, "--root", tmp_path / "a")
    assert code == 0
    dataset = open_dataset(folder)
    card = (dataset.path / "card.md").read_text(encoding="utf-8")
    thickness = dataset.read("conditions")[:, CONDITIONS.index("thickness_angstrom")]
    row = re.search(r"^\| thickness_angstrom \| (\S+) \| \S+ \| (\S+) \|$", card, re.MULTILINE)
    assert row is not None
    assert (float(row[1]), float(row[2])) == pytest.approx((thickness.min(), thickness.max()), rel=1e-3)
    code, again, _ = run(*command_of(dataset.path, tmp_path), "--root", tmp_path / "b")
    assert code == 0
    assert open_dataset(again).manifest.version == dataset.manifest.version


def test_options_decide_what_is_simulated(run, tmp_path):
    options = ("--thickness", "200,300", "--dose", "4000", "--beam-energy", "120", "--precession", "0.4", "--seed", "9")
    _, folder, _ = run("simulate", "--phase", NI, *SMALL, *options, "--root", tmp_path)
    dataset = open_dataset(folder)
    values = dict(zip(CONDITIONS, dataset.read("conditions").T, strict=True))
    assert (values["thickness_angstrom"] >= 200).all()
    assert (values["thickness_angstrom"] <= 300).all()
    np.testing.assert_allclose(values["dose_electrons"], 4000, rtol=1e-6)
    manifest = dataset.manifest
    assert (manifest.beam_energy_kev, manifest.precession_deg) == (120, 0.4)
    assert manifest.arrays["patterns"].shape == (7, 32, 32)
    np.testing.assert_allclose(dataset.read("scale"), 0.05)
    plan = SimulationPlan.model_validate(manifest.simulation)
    assert (plan.seed, plan.recipe.physics) == (9, "kinematical")


def test_the_python_face_makes_the_same_dataset_as_the_command(run, tmp_path):
    _, folder, _ = run("simulate", "--phase", NI, *SMALL, "--root", tmp_path / "a")
    recipe = read_recipe(
        SimulatingRecipe,
        phases=[NI],
        simulation__physics="kinematical",
        virtual_scan__pixels=32,
        scan__scale_inv_angstrom=0.05,
    )
    made = dpcurate.simulate(7, recipe, root=tmp_path / "b", progress=False)
    assert made.name == open_dataset(folder).path.name
    other = dpcurate.simulate(7, recipe, root=tmp_path / "b", seed=1, progress=False)
    assert made.name != other.name
    with pytest.raises(InputError, match="no phase given"):
        dpcurate.simulate(7, root=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def cif(*atoms, a=3.5, more=""):
    """A primitive cubic crystal."""
    cell = f"_cell_length_a {a}\n_cell_length_b {a}\n_cell_length_c {a}\n"
    cell += "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
    group = "_symmetry_Int_Tables_number 1\n_symmetry_space_group_name_H-M 'P 1'\n"
    sites = "loop_\n_atom_site_label\n_atom_site_type_symbol\n"
    sites += "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    return f"data_x\n{cell}{group}{sites}{more}" + "".join(f"{atom}\n" for atom in atoms)


def test_a_site_shared_by_two_elements_is_taken_as_an_average_atom(run, tmp_path):
    text = cif("Ni1 Ni 0 0 0 0.75", "Co1 Co 0 0 0 0.25", "O1 O 0.5 0.5 0.5 1", more="_atom_site_occupancy\n")
    (tmp_path / "mixed.cif").write_text(text, encoding="utf-8")
    code, folder, _ = run("simulate", "--phase", tmp_path / "mixed.cif", *SMALL, "--root", tmp_path / "out")
    assert code == 0
    dataset = open_dataset(folder)
    (phase,) = dataset.manifest.phases
    assert [(atom.element, atom.occupancy) for atom in phase.atoms] == [("Ni", 0.75), ("Co", 0.25), ("O", 1)]
    assert dataset.patterns(np.arange(7)).sum(axis=(1, 2)).min() > 1000


def test_displacements_of_a_cif_are_kept(tmp_path):
    text = cif("Ni1 Ni 0 0 0 0.0125", more="_atom_site_U_iso_or_equiv\n")
    (tmp_path / "moving.cif").write_text(text, encoding="utf-8")
    assert read_cif(tmp_path / "moving.cif").atoms[0].u_iso_angstrom2 == pytest.approx(0.0125)


LITTLE = ("--number", "3", "--pixels", "32")
ONE = ("--phase", NI, *LITTLE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (LITTLE, "no phase given"),
        (("--phase", "none.cif", *LITTLE), "none.cif: no such file"),
        (("--phase", "{folder}/unknown.cif", *LITTLE), "phase unknown: no scattering factor of Xx"),
        (("--phase", NI, "--phase", NI, *LITTLE), "two of them share a name"),
        ((*ONE, "--thickness", "500,100"), r"thickness_angstrom: .*low first, given \(500\.0, 100\.0\)"),
        ((*ONE, "--thickness", "-5,10"), "thickness_angstrom: expected a range above 0"),
        ((*ONE, "--thickness", "thick"), "--thickness thick: expected LOW,HIGH"),
        ((*ONE, "--dose", "0"), "dose_electrons: expected a range above 0"),
        ((*ONE, "--dose", "nan"), "dose_electrons.*finite"),
        ((*ONE, "--scale", "0"), "scale_inv_angstrom"),
        ((*ONE, "--scale", "0.9"), "--scale 0.9"),
        ((*ONE, "--beam-energy", "-200"), "beam_energy_kev"),
        ((*ONE, "--precession", "20"), "precession_deg"),
        ((*ONE, "--pixels", "3"), "virtual_scan.pixels"),
        ((*ONE, "--physics", "magic"), "simulation.physics"),
        ((*ONE, "--name", "a/b"), "'a/b' cannot name a dataset"),
        ((*ONE, "--device", "tpu9"), "--device tpu9: not usable here .* Try cpu"),
        ((*ONE, "--recipe", "none.toml"), "none.toml: no such recipe"),
        ((*ONE, "--recipe", "{folder}/odd.toml"), r"odd\.toml: simulation\.thicknes: .* See docs/recipe\.md"),
        ((*ONE, "--recipe", "{folder}/around.toml"), "'around': every phase needs orientations of an index"),
        (("--phase", "{folder}/large.cif", "--number", "3"), r"phase large: .* about \d+ beams .* take [\d.]+ GiB"),
        ((*ONE, "--like", "{folder}/nothing"), "nothing"),
        ((*ONE, "--like", "{folder}/odd.toml"), "odd.toml"),
        ((*ONE, "--like", "{folder}/empty"), "empty"),
        (("--number", "3", "--like", "tests/data/demo.hspy"), "a scan without an index needs --phase"),
        ((*ONE, "--like", "tests/data/demo.hspy", "--dose", "9,9"), "--pixels: tests/data/demo.hspy tells that"),
        ((*ONE, "--beam-energy", "inf"), "scan.beam_energy_kev"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(words, message, run, tmp_path):
    (tmp_path / "unknown.cif").write_text(cif("X1 Xx 0 0 0"), encoding="utf-8")
    (tmp_path / "large.cif").write_text(cif("Ni1 Ni 0 0 0", "Ni2 Ni 0.3 0.2 0.1", a=60), encoding="utf-8")
    (tmp_path / "odd.toml").write_text("[simulation]\nthicknes = 4\n", encoding="utf-8")
    (tmp_path / "around.toml").write_text("[simulation]\norientations = 'around'\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    code, shown, err = run("simulate", *(word.format(folder=tmp_path) for word in words), "--root", tmp_path / "out")
    assert code == 2
    assert shown == ""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in err
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


def test_numbers_out_of_range_are_refused_by_the_command_line(run, tmp_path):
    for words in (("--number", "0"), ("--seed", "-1"), ("--seed", 2**31)):
        code, _, err = run("simulate", "--phase", NI, *words, "--root", tmp_path / "out")
        assert code == 2
        assert words[0] in err
    assert not (tmp_path / "out").exists()


def test_patterns_are_added_to_those_of_a_scan_as_the_recipe_says(run, index, tmp_path):
    (tmp_path / "r.toml").write_text(f"{SIMULATED}orientations = 'around'\nspread_deg = 1.0\n", encoding="utf-8")
    words = ("build-dataset", index, "--simulated", "6", "--recipe", tmp_path / "r.toml", "--name", "mixed")
    code, folder, _ = run(*words, "--root", tmp_path / "a")
    assert code == 0
    dataset = open_dataset(folder)
    labels = {
        name: dataset.read(name) for name in ("orientation", "phase_id", "split", "draw", "source", "true_weight")
    }
    own = labels["draw"] >= 0
    assert own.sum() == 6
    assert dataset.manifest.counts["simulated"] == 6
    counts, drawn = made_again(dataset, training_parents(labels, n_phases=1))
    np.testing.assert_array_equal(dataset.patterns(np.flatnonzero(own)), counts)
    np.testing.assert_array_equal(labels["orientation"][own], drawn.orientation)
    (phase,) = dataset.manifest.phases
    (parents,) = training_parents(labels, n_phases=1)
    apart = disorientation_deg(labels["orientation"][own][:, None], parents[None], phase.proper_rotations())
    assert apart.min(axis=1).max() < 6
    code, again, _ = run(*command_of(dataset.path, tmp_path), "--root", tmp_path / "b")
    assert code == 0
    assert open_dataset(again).manifest.version == dataset.manifest.version


def test_a_dataset_in_the_image_of_an_index_tells_in_its_card_how_it_was_asked_for(run, index, tmp_path):
    (tmp_path / "r.toml").write_text(SIMULATED, encoding="utf-8")
    asked = ("simulate", "--like", index, "--number", "5", "--recipe", tmp_path / "r.toml", "--name", "like")
    code, folder, _ = run(*asked, "--root", tmp_path)
    assert code == 0
    dataset = open_dataset(folder)
    (picture,) = (tmp_path / "like").glob("*.png")
    assert picture.name == f"like-{dataset.manifest.version}.png"
    plan = SimulationPlan.model_validate(dataset.manifest.simulation)
    assert plan.recipe.orientations == "around"
    assert dataset.manifest.precession_deg == plan.geometry.precession_deg
    words = command_of(dataset.path, tmp_path)
    again = ["simulate", "--like", str(index), "--number", "5", "--name", "like", "--seed", "0", "--recipe"]
    assert words == [*again, str(tmp_path / "like.toml")]
    first, second = (read_recipe(SimulatingRecipe, tmp_path / name) for name in ("r.toml", "like.toml"))
    # not what was measured: measuring would start from there
    assert first.simulation == second.simulation
    assert np.array_equal(made_again(dataset)[0], dataset.patterns(np.arange(5))), "the manifest alone makes it again"
    code, _, err = run("simulate", "--like", index, "--phase", "datasets/phases/Ni.cif", "--root", tmp_path)
    assert code == 2
    assert "--phase: " in err


def test_an_index_whose_scan_is_gone_cannot_be_looked_like(run, index, tmp_path):
    moved = scan_of(index)
    hidden = moved.with_name("hidden.hspy")
    moved.rename(hidden)
    try:
        code, _, err = run("simulate", "--like", index, "--number", "3", "--root", tmp_path / "out")
    finally:
        hidden.rename(moved)
    assert code == 2
    assert "its scan" in err
    assert "is gone" in err
