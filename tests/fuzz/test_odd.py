"""A run on whatever an AnnData and the options hold ends in a result or an InputError."""

import os
import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import stmmr

from . import odd
from .test_reading import in_time

pytestmark = pytest.mark.filterwarnings("ignore")  # how it ends is what counts
COUNT = int(os.environ.get("STMMR_FUZZ_ODD", "20"))


@seed(0)
@settings(
    max_examples=COUNT,
    database=None,
    deadline=None,
    derandomize=False,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(odd.cases())
def test_odd_data_run_or_are_refused(case):
    adata, options = case
    with warnings.catch_warnings(), in_time():
        warnings.simplefilter("ignore")
        try:
            stmmr.run(adata, **options)
        except stmmr.InputError as error:
            assert str(error)  # says something
        else:
            assert adata.obs["stmmr_domain"].notna().any()
