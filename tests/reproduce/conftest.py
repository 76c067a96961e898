"""Two domains everywhere, because 52 do not fit in tens of spots; other settings stay those of the authors."""

from dataclasses import replace

import pytest

from stmmr.reproduce._recipes import RECIPES


@pytest.fixture(autouse=True)
def few_domains(monkeypatch):
    for name, recipe in RECIPES.items():
        monkeypatch.setitem(RECIPES, name, replace(recipe, n_domains={"": 2}))
