"""Index electron-diffraction scans, say how far each label can be trusted, write labelled datasets.

``dpcurate.index``, ``dpcurate.doctor``, ``dpcurate.export``, ``dpcurate.simulate`` and ``dpcurate.build_dataset``
mirror the commands; they are imported when they are first used.
"""

from typing import Any

__all__ = ["build_dataset", "doctor", "export", "index", "simulate"]


def __getattr__(name: str) -> Any:
    if name in ("index", "simulate"):
        from dpcurate import api

        return getattr(api, name)
    if name == "export":
        from dpcurate.exports import export

        return export
    if name == "doctor":
        from dpcurate.diagnosis import doctor

        return doctor
    if name == "build_dataset":
        from dpcurate.curate import build_dataset

        return build_dataset
    raise AttributeError(f"module 'dpcurate' has no attribute '{name}'")
