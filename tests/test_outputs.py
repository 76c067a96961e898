"""The reference of outputs has everything there is."""

from pathlib import Path

import pytest

from stmmr._core import keys
from stmmr.pipeline.analyses import ANALYSES
from stmmr.pipeline.folder import CONTENTS

OUTPUTS = Path(__file__).parents[1] / "docs" / "outputs.md"
KEYS = sorted(
    {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    | {key.name for analysis in ANALYSES for key in analysis.keys}
)


@pytest.fixture(scope="module")
def text():
    return OUTPUTS.read_text()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_there(text, key):
    assert f'"{key}"' in text or f"`{key}`" in text


@pytest.mark.parametrize("name", CONTENTS)
def test_every_file_is_there(text, name):
    assert f"`{name}" in text
