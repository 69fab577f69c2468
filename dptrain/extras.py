"""What the installed extras allow: commands that read scans name the extra that is missing."""

from importlib.util import find_spec

from dpcurate.errors import InputError


def require(command: str, *modules: str, extra: str = "curate") -> None:
    """Raise InputError, naming the extra, unless every one of ``modules`` that ``command`` needs is installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InputError(
            f"`dptrain {command}` needs {', '.join(missing)}, which the extra [{extra}] brings; install it with "
            f"pip install 'dpcurate[{extra}]'. Training needs none of it."
        )
