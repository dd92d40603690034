"""Imports point down only, packages say what is public, and every module is used."""

import ast

import pytest

from artesian.cli.app import VERBS
from tests.tidy import source

# What each package may import besides itself. Read it as the diagram of docs/ARCHITECTURE.md.
LEAVES = {"config", "machine"}
MODEL = LEAVES | {"attention", "loader", "models", "ops", "quant", "skip", "speculate"}
ENGINE = MODEL | {"cluster.policies", "context", "engine", "kvcache", "pool"}
MAY_IMPORT = {
    "machine": set[str](),
    "config": {"machine"},
    "pool": LEAVES,
    "files": LEAVES | {"pool"},
    "ops": {"machine"},
    "models": LEAVES | {"ops"},
    "quant": LEAVES | {"ops"},
    "attention": LEAVES | {"ops"},
    "skip": LEAVES | {"ops"},
    "speculate": LEAVES | {"attention", "skip"},
    "kvcache": LEAVES | {"ops"},
    "context": {"kvcache", "pool"},
    "loader": LEAVES | {"attention", "models", "ops", "quant"},
    "engine": ENGINE,
    "calibrate": ENGINE | {"eval"},
    "eval": ENGINE,
    "plots": set(),
    "metrics": {"config", "engine"},
    # Policies are below everything: engine, workers, cluster and simulator run the same ones.
    "cluster.policies": set[str](),
    "cluster": ENGINE | {"cluster.policies", "profile", "metrics", "worker"},
    "profile": ENGINE,
    "sim": {"cluster.policies", "context", "files", "loader", "profile"},
    "worker": ENGINE | {"metrics"},
    "bench": ENGINE,
    "doctor": ENGINE | {"pool"},
    "api": ENGINE | {"cluster", "metrics", "worker"},
    "cli": ENGINE
    | {"api", "bench", "calibrate", "cluster", "doctor", "eval", "files", "plots", "pool"}
    | {"profile", "sim"},
}
# The only modules that see Rust: thin wrappers, each over one part of it.
MAY_IMPORT_CORE = {
    "context.disk",
    "context.host",
    "context.mover",
    "engine.offload",
    "engine.sampler",
    "files.tree",
    "kvcache.hashing",
    "kvcache.landing",
    "kvcache.region",
    "loader.native",
    "ops",
    "pool.native",
}

# What fast code is compared with, by tests alone.
TWINS = {"artesian.loader.reference"}


def layer(name: str) -> str:
    """The key of `MAY_IMPORT` that a dotted name belongs to: the longest that begins it."""
    parts = name.split(".")[1:]
    nested = ".".join(parts[:2])
    return nested if nested in MAY_IMPORT else "".join(parts[:1])


def test_every_package_has_a_place() -> None:
    packages = {m.package for m in source.modules() if m.path.name == "__init__.py"} - {""}
    assert packages <= MAY_IMPORT.keys(), "give new packages their layer here and in the docs"


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_imports_point_down(package: str) -> None:
    wrong = [
        f"{module.name} imports {name}"
        for module in source.modules()
        if layer(module.name) == package
        for name in source.imports(module)
        if layer(name) in MAY_IMPORT.keys() - MAY_IMPORT[package] - {package}
    ]
    assert not wrong, "\n".join(wrong)


def test_only_thin_wrappers_see_rust() -> None:
    wrong = []
    for module in source.modules():
        below = module.name.removeprefix("artesian.")
        allowed = any(below == name or below.startswith(f"{name}.") for name in MAY_IMPORT_CORE)
        if not allowed and any(n.startswith("artesian._core") for n in source.imports(module)):
            wrong.append(module.name)
    assert not wrong, f"go through {sorted(MAY_IMPORT_CORE)} instead"


def test_every_module_is_used() -> None:
    """A module that nothing imports or names is dead, however well it is tested."""
    modules = source.modules()
    used = {name for module in modules for name in source.imports(module) - {module.name}}
    used |= {f"artesian.cli.{verb}" for verb, _ in VERBS}
    dead = {
        module.name
        for module in modules
        if module.path.name not in ("__init__.py", "__main__.py")
        and module.name not in used | TWINS
        and not any(f'"{module.name}"' in source.text(other.path) for other in modules)
    }
    assert not dead


def test_public_names_are_listed() -> None:
    """`__all__` (ruff sorts it) names exactly what an `__init__` takes from below or defines."""
    for module in source.modules():
        if module.path.name != "__init__.py":
            continue
        listed = exported_names(module.tree)
        if listed is None:
            continue
        defined = defined_names(module)
        missing = set(listed) - defined
        assert not missing or has_getattr(module.tree), f"{module.name} lacks {missing}"
        unlisted = {name for name in defined if not name.startswith("_")} - set(listed)
        assert not unlisted, f"{module.name}.__all__ lacks {unlisted}"


def exported_names(tree: ast.Module) -> list[str] | None:
    """The value of `__all__`, if the module has one."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def has_getattr(tree: ast.Module) -> bool:
    """Whether the module makes names on demand."""
    return any(isinstance(n, ast.FunctionDef) and n.name == "__getattr__" for n in tree.body)


def defined_names(module: source.Module) -> set[str]:
    """Names that an `__init__` imports from below itself, and what it defines."""
    names: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(module.name + "."):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(t.id for t in targets if isinstance(t, ast.Name))
    return names
