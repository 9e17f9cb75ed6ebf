"""What the loops that Numba compiles have in common."""

from __future__ import annotations

from numba.core.compiler import CompilerBase, DefaultPassBuilder


class DistinctArrays(CompilerBase):
    """Compile on the promise that no two array arguments overlap, or nothing is vectorised."""

    def define_pipelines(self):
        """Numba's own pipeline, with the promise given."""
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]
