"""Build wheel and sdist, install them into fresh environments of several Pythons, and test each as a user has it.

    python3 packaging/test_pythons.py python3.11 python3.12 python3.13
    python3 packaging/test_pythons.py python3.11 --lowest

In each environment: the fast tests, run against the installed package; `sparcell study` on a part of PBMC3k; the time of `import sparcell`
and the size of the package. The first environment gets the sdist, the others the wheel. With --lowest, direct dependencies have the lowest
versions that pyproject.toml allows. Writes a table, pythons.md, into the working folder. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL_STUDY = """
import sys
import sparcell as sp
cells = sp.datasets.pbmc3k()
cells[:600].copy().write_h5ad(sys.argv[1])
"""
IMPORT_TIME = (
    "import time; t = time.perf_counter(); import sparcell; print(time.perf_counter() - t, sparcell.__file__)"
)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command; return what it printed, and end with its output if it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """Build sdist and wheel; return their paths."""
    run(sys.executable, "-m", "venv", folder / "build-env")
    python = folder / "build-env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "build")
    run(python, "-m", "build", "--outdir", folder / "dist", ROOT)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return sdist, wheel


def lowest_versions(folder: Path) -> Path:
    """Write a constraints file with the lowest allowed version of each direct dependency."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("\ndependencies = [")[1].split("\n]")[0]
    pins = [f"{name}=={version}" for name, version in re.findall(r'"([\w-]+)>=([\d.]+)"', section)]
    path = folder / "lowest.txt"
    path.write_text("\n".join(pins) + "\n", encoding="utf-8")
    return path


def test(interpreter: str, package: Path, constraints: Path, folder: Path) -> str:
    """Install and test one environment; return its row of the table."""
    version = run(interpreter, "-c", "import platform; print(platform.python_version())").strip()
    lowest = constraints.name == "lowest.txt"
    name = f"{version}{', lowest versions' if lowest else ''}"
    print(f"{name}: installing {package.name}", flush=True)
    home = folder / f"env-{version}{'-lowest' if lowest else ''}"
    run(interpreter, "-m", "venv", home)
    python = home / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, f"{package}[dev]")
    seconds, where = run(python, "-c", IMPORT_TIME, cwd=folder).split()
    if not Path(where).is_relative_to(home):
        sys.exit(f"{where} was imported; expected the package that was installed into {home}")
    size = sum(
        path.stat().st_size
        for path in Path(where).parent.rglob("*")
        if path.suffix not in (".pyc", ".nbc", ".nbi")
    )
    seconds = min(float(run(python, "-c", IMPORT_TIME, cwd=folder).split()[0]) for _ in range(3))
    print(f"{name}: fast tests", flush=True)
    started = time.perf_counter()
    warnings = ("-o", "filterwarnings=default") if lowest else ()  # of versions that later ones replaced
    tests = run(
        python, "-m", "pytest", "-m", "not slow", "-n", "2", "--dist", "loadfile", *warnings
    ).splitlines()[-1]
    took = time.perf_counter() - started
    print(f"{name}: {tests}; a study", flush=True)
    work = home / "study"
    work.mkdir()
    run(python, "-c", SMALL_STUDY, work / "cells.h5ad", cwd=work)
    study = ("study", "cells.h5ad", "--out", "out", "--epochs", "5", "--seeds", "1")
    run(home / "bin" / "sparcell", *study, cwd=work)
    if not (work / "out" / "report.html").is_file():
        sys.exit(f"{name}: the study wrote no report")
    shutil.rmtree(home)  # an environment with torch takes up to 7 GB
    source = "wheel" if package.suffix == ".whl" else "sdist"
    cells = [
        name,
        source,
        f"{tests.strip('= ')} ({took:.0f} s)",
        "report written",
        f"{seconds:.3f} s",
        f"{size / 1e6:.1f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Read the command line, test and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("interpreters", nargs="+", help="commands or paths of Python")
    parser.add_argument(
        "--lowest", action="store_true", help="lowest allowed versions of the direct dependencies"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".pythons", help="working folder, replaced")
    options = parser.parse_args()
    folder = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sdist, wheel = build(folder)
    constraints = lowest_versions(folder) if options.lowest else ROOT / "constraints.txt"
    sizes = f"sdist {sdist.stat().st_size / 1e6:.1f} MB, wheel {wheel.stat().st_size / 1e6:.1f} MB"
    lines = [
        f"{platform.system()} {platform.machine()}, {date.today()}. {sizes}.",
        "",
        "| Python | installed from | fast tests | study of 600 cells | import sparcell | size without dependencies |",
        "|---|---|---|---|---|---|",
    ]
    for number, interpreter in enumerate(options.interpreters):
        lines.append(test(interpreter, wheel if number else sdist, constraints, folder))
        (folder / "pythons.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
