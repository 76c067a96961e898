"""Genes come back from the page as they were packed."""

import base64
import zlib

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import stmmr
from stmmr.report import _packed

from .conftest import made_section


def unpacked(genes, n):
    """Read all genes as the page does, shape (n, n_genes)."""
    columns = []
    ends = [*genes.starts[1:], len(genes.names)]
    for block, start, end in zip(genes.blocks, genes.starts, ends, strict=True):
        raw = zlib.decompress(base64.b64decode(block))
        heads = np.frombuffer(raw, "<u4", 2 * (end - start)).reshape(-1, 2)
        step, code = 8 * len(heads), 8 * len(heads) + int(heads[:, 1].sum())
        for n_values, n_bytes in heads:
            column, spot, values = np.zeros(n), -1, iter(raw[code : code + n_values])
            carry = 0
            for byte in raw[step : step + n_bytes]:
                carry += byte
                if byte < 255:
                    spot += 1 + carry
                    carry = 0
                    column[spot] = genes.levels[next(values)]
            columns.append(column)
            step, code = step + n_bytes, code + n_values
        assert code == len(raw)
    return np.column_stack(columns)


@pytest.mark.parametrize("shuffled", [False, True])
def test_counts_come_back(monkeypatch, shuffled):
    monkeypatch.setattr(_packed, "BLOCK", 500)
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.3, 2, 40), (900, 40))
    counts[700:, 3], counts[:, 4] = 0, 0
    counts[899, 3] = 1  # 199 spots or more without any before it
    adata = AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    order = rng.permutation(900) if shuffled else np.arange(900)
    genes = _packed.pack(adata, _packed.source_of(adata), [], order)
    assert len(genes.blocks) > 3
    seen = counts.any(axis=0)
    assert genes.names == list(adata.var_names[seen])
    np.testing.assert_array_equal(unpacked(genes, 900), counts[order][:, seen])


def test_large_counts_are_kept_within_steps():
    rng = np.random.default_rng(0)
    counts = np.rint(rng.lognormal(4, 2, (300, 20)))
    adata = AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    genes = _packed.pack(adata, _packed.source_of(adata), [], np.arange(300))
    found, seen = unpacked(genes, 300), counts.any(axis=0)
    small = counts[:, seen] <= _packed.EXACT
    np.testing.assert_array_equal(found[small], counts[:, seen][small])
    np.testing.assert_allclose(found[~small], counts[:, seen][~small], rtol=0.06)


def test_values_without_counts_are_those_that_are_there():
    adata = made_section(400)
    adata.X = adata.layers["stmmr_lognorm"].copy()
    source = _packed.source_of(adata)
    assert source.size is None
    genes = _packed.pack(adata, source, [], np.arange(400))
    np.testing.assert_allclose(unpacked(genes, 400), adata.X.toarray(), rtol=0.03, atol=0.01)


def test_of_too_many_genes_the_most_variable_are_kept_and_the_page_says_so(page_of, monkeypatch):
    names = [f"GENE{k}" for k in range(200)]
    adata = made_section(400, genes=names)
    adata.var["stmmr_highly_variable"] = np.arange(200) >= 150
    monkeypatch.setattr(_packed, "BYTES", 20_000)
    source = _packed.source_of(adata)
    genes = _packed.pack(adata, source, ["GENE7"], np.arange(400))
    kept = set(genes.names)
    assert sum(map(len, genes.blocks)) * 3 / 4 < 21_000
    assert "GENE7" in kept
    assert 20 < len(kept) < 190
    assert len(kept & set(names[150:])) == min(50, len(kept) - 1)
    assert f"{len(kept):,} most variable of 200 genes" in page_of(adata).said().replace("GENE7", "")


def test_of_genes_with_one_name_the_first_is_taken(section):
    section.var_names = ["GENE", "GENE"]
    genes = _packed.pack(section, _packed.source_of(section), [], np.arange(400), only=["GENE"])
    np.testing.assert_array_equal(unpacked(genes, 400)[:, 0], section.X[:, 0].toarray().ravel())


def test_genes_that_are_named_are_the_only_ones(page_of, section):
    page = page_of(section, genes=["GENE2"])
    assert [a["placeholder"] for a in page.of("input") if a.get("id") == "gene"] == ["search 1"]
    assert "that were named" in page.said()
    assert "gene" not in {a.get("id") for a in page_of(section, genes=[]).of("input")}


def test_as_small_as_promised():
    adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_domains=3, n_genes=200)
    source = _packed.source_of(adata)
    genes = _packed.pack(adata, source, [], np.arange(adata.n_obs))
    # so few bytes for each value that 3,639 spots with 8,513 genes or 36,602 cells with 248 take about 3 MB
    assert sum(map(len, genes.blocks)) < 1.5 * source.statistics.seen.sum()
