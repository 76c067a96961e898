"""What a run is given: AnnData, MuData or SpatialData, as the AnnData that all steps read, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stmmr._core.checks import InputError
from stmmr.io._elements import is_spatialdata
from stmmr.io._mudata import from_mudata, is_mudata, results_to_mudata
from stmmr.io._spatialdata import FullImage, take_table
from stmmr.io._spatialdata_write import put_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from stmmr.settings import Block


@dataclass
class Given:
    """The data of a run."""

    adata: AnnData
    image: Any = None
    """Picture to read instead of the one in the data."""
    registration: Any = None
    """How the places map onto it."""
    blocks: dict[str, Block] = field(default_factory=dict)
    """Blocks that come with the data."""
    put_back: Callable[[], None] = lambda: None
    """Writes the results into what was given."""


def given(
    data: Any,
    *,
    image: Any,
    registration: Any,
    histology: bool,
    table: str | None,
    coordinate_system: str | None,
) -> Given:
    """Get the places of whatever is given.

    Raises
    ------
    InputError
        If it has no such places, or an option does not go with it.
    """
    if is_spatialdata(data):
        adata, image = take_table(
            data, table=table, image=image, coordinate_system=coordinate_system, with_image=histology
        )
        found = image.options() if isinstance(image, FullImage) else {"image": image, "registration": registration}
        return Given(adata, **found, put_back=lambda: put_back(adata, data, table=table))
    for name, value in (("table", table), ("coordinate_system", coordinate_system)):
        if value is not None:
            raise InputError(f"Expected SpatialData for {name}, found {type(data).__name__}. Leave {name} out.")
    if is_mudata(data):
        adata, blocks = from_mudata(data)
        return Given(adata, image, registration, blocks, put_back=lambda: results_to_mudata(adata, data))
    return Given(data, image, registration)
