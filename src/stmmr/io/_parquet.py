"""Parquet files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stmmr._core.untrusted import require_memory, require_regular

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pyarrow.parquet import ParquetFile


def parquet_names(file: ParquetFile) -> list[str]:
    """Name the columns of a parquet file, those of its index first."""
    names = list(file.schema_arrow.names)
    index = [name for name in (file.schema_arrow.pandas_metadata or {}).get("index_columns", []) if name in names]
    return index + [name for name in names if name not in index]


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a parquet file whose content fits into memory."""
    import pandas as pd
    from pyarrow.parquet import ParquetFile

    require_regular(path)
    with ParquetFile(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    n_rows = sum(group.num_rows for group in groups)
    require_memory(max(sum(g.total_byte_size for g in groups), 8 * n_rows * file.metadata.num_columns), path)
    frame: pd.DataFrame = pd.read_parquet(path)
    return frame
