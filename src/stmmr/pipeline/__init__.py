"""From files to a result folder: the steps of a run, its analyses, and the commands around them."""
