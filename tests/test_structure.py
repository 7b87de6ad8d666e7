"""The house keeps its rules, and each rule notices when it is broken."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import scratchvae
from tests.structure import rules

ROOT = Path(__file__).resolve().parents[1]

Rule = Callable[[Path], list[str]]

# A small house that keeps every rule; each breach below breaks one thing in it.
SMALL_HOUSE = {
    "scratchvae/__init__.py": '''
        """Loads nothing."""
        __version__ = "1"
        ''',
    "scratchvae/cli.py": '''
        """The command line."""
        def main() -> int:
            """Run."""
            from scratchvae import validation
            return 0
        ''',
    "scratchvae/validation.py": '''
        """Checks."""
        ''',
    "scratchvae/layers/__init__.py": '''
        """Layers."""
        ''',
    "scratchvae/layers/dense.py": '''
        """The dense layer. (1.1)"""
        from typing import NamedTuple
        import scratchvae.kernels
        from scratchvae import __version__
        __all__ = ["DenseCache", "dense_backward", "dense_forward"]

        def dense_forward(x: np.ndarray) -> np.ndarray:
            """y = x W, x of shape (B, D). (1.1)"""
            return scratchvae.kernels.matmul(x)

        class DenseCache(NamedTuple):
            """What is kept."""
            x: np.ndarray

        def dense_backward(dy: np.ndarray) -> np.ndarray:
            """dx, of shape (B, D)."""
            # dx = dy Wᵀ   (1.2)
            return dy

        def _helper():
            return None
        ''',
    "scratchvae/layers/stack.py": '''
        """Stacks, after (1.1, 1.2)."""
        import scratchvae
        from .dense import dense_forward
        print(scratchvae.__version__)
        ''',
    "scratchvae/kernels/__init__.py": '''
        """Chooses."""
        ''',
    "scratchvae/kernels/reference/__init__.py": '''
        """Plain."""
        from .matmul import matmul
        __all__ = ["matmul"]
        ''',
    "scratchvae/kernels/compiled/__init__.py": '''
        """Compiled."""
        from .matmul import matmul
        __all__ = ["matmul"]
        ''',
    "scratchvae/kernels/compiled/threads.py": '''
        """A helper without a twin."""
        __all__ = ["num_threads"]

        def num_threads():
            """How many."""
        ''',
    "scratchvae/kernels/reference/matmul.py": '''
        """Plain."""
        __all__ = ["matmul"]

        def matmul(a: np.ndarray, b=1):
            """The plain product of a, shape (M, K)."""
            return a @ b
        ''',
    "scratchvae/kernels/compiled/matmul.py": '''
        """Compiled."""
        __all__ = ["matmul"]

        def _matmul(a: np.ndarray, b=1):
            """The compiled product."""
            return a @ b

        matmul = njit(fastmath={"contract"})(_matmul)
        ''',
    "derivations/00-notation.md": r"""
        # 00 Notation
        """,
    "derivations/01-dense.md": r"""
        # 01 Dense
        **Definitions**: (1.1)
        $$ y = xW \tag{1.1} $$
        It follows from (1.1), for $x$ near $(0.5)$, that
        $$ dx = dy W^T \tag{1.2} $$

        ## In code

        `dense_forward`, `dense_backward(dy)`, each `_backward`, `DenseCache.x` in
        `scratchvae/layers/dense.py`; `y = x W`.

        ## References
        """,
    "derivations/02-matmul.md": r"""
        # 02 Matmul

        *In code.* `matmul`.

        The name `nowhere` stands outside.
        """,
    "tests/oracles/dense.py": """
        import numpy as np
        """,
    "tests/layers/test_dense.py": """
        import pytest

        @pytest.mark.parametrize("x", [1])
        @pytest.mark.equation("1.2")
        def test_dense(x):
            pass
        """,
    "tests/kernels/test_matmul.py": "",
}

DENSE = "scratchvae/layers/dense.py"
STACK = "scratchvae/layers/stack.py"
PLAIN = "scratchvae/kernels/reference/matmul.py"
COMPILED = "scratchvae/kernels/compiled/matmul.py"
NOTE = "derivations/01-dense.md"
TEST = "tests/layers/test_dense.py"
END = ""  # nothing is replaced: the new text is added at the end of the file

# rule: (file, what is replaced, by what, what the violation says), ...; a file with None is taken away
BREACHES: dict[Rule, list[tuple[str, str | None, str, str]]] = {
    rules.imports_point_downwards: [
        (DENSE, END, "import scratchvae.cli", "which lies above it"),
        (DENSE, END, "def f():\n    from scratchvae import cli", "which lies above it"),
        (DENSE, END, "from ..cli import main", "which lies above it"),
        (DENSE, END, "from ..models.vae import VAE", "layers imports scratchvae.models"),
        (DENSE, END, 'importlib.import_module("scratchvae.cli")', "which lies above it"),
        (DENSE, END, "if TYPE_CHECKING:\n    import scratchvae.lab", "which lies above it"),
        (DENSE, END, "from scratchvae import VAE", "through the front door"),
        (DENSE, END, "import scratchvae as sv", "through the front door"),
        (
            DENSE,
            END,
            "import scratchvae as sv\nsv.VAE(sv.__version__)",
            "scratchvae.VAE comes through the front",
        ),
        (DENSE, END, "from . import stack", "import each other"),
        ("scratchvae/attic.py", END, '"""Lost things."""', "no place in the order"),
    ],
    rules.no_automatic_differentiation: [
        (DENSE, END, "def f():\n    import torch.nn", "imports torch.nn"),
        (DENSE, END, "from jax import grad", "imports jax.grad"),
        ("scratchvae/cli.py", END, "import autograd.numpy as np", "imports autograd"),
    ],
    rules.oracles_are_independent: [
        ("tests/oracles/dense.py", END, "from scratchvae.layers import dense", "shares no code"),
        ("tests/oracles/deep/er.py", END, "import scratchvae", "shares no code"),
    ],
    rules.notes_modules_and_tests_share_stems: [
        ("derivations/03-lost.md", END, "# 03", "found: none"),
        ("derivations/3-lost.md", END, "# 3", "is not called"),
        ("derivations/01-stack.md", END, "# 01", "have the number 01"),
        ("derivations/03-stack.md", END, "# 03", "no tests/layers/test_stack.py"),
        ("scratchvae/lab/dense.py", END, "", "found: lab, layers"),
        (PLAIN, None, "", "found: kernels/compiled"),
        (TEST, None, "", "no tests/layers/test_dense.py"),
    ],
    rules.equations_are_checked: [
        (NOTE, END, r"\tag{2.1}", "the tag 2.1 is not 1."),
        (NOTE, END, r"\tag{1.3a}", "the tag 1.3a is not 1."),
        (NOTE, END, r"\tag{1.2}", "the tag 1.2 is taken"),
        (NOTE, END, r"\tag{1.3}", "(1.3) has no test"),
        (NOTE, "**: (1.1)", "**: (1.1), (1.4)", "(1.4) is called a definition but"),
        (TEST, '"1.2"', '"1.2", "1.9"', "marks equation 1.9, which no note has"),
        (TEST, "def test_dense", "def helper", "(1.2) has no test"),
    ],
    rules.citations_exist: [
        (DENSE, END, "# after (1.7)", "cites (1.7)"),
        (DENSE, END, "x = 1  # (1.1, 1.7)", "cites (1.7)"),
        (STACK, "(1.1, 1.2)", "(1.1)–(1.8)", "cites (1.8)"),
        (NOTE, "It follows from (1.1)", "It follows from (4.1)", "cites (4.1)"),
    ],
    rules.backward_functions_cite: [
        (DENSE, "(1.2)", "", "dense_backward cites no equation"),
    ],
    rules.backward_follows_forward: [
        (DENSE, "class DenseCache", "def f():\n    pass\n\nclass DenseCache", "not followed at once"),
        (DENSE, "def dense_forward", "def dense_fwd", "has no dense_forward beside it"),
    ],
    rules.public_names_are_documented: [
        (DENSE, END, "def f():\n    pass", "f has no docstring"),
        (DENSE, END, "class C:\n    x = 1", "C has no docstring"),
        (DENSE, '["Dense', '["_helper", "Dense', "_helper has no docstring"),
        (DENSE, '["Dense', '["gone", "Dense', "gone is in __all__ and nowhere else"),
        (DENSE, "x of shape (B, D). (1.1)", "after (1.1)", "gives no shape"),
        (DENSE, "shape (B, D).", "(Kingma and Welling, 2014).", "gives no shape"),
        (DENSE, END, "class C:\n    'C.'\n    def g(self): ...", "C.g has no docstring"),
        (
            DENSE,
            END,
            "class C:\n    'C.'\n    def g(self, x: list[NDArray]):\n        'g.'",
            "C.g has arrays",
        ),
        (DENSE, END, "class C:\n    'C.'\n    def __init__(self, x: np.ndarray | None): ...", "C has arrays"),
        (COMPILED, '"""The compiled product."""', "", "matmul has no docstring"),
        (PLAIN, ", shape (M, K)", "", "matmul has arrays"),
        ("scratchvae/layers/new.py", END, "x = 1", "scratchvae.layers.new has no docstring"),
    ],
    rules.kernel_twins_agree: [
        (
            "scratchvae/kernels/reference/__init__.py",
            '["matmul"]',
            '["matmul", "other"]',
            "other has no twin",
        ),
        ("scratchvae/kernels/compiled/__init__.py", '["matmul"]', "[]", "matmul has no twin"),
        (PLAIN, '["matmul"]', "[]", "matmul stands in no module plain"),
        (PLAIN, "b=1", "b=2", "matmul is called with (a, b=2) plain and (a, b=1) compiled"),
        (PLAIN, "b=1", "*, b=1", "(a, *, b=1) plain"),
        (PLAIN, "(a: np", "(x: np", "(x, b=1) plain"),
    ],
    rules.no_flag_lies: [
        (COMPILED, '{"contract"}', "True", "fastmath=True"),
        (COMPILED, '{"contract"}', '{"reassoc", "nnan"}', "nnan makes isnan lie"),
        (COMPILED, 'njit(fastmath={"contract"})(_matmul)', 'compile_kernel(_matmul, ["ninf"])', "ninf makes"),
    ],
    rules.modules_are_short: [
        (DENSE, END, "\n" * 400, "lines, more than 400"),
    ],
    rules.notes_name_existing_code: [
        (NOTE, "`dense_forward`", "`dense_fwd`", "names dense_fwd"),
        (NOTE, "DenseCache.x", "DenseCache.z", "names DenseCache.z"),
        (NOTE, "layers/dense.py", "layers/thick.py", "names scratchvae/layers/thick.py"),
        (NOTE, "## In code", "## In practice", 'no part "In code"'),
        ("derivations/02-matmul.md", "`matmul`", "`matmull`", "names matmull"),
    ],
    rules.import_is_light: [
        ("scratchvae/__init__.py", END, "import numpy", "loads numpy"),
    ],
    rules.help_is_light: [
        ("scratchvae/validation.py", END, "import numpy", "`scratchvae --help` loads numpy"),
        ("scratchvae/cli.py", "return 0", "return 2", "exit status 2"),
    ],
}


@pytest.mark.parametrize("rule", BREACHES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    violations = rule(ROOT)
    assert not violations, "\n" + "\n".join(violations)


@pytest.mark.parametrize("name", scratchvae.__all__)
def test_exported_name_is_there(name: str) -> None:
    assert getattr(scratchvae, name) is not None


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    for name, text in SMALL_HOUSE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("rule", BREACHES, ids=lambda rule: rule.__name__)
def test_small_house_keeps_the_rule(rule: Rule, small_house: Path) -> None:
    assert rule(small_house) == []


@pytest.mark.parametrize(
    ("rule", "name", "old", "new", "says"),
    [
        pytest.param(rule, *breach, id=f"{rule.__name__}-{i}")
        for rule, breaches in BREACHES.items()
        for i, breach in enumerate(breaches)
    ],
)
def test_breach_is_noticed(
    rule: Rule, name: str, old: str | None, new: str, says: str, small_house: Path
) -> None:
    path = small_house / name
    if old is None:
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        assert old in text
        path.write_text(text.replace(old, new, 1) if old else f"{text}\n{new}\n", encoding="utf-8")
    violations = rule(small_house)
    assert any(says in violation for violation in violations), violations


def test_every_rule_is_in_the_table() -> None:
    written = {
        value
        for name, value in vars(rules).items()
        if inspect.isfunction(value) and value.__module__ == rules.__name__
    }
    assert {rule for rule in written if not rule.__name__.startswith("_")} == set(BREACHES)
