"""The recipes as flat scripts: from paths to paths, one stage after the other."""
