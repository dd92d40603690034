"""Why a path is treated as it is, in sentences."""

from collections.abc import Sequence

from artesian.files.tree import Level

_TEXTS = {
    "too few": "too few accesses, or children, to tell",
    "steps": "{step_share:.0%} of the steps are short and forward",
    "stride": "{stride_share:.0%} of the steps are {stride:.0f}",
    "frontiers": "{frontier_share:.0%} of the accesses continue one of several scans",
    "buffered": "no repeats, and steps of {longest_step:.0f} at most: a scan through a buffer",
    "gaps": "gaps are those of random draws (distance {ks_distance:.3f} of {ks_limit:.3f})",
    "gaps of a part": "gaps are those of random draws from one part of the listing",
    "repeats": "{repeats:.0%} repeats, where random draws have {expected_repeats:.0%} and hardly "
    "ever {repeats_limit:.0%}",
    "elimination": "gaps are not those of random draws (distance {ks_distance:.3f}, limit "
    "{ks_limit:.3f}), and no scan is seen",
    "remembered": "it was so in an earlier run",
}


def reasons(levels: Sequence[Level], unit_path: str, policy: str) -> Sequence[str]:
    """One sentence for each level that was looked at, and what is done about it.

    Args:
        unit_path: of the unit that the path belongs to, empty if there is none; policy: of it.
    """
    found = []
    for level in levels:
        numbers = level.numbers
        if not numbers["num_accesses"]:
            continue
        why = _TEXTS[level.rule].format(**numbers)
        sure = " so far" if level.is_provisional else ""
        of = f"{numbers['num_accesses']:.0f} accesses to {numbers['num_children']:.0f} children"
        found.append(f"{level.path}: {level.verdict}{sure}, {of}: {why}")
    of_unit = f"cared for with {unit_path}" if unit_path else "not cared for by itself yet"
    found.append(f"{of_unit}: {policy}")
    return found
