"""The outputs of tutorials on real data: `python -m benchmarks.tutorials` keeps them in docs/tutorials/real_*.md.

The pages are built where the data are not. Each cell is therefore followed by its printed output and its figure, shown
only there. `--only NAME` runs one page.
"""

import argparse
import ast
import contextlib
import io
import os
import re

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt

from benchmarks._table import DATA, ROOT
from benchmarks.gallery import smaller
from stmmr.pl.canvas import save_figure

TUTORIALS = ROOT / "docs" / "tutorials"
IMAGES = ROOT / "docs" / "images" / "tutorials"
WIDEST = 600
"""Width of a figure with one axes in pixels, at most; of one with several, half as much more."""
CELL = re.compile(
    r"^```\{code-cell\}\n(?P<code>.*?)^```\n(?:\n:::\{only\} not realdata\n<!-- output -->\n.*?^:::\n)?", re.M | re.S
)


def run(code, names):
    """Run a cell as a notebook does; get what it prints, with the value of its last line unless that ends with ;."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102 - our own pages
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
            if not code.rstrip().endswith(";") and value is not None:
                print(value.to_string() if isinstance(value, pd.DataFrame) else value)
    return printed.getvalue()


def kept(text, figures):
    """Write the block with the output of a cell; empty without output."""
    parts = [f"```text\n{text.rstrip()}\n```"] if text.strip() else []
    parts += [f"![Figure of the cell above](../images/tutorials/{path.name})" for path in figures]
    body = "\n\n".join(parts)
    return f"\n:::{{only}} not realdata\n<!-- output -->\n{body}\n:::\n" if parts else ""


def page(path):
    """Run the cells of a page, and write it again with their outputs."""
    names, number = {}, 0

    def replaced(match):
        nonlocal number
        text = run(match["code"], names)
        figures = []
        for figure in map(plt.figure, plt.get_fignums()):
            number += 1
            figures.append(IMAGES / f"{path.stem}_{number}.png")
            save_figure(figure, figures[-1], exact=False)
            several = len([ax for ax in figure.axes if ax.get_subplotspec()]) > 1
            smaller(figures[-1], width=WIDEST * 3 // 2 if several else WIDEST)
        plt.close("all")
        return f"```{{code-cell}}\n{match['code']}```\n{kept(text, figures)}"

    path.write_text(CELL.sub(replaced, path.read_text(encoding="utf-8")), encoding="utf-8")


def main():
    """Run the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="such as real_cortex")
    only = parser.parse_args().only
    mpl.use("agg")
    os.environ["STMMR_SHARED"] = str(DATA.parent)
    IMAGES.mkdir(exist_ok=True)
    for path in sorted(TUTORIALS.glob("real_*.md")):
        if only in (None, path.stem):
            page(path)
            print(path, flush=True)


if __name__ == "__main__":
    main()
