"""The report of one run: scores, curves, occupancy, confusion, map and gallery on one HTML page."""

import base64
import hashlib
import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.metadata import version
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deep_clustering import __version__
from deep_clustering.methods.pair_bound import bound
from deep_clustering.reporting import figures
from deep_clustering.reporting.hover import describe_shown, id_in_words, shrink
from deep_clustering.reporting.panels import (
    confusion_panel,
    curve_panels,
    map_panels,
    occupancy_panel,
    reliability_panel,
    selection_panel,
)
from deep_clustering.reporting.texts import describe_metric, format_in_units, format_number

HEADLINES = ("acc", "nmi", "ari", "silhouette", "stability", "n_occupied")
SHORT_HASH = 12
IMAGE_WIDTH = 52
MAX_IMAGE_WIDTH = 96
MAX_MEMBERS = 1600
# Lines about columns of all clusters together.
MAX_COLUMN_ROWS = 500
# Columns that the card names, and characters of each.
MAX_COLUMNS, MAX_NAME = 20, 40

# Nats that the last tenth of the epochs may gain where training is called converged: twice the epochs then gain less.
_CONVERGED = 0.01
# Share of the bound below which a flat end is no sign that training was long enough.
_NEAR_BOUND = 0.75


def write_report(
    *,
    scores: Mapping[str, Any],
    map_: Mapping[str, np.ndarray],
    gallery: Mapping[str, np.ndarray],
    data_card: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    cluster_names: Sequence[str] | None = None,
    siblings: Sequence[str] = (),
) -> str:
    """One self-contained HTML page about one run; opening it sends no request, and its policy permits none.

    Args:
        scores: method, data_set, seed, metrics, occupancy, contingency (or None), curves, warnings, cost; reliability
            and selection, None or left out where there is none.
        map_: coordinates (n, 2), assignments (n,), certainty (n,), labels (n,) with -1 for unknown, and what
            `hover.pick_shown` adds.
        gallery: rows and certainty (n_clusters, 2, m), for images also images (n_clusters, 2, m, C, H, W), for
            documents terms (n_clusters,) and member_terms (n_clusters, 2, m); ids (n_clusters, 2, m) where there are;
            for tables what `columns.describe_columns` gives.
        data_card: name, source, licence, shape, value_range, class_names (or None), sha256 and so on.
        options: the method's hyper-parameters.
        cluster_names: name of each cluster; None shows their numbers alone.
        siblings: methods of the same run whose pages, and that of the comparison, are linked; see `address_of`.

    Returns:
        The page, with every text that comes from the data escaped.

    Raises:
        ValueError: if gallery or names and the occupancy disagree about the number of clusters.
    """
    named = list(cluster_names or [""] * len(scores["occupancy"]))
    for what, one_each in (("gallery", gallery["rows"]), ("cluster_names", named)):
        if len(one_each) != len(scores["occupancy"]):
            raise ValueError(f"write_report: {what} has {len(one_each)} clusters, expected {len(scores['occupancy'])}")
    names = class_names(scores, data_card)
    reliability, selection = scores.get("reliability"), scores.get("selection")
    noise, is_suggested = fixed_noise(options or {}), bool(scores.get("selection"))
    hover = describe_shown(map_, data_card, names, named)
    return render(
        "report.html.jinja",
        scores=scores,
        card=describe_card(data_card),
        headlines=_headlines(scores),
        cost=describe_cost(scores.get("cost") or {}),
        metrics=_metric_rows(scores["metrics"], scores["n_clusters"], noise, is_suggested=is_suggested),
        curves=curve_panels(
            scores.get("curves") or {}, scores["n_clusters"], is_suggested=is_suggested, pair_noise=noise
        ),
        selection=selection_panel(selection) if selection else None,
        candidates=_candidate_rows(scores.get("candidates") or []),
        occupancy=occupancy_panel(scores["occupancy"], scores.get("retired", ())),
        confusion=confusion_panel(scores["contingency"]) if scores["contingency"] else None,
        reliability=reliability_panel(reliability, scores["metrics"]["ece"]) if reliability else None,
        maps=map_panels(map_, matched_classes(scores), names),
        hover=hover,
        scripts=["page.js", *(["hover.js"] if hover else [])],
        siblings=[(name, address_of(name)) for name in siblings],
        comparison=address_of("comparison"),
        options=describe_options(options or {}),
        params=_params_to_repeat(scores),
        versions=describe_versions(),
        clusters=_gallery_clusters(scores, map_, gallery, data_card, names, named),
        image_width=_image_width(gallery),
    )


def address_of(name: str) -> str:
    """Where the page of a method, or of the comparison, lies from any other of the same run; see `PageDataset`."""
    return f"../../../{name}/report.html/THIS_VERSION/report.html"


def render(template: str, scripts: Sequence[str] = ("page.js",), **context: object) -> str:
    """Fill a template of this package, escaping every value; the scripts become one, which its policy permits."""
    script = "".join(map(read_script, scripts))
    environment = Environment(
        loader=PackageLoader("deep_clustering.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        script=Markup(script),
        script_hash=hash_script(script),
        **context,
    )


def describe_card(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of the data card: name, value, and the full text where the value is shortened."""
    shape = " x ".join(str(size) for size in card["shape"])
    rows = [
        ("Data set", str(card["name"]), ""),
        ("Samples", f"{card['n_samples']:,}", ""),
        ("Shape", f"{shape}, {card['dtype']}", ""),
        ("Classes", str(card["n_classes"]) if card["n_classes"] else "not labelled", ""),
        ("Source", str(card["source"]), ""),
        ("Licence", str(card["licence"]), ""),
        ("Protocol", str(card["protocol"]), ""),
    ]
    rows += _describe_columns(card)
    near = card.get("neighbours") or {}
    if near.get("k"):
        rows.append(("Neighbours", f"{near['k']} of each row, {near['search']}, recall {near['recall']:.3f}", ""))
    known = {part: digest for part, digest in card["sha256"].items() if part != "labels" or card["n_classes"]}
    hashes = [(f"SHA-256 of {k}", str(v)[:SHORT_HASH] + "…", str(v)) for k, v in known.items()]
    return rows + hashes


def _describe_columns(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Columns of a table that hold its numbers, and those that do not with the reason; nothing of other data."""
    taken, left_out = card.get("reading", {}).get("columns") or [], card.get("left_out_columns") or {}
    reasons = [f"{_clipped(name)} ({why})" for name, why in left_out.items()]
    rows = [("Columns", _listed([_clipped(name) for name in taken], len(taken)), "")] if taken else []
    return rows + ([("Columns left out", _listed(reasons, card["n_left_out_columns"]), "")] if reasons else [])


def _listed(texts: Sequence[str], n_all: int) -> str:
    shown = ", ".join(texts[:MAX_COLUMNS])
    return shown if n_all <= MAX_COLUMNS else f"{shown}, ... ({n_all:,} in all)"


def _clipped(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}\N{HORIZONTAL ELLIPSIS}"


def describe_options(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Hyper-parameters with their dotted names."""
    rows: list[tuple[str, str]] = []
    for name, value in options.items():
        whole = f"{prefix}{name}"
        is_block = isinstance(value, Mapping) and value
        rows += describe_options(value, f"{whole}.") if is_block else [(whole, json.dumps(value, default=str))]
    return rows


def describe_versions() -> str:
    """Project, Python and the packages that the result depends on, as they are where the page is written."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn", "numpy"))
    return f"deep-clustering {__version__}, Python {platform.python_version()}, {packages}"


def read_script(name: str) -> str:
    """A script of this package."""
    return resources.files("deep_clustering.reporting").joinpath(name).read_text(encoding="utf-8")


def hash_script(script: str) -> str:
    """What a Content-Security-Policy calls an inline script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def describe_cost(cost: Mapping[str, float]) -> list[tuple[str, str]]:
    """Rows about what the fit took, in seconds and MB of 2^20 bytes; what was not measured is left out."""
    rows = {
        "wall_seconds": ("Time of the fit", "{:,.1f} s"),
        "cpu_seconds": ("Processor time", "{:,.1f} s over all threads"),
        "peak_memory_mb": ("Peak memory", "{:,.0f} MB"),
        "peak_gpu_memory_mb": ("Peak memory of the GPU", "{:,.0f} MB"),
    }
    return [(label, text.format(cost[name])) for name, (label, text) in rows.items() if name in cost]


def class_names(scores: Mapping[str, Any], card: Mapping[str, Any]) -> dict[int, str]:
    """Class index to name, empty without labels; a name that is missing is the index."""
    contingency = scores["contingency"]
    known = contingency["class_names"] if contingency else card.get("class_names")
    return dict(enumerate(map(str, known or ())))


def matched_classes(scores: Mapping[str, Any]) -> list[int]:
    """Matched class of each cluster, -1 without labels or match."""
    contingency = scores["contingency"]
    return list(contingency["matched_class"]) if contingency else [-1] * len(scores["occupancy"])


def _params_to_repeat(scores: Mapping[str, Any]) -> str:
    """The option `--params` of the command that repeats a run, as a shell takes it."""
    params = [f"seed={scores['seed']}"]
    if selection := scores.get("selection"):
        params += [f"n_clusters.{end}={selection['n_clusters'][place]}" for end, place in (("min", 0), ("max", -1))]
    if feedback := scores.get("feedback"):
        params.append(feedback)
    return shlex.quote(f"--params={','.join(params)}")


def _headlines(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    chosen = [name for name in HEADLINES if name in scores["metrics"]][:4]
    return [(describe_metric(name).label, format_number(scores["metrics"][name])) for name in chosen]


def _metric_rows(
    metrics: Mapping[str, float], n_clusters: int, pair_noise: float, *, is_suggested: bool
) -> list[tuple[str, str, str]]:
    """Label, value and explanation of each metric, in the order given."""
    extra = {
        "n_occupied": f" {n_clusters} were {'suggested' if is_suggested else 'asked for'}.",
        "log_likelihood_rise": f" {_describe_convergence(metrics)}",
        "log_likelihood": f" A mixture over two views cannot exceed {bound(n_clusters, pair_noise):.3f}.",
    }
    rows = []
    for name, value in metrics.items():
        text = describe_metric(name)
        rows.append((text.label, format_number(value), text.sentence + extra.get(name, "")))
    return rows


def _describe_convergence(metrics: Mapping[str, float]) -> str:
    if metrics.get("log_likelihood_rise", 0.0) > _CONVERGED:
        return "Not converged: more epochs may raise it further."
    if metrics.get("log_likelihood_share", 1.0) < _NEAR_BOUND:
        return "Flat, but far below its bound: so ends a short training, too, whose learning rate has run out."
    return "Converged."


def fixed_noise(options: Mapping[str, Any]) -> float:
    """Pair noise that bounds the log-likelihood from below; 0, which bounds it always, where it was estimated."""
    return 0.0 if options.get("estimate_noise") else float(options.get("pair_noise", 0.0))


def _candidate_rows(candidates: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, bool]]:
    """Name, score, accuracy (empty if unknown) and whether it was kept, of each candidate, best score first."""
    ranked = sorted(enumerate(candidates, 1), key=lambda item: (item[1]["score"] is None, -(item[1]["score"] or 0.0)))
    return [
        (
            f"{number}: {candidate['origin']}" if candidate["origin"] else str(number),
            "" if candidate["score"] is None else format_number(candidate["score"]),
            "" if candidate["acc"] is None else format_number(candidate["acc"]),
            candidate["is_chosen"],
        )
        for number, candidate in ranked
    ]


def _gallery_clusters(
    scores: Mapping[str, Any],
    map_: Mapping[str, np.ndarray],
    gallery: Mapping[str, np.ndarray],
    card: Mapping[str, Any],
    names: Mapping[int, str],
    cluster_names: Sequence[str],
) -> list[dict[str, Any]]:
    """One entry per cluster that was not merged or dissolved on request: name, size, matched class, and members."""
    clusters = []
    for cluster, class_ in enumerate(matched_classes(scores)):
        if cluster in scores.get("retired", ()):
            continue
        sides = [_members(gallery, map_["labels"], card, names, (cluster, side), class_) for side in (0, 1)]
        entry = {
            "number": cluster,
            "name": cluster_names[cluster],
            "size": scores["occupancy"][cluster],
            "sides": sides,
        }
        entry["terms"] = str(gallery["terms"][cluster]) if "terms" in gallery else ""
        entry["columns"] = _column_rows(gallery, cluster) if "columns" in gallery else []
        clusters.append(entry | {"matched": names.get(class_), "colour": figures.PALETTE[cluster % 10]})
    return clusters


def _members(
    gallery: Mapping[str, np.ndarray],
    labels: np.ndarray,
    card: Mapping[str, Any],
    names: Mapping[int, str],
    place: tuple[int, int],
    matched_class: int,
) -> list[dict[str, Any]]:
    """Members at a place (cluster, side) of the gallery, blanks left out."""
    members = []
    for slot, row in enumerate(gallery["rows"][place][: _members_per_side(gallery)]):
        if row < 0:
            continue
        label = int(labels[row])
        text = f"row {row}, certainty {gallery['certainty'][place][slot]:.3f}"
        if label >= 0:
            text += f", class {names.get(label, label)}"
        name = id_in_words(gallery["ids"][place][slot]) if "ids" in gallery else ""
        if name:
            text += f", {name}"
        member = {"row": int(row), "id": name, "text": text, "certainty": f"{gallery['certainty'][place][slot]:.3f}"}
        member["terms"] = str(gallery["member_terms"][place][slot]) if "member_terms" in gallery else ""
        member["foreign"] = label >= 0 and label != matched_class
        if "images" in gallery:
            image = shrink(gallery["images"][place][slot][None], MAX_IMAGE_WIDTH)[0]
            member["src"] = figures.encode_image(image, value_range=card["value_range"])
        members.append(member)
    return members


def _column_rows(gallery: Mapping[str, np.ndarray], cluster: int) -> list[tuple[str, str, str, str]]:
    """Name, mean, mean of all rows and their difference in deviations, of the columns that set a cluster apart."""
    n_shown = max(1, MAX_COLUMN_ROWS // len(gallery["columns"]))
    told = [gallery[name][cluster][:n_shown] for name in ("columns", "column_means", "column_overall", "column_shifts")]
    return [
        (_clipped(str(name)), format_in_units(mean), format_in_units(overall), f"{shift:+.1f}")
        for name, mean, overall, shift in zip(*told, strict=True)
        if name
    ]


def _members_per_side(gallery: Mapping[str, np.ndarray]) -> int:
    """So many that the page stays small however many clusters there are, at least one."""
    return max(1, MAX_MEMBERS // (2 * len(gallery["rows"])))


def _image_width(gallery: Mapping[str, np.ndarray]) -> int | None:
    """Width in CSS pixels: a whole multiple of the image's own where that is small; None without images."""
    if "images" not in gallery:
        return None
    width = gallery["images"].shape[-1]
    return min(MAX_IMAGE_WIDTH, width * max(1, round(IMAGE_WIDTH / width)))
