"""Every matplotlib figure: data set, training, evaluation and timelines."""
import datetime

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from expressions.drawing import EXPRESSION_COLOURS
from expressions.evaluation import expected_calibration_error, margin
from expressions.labels import EXPRESSIONS, SPLITS

BLUE, YELLOW, RED, GREY = "#4477aa", "#ccbb44", "#ee6677", "#bbbbbb"  # Paul Tol's, told apart by colour-blind people
MAX_TRACKS = 8  # rows of a timeline: the faces seen longest
MAX_POINTS = 700  # of a row, two pixels each; of more every second or third or so is drawn
NAMED_FROM = 0.15  # of a row's height: an area that is at least so tall has room for its name


def plot_distribution(table):
    """Return a figure of fer2013.class_counts: a group of bars for each expression."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots()
    table.loc[list(EXPRESSIONS), list(SPLITS)].plot.bar(ax=axes, width=0.84, rot=0, fontsize=12,
                                                         color=[BLUE, YELLOW, RED])
    for bars in axes.containers:
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9, padding=2)
    axes.set_ylabel("faces", fontsize=12)
    axes.set_title(f"{table.loc['total', 'total']:,} faces", fontsize=14)
    axes.legend(fontsize=11)
    axes.margins(y=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_samples(faces, labels, columns=12, seed=0):
    """Return a figure of faces uint8 (N, 48, 48, 1) drawn at random: a row for each expression, labels int (N,)."""
    random = np.random.default_rng(seed)
    figure = Figure(figsize=(columns + 1.3, len(EXPRESSIONS)), layout="constrained")
    for label, row in enumerate(figure.subplots(len(EXPRESSIONS), columns)):
        for axes in row:
            axes.set(xticks=[], yticks=[], frame_on=False)
        for axes, index in zip(row, random.permutation(np.flatnonzero(labels == label))[:columns]):
            axes.imshow(faces[index, ..., 0], cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(EXPRESSIONS[label], rotation=0, ha="right", va="center", fontsize=15)
    return figure


def plot_mistakes(faces, y_true, y_prob, columns=6):
    """Return a figure with a row for each true expression: its surest mistakes, and right of them its least sure hits.

    faces are uint8 (n, 48, 48, 1), y_true int (n,), y_prob float (n, 7).
    """
    y_pred, confidence = y_prob.argmax(axis=1), y_prob.max(axis=1)
    figure = Figure(figsize=(2 * columns + 4, 1.3 * len(EXPRESSIONS) + 0.6), layout="constrained")
    for part, title, is_shown, sign in zip(figure.subfigures(1, 2), ("surest mistakes: taken for …", "least sure hits"),
                                           (y_pred != y_true, y_pred == y_true), (-1, 1)):
        part.suptitle(title, fontsize=16)
        for label, row in enumerate(part.subplots(len(EXPRESSIONS), columns)):
            rows = np.flatnonzero(is_shown & (y_true == label))
            for axes in row:
                axes.set(xticks=[], yticks=[], frame_on=False)
            for axes, index in zip(row, rows[np.argsort(sign * confidence[rows])]):
                axes.imshow(faces[index, ..., 0], cmap="gray", vmin=0, vmax=255)
                axes.set_title(f"{EXPRESSIONS[y_pred[index]]} {confidence[index]:.0%}", fontsize=11)
            row[0].set_ylabel(EXPRESSIONS[label], rotation=0, ha="right", va="center", fontsize=15)
    return figure


def plot_curves(history):
    """Return a figure of loss and accuracy over the epochs; `history` is a pandas table like history.csv.

    Its column `training` counts the trainings, which go on from each other.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for axes, measure, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("loss", "top-1 accuracy")):
        for number, part in history.groupby("training"):  # of other targets: not joined
            axes.plot(part.epoch, part[measure], color=BLUE, marker=".",
                      label="training (augmented faces, soft targets)" * (number == 1))
        axes.plot(history.epoch, history[f"val_{measure}"], label="validation", color=RED, marker=".")
        is_next = history.training.diff() > 0
        is_larger = (history["size"].diff() > 0) & ~is_next
        starts = {"dotted": ("larger faces", is_larger), "dashed": ("fine-tuning", is_next)}
        for style, (_, is_start) in starts.items():
            for epoch in history.epoch[is_start]:
                axes.axvline(epoch - 0.5, color="grey", linewidth=0.8, linestyle=style)
        told = [f"{style}: {name}" for style, (name, is_start) in starts.items() if is_start.any()]
        axes.set_xlabel(f"epoch ({', '.join(told)})" if told else "epoch", fontsize=12)
        axes.set_title(name, fontsize=14)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=11)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def plot_confusion(y_true, y_pred):
    """Return a figure of the confusion matrix of labels int (n,): counts, and shares of each true expression."""
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(15, 7), layout="constrained")
    for axes, normalise, form, title in zip(figure.subplots(1, 2), (None, "true"), ("d", ".0%"),
                                            ("faces", "share of the true expression")):
        ConfusionMatrixDisplay.from_predictions(
            y_true, y_pred, labels=range(len(EXPRESSIONS)), display_labels=EXPRESSIONS, normalize=normalise,
            values_format=form, cmap="Blues", ax=axes, colorbar=False, text_kw={"fontsize": 13})
        axes.set_title(title, fontsize=15)
        axes.set_xlabel("predicted", fontsize=13)
        axes.set_ylabel("true", fontsize=13)
        axes.tick_params(labelsize=12)
    figure.suptitle(f"accuracy {np.mean(y_true == y_pred):.2%} on {len(y_true):,} faces", fontsize=16)
    return figure


def plot_reliability(table):
    """Return a figure of evaluation.calibration_table: accuracy over confidence, and how many faces have each."""
    figure = Figure(figsize=(6.5, 7), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / len(table)
    middles = (table.index.to_numpy() + 0.5) * width
    axes.bar(middles, table.accuracy, width, color=BLUE, edgecolor="white", label="accuracy, with its 95 % interval",
             yerr=margin(table.accuracy, table.faces), error_kw={"elinewidth": 1, "ecolor": "black"})
    axes.plot((0, 1), (0, 1), color=RED, linestyle="--", label="confidence = accuracy")
    axes.plot(table.probability, table.probability, "o", color=RED, markersize=4, label="mean confidence")
    axes.set_title(f"expected calibration error {expected_calibration_error(table):.3f}", fontsize=14)
    axes.set_ylabel("accuracy", fontsize=12)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(fontsize=11, loc="upper left")
    below.bar_label(below.bar(middles, table.faces, width, color=GREY, edgecolor="white"), fmt="{:,.0f}", fontsize=9)
    below.margins(y=0.2)
    below.set_ylabel("faces", fontsize=12)
    below.set_xlabel("confidence: the probability of the most probable expression", fontsize=12)
    below.xaxis.set_major_formatter(PercentFormatter(1))
    below.set_xlim(0, 1)
    return figure


def plot_timeline(timeline, end, name):
    """Return a figure of each face's probabilities over time, stacked, a row for each of the faces seen longest.

    `timeline` is {track id: array (n, 8), of seconds and the seven probabilities}; `end` is the length in seconds and
    `name` the name of the video.
    """
    tracks = sorted(sorted(timeline, key=lambda track_id: -len(timeline[track_id]))[:MAX_TRACKS]) or ["no face"]
    figure = Figure(figsize=(14, 2 + 1.7 * len(tracks)), dpi=100, layout="constrained")
    colours = [(red / 255, green / 255, blue / 255) for blue, green, red in EXPRESSION_COLOURS.values()]
    for track_id, axes in zip(tracks, np.ravel(figure.subplots(len(tracks), 1, sharex=True))):
        points = np.reshape(timeline.get(track_id, [[0] * 8]), (-1, 8))
        points = points[::len(points) // MAX_POINTS + 1]
        if len(points) == 1:  # which alone has no area
            points = np.vstack([points, points + np.eye(8)[0] * max(end / MAX_POINTS, 0.04)])
        areas = axes.stackplot(points[:, 0], points[:, 1:].T, colors=colours, linewidth=0.5, edgecolor="white")
        _name_areas(axes, points, 0.06 * end)
        axes.set_ylabel(f"face {track_id}" if timeline else track_id, fontsize=13)
        axes.set(ylim=(0, 1), xlim=(0, max(end, 0.04)))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(labelsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(lambda seconds, _: str(datetime.timedelta(seconds=round(seconds))))
    axes.set_xlabel("hours, minutes and seconds", fontsize=13)
    title = name.replace("$", r"\$")  # which would begin a formula
    if len(timeline) > MAX_TRACKS:
        title += f": the {MAX_TRACKS} of {len(timeline):,} faces seen longest"
    figure.legend(areas, EXPRESSIONS, loc="outside upper center", ncols=len(EXPRESSIONS), fontsize=13, title=title,
                  title_fontsize=14)
    return figure


def _name_areas(axes, points, least):
    """Write the expression into areas that have room, of `least` seconds: not everybody tells their colours apart."""
    for number, expression in enumerate(EXPRESSIONS, start=1):
        for part in np.ma.clump_unmasked(np.ma.masked_less(points[:, number], NAMED_FROM)):
            seconds, *shares = points[(part.start + part.stop) // 2]
            if np.ptp(points[part, 0]) > least:
                axes.text(seconds, sum(shares[:number]) - shares[number - 1] / 2, expression, color="white",
                          ha="center", va="center", fontsize=11)
