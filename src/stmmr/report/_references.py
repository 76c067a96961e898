"""The works that a run rests on, as text and as BibTeX."""

from __future__ import annotations

from typing import Final, NamedTuple


class Work(NamedTuple):
    """A work to cite."""

    authors: str
    title: str
    venue: str
    year: int
    doi: str
    """DOI, or the address of a work without one."""
    kind: str = "article"

    @property
    def url(self) -> str:
        """Where it is found."""
        return self.doi if self.doi.startswith("https://") else f"https://doi.org/{self.doi}"

    @property
    def where(self) -> str:
        """Write its DOI or address."""
        return self.doi if self.doi.startswith("https://") else f"doi:{self.doi}"

    def text(self) -> str:
        """Write it as one line, without where it is found."""
        authors = self.authors.replace(" and ", ", ")
        return f"{authors} ({self.year}). {self.title}. {self.venue}."

    def bibtex(self, key: str) -> str:
        """Write it as an entry of BibTeX."""
        venue = {"article": "journal", "inproceedings": "booktitle"}[self.kind]
        spot = "url" if self.doi.startswith("https://") else "doi"
        authors = self.authors.removesuffix(" et al.") + (" and others" if self.authors.endswith(" et al.") else "")
        fields = {
            "author": authors,
            "title": f"{{{self.title}}}",
            venue: self.venue,
            "year": self.year,
            spot: self.doi,
        }
        return f"@{self.kind}{{{key},\n" + "".join(f"  {name} = {{{said}}},\n" for name, said in fields.items()) + "}"


WORKS: Final = {
    "stmmr": Work(
        "Zhang, D. and Yu, N. et al.",
        "stMMR: accurate and robust spatial domain identification from spatially resolved transcriptomics with "
        "multimodal feature representation",
        "GigaScience 13, giae089",
        2024,
        "10.1093/gigascience/giae089",
    ),
    "anndata": Work(
        "Virshup, I. and Rybakov, S. and Theis, F. J. and Angerer, P. and Wolf, F. A.",
        "anndata: Access and store annotated data matrices",
        "Journal of Open Source Software 9(101), 4371",
        2024,
        "10.21105/joss.04371",
    ),
    "scanpy": Work(
        "Wolf, F. A. and Angerer, P. and Theis, F. J.",
        "SCANPY: large-scale single-cell gene expression data analysis",
        "Genome Biology 19, 15",
        2018,
        "10.1186/s13059-017-1382-0",
    ),
    "torch": Work(
        "Paszke, A. et al.",
        "PyTorch: An Imperative Style, High-Performance Deep Learning Library",
        "Advances in Neural Information Processing Systems 32",
        2019,
        "10.48550/arXiv.1912.01703",
        "inproceedings",
    ),
    "sklearn": Work(
        "Pedregosa, F. et al.",
        "Scikit-learn: Machine Learning in Python",
        "Journal of Machine Learning Research 12, 2825-2830",
        2011,
        "https://www.jmlr.org/papers/v12/pedregosa11a.html",
    ),
    "seurat": Work(
        "Stuart, T. et al.",
        "Comprehensive Integration of Single-Cell Data",
        "Cell 177(7), 1888-1902",
        2019,
        "10.1016/j.cell.2019.05.031",
    ),
    "umap": Work(
        "McInnes, L. and Healy, J. and Melville, J.",
        "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction",
        "arXiv",
        2018,
        "10.48550/arXiv.1802.03426",
    ),
    "bic": Work("Schwarz, G.", "Estimating the Dimension of a Model", "The Annals of Statistics 6(2), 461-464", 1978,
                "10.1214/aos/1176344136"),
    "vuong": Work("Vuong, Q. H.", "Likelihood Ratio Tests for Model Selection and Non-Nested Hypotheses",
                  "Econometrica 57(2), 307-333", 1989, "10.2307/1912557"),
    "ari": Work("Hubert, L. and Arabie, P.", "Comparing partitions", "Journal of Classification 2, 193-218", 1985,
                "10.1007/BF01908075"),
    "pas": Work(
        "Shang, L. and Zhou, X.",
        "Spatially aware dimension reduction for spatial transcriptomics",
        "Nature Communications 13, 7203",
        2022,
        "10.1038/s41467-022-34879-1",
    ),
    "macenko": Work(
        "Macenko, M. et al.",
        "A method for normalizing histology slides for quantitative analysis",
        "IEEE International Symposium on Biomedical Imaging, 1107-1110",
        2009,
        "10.1109/ISBI.2009.5193250",
        "inproceedings",
    ),
    "leiden": Work(
        "Traag, V. A. and Waltman, L. and van Eck, N. J.",
        "From Louvain to Leiden: guaranteeing well-connected communities",
        "Scientific Reports 9, 5233",
        2019,
        "10.1038/s41598-019-41695-z",
    ),
    "paga": Work(
        "Wolf, F. A. et al.",
        "PAGA: graph abstraction reconciles clustering with trajectory inference through a topology preserving map of "
        "single cells",
        "Genome Biology 20, 59",
        2019,
        "10.1186/s13059-019-1663-x",
    ),
    "dpt": Work(
        "Haghverdi, L. et al.",
        "Diffusion pseudotime robustly reconstructs lineage branching",
        "Nature Methods 13, 845-848",
        2016,
        "10.1038/nmeth.3971",
    ),
    "spagcn": Work(
        "Hu, J. et al.",
        "SpaGCN: Integrating gene expression, spatial location and histology to identify spatial domains and spatially "
        "variable genes by graph convolutional network",
        "Nature Methods 18, 1342-1351",
        2021,
        "10.1038/s41592-021-01255-8",
    ),
    "tradeseq": Work(
        "Van den Berge, K. et al.",
        "Trajectory-based differential expression analysis for single-cell sequencing data",
        "Nature Communications 11, 1201",
        2020,
        "10.1038/s41467-020-14766-3",
    ),
    "moran": Work("Moran, P. A. P.", "Notes on continuous stochastic phenomena", "Biometrika 37(1-2), 17-23", 1950,
                  "10.1093/biomet/37.1-2.17"),
    "fdr": Work(
        "Benjamini, Y. and Hochberg, Y.",
        "Controlling the False Discovery Rate: A Practical and Powerful Approach to Multiple Testing",
        "Journal of the Royal Statistical Society B 57(1), 289-300",
        1995,
        "10.1111/j.2517-6161.1995.tb02031.x",
    ),
}  # fmt: skip
