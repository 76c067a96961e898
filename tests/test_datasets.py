"""The simulated tissue: its format, its domains and its image."""

import hashlib
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import KDTree
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import stmmr
from fuzz.seeds import write_visium
from stmmr import InputError, datasets
from stmmr.datasets import simulated_tissue


@pytest.fixture(scope="module")
def tissue():
    return simulated_tissue()


def values(adata):
    counts = adata.X.toarray()
    return np.log1p(1000 * counts / counts.sum(axis=1, keepdims=True))


def test_counts_are_whole_numbers_in_csr(tissue):
    assert isinstance(tissue.X, sparse.csr_matrix)
    assert tissue.X.dtype == np.float32
    assert tissue.n_vars == 400
    np.testing.assert_array_equal(tissue.X.data, np.rint(tissue.X.data))
    assert (tissue.X.sum(axis=1) > 0).all()


def test_spots_are_on_the_array(tissue):
    row, column = tissue.obs["array_row"].to_numpy(), tissue.obs["array_col"].to_numpy()
    assert ((row + column) % 2 == 0).all()
    micrometres = tissue.obsm["spatial"] * tissue.uns["spatial"]["simulated"]["scalefactors"]["microns_per_pixel"]
    lattice = np.column_stack([50 * column, np.sqrt(0.75) * 100 * row])
    np.testing.assert_allclose(micrometres - micrometres[0], lattice - lattice[0], atol=1e-6)
    assert 0.5 * 1600 < tissue.n_obs < 0.95 * 1600  # the outline leaves the corners out
    assert tissue.obs_names.is_unique


@pytest.mark.parametrize("n_domains", [2, 5, 8])
def test_truth_has_every_domain_and_a_few_gaps(n_domains):
    truth = simulated_tissue(n_domains=n_domains, n_genes=20, random_state=1).obs["ground_truth"]
    assert len(truth.cat.categories) == n_domains
    assert truth.value_counts().min() >= 20
    assert 0 < truth.isna().mean() < 0.03


def test_layers_are_thick_and_thin_and_the_nodule_is_round(tissue):
    truth = tissue.obs["ground_truth"]
    sizes = truth.value_counts()
    assert sizes["Layer 1"] > 2 * sizes["Layer 2"]
    nodule = tissue.obsm["spatial"][(truth == "Nodule").to_numpy()]
    spread = np.linalg.eigvalsh(np.cov(nodule.T))
    assert spread[1] < 1.5 * spread[0]


def test_markers_and_gradient_are_what_they_say(tissue):
    expression, truth = values(tissue), tissue.obs["ground_truth"]
    marker_of = tissue.var["marker_of"]
    for domain in truth.cat.categories:
        inside = (truth == domain).to_numpy()
        contrast = expression[inside].mean(axis=0) - expression[~inside].mean(axis=0)
        assert contrast[marker_of == domain].mean() > 0.1
        assert abs(contrast[marker_of.isna()].mean()) < 0.05
    along = tissue.obsm["spatial"] @ [0.8, 0.6]
    correlation = np.abs([np.corrcoef(along, gene)[0, 1] for gene in expression.T])
    gradient = tissue.var["gradient"]
    assert gradient.sum() == 40
    assert correlation[gradient].mean() > 2 * correlation[~gradient & marker_of.isna()].mean()


def test_counts_vary_more_than_poisson(tissue):
    noise = tissue[:, tissue.var["marker_of"].isna() & ~tissue.var["gradient"]].X.toarray()
    total = tissue.X.toarray().sum(axis=1)
    expected = total[:, None] * (noise.sum(axis=0) / total.sum())
    abundant = expected.mean(axis=0) > 3
    assert ((noise - expected) ** 2 / expected)[:, abundant].mean() > 1.3  # 1 for Poisson
    assert total.std() / total.mean() > 0.2


def test_truth_can_be_recovered_better_with_neighbours(tissue):
    known = tissue.obs["ground_truth"].notna().to_numpy()
    scores = PCA(15, random_state=0).fit_transform(values(tissue))
    _, neighbours = KDTree(tissue.obsm["spatial"]).query(tissue.obsm["spatial"], 7)

    def agreement(features):
        found = KMeans(5, n_init=5, random_state=0).fit_predict(features)
        return adjusted_rand_score(tissue.obs["ground_truth"][known], found[known])

    assert agreement(scores[neighbours].mean(axis=1)) > max(0.6, agreement(scores))


def test_image_shows_tissue_at_the_spots(tissue):
    library = tissue.uns["spatial"]["simulated"]
    image = library["images"]["hires"]
    assert image.dtype == np.uint8
    assert 800 < max(image.shape[:2]) < 1400
    x, y = (tissue.obsm["spatial"] * library["scalefactors"]["tissue_hires_scalef"]).astype(int).T
    lightness = image.mean(axis=2)
    assert np.median(lightness[y, x]) < 210
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert border.min() > 220  # glass all around


def test_image_shows_the_domains(tissue):
    """More haematoxylin, that is less red, in the nodule than in the first layer."""
    library = tissue.uns["spatial"]["simulated"]
    x, y = (tissue.obsm["spatial"] * library["scalefactors"]["tissue_hires_scalef"]).astype(int).T
    red = np.array(
        [library["images"]["hires"][b - 6 : b + 7, a - 6 : a + 7, 0].mean() for a, b in zip(x, y, strict=True)]
    )
    truth = tissue.obs["ground_truth"]
    assert red[truth == "Nodule"].max() < np.median(red[truth == "Layer 1"])


def test_same_seed_same_tissue():
    options = {"n_rows": 10, "n_cols": 12, "n_genes": 30}
    first, second, other = (simulated_tissue(**options, random_state=seed) for seed in (3, 3, 4))
    assert (first.X != second.X).nnz == 0
    assert first.obs.equals(second.obs)
    image = first.uns["spatial"]["simulated"]["images"]["hires"]
    np.testing.assert_array_equal(image, second.uns["spatial"]["simulated"]["images"]["hires"])
    assert not np.array_equal(image, other.uns["spatial"]["simulated"]["images"]["hires"])


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulated_tissue(n_rows=8, n_cols=8, n_genes=10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_survives_the_file(tmp_path):
    tissue = simulated_tissue(n_rows=9, n_cols=9, n_genes=20)
    tissue.write_h5ad(tmp_path / "tissue.h5ad")
    read = ad.read_h5ad(tmp_path / "tissue.h5ad")
    assert read.obs["ground_truth"].equals(tissue.obs["ground_truth"])
    assert read.var["marker_of"].equals(tissue.var["marker_of"])


@pytest.mark.parametrize("options", [{"n_rows": 7}, {"n_cols": 0}, {"n_domains": 1}, {"n_genes": 4}])
def test_impossible_sizes_are_refused(options):
    name, value = next(iter(options.items()))
    with pytest.raises(InputError, match=rf"{name}\b.*{value}"):
        simulated_tissue(**options)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Publish a small Visium folder on this machine under the name of a public section."""
    sample = datasets.PUBLISHED["mouse-brain"].sample
    site = tmp_path / "site" / sample
    site.mkdir(parents=True)
    outs = write_visium(tmp_path, datasets.COUNTS, "tissue_positions.csv")
    (outs / datasets.COUNTS).rename(site / f"{sample}_{datasets.COUNTS}")
    with tarfile.open(site / f"{sample}_{datasets.POSITIONS}", "w:gz") as archive:
        archive.add(outs / "spatial", "spatial")
    sha256 = {
        path.name.removeprefix(f"{sample}_"): hashlib.sha256(path.read_bytes()).hexdigest() for path in site.iterdir()
    }
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site")))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(datasets, "ADDRESS", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setitem(datasets.PUBLISHED, "mouse-brain", datasets.Published(sample, sha256))
    yield site
    server.shutdown()
    server.server_close()


def test_public_section_is_downloaded_once_and_checked(served, tmp_path):
    path = datasets.fetch("mouse-brain", folder=tmp_path / "kept")
    assert stmmr.read(path).n_obs == 49
    for file in served.iterdir():
        file.write_bytes(b"replaced")
    assert datasets.fetch("mouse-brain", folder=tmp_path / "kept") == path  # nothing is downloaded again
    with pytest.raises(InputError, match="Expected the file with the SHA-256"):
        datasets.fetch("mouse-brain", folder=tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*.h5"))


def test_without_a_connection_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(InputError, match=r"Expected a connection .*found none .*put it at"):
        datasets.fetch("human-lymph-node", folder=tmp_path)
    with pytest.raises(InputError, match="one of human-lymph-node, mouse-brain, found 'nothing'"):
        datasets.fetch("nothing")
