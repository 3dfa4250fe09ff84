"""`femae data pseudo-au`: the one call behind it."""

import os
import sys

from femae.config.pseudo_au import PseudoAuConfig

__all__ = ["run_pseudo_au"]


def run_pseudo_au(config: PseudoAuConfig) -> int:
    """Write the table of pseudo-labels. Returns 0, or 1 when no face was seen at all. Raises FemaeError."""
    from femae.data.pseudo_aus import blendshapes
    from femae.data.pseudo_aus.measure import make_pseudo_aus
    from femae.data.summary import pseudo_au_lines

    task, sha256 = blendshapes.read_landmarker(config.landmarker or blendshapes.find_landmarker())
    result = make_pseudo_aus(
        config.shards,
        out=config.out,
        open_landmarker=lambda: blendshapes.BlendshapeNet(task),
        landmarker_sha256=sha256,
        sources=config.sources,
        min_presence=config.min_presence,
        num_workers=config.workers or os.cpu_count() or 1,
        quiet=config.quiet,
    )
    if not config.quiet:
        sys.stdout.write("".join(f"{line}\n" for line in pseudo_au_lines(result)))
    return int(not any(result.num_seen.values()))
