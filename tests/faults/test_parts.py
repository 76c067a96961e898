"""What is optional fails alone: the domains are written, run.json says what failed, and the exit status is 3."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from stmmr._core import keys

from .conftest import finish, finish_anew, new_process, some

pytestmark = pytest.mark.slow
NOT_IN_TREE = (
    "import numba.core.caching as c\n"
    "for name in dir(c):\n"
    "    if 'InTree' in name: getattr(c, name).from_function = classmethod(lambda *_: None)\n"
)
"""As where packages are installed by somebody else."""
CACHED = """
from stmmr._core.caches import prepare_command
prepare_command()
import numba
import matplotlib.pyplot
from matplotlib import font_manager
@numba.njit(cache=True)
def one_more(x):
    return x + 1
assert one_more(1) == 2
"""


def facts(folder: Path):
    return json.loads((folder / "run.json").read_text())


def run(source, folder, *arguments, by=finish, **options):
    return by("run", source, "-o", folder, "--n-domains", 3, "--no-progress", "-q", *arguments, **options)


def check_domains(folder):
    assert len((folder / "domains.csv").read_text().splitlines()) == 97
    assert keys.EMBEDDING in ad.read_h5ad(folder / "result.h5ad").obsm
    assert (folder / "model/model.json").exists()


FAILING = {
    "domains.png": "from stmmr import pl; pl.domains = lambda *a, **k: 1 / 0",
    "embedding.png": "from stmmr import pl; pl.embedding = lambda *a, **k: 1 / 0",
    "domain_genes.png": "from stmmr import pl; pl.domain_genes = lambda *a, **k: 1 / 0",
    "report.html": "from stmmr import report; report.write = lambda *a, **k: 1 / 0",
    "domain genes": "from stmmr import tl; tl.domain_genes = lambda *a, **k: 1 / 0",
    "UMAP": "from stmmr import tl; tl.umap = lambda *a, **k: 1 / 0",
    "comparison with labels": "from stmmr import tl; tl.evaluate = lambda *a, **k: 1 / 0",
}


FOLLOW = {
    "domains.png": {"domains_refined.png"},
    "domain genes": {"domain_genes.png"},
    "domain_genes.png": {"report.html"},  # draws it as well
    "UMAP": {"embedding.png"},
}


def test_failing_parts_cost_only_themselves(source, tmp_path):
    status, errors = run(source, tmp_path / "out", "--label-key", "ground_truth", before="\n".join(FAILING.values()))
    assert status == 3, errors
    check_domains(tmp_path / "out")
    assert {entry["part"] for entry in facts(tmp_path / "out")["failed"]} >= FAILING.keys() - {"domain_genes.png"}
    assert (tmp_path / "out/spatially_variable_genes.csv").exists()
    assert (tmp_path / "out/confidence.png").exists()
    assert errors.splitlines()[-1].startswith("stmmr: comparison with labels failed (division by zero); domain genes")


@pytest.mark.parametrize("part", some(FAILING))
def test_a_failing_part_costs_only_itself(source, tmp_path, part):
    status, errors = run(source, tmp_path / "out", "--label-key", "ground_truth", before=FAILING[part])
    assert status == 3, errors
    check_domains(tmp_path / "out")
    failed = facts(tmp_path / "out")["failed"]
    assert {"part": part, "reason": "division by zero"} in failed
    assert {entry["part"] for entry in failed} <= {part} | FOLLOW.get(part, set())
    assert errors.splitlines()[-1].startswith("stmmr: ")
    assert part in errors.splitlines()[-1]
    assert not (tmp_path / ".out.unfinished").exists()
    if part != "report.html":
        assert (tmp_path / "out/report.html").exists()


@pytest.mark.nightly
def test_a_failing_part_of_more_analyses(result, tmp_path):
    before = "from stmmr import pl; pl.paga = lambda *a, **k: 1 / 0"
    status, errors = finish("analyse", result, "--trajectory", "-q", "--no-progress", before=before)
    assert status == 3, errors
    assert {entry["part"] for entry in facts(result)["failed"]} == {"paga.png", "report.html"}
    assert "written without 1 of its figures (division by zero)" in json.dumps(facts(result)["failed"])
    assert (result / "report.html").exists()
    assert (result / "trajectory.png").exists()
    assert keys.PSEUDOTIME in ad.read_h5ad(result / "result.h5ad").obs
    status, errors = finish("analyse", result, "--trajectory", "-q", "--no-progress")
    assert status == 0, errors
    assert "failed" not in facts(result)


BACKENDS = ["module://matplotlib_inline.backend_inline", "module://none.such", "none", "tkagg"]


@pytest.mark.parametrize("backend", some(BACKENDS))
def test_backend_of_a_notebook(source, tmp_path, backend):
    status, errors = run(source, tmp_path / "out", by=finish_anew, MPLBACKEND=backend, DISPLAY=None)
    assert status == 0, errors
    assert (tmp_path / "out/domains.png").exists()


@pytest.fixture(params=["default", "named"])
def homeless(request, tmp_path):
    """An environment in which neither numba nor matplotlib finds a folder for its cache."""
    (tmp_path / "file").touch()
    home = str(tmp_path / "file/home")
    named = {"NUMBA_CACHE_DIR": f"{home}/numba", "MPLCONFIGDIR": f"{home}/mpl"} if request.param == "named" else {}
    unset = dict.fromkeys(("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"))
    return unset | named | {"HOME": home, "MPLBACKEND": "module://none.such"}


def test_functions_are_compiled_where_nothing_can_be_written_at_home(homeless, tmp_path):
    """As those of umap and scanpy are."""
    (tmp_path / "cached.py").write_text(NOT_IN_TREE + CACHED)
    done = new_process(tmp_path / "cached.py", **homeless)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.nightly
def test_nothing_can_be_written_at_home(source, tmp_path, homeless):
    """All functions of umap are compiled, which takes long."""
    status, errors = run(source, tmp_path / "out", by=finish_anew, before=NOT_IN_TREE, **homeless)
    assert status == 0, errors
    assert "Matplotlib" not in errors
    assert (tmp_path / "out/embedding.png").exists()


@pytest.mark.nightly
@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0 or any(not p.stat().st_mode & 1 for p in Path(sys.base_prefix).parents),
    reason="needs to become another user, who can use this Python",
)
def test_another_user_without_a_home(source, tmp_path):
    """As a container that runs as any user."""
    (tmp_path / "results").mkdir(mode=0o777)
    (tmp_path / "results").chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    before = "import os; os.setgid(65534); os.setuid(65534)"
    status, errors = run(source, tmp_path / "results/out", by=finish_anew, before=before, HOME="/nonexistent")
    assert status == 0, errors
    assert (tmp_path / "results/out/embedding.png").exists()


HOSTILE = ["$x$", "a$b", r"$\frac{$", "HLA/A", "_^{}", "<b>&amp;", "%2F"]


@pytest.mark.parametrize("usetex", some([False, True], True))
def test_names_with_dollars_and_slashes(tissue, tmp_path, usetex):
    adata = tissue.copy()
    adata.var_names = [HOSTILE[i % len(HOSTILE)] + ("" if i < len(HOSTILE) else str(i)) for i in range(adata.n_vars)]
    adata.obs["slide"] = np.where(np.arange(adata.n_obs) < adata.n_obs // 2, "$x$", r"$\frac{$")
    adata.obs["label"] = [HOSTILE[i % len(HOSTILE)] for i in range(adata.n_obs)]
    adata.write_h5ad(tmp_path / "in.h5ad")
    (tmp_path / "sets.gmt").write_text(
        "".join(f"{name}\tnone\t" + "\t".join(adata.var_names[:12]) + "\n" for name in ("$x$", "a/b"))
    )
    options = ("--section-key", "slide", "--label-key", "label", "--trajectory")
    options += ("--gene-sets", tmp_path / "sets.gmt")
    if not usetex and find_spec("torch"):
        options += ("--enhance-gene", "HLA/A", "--enhance-gene", "$x$")
    before = "import matplotlib; matplotlib.rcParams['text.usetex'] = True" if usetex else ""
    status, errors = run(tmp_path / "in.h5ad", tmp_path / "out", *options, before=before)
    assert status == 0, errors
    assert "failed" not in facts(tmp_path / "out")
    assert (tmp_path / "out/composition.png").exists()
    assert "$x$" in (tmp_path / "out/spatially_variable_genes.csv").read_text()
