"""The house keeps its rooms: who may import whom, which library lives where, and how long anything may be."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from sparcell.config.data import DataConfig
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models import MODELS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sparcell"

LAYERS = (
    "errors",
    "config metrics",
    "protocols results",
    "data kernels pl",
    "_utils datasets io likelihoods nn",
    "pp report tl training",
    "models",
    "experiments programs",
    "study",
    "analysis benchmark",
    "cli",
)
"""Every room of src/sparcell, lowest floor first. A room imports lower floors only, never one beside it; type hints count."""

SEALED = {"models", "likelihoods"}
"""Folders whose named files never import each other; only their table does."""

FENCES = {
    "anndata": "results datasets data metrics pl io pp tl models programs experiments study analysis benchmark cli",
    "h5py zarr isal numcodecs": "io",
    "scanpy": "pp io datasets",
    "igraph": "pp",
    "sklearn": "pp tl nn metrics benchmark",
    "openTSNE joblib": "tl",
    "threadpoolctl": "tl nn",
    "torch": "protocols data _utils nn likelihoods kernels training tl models experiments io",
    "numba triton": "kernels",
    "safetensors": "io",
    "matplotlib": "pl report models",
    "jinja2 markupsafe": "report",
    "rich": "_utils experiments",
    "scib_metrics": "metrics",
    "harmonypy scvi drvi lightning": "benchmark",
    "cyclopts": "cli",
}
"""Libraries → rooms that may import them; numpy, scipy and pandas everywhere. A new library must be placed here."""

EVERYWHERE = {"numpy", "scipy", "pandas"}
MAX_FILE, MAX_FUNCTION, MAX_ARGUMENTS = 400, 60, 7
DATA_FIELDS = {field.name for field in fields(DataConfig)}

FILES = sorted(SOURCE.rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
NAMES = {
    *MODELS,
    *LIKELIHOODS,
    *(kind.name for kind in MODELS.values()),
    *(kind.__name__ for kind in MODELS.values()),
    *("nb", "poisson", "zinb", "negative_binomial"),
}
"""What models and likelihoods are called: looked up in tables, never compared."""


def room_of(path):
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


def shown(path):
    return str(path.relative_to(SOURCE if path.is_relative_to(SOURCE) else ROOT))


ROOMS = {room_of(path) for path in FILES} - {"__init__", "__main__"}
FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms.split()}
LIBRARIES = {
    library: set(rooms.split()) for libraries, rooms in FENCES.items() for library in libraries.split()
}
each_file = pytest.mark.parametrize("path", FILES, ids=shown)


def imports(tree):
    """Dotted names that a file imports, wherever in it: sparcell.pl.maps, torch, scipy.sparse."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(tree):
    """Rooms of ours that a file imports."""
    return {name.split(".")[1] for name in imports(tree) if name.startswith("sparcell.")}


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def arguments(function):
    args = function.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [argument for argument in every if argument is not None and argument.arg not in ("self", "cls")]


def own_arguments(function):
    """Arguments besides those that are the fields of a settings class."""
    return [argument for argument in arguments(function) if argument.arg not in DATA_FIELDS]


def is_compiled(function):
    """Return whether numba compiles the function and so infers its types."""
    return any("_jit" in ast.unparse(decorator) for decorator in function.decorator_list)


def n_code_lines(function):
    """Lines of a function without its docstring, which is to be as long as a user needs."""
    first = function.body[0]
    documented = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - documented


def test_every_room_has_its_floor():
    placed = [room for rooms in LAYERS for room in rooms.split()]
    assert sorted(placed) == sorted(ROOMS)
    assert set(" ".join(FENCES.values()).split()) <= ROOMS


@each_file
def test_a_room_imports_lower_floors_only(path):
    room = room_of(path)
    if room not in FLOOR:
        return  # sparcell/__init__.py names everything, and imports each name when it is first used
    others = own_imports(TREES[path]) - {room}
    assert {other for other in others if FLOOR[other] >= FLOOR[room]} == set()


def test_the_page_on_the_architecture_shows_the_same_floors():
    shown = "\n".join(f"{floor:2} {', '.join(rooms.split())}" for floor, rooms in enumerate(LAYERS))
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert shown in page, f"put this into docs/architecture.md:\n{shown}"


@each_file
def test_no_file_uses_the_package_through_its_public_names(path):
    """Files import what they need from its room: the public names would hide which rooms a file uses."""
    used = {
        node.attr
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "sparcell"
    }
    assert used == set()


@each_file
def test_models_and_likelihoods_never_import_each_other(path):
    room = room_of(path)
    named = {kind.__module__.rpartition(".")[2] for kind in [*MODELS.values(), *LIKELIHOODS.values()]}
    if room in SEALED and path.stem in named:
        siblings = {
            name.split(".")[2] for name in imports(TREES[path]) if name.startswith(f"sparcell.{room}.")
        }
        assert siblings & named == set()


@each_file
def test_every_library_stays_where_it_may_be(path):
    room = room_of(path)
    used = {name.split(".")[0] for name in imports(TREES[path])}
    foreign = used - set(sys.stdlib_module_names) - {"sparcell"} - EVERYWHERE
    assert {name for name in foreign if room not in LIBRARIES.get(name, set())} == set()


@each_file
def test_torch_distributed_is_known_to_one_file_only(path):
    if shown(path) != "training/distributed.py":
        named = {name for name in imports(TREES[path]) if name.startswith("torch.distributed")}
        reached = [ast.unparse(node) for node in ast.walk(TREES[path]) if isinstance(node, ast.Attribute)]
        assert named | {text for text in reached if text.startswith("torch.distributed")} == set()


def test_network_objective_and_trainer_name_no_model_and_no_likelihood():
    classes = {kind.__name__ for kind in [*MODELS.values(), *LIKELIHOODS.values()]}
    for name in ("nn/network", "training/objective", "training/loop", "data/loader"):
        words = set(re.findall(r"\w+", (SOURCE / f"{name}.py").read_text(encoding="utf-8")))
        assert words & (classes | NAMES) == set(), name


@each_file
def test_names_of_models_and_likelihoods_are_never_compared(path):
    if room_of(path) == "__init__":
        return
    found = []
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Compare):
            constants = [leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)]
        elif isinstance(node, ast.MatchValue):
            constants = [node.value.value] if isinstance(node.value, ast.Constant) else []
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            constants = re.findall(r"\w+", ast.unparse(node.args[1]))
        else:
            continue
        found += [f"line {node.lineno}: {value}" for value in constants if value in NAMES]
    assert found == []


@pytest.mark.parametrize("path", [*FILES, *TEST_FILES], ids=shown)
def test_files_are_short(path):
    """Tests too."""
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= MAX_FILE


@each_file
def test_functions_are_short_and_take_few_arguments(path):
    long = [
        f"{node.name}: {n_code_lines(node)} lines"
        for node in functions(TREES[path])
        if n_code_lines(node) > MAX_FUNCTION
    ]
    wide = [
        f"{node.name}: {len(own_arguments(node))} arguments"
        for node in functions(TREES[path])
        if len(own_arguments(node)) > MAX_ARGUMENTS and room_of(path) != "kernels"
    ]
    assert long + wide == []


@each_file
def test_everything_is_annotated(path):
    bare = []
    for node in functions(TREES[path]):
        if is_compiled(node):
            continue
        bare += [
            f"{node.name}({argument.arg})" for argument in arguments(node) if argument.annotation is None
        ]
        bare += [f"{node.name} returns"] if node.returns is None else []
    assert bare == []


@each_file
def test_every_file_says_what_it_is_for(path):
    assert ast.get_docstring(TREES[path])


@each_file
def test_no_pickle_is_written_or_read(path):
    tree = TREES[path]
    assert not [
        name for name in imports(tree) if name.split(".")[0] in ("pickle", "dill", "cloudpickle", "shelve")
    ]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert {ast.unparse(node.func) for node in calls} & {
        "torch.load",
        "torch.save",
        "joblib.load",
        "joblib.dump",
    } == set()
    unsafe = {("weights_only", False), ("allow_pickle", True)}
    given = {(word.arg, getattr(word.value, "value", None)) for node in calls for word in node.keywords}
    assert given & unsafe == set()


@each_file
def test_no_global_random_generator_is_seeded_or_drawn_from(path):
    """DESIGN: seeds are arguments. numpy's module functions and torch's manual_seed would change the user's own draws."""
    called = {ast.unparse(node.func) for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)}
    allowed = {"default_rng", "Generator", "SeedSequence"}
    assert {drawn for name in called for drawn in re.findall(r"np\.random\.(\w+)", name)} <= allowed
    assert called & {"torch.manual_seed", "torch.seed", "random.seed"} == set()


HEAVY = {*LIBRARIES, "pandas", "scipy"} - {"rich", "cyclopts"}
"""What help needs not: everything but numpy and what prints it."""
LIGHT = {"import sparcell": "import sparcell"} | {
    f"sparcell {command}--help": f"""
import contextlib, io
sys.argv = ["sparcell", *{command.split()}, "--help"]
from sparcell.cli.main import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
    main()
assert "Usage: sparcell {command.strip()}" in shown.getvalue(), shown.getvalue()
"""
    for command in (
        *("", "analyze ", "study ", "benchmark ", "fit ", "embed ", "map ", "predict ", "programs "),
        *("differential-expression ", "denoise ", "criticize "),
    )
}


@pytest.mark.parametrize("name", LIGHT)
def test_help_comes_before_any_heavy_import(name):
    """Held without a clock: torch alone takes seconds to import, and help is there in under one."""
    code = f"import sys\n{LIGHT[name]}\nprint(*[name for name in {sorted(HEAVY)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def tracked_files():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


PRIVATE = [
    r"[\w.-]*(?:artifactory|nexus|devpi)[\w.-]*\.\w+",
    r"pypi\.org|pythonhosted\.org|conda\.anaconda\.org|index-url",
    r"(?<![\w.])/(?:home|root|Users|work|mnt)/\w+",
    r"(?<![\w.])/tmp/\w+",
    r"[A-Z]:\\\\Users",
]


def test_no_tracked_file_names_an_index_host_or_a_path_of_a_machine():
    found = []
    for path in tracked_files():
        if path != Path(__file__).resolve() and path.suffix not in (".h5ad", ".png", ".jpg", ".gz"):
            text = path.read_text(encoding="utf-8")
            found += [f"{path.name}: {hit}" for pattern in PRIVATE for hit in re.findall(pattern, text)]
    assert found == []
