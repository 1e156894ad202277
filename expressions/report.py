"""Reports: what was found in videos or images as a self-contained page, or its figures alone as JSON."""
import argparse
import base64
import collections
import csv
import datetime
import html
import itertools
import json
import os
from pathlib import Path
from string import Template

import cv2
import numpy as np

from expressions.artifacts import replace_when_whole
from expressions.console import InputError, pluralise, print_status, printable
from expressions.drawing import LABEL_COLOURS
from expressions.images import is_remote, read_image
from expressions.labels import EXPRESSIONS, UNSURE
from expressions.tables import safe_cell

LABELS = (*EXPRESSIONS, UNSURE)
TEMPLATE = Path(__file__).with_suffix(".html")
MAX_FACES = 20  # of a video, those seen longest
THUMBNAIL = 128  # pixels; the page shows them at 96, which fine screens draw with more
COLUMNS = 600  # of a timeline: as many as can be told apart
WIDE_LABEL, NARROW_LABEL = 0.09, 0.22  # of a timeline's width: room for a label on a large screen, on a telephone
TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)  # seconds between two


def add_report_argument(parser):
    """Add the flag --report to a parser."""
    parser.add_argument("--report", type=report_path, metavar="FILE", help="also write a page that sums up what was "
                        "found, into a file that ends in .html, or its figures alone, in .json")


def report_path(text):
    """The argument that names a report: a local file that ends in .html or .json, in a place that can be written to."""
    path = Path(text)
    if path.suffix.lower() not in (".html", ".json") or is_remote(text):
        raise argparse.ArgumentTypeError(f"{text} is no report: give a local file that ends in .html or .json")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):  # known before the work, not after it
        raise argparse.ArgumentTypeError(f"{text} cannot be written: give another place")
    return path


def write_report(path, sections, quiet=False):
    """Write a report of VideoReports, or of an ImageReport, and print what it says in a few sentences.

    Its JSON is {"sections": [the figures of each]}. Raises InputError where it cannot be written.
    """
    figures = [section.figures() for section in sections]
    told = [section.sentences(values) for section, values in zip(sections, figures)]
    text = json.dumps({"sections": figures})
    with replace_when_whole(path) as [temporary]:
        if path.suffix.lower() == ".html":
            links, parts = [], []
            for number, (section, values, (name, *_)) in enumerate(zip(sections, figures, told), start=1):
                links.append(f'<li><a href="#s{number}">{html.escape(name)}</a></li>')
                parts.append(f'<section><h2 id="s{number}">{html.escape(name)}</h2>{section.body(values)}</section>')
            text = Template(TEMPLATE.read_text("utf-8")).substitute(
                title=html.escape(told[0][0]) if len(told) == 1 else pluralise(len(told), "video"), body="".join(parts),
                contents=f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>' * (len(links) > 1),
                colours="; ".join(f"--{name}: rgb({red}, {green}, {blue})"
                                  for name, (blue, green, red) in LABEL_COLOURS.items()),
                date=datetime.date.today().isoformat(), data=text.replace("<", r"\u003c"))
        temporary.write_text(text, "utf-8")
    for sentences in told:
        print_status("{}: {} {}".format(*sentences).rstrip(), quiet)


class VideoReport:
    """Sums up a video whose frames `add` takes one after the other; a frame lasts until the next."""

    def __init__(self, path):
        self.name, self.is_complete, self.n_frames = printable(Path(path).name), True, 0
        self.runs = collections.defaultdict(list)  # of a track id: [from, until, expression], in seconds
        self.moments = collections.defaultdict(dict)  # of a track id: {expression: (probability, seconds, JPEG)}
        self.shown, self.start, self.length = (), 0, 0.04  # the faces of the last frame, its time, how long one lasts
        self.end = 0  # seconds, of the video

    def add(self, seconds, frame, faces):
        """Take a frame uint8 BGR (h, w, 3), in which nothing is drawn yet, and its Faces."""
        self._end_frame(seconds)
        self.shown, self.start, self.n_frames = faces, seconds, self.n_frames + 1
        for face in faces:
            strongest = self.moments[face.track_id]
            if face.probability > strongest.get(face.expression, (0,))[0] and face.expression != UNSURE:
                strongest[face.expression] = face.probability, seconds, thumbnail(frame, face.box)

    def _end_frame(self, end):
        end = end if end > self.start else self.start + self.length  # the times of joined recordings begin anew
        for face in self.shown:
            runs = self.runs[face.track_id]
            if runs and runs[-1][1:] == [self.start, face.expression]:
                runs[-1][1] = end
            else:
                runs.append([self.start, end, face.expression])
        self.shown, self.start, self.length, self.end = (), end, end - self.start, max(end, self.end)

    def figures(self):
        """End with the last frame; return the figures as a dict for JSON: times in seconds, shares from 0 to 1."""
        self._end_frame(self.start)
        faces = sorted(itertools.starmap(self._face_figures, self.runs.items()), key=lambda face: -face["seconds"])
        return {"video": self.name, "is_complete": self.is_complete, "frames": self.n_frames,
                "seconds": round(self.end, 3), "number_of_faces": len(faces), "faces": faces[:MAX_FACES]}

    def _face_figures(self, track_id, runs):
        totals = collections.Counter()
        for start, until, expression in runs:
            totals[expression] += until - start
        start, until, expression = max(runs, key=lambda run: run[1] - run[0])
        moments = sorted(self.moments[track_id].items(), key=lambda moment: moment[1][1])
        return {"face": track_id, "seconds": round(totals.total(), 3),
                "shares": {name: round(totals[name] / totals.total(), 6) for name in LABELS},
                "changes": sum(run[2] != after[2] for run, after in itertools.pairwise(runs)),
                "longest": {"expression": expression, "from": round(start, 3), "seconds": round(until - start, 3)},
                "strongest": {name: {"probability": round(moment[0], 4), "at": round(moment[1], 3)}
                              for name, moment in moments},
                "timeline": [[round(start, 3), round(until, 3), expression] for start, until, expression in runs]}

    def sentences(self, figures):
        """Return the name, a sentence about the video, and one about each of the first faces."""
        about = f"{duration(figures['seconds'])}, {pluralise(figures['number_of_faces'], 'face')}."
        return (self.name, about + " The run ended before the video did." * (not self.is_complete), " ".join(
            f"Face {face['face']}: {listed(face['shares'])}. {seen(face)}" for face in figures["faces"][:5]))

    def body(self, figures):
        """Return HTML: a card for each face."""
        cards = [f"<p>{self.sentences(figures)[1]}" + f" Below are the {MAX_FACES} that were seen longest." * (
            figures["number_of_faces"] > MAX_FACES) + "</p>"]
        for face in figures["faces"]:
            moments = self.moments[face["face"]]
            pictures = [(name, moments[name][2], f"{moment['probability']:.0%} at {clock(moment['at'])}")
                        for name, moment in face["strongest"].items()]
            rows = [(name, share, duration(share * face["seconds"])) for name, share in ranked(face["shares"])]
            cards.append(f"<article><h3>Face {face['face']}</h3><p>{seen(face)}</p>{timeline(face, figures['seconds'])}"
                         f"{bars('Share of its time', 'Time', rows)}{gallery('Strongest moments', pictures)}</article>")
        return "".join(cards)


class ImageReport:
    """Sums up images of which `add` takes what was found in one after the other."""

    def __init__(self):
        self.n_images = self.n_without = self.n_unreadable = self.n_left = 0
        self.counts, self.surest = collections.Counter(), {}  # {expression: (probability, path, number, box)}

    def add(self, path, faces):
        """Count an image; `faces` are rows as recognition.face_row gives them, or None if it could not be read."""
        self.n_images, self.n_without = self.n_images + 1, self.n_without + (faces == [])
        self.n_unreadable += faces is None
        for number, *box, expression, probability in (face[:7] for face in faces or ()):
            self.counts[expression] += 1
            if probability > self.surest.get(expression, (0,))[0] and expression != UNSURE:
                self.surest[expression] = probability, path, number, box

    def add_table(self, journal):
        """Count the images of an earlier run, whose rows are in a CSV."""
        with open(journal, newline="", encoding="utf-8") as file:
            for path, rows in itertools.groupby(itertools.islice(csv.reader(file), 1, None), lambda row: row[0]):
                rows = list(rows)
                faces = [[*map(int, row[1:6]), row[6], float(row[7])] for row in rows if row[6]]
                self.add(path, faces if rows[0][1] else None)

    def figures(self):
        """Return the figures as a dict for JSON; shares and probabilities are from 0 to 1."""
        n_faces = self.counts.total()
        return {"images": self.n_images, "faces": n_faces, "images_without_a_face": self.n_without,
                "unreadable_images": self.n_unreadable, "images_not_done": self.n_left,
                "counts": {name: self.counts[name] for name in LABELS},
                "shares": {name: round(self.counts[name] / max(1, n_faces), 6) for name in LABELS},
                "surest": {name: {"file": safe_cell(path), "face": number, "probability": probability, "box": box}
                           for name, (probability, path, number, box) in self.surest.items()}}

    def sentences(self, figures):
        """Return a name, a sentence about the images, and one about the expressions."""
        about = (f"{pluralise(figures['faces'], 'face')}. {pluralise(self.n_without, 'image')} without one, "
                 f"{self.n_unreadable:,} unreadable.")
        if self.n_left:
            about += f" The run ended before the last {self.n_left:,}."
        shares = f"They look {listed(figures['shares'])}." * bool(self.counts)
        return pluralise(self.n_images, "image"), about, shares

    def body(self, figures):
        """Return HTML: the distribution and the surest examples, whose images are read again."""
        pictures, shares = [], ranked(figures["shares"])
        for name in (name for name, _ in shares if name != UNSURE):
            probability, path, _, box = self.surest[name]
            try:
                jpeg = thumbnail(read_image(path), box)
            except InputError:  # it is gone
                jpeg = None
            pictures.append((name, jpeg, f"{probability:.0%} in {printable(Path(path).name)}"))
        rows = [(name, share, f"{self.counts[name]:,}") for name, share in shares]
        card = f"<article>{bars('Share of the faces', 'Faces', rows)}{gallery('Surest examples', pictures)}</article>"
        return f"<p>{self.sentences(figures)[1]}</p>{card * bool(rows)}"


def thumbnail(image, box):
    """Return a JPEG of a face with a little around it; `image` is uint8 BGR, `box` x, y, width, height in pixels."""
    x, y, width, height = box
    side = max(1, round(1.3 * max(width, height)))
    crop = cv2.getRectSubPix(image, (side, side), (x + width / 2, y + height / 2))  # repeats the image's border
    smaller = cv2.resize(crop, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def ranked(shares):
    """Return [(expression, share)] of those that were shown, the largest first."""
    return sorted(((name, share) for name, share in shares.items() if share), key=lambda item: -item[1])


def listed(shares):
    """Return shares as words: "70% happy, 30% sad"."""
    return ", ".join(f"{share:.0%} {name}" for name, share in ranked(shares) if share >= 0.005)


def seen(face):
    """Return a sentence about a face of a video."""
    longest = face["longest"]
    return (f"Seen for {duration(face['seconds'])}. {pluralise(face['changes'], 'change')} of the label; the longest "
            f"stretch is {longest['expression']}, {duration(longest['seconds'])} from {clock(longest['from'])} on.")


def duration(seconds):
    """Return a number of seconds as 7.2 s or 2 min 5 s."""
    return f"{seconds:.1f} s" if seconds < 59.95 else f"{round(seconds) // 60:,} min {round(seconds) % 60} s"


def clock(seconds):
    """Return a time as 0:07.2 or 1:02:03.0."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return (f"{minutes // 60}:{minutes % 60:02}" if minutes >= 60 else str(minutes)) + f":{tenths / 10:04.1f}"


def bars(caption, unit, rows):
    """Return an HTML table with bars; a row is (expression, share, amount)."""
    body = "".join(
        f'<tr><th scope="row">{name}</th><td class="bar"><i style="width: {share:.1%}; background: var(--{name})"></i>'
        f"</td><td>{share:.0%}</td><td>{amount}</td></tr>" for name, share, amount in rows)
    head = "".join(f'<th scope="col"><span>{column}</span></th>' for column in ("Expression", "Bar", "Share", unit))
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def gallery(heading, pictures):
    """Return an HTML list of faces; a picture is (expression, JPEG or None, caption)."""
    items = []
    for name, jpeg, caption in pictures:
        source = jpeg and f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        image = f'<img src="{source}" alt="The face that looks {name}" width="96" height="96">' if jpeg else ""
        items.append(f'<li>{image}<b style="background: var(--{name})">{name}</b> {html.escape(caption)}</li>')
    return f'<h4>{heading}</h4><ul class="gallery">{"".join(items)}</ul>'


def timeline(face, end):
    """Return an SVG, as wide as there is room, of a face's expressions over a video of `end` seconds."""
    edges, columns = np.linspace(0, end, COLUMNS + 1), np.zeros((COLUMNS, len(LABELS)))
    for start, until, name in face["timeline"]:  # each column shows what prevails in it
        columns[:, LABELS.index(name)] += np.diff(np.clip(edges, start, until))
    prevailing = [LABELS[column.argmax()] if column.any() else None for column in columns]
    pieces, x = [], 0
    for name, group in itertools.groupby(prevailing):
        width = len(list(group)) / COLUMNS
        label = f'<text x="50%" y="24"{" class=wide" * (width < NARROW_LABEL)}>{name}</text>' * (width > WIDE_LABEL)
        if name:
            times = f"{clock(x * end)} to {clock((x + width) * end)}"
            pieces.append(f'<svg x="{x:.2%}" width="{width:.2%}"><title>{name} {times}</title>'
                          f'<rect width="100%" height="38" fill="var(--{name})"/>{label}</svg>')
        x += width
    step = next((step for step in TICKS if end <= 6 * step), TICKS[-1])
    ticks = "".join(f'<text x="{second / end:.2%}" y="56" class="{"tick" if second else "first"}">'
                    f"{clock(second)[:None if step < 1 else -2]}</text>" for second in np.arange(0, 0.97 * end, step))
    told = "; ".join(f"{name} {clock(start)} to {clock(until)}" for start, until, name in face["timeline"][:20])
    return (f'<svg class="timeline" height="60" role="img"><title>Face {face["face"]} over time</title><desc>{told}'
            f'{"; and so on" * (len(face["timeline"]) > 20)}</desc><g><rect width="100%" height="38" class="track"/>'
            f'{"".join(pieces)}</g>{ticks}</svg>')
