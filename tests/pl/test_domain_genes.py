"""The dots of genes and domains, and genes in the tissue: what stands on the axes."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import stmmr
from stmmr import InputError
from stmmr._core.categories import PALETTE
from stmmr.pl import domain_genes, values


@pytest.fixture(scope="module")
def simulated():
    adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_genes=60)
    adata.obs["stmmr_domain"] = adata.obs["ground_truth"].cat.codes.add(1).astype(str).replace("0", None)
    adata.obs["stmmr_domain"] = pd.Categorical(adata.obs["stmmr_domain"])
    stmmr.tl.domain_genes(adata)
    return adata


def texts(labels):
    return [label.get_text() for label in labels]


def test_dots_are_shares_and_means(simulated):
    ax = domain_genes(simulated, n_genes=2)
    genes, domains = texts(ax.get_yticklabels()), texts(ax.get_xticklabels())
    assert domains == ["1", "2", "3", "4", "5"]
    assert len(genes) == len(set(genes)) == 10
    dots = ax.collections[0]
    table = stmmr.tl.domain_genes_table(simulated, against="rest").set_index(["gene", "domain"])
    expected = np.array([[table.loc[(gene, domain), "share"] for domain in domains] for gene in genes])
    sizes = dots.get_sizes().reshape(10, 5)
    np.testing.assert_allclose(sizes / sizes.max(), expected / expected.max())
    mean = np.array([[table.loc[(gene, domain), "mean"] for domain in domains] for gene in genes])
    shown = np.asarray(dots.get_array()).reshape(10, 5)
    np.testing.assert_allclose(shown, mean / mean.max(axis=1, keepdims=True))
    assert shown.argmax(axis=1).tolist() == np.repeat(range(5), 2).tolist()
    np.testing.assert_allclose(
        ax.collections[1].get_facecolors(), mpl.colors.to_rgba_array(PALETTE[:5])
    )  # the domains have the colours that they have everywhere
    ax.figure.canvas.draw()


def test_given_genes_and_axes(simulated):
    _, given = plt.subplots()
    ax = domain_genes(simulated, ["GENE007", "GENE003"], cmap="magma", ax=given)
    assert ax is given
    assert texts(ax.get_yticklabels()) == ["GENE007", "GENE003"]
    assert ax.collections[0].get_cmap().name == "magma"


def test_errors_say_what_to_do(simulated):
    with pytest.raises(InputError, match=r"found others: gene007\. Did you mean 'GENE007'"):
        domain_genes(simulated, ["gene007"])
    with pytest.raises(InputError, match="a list of gene names, found 'GENE007'"):
        domain_genes(simulated, "GENE007")
    with pytest.raises(InputError, match=r"Run stmmr\.tl\.domain_genes"):
        domain_genes(simulated, key="absent")
    adata = simulated.copy()
    adata.uns["summed"] = adata.uns["stmmr_domain_genes"].drop(columns=["share", "mean"])
    with pytest.raises(InputError, match=r"'share' in the columns of uns\['summed'\]"):
        domain_genes(adata, key="summed")
    adata.uns["stmmr_domain_genes"]["z"] = -1.0
    with pytest.raises(InputError, match="a higher mean in a domain than outside, found none"):
        domain_genes(adata)


def test_a_gene_in_the_tissue(simulated):
    adata = simulated.copy()
    ax = values(adata, "GENE005", image=False)
    (bar,) = ax.child_axes
    assert bar.get_title(loc="left") == "GENE005"
    highest = bar.get_ylim()[1]
    stmmr.pp.expression(adata)
    at = adata.var_names.get_loc("GENE005")
    assert adata.layers["stmmr_lognorm"][:, at].max() == pytest.approx(highest)
    adata.layers["tenfold"] = sparse.csc_matrix(adata.layers["stmmr_lognorm"] * 10)
    assert values(adata, "GENE005", layer="tenfold", image=False).child_axes[0].get_ylim()[1] == pytest.approx(
        10 * highest
    )
    adata.obs["GENE005"] = 7.0
    adata.obs.loc[adata.obs_names[0], "GENE005"] = 8.0
    assert values(adata, "GENE005", image=False).child_axes[0].get_ylim() == (7, 8)  # a column goes first


def test_a_gene_that_is_not_there(simulated):
    with pytest.raises(InputError, match=r"found neither; obs has .*Did you mean 'GENE005'"):
        values(simulated, "Gene005")
    with pytest.raises(InputError, match="'raw' in layers"):
        values(simulated, "GENE005", layer="raw")
    adata = simulated.copy()
    adata.layers["other"] = adata.X
    with pytest.raises(InputError, match="Expected the gene 'GENE5' among the 60 genes of the data"):
        values(adata, "GENE5", layer="other")
    adata.layers["other"] = adata.X.toarray() * np.nan
    with pytest.raises(InputError, match="finite numbers in the values of the gene 'GENE005', found none"):
        values(adata, "GENE005", layer="other")
