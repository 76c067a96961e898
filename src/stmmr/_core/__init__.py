"""What every room uses: names in an AnnData, checks, space, sections, matrices by rows, files."""
