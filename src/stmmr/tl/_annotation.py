"""Names for domains, and domains merged into one, with the results that depend on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories, is_absent, notes_of_domains, require_domains
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.depends import called, depends, drop_outdated, named_by, rename_groups, sources_of_all
from stmmr._core.options import checked, option_names
from stmmr._core.record import drop_results, record, recorded
from stmmr.tl._cell_types import cell_types
from stmmr.tl._composition import write_composition
from stmmr.tl._condition_genes import condition_genes
from stmmr.tl._contacts import compare_contacts
from stmmr.tl._gene_trends import gene_trends
from stmmr.tl._genes import DomainGenesOptions, domain_genes
from stmmr.tl._metrics import evaluate
from stmmr.tl._pseudobulk import PseudobulkOptions, domain_genes_pseudobulk
from stmmr.tl._refine import refine
from stmmr.tl._trajectory import TrajectoryOptions, trajectory
from stmmr.tl._tree import domain_tree

if TYPE_CHECKING:
    from anndata import AnnData


@checked
def rename_domains(
    adata: AnnData,
    names: Mapping[str, str],
    *,
    notes: Mapping[str, str] | None = None,
    domain_key: str = keys.DOMAIN,
) -> None:
    """Give domains other names. All results keep their values and get the new names.

    Parameters
    ----------
    adata
        With domains.
    names
        The new name of each domain, by its present name. Domains that are left out keep theirs.
    notes
        A text about a domain, by its present name. It replaces an earlier one; an empty text removes it.

    Returns
    -------
    None. Changes ``obs[domain_key]`` and what `stmmr.tl` computed from it: domain genes, gene sets, composition,
    trajectory, branches, smoothed domains, the tree of domains and colours. Sets, where there are notes,
    ``uns[f"{domain_key}_notes"]``: data frame with ``domain`` and ``note``.

    Raises
    ------
    InputError
        If there is no such domain, or two domains would have one name: see :func:`stmmr.tl.merge_domains`.
    """
    new = _new_names(adata, names, domain_key)
    twice = [name for name, olds in _groups(new).items() if len(olds) > 1]
    if twice:
        olds = _groups(new)[twice[0]]
        raise InputError(
            f"Expected a name of its own for each domain, found {twice[0]!r} for {listed(olds)}. To merge them, use "
            f"stmmr.tl.merge_domains(adata, {{{twice[0]!r}: {olds}}})."
        )
    annotate_domains(adata, new, notes=notes, domain_key=domain_key)


@checked
def merge_domains(
    adata: AnnData,
    groups: Mapping[str, Sequence[str]],
    *,
    notes: Mapping[str, str] | None = None,
    domain_key: str = keys.DOMAIN,
    recompute: bool = True,
    progress: bool = False,
) -> None:
    """Merge domains, and compute the results that depend on them again.

    Parameters
    ----------
    adata
        With domains.
    groups
        The domains to merge, by the name of the merged domain: ``{"White matter": ["5", "7"]}``. The others stay.
    notes
        A text about a domain, by its present name. Notes of merged domains are joined.
    recompute
        Whether to compute results that depend on the domains again, with the options that they were computed with.
        Otherwise they are removed.

    Returns
    -------
    None. Changes ``obs[domain_key]``. Smoothed domains, domain genes (also by pseudo-bulk), trajectory, gene trends,
    composition, scores and the tree of domains are computed again if they were there. Results that cannot be, such as
    gene sets, whose file is not at hand, are removed; a warning names them. A merged domain has the colour of its
    largest member. ``obs["stmmr_confidence"]`` stays: it is the confidence of the domain before the merge. Sets
    ``uns["stmmr"]["annotation"]``, which domains were merged, and notes as :func:`stmmr.tl.rename_domains` does.

    Raises
    ------
    InputError
        If there is no such domain, a domain is in two groups, or the name of a merged domain is that of another one.
    """
    names: dict[str, str] = {}
    for name, members in groups.items():
        if isinstance(members, str) or not isinstance(members, Iterable):
            raise InputError(f"Expected a list of domains to merge into {name!r}, found {members!r}.")
        if both := names.keys() & set(map(str, members)):
            raise InputError(f"Expected each domain in one group, found {listed(sorted(both))} in two.")
        names |= {str(member): name for member in members}
    new = _new_names(adata, names, domain_key)
    for name, olds in _groups(new).items():
        if taken := set(olds) - names.keys() if len(olds) > 1 else None:
            raise InputError(
                f"Expected a new name for the merged domain or one of its members, found {name!r}, the name of another "
                f"domain. Add {listed(sorted(taken))} to the group, or choose another name."
            )
    lost = annotate_domains(adata, new, notes=notes, domain_key=domain_key, recompute=recompute, progress=progress)
    if lost:
        logger.warning("Removed results of the domains before the merge: %s. Compute them again.", called(*lost))


def annotate_domains(
    adata: AnnData,
    names: Mapping[str, str],
    *,
    notes: Mapping[str, str] | None = None,
    domain_key: str = keys.DOMAIN,
    recompute: bool = True,
    progress: bool = False,
) -> list[str]:
    """Rename domains, and merge those with the same new name; get the results that were removed.

    Parameters
    ----------
    adata
        With domains.
    names
        The new name of each domain.
    notes
        A text about a domain, by its present name.
    domain_key
        Column of ``obs``.
    recompute
        Whether to compute results that depend on merged domains again.
    progress
        Whether to show progress bars.
    """
    new = _new_names(adata, names, domain_key)
    drop_outdated(adata)
    texts = _joined_notes(adata, new, notes or {}, domain_key)
    merged = _merged(adata, new, domain_key)
    one = f"{domain_key}_notes"
    removed: list[str] = []
    if len(_groups(new)) == len(new):
        _rename(adata, new, domain_key)
    else:
        removed = _merge(adata, new, domain_key, recompute=recompute, progress=progress)
    adata.uns.pop(one, None)
    if texts:
        table = pd.DataFrame({"domain": list(texts), "note": list(texts.values())}, dtype=object)
        adata.uns[one] = table.set_axis(table.index.astype(str))
    if texts or merged["into"]:
        parts = {name: np.array(values, dtype=object) for name, values in merged.items()}
        record(adata, annotation=recorded(adata).get("annotation", {}) | {one: parts})
        writes = [f"uns:{one}", f"notes:annotation:{one}"]
        depends(adata, f"annotation:{one}", on=[f"obs:{domain_key}"], writes=writes)
    return [result for result in removed if result != f"annotation:{one}"]


def _new_names(adata: AnnData, names: Mapping[str, str], domain_key: str) -> dict[str, str]:
    """Get the new name of every domain, checked."""
    old = [str(name) for name in categories(adata, domain_key, hint="Run stmmr.run(adata) first.").categories]
    require_domains(old, names, domain_key)
    new = {name: name for name in old} | {str(name): str(text).strip() for name, text in names.items()}
    if nameless := [name for name, text in new.items() if is_absent(text)]:
        raise InputError(
            f"Expected a name for domain {nameless[0]!r}, found {new[nameless[0]]!r}, which stands for a missing "
            "value. Choose another name."
        )
    return new


def _groups(new: Mapping[str, str]) -> dict[str, list[str]]:
    """Get the domains that have each name."""
    groups: dict[str, list[str]] = {}
    for old, name in new.items():
        groups.setdefault(name, []).append(old)
    return groups


def _joined_notes(adata: AnnData, new: Mapping[str, str], notes: Mapping[str, str], domain_key: str) -> dict[str, str]:
    """Get the notes by the new names of the domains."""
    require_domains(list(new), dict.fromkeys(notes, ""), domain_key)
    every = notes_of_domains(adata, domain_key) | {str(name): str(text).strip() for name, text in notes.items()}
    joined: dict[str, list[str]] = {}
    for name in new:
        if text := every.get(name):
            joined.setdefault(new[name], []).append(text)
    return {name: "\n".join(dict.fromkeys(texts)) for name, texts in joined.items()}


def _merged(adata: AnnData, new: Mapping[str, str], domain_key: str) -> dict[str, list[str]]:
    """Get which of the domains that were found are in which merged one, with earlier merges."""
    before = recorded(adata).get("annotation", {}).get(f"{domain_key}_notes", {})
    earlier = dict(zip(before.get("merged", ()), before.get("into", ()), strict=True))
    pairs = {str(old): new[into] for old, into in earlier.items() if into in new}
    several = {name for name, olds in _groups(new).items() if len(olds) > 1}
    pairs |= {old: name for old, name in new.items() if name in several and old not in set(earlier.values())}
    return {"merged": list(pairs), "into": list(pairs.values())}


def _rename(adata: AnnData, new: Mapping[str, str], domain_key: str) -> None:
    source = f"obs:{domain_key}"
    results = named_by(adata, source)
    values = categories(adata, domain_key)
    adata.obs[domain_key] = values.rename_categories({name: new[str(name)] for name in values.categories})
    own: Any = adata.uns.get(f"{domain_key}_colors")
    if isinstance(own, Mapping):
        adata.uns[f"{domain_key}_colors"] = {new.get(str(name), name): color for name, color in own.items()}
    rename_groups(adata, dict.fromkeys(results, (source, new)))
    tree = recorded(adata).get("domain_tree", {})
    if tree.get("domain_key") == domain_key:
        record(adata, domain_tree=tree | {"domains": [new.get(str(name), str(name)) for name in tree["domains"]]})


class Before(NamedTuple):
    """What is known of results that are computed again after a merge."""

    notes: Mapping[str, Any]
    """Records of the steps."""
    sources: Mapping[str, list[str]]
    """What each result was computed from."""
    new: Mapping[str, str]
    """New names of the domains."""
    progress: bool


def _merge(adata: AnnData, new: Mapping[str, str], domain_key: str, *, recompute: bool, progress: bool) -> list[str]:
    """Merge domains, and compute what depended on them again; get the results that were removed instead."""
    before = Before(recorded(adata), sources_of_all(adata), new, progress)
    values = categories(adata, domain_key)
    old, merged = [str(name) for name in values.categories], list(_groups(new))
    sizes = np.bincount(values.codes[values.codes >= 0], minlength=len(old))
    own: Any = adata.uns.get(f"{domain_key}_colors")
    if own is not None and not isinstance(own, str) and len(own) >= len(old):
        by_name = own if isinstance(own, Mapping) else dict(zip(old, own, strict=False))
        largest = {name: max(olds, key=lambda each: sizes[old.index(each)]) for name, olds in _groups(new).items()}
        colors = {name: by_name[largest[name]] for name in merged if largest[name] in by_name}
        adata.uns[f"{domain_key}_colors"] = colors if isinstance(own, Mapping) else list(colors.values())
    index = np.array([merged.index(new[name]) for name in old] + [-1])
    adata.obs[domain_key] = pd.Categorical.from_codes(index[values.codes], categories=pd.Index(merged))
    removed = drop_outdated(adata, quiet=True)
    lost = [result for result in removed if not result.startswith("annotation:")]
    if recompute:
        lost = _computed_again(adata, lost, before)
    tree = before.notes.get("domain_tree", {})
    if tree.get("domain_key") == domain_key:
        drop_results(adata, [keys.Key("notes", "domain_tree", "embedding")])
        if recompute and len(merged) > 1:
            domain_tree(adata, domain_key=domain_key, use_rep=str(tree["use_rep"]))
    return lost


def _computed_again(adata: AnnData, removed: Iterable[str], before: Before) -> list[str]:
    """Compute results again, those that others are computed from first; get those that cannot be."""
    lost = list(removed)
    for kind, compute in AGAIN.items():
        for result in [each for each in removed if each.partition(":")[0] == kind]:
            try:
                compute(adata, result.partition(":")[2], before)
            except (InputError, ImportError) as error:
                logger.warning("%s: not computed again. %s", called(result).capitalize(), error)
            else:
                lost.remove(result)
    return lost


def _options(kind: type, step: Mapping[str, Any]) -> dict[str, Any]:
    """Get the options of a step from its record."""
    return {name: step[name] for name in option_names(kind) if name in step}


def _refine(adata: AnnData, one: str, before: Before) -> None:
    step = before.notes["refine"][one]
    refine(adata, n_neighbors=int(step["n_neighbors"]), domain_key=str(step["domain_key"]), key_added=one)


def _genes(adata: AnnData, one: str, before: Before) -> None:
    step = before.notes["domain_genes"][one]
    domain_genes(
        adata,
        domain_key=str(step["domain_key"]),
        section_key=str(step["section_key"]) or None,
        layer=str(step.get("layer", "")) or None,
        key_added=one,
        progress=before.progress,
        **_options(DomainGenesOptions, step),
    )


def _pseudobulk(adata: AnnData, one: str, before: Before) -> None:
    step = before.notes["domain_genes_pseudobulk"][one]
    domain_genes_pseudobulk(
        adata,
        section_key=str(step["section_key"]),
        domain_key=str(step["domain_key"]),
        layer=str(step.get("layer", "")) or None,
        key_added=one,
        progress=before.progress,
        **_options(PseudobulkOptions, step),
    )


def _trajectory(adata: AnnData, _: str, before: Before) -> None:
    step = before.notes["trajectory"]
    kind, domain = str(step["root"]), str(step["root_domain"])
    name = before.new.get(domain, domain) if kind == "domain" else step.get(f"root_{kind}")
    trajectory(
        adata,
        **({} if kind == "tree" else {f"root_{kind}": str(name)}),
        domain_key=str(step["domain_key"]),
        use_rep=str(step["use_rep"]),
        random_state=int(step["random_state"]),
        **_options(TrajectoryOptions, step),
    )


def _gene_trends(adata: AnnData, _: str, before: Before) -> None:
    step = before.notes["gene_trends"]
    to_domain = str(step["to_domain"])
    gene_trends(
        adata,
        genes=[str(gene) for gene in step["table"].index],
        to_domain=before.new.get(to_domain, to_domain) or None,
        pseudotime_key=str(step["pseudotime_key"]),
        n_knots=int(step["n_knots"]),
        confidence=float(step["confidence"]),
        progress=before.progress,
    )


def _composition(adata: AnnData, _: str, before: Before) -> None:
    step = before.notes["composition"]
    if "trained" in step:
        raise InputError("It counts the section of the model as well. Map the section again.")
    write_composition(
        adata,
        str(step["section_key"]),
        group_key=str(step["group_key"]) or None,
        domain_key=str(step.get("domain_key", keys.DOMAIN)),
        covariates=tuple(map(str, step.get("covariates", ()))),
        donor_key=str(step.get("donor_key", "")) or None,
    )


def _evaluation(adata: AnnData, one: str, before: Before) -> None:
    (label,) = (source for source in before.sources[f"evaluation:{one}"] if source != f"obs:{one}")
    evaluate(adata, label_key=label.partition(":")[2], domain_key=one)


def _cohort_test(function: Callable[..., None], note: str) -> Callable[[AnnData, str, Before], None]:
    """Get what calls a test of sections again, with the arguments that its record has."""

    def again(adata: AnnData, _: str, before: Before) -> None:
        step = before.notes[note]
        names = [name for name in signature(function).parameters if name in step and str(step[name])]
        function(adata, **{name: np.asarray(step[name]).tolist() for name in names})

    return again


AGAIN: Final[Mapping[str, Callable[[AnnData, str, Before], None]]] = {
    "refine": _refine,
    "domain_genes": _genes,
    "domain_genes_pseudobulk": _pseudobulk,
    "trajectory": _trajectory,
    "gene_trends": _gene_trends,
    "composition": _composition,
    "contact_tests": _cohort_test(compare_contacts, "contact_tests"),
    "cell_types": _cohort_test(cell_types, "cell_types"),
    "condition_genes": _cohort_test(condition_genes, "condition_genes"),
    "evaluation": _evaluation,
}
"""How each kind of result is computed again, in their order."""
