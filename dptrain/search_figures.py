"""The pictures of a search for hyperparameters: how much each choice mattered, and what each value gave."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dptrain import report_page as html
from dptrain.report_figures import WIDE, plain, save
from dptrain.study_search import SEARCH_FILE, STARTUP


def search_part(study: Path, folder: Path) -> str:
    """The section of a search, empty when none is finished; pictures go into ``folder``."""
    path = study / SEARCH_FILE
    if not path.is_file():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    complete = [one for one in found["trials"] if one["state"] == "COMPLETE"]
    states = [one["state"] for one in found["trials"]]
    counted = ", ".join(f"{states.count(state)} {state.lower()}" for state in dict.fromkeys(states))
    words = (
        f"Choices tried: {counted} (Optuna {found['optuna']}). Made small: mean disorientation from the exact truth "
        "over the validation split, grains that are neither trained on nor reported above."
    )
    pictures = [html.Picture(one, one.stem.replace("_", " ")) for one in _slices(complete, folder)]
    if found["importance"]:
        drawn = _importance(found["importance"], folder / "importance.png")
        pictures.insert(0, html.Picture(drawn, "Importance of each choice"))
    else:
        words += f" Importance is told from more than {STARTUP} finished choices on; {len(complete)} are too few."
    return html.section("Importance and slices", html.figures(pictures), html.caption(words))


def _importance(importance: dict[str, float], path: Path) -> Path:
    names = sorted(importance, key=lambda name: importance[name])
    figure = Figure(figsize=WIDE, layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [importance[name] for name in names], color="#0072B2")
    axes.set(xlabel="importance (PED-ANOVA; shares, sum 1)", title="what mattered")
    plain(axes)
    return save(figure, path)


def _slices(complete: list[dict[str, Any]], folder: Path) -> list[Path]:
    """One picture a choice: its value against what it gave."""
    written = []
    for name in dict.fromkeys(name for one in complete for name in one["params"]):
        figure = Figure(figsize=WIDE, layout="constrained")
        axes = figure.subplots()
        tried = [one for one in complete if name in one["params"]]  # some choices belong to others, as those of a head
        value = [one["params"][name] for one in tried]
        if any(isinstance(one, (str, bool)) for one in value):
            value = [str(one) for one in value]
        axes.scatter(value, np.array([one["value"] for one in tried]), color="#0072B2", s=22, alpha=0.7)
        if name == "learning_rate":
            axes.set_xscale("log")
        axes.set(xlabel=name, ylabel="mean disorientation (degrees)", title=name)
        plain(axes)
        written.append(save(figure, folder / f"slice_{name.replace('.', '_')}.png"))
    return written
