"""python -m kptools doctor: what is installed, what will be used, and what is missing for what."""

import json
import os
import platform
import shutil
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn

from kptools import __version__
from kptools.cli.edge import new_app, run
from kptools.cli.extras import EXTRAS
from kptools.cli.options import choice, cores, one_of
from kptools.errors import KptoolsError
from kptools.models import box

# The packages that nothing works without
CORE = (
    "typer",
    "rich",
    "orjson",
    "numpy",
    "pillow",
    "torch",
    "torchvision",
    "safetensors",
    "matplotlib",
)
FORMATS = ("text", "json")
_MODULES = {"pillow": "PIL"}
PROGRAMS = {"jq": "the examples of the docs", "parallel": "examples/cluster/parallel.sh"}
VARIABLES = {
    "KPTOOLS_DATA": "the folder of datasets; without it ./data",
    "KPTOOLS_SCHEME": "a scheme of your own, for all tools",
}


def doctor(
    format: Annotated[str, one_of(FORMATS, help="text, or one JSON object.")] = "text",
) -> int:
    """Say what is installed here, which device and precision will be used, and what is missing for
    which command. Exits with 3 where nothing works without what is missing.

    python -m kptools doctor
    """
    choice("--format", format, FORMATS)
    found = examine()
    if format == "json":
        print(json.dumps(found))
    else:
        print("\n".join(lines(found)))
    sound = found["box"] and all(entry["problem"] is None for entry in found["packages"].values())
    return 0 if sound else KptoolsError.exit_status


def examine() -> dict[str, Any]:
    """All that is reported: plain values, keys as in the text."""
    packages = {name: _package(name) for name in CORE}
    is_sound = all(entry["problem"] is None for entry in packages.values())
    return {
        "kptools": __version__,
        "where": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        "box": _box_is_there(),
        "extras": {
            name: {"purpose": extra.purpose, "problem": _problem_of_extra(extra.modules)}
            for name, extra in EXTRAS.items()
        },
        "programs": {name: shutil.which(name) for name in PROGRAMS},
        "variables": {name: os.environ.get(name) for name in VARIABLES},
        **(_device() if is_sound else {}),
    }


def _package(name: str) -> dict[str, str | None]:
    try:
        version: str | None = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = None
    return {"version": version, "problem": _problem(_MODULES.get(name, name))}


def _problem(module: str) -> str | None:
    """Why a module cannot be imported; `not installed` where it is not there."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return "not installed"
        return f"{module}: {error}"
    except Exception as error:  # of compiled code: a library of the system is missing, and more
        return f"{module}: {error}".splitlines()[0]
    return None


def _problem_of_extra(modules: tuple[str, ...]) -> str | None:
    """To import all of them would take long: the others are looked for."""
    if any(find_spec(module) is None for module in modules):
        return "not installed"
    return _problem(modules[-1])


def _box_is_there() -> bool:
    try:
        box.path()
    except KptoolsError:
        return False
    return True


def _device() -> dict[str, Any]:
    """What `--device auto`, `--precision auto` and `--threads 0` come to."""
    import torch

    from kptools import runtime

    device = runtime.device("auto")
    runtime.set_threads(0, device)
    note = None
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        built = torch.version.cuda or "without CUDA"
        note = f"nvidia-smi is here, but PyTorch (built {built}) finds no GPU that it can use"
    return {
        "device": device.type,
        "device_name": runtime.device_name(device),
        "device_note": note,
        "precision": runtime.precision_for(device, "auto"),
        "threads": torch.get_num_threads(),
        "cores": cores(0),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The report as text."""
    versions = [
        f"{name} {entry['version'] or ''}".strip()
        for name, entry in found["packages"].items()
        if entry["problem"] is None
    ]
    out = [
        f"kptools {found['kptools']} in {found['where']}",
        f"Python {found['python']} on {found['system']}",
        ", ".join(versions),
    ]
    for name, entry in found["packages"].items():
        if entry["problem"]:
            out.append(f"MISSING: {name} ({entry['problem']}); nothing works without it")
    if not found["box"]:
        out.append("MISSING: the network in the box; install kptools again")
    if "device" in found:
        out += ["", f"device     {found['device']}: {found['device_name']}"]
        if found["device_note"]:
            out.append(f"           {found['device_note']}")
        out.append(f"precision  {found['precision']}{_about(found)}")
        out.append(f"threads    {found['threads']}, on {found['cores']} cores")
    out += ["", "extras"]
    for name, entry in found["extras"].items():
        problem = entry["problem"]
        state = "yes" if problem is None else "no" if problem == "not installed" else "BROKEN"
        out.append(f"  {name:<11}{state:<8}{entry['purpose'].replace('`', '')}")
        if state == "BROKEN":
            out.append(f"             {problem}")
    wanted = [name for name, entry in found["extras"].items() if entry["problem"]]
    if wanted:
        out.append(f"  To add some: pip install 'kptools[{','.join(wanted[:2])}]'")
    out += ["", "programs"]
    for name, path in found["programs"].items():
        out.append(f"  {name:<11}{'yes' if path else 'no':<8}{PROGRAMS[name]}")
    out += ["", "variables"]
    for name, value in found["variables"].items():
        out.append(f"  {name} {'is not set' if value is None else repr(value)}: {VARIABLES[name]}")
    return out


def _about(found: dict[str, Any]) -> str:
    if found["device"] == "cpu" and found["precision"] == "fp32":
        return " (this processor has no bf16, in which training is faster)"
    return ""


tool = new_app()
tool.command()(doctor)


def main() -> NoReturn:
    run(partial(tool, prog_name="python -m kptools doctor"))
