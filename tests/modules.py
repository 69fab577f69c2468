"""The modules of both packages from left to right, and the file map of the README that is made of them.

`python -m tests.modules` writes the map anew, from the first sentence of each module.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

LEFT_TO_RIGHT = {
    "dpcurate": """
        errors orientations schema file_frames counters reflections orientation_sampling kinematic propagate
        scattering bloch draws conditions detector simulation_plan simulator recipe bad_patterns calibration
        pattern_features direct_beams scans bands workers band_map cif phases library preprocess matching polar
        correlate refine distinct engine templates scan_sample wandering noise_scores equivalent matchers
        recalibrate confidence grains neighbourhood own_candidates rivals regions likelihood picture_reading
        spot_models dynamical_ranking shares consensus misorientation_maps color_keys calibration_scores figures
        confidence_figure map_pages remote shards index_arrays truth crystal_maps ctf ang exports spots reach
        explained overlap second_pass label_features boosted_trees calibrator labelling pipeline
        spot_geometry checkup findings detector_findings doctor_figures diagnosis preview_figure preview
        likeness_theory likeness_fits likeness_ranges likeness likeness_figures grain_orientations
        microstructure grain_maps simulation_recipe scan_files virtual_scan curation_recipe curation_rules
        choosing splits labels lookalike calibrator_fit rescoring patterns manifests writing verifying store
        differences lineage leaks card card_examples pole_density card_figures card_page croissant documents
        dataset_parts curate api datasets_cli doctor_cli export_cli score_cli simulate_cli cli numba_cache
        __init__
    """,
    "dptrain": """
        config metrics data fresh augment cnn polar_cnn backbones polar_backbones models rotations head grid_head
        rotation_head euler_head harmonics density_head harmonics_head heads views checkpoint runs launch schedule
        ema pacing interruption processes logs job steps validation train start extras
        curves compatible boundaries evaluate_scores evaluate_figures evaluate model_card export evaluate_cli
        refine_proposals
        predict scores report_text report_data report_figures report_numbers report_page provenance report
        corruption study_choices study_plan study_scores study_folder study_data study_trial study_numbers study
        study_search claims study_figures search_figures study_series study_text study_report
        study_conditions conditions_report reports study_cli predict_cli cli __init__
    """,
}
"""A module imports only from those on its left. What gathers the rest, a command line or `__init__`, comes last."""

WITH_CURATION = """
    refine_proposals
    predict scores report_text report_data report_figures report_numbers report_page provenance report
    corruption study_plan study_scores study_folder study_data study_trial study_numbers study study_search claims
    study_figures search_figures study_series study_text study_report study_conditions conditions_report
    reports study_cli predict_cli
"""
"""Modules of dptrain that may use all of dpcurate: they are imported when a command that needs scans is called."""

MAP = re.compile(r"(?<=<!-- file map -->\n).*?(?=<!-- end of file map -->)", re.DOTALL)


def order(package):
    """Names of a package's modules from left to right."""
    return LEFT_TO_RIGHT[package].split()


def module_files(package):
    """Files of a package by full module name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted((ROOT / package).rglob("*.py"))
    }


def first_sentence(path):
    """The first sentence of a module's docstring, on one line of a Markdown table."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text)[0].replace("``", "`").replace("|", "\\|")


def file_map():
    """The file map as Markdown: one table for each package."""
    tables = []
    for package in LEFT_TO_RIGHT:
        files = module_files(package)
        named = sorted(files, key=lambda name: order(package).index(name.partition(".")[2]))
        rows = [f"| `{files[name].relative_to(ROOT).as_posix()}` | {first_sentence(files[name])} |" for name in named]
        tables.append("\n".join(["| file | what it is for |", "| --- | --- |", *rows]))
    return "\n" + "\n\n".join(tables) + "\n\n"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    readme.write_text(MAP.sub(lambda _: file_map(), old), encoding="utf-8")
