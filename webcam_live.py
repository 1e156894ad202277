"""Recognise expressions live, from a camera.

Reads camera 0, or the camera number, video file or address given, and models/.
Shows a mirrored window with a box and a label on each face, and the probabilities of the largest one.
Keys: q or Esc quits, s keeps a snapshot, r starts and stops a recording, space pauses, h lists them.
With --record what the camera sees is recorded from the start, with --table a row per face and frame is written, with
the time of day; neither is mirrored. Where frames come faster than they are processed, some are left out.

$ python webcam_live.py
$ python webcam_live.py 1 --record me.mp4
$ python webcam_live.py rtsp://camera.example/stream --table faces.csv --seconds 60
"""
import collections
import contextlib
import dataclasses
import datetime
from pathlib import Path

import cv2

from expressions import camera
from expressions.artifacts import refuse_overwriting
from expressions.console import InputError, pluralise, positive_int, print_status, run, script_parser
from expressions.drawing import draw_faces, draw_overlay, draw_probability_bars
from expressions.images import is_uniform, write_image
from expressions.recognition import Recogniser, add_detector_arguments, video_row
from expressions.tables import LIVE_COLUMNS, add_table_argument, open_table
from expressions.tracking import Tracker

TITLE = "expressions - h lists the keys"
KEYS = ("q  quit", "s  snapshot", "r  record, and stop", "space  pause", "h  these keys")


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video file or address (default: 0)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record an .mp4 from the start")
    add_table_argument(parser, "per face and frame")
    parser.add_argument("--seconds", type=positive_int, metavar="N", help="end after so many seconds")
    parser.add_argument("--no-mirror", action="store_true", help="show the image as the camera sees it")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    refuse_overwriting(filter(None, (args.record, args.table)), [args.source])
    args.has_window = camera.can_show()
    if not (args.has_window or args.record or args.table):
        raise InputError("there is no display to open a window on: give --record FILE.mp4 or --table FILE")
    return args


class LiveSession:
    """A live run: it takes frames, recognises the faces in them, shows and records them, and obeys the keys.

    `recorder` is an ExitStack that holds the recording: if its block ends with an error, no file is left of that.
    """

    def __init__(self, args, table, recorder):
        self.args, self.table, self.recorder = args, table, recorder
        self.process = Tracker(Recogniser(args.models, args.detector, args.min_score, args.min_probability)).process
        self.n_frames, self.seconds = 0, 0  # taken so far, and the time of the newest
        self.times = collections.deque(maxlen=30)  # of the last frames, in seconds
        self.counts = collections.Counter()  # of the expressions of all faces in all frames
        self.writer, self.is_paused, self.shows_keys = None, False, False

    def run(self):
        """Recognise and keep what comes until the user quits, --seconds are over or the source ends."""
        with contextlib.closing(camera.watch(self.args.source, lambda: self.is_paused)) as items:
            for item in items:
                if item and not self.is_paused:
                    self.seconds, self.frame = item
                    if self.args.seconds and self.seconds >= self.args.seconds:
                        return
                    self.faces = self.process(*item)
                    self.counts.update(face.expression for face in self.faces)
                    clock = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
                    for face in self.faces if self.table else ():
                        self.table.add([*video_row(self.n_frames, self.seconds, face), clock])
                    if self.writer:
                        self.writer.write(self.annotate(), self.seconds - self.began)
                    self.times.append(self.seconds)
                    self.n_frames += 1
                if self.args.has_window and self.n_frames and self.show() == "q":
                    return

    def record(self, path):
        """Finish the recording, if there is one, and begin another, if there is a path for it."""
        self.recorder.close()
        if self.writer:
            print_status(f"wrote {self.recording}", self.args.quiet)
        self.writer, self.recording, self.began = None, path, self.seconds
        if path:
            from expressions.video import video_writer
            self.writer = self.recorder.enter_context(video_writer(path))

    def annotate(self, is_mirrored=False):
        """Return a copy of the newest frame, mirrored if asked, with its faces."""
        image, faces = cv2.flip(self.frame, 1) if is_mirrored else self.frame.copy(), self.faces
        if is_mirrored:  # only the letters are not
            left = [image.shape[1] - face.box[0] - face.box[2] for face in faces]
            faces = [dataclasses.replace(face, box=(x, *face.box[1:])) for x, face in zip(left, faces)]
        draw_faces(image, faces)
        if faces:
            draw_probability_bars(image, max(faces, key=lambda face: face.box[2]))
        return image

    def show(self):
        """Show the newest frame in the window; do what a pressed key other than q asks for, and return it."""
        image = self.annotate(not self.args.no_mirror)
        rate = (len(self.times) - 1) / max(self.times[-1] - self.times[0], 1e-3)
        lines = (f"{rate:.0f} frames a second", self.writer and "recording", self.is_paused and "paused",
                 is_uniform(self.frame) and "one flat colour: is the lens covered?", *KEYS * self.shows_keys)
        draw_overlay(image, list(filter(None, lines)))
        key = camera.show(TITLE, image)
        if key == "h":
            self.shows_keys = not self.shows_keys
        elif key == " ":
            self.is_paused = not self.is_paused
        elif key == "s":
            path = camera.dated_path("snapshot", ".jpg")
            write_image(path, self.annotate())
            print_status(f"wrote {path}", self.args.quiet)
        elif key == "r":
            self.record(None if self.writer else camera.dated_path("recording", ".mp4"))
            if self.writer:  # no recording is empty
                self.writer.write(self.annotate(), 0)
        return key


def main(argv=None):
    args, ended_by = parse_arguments(argv), None
    with contextlib.ExitStack() as stack:
        table = args.table and stack.enter_context(open_table(args.table, LIVE_COLUMNS))
        session = LiveSession(args, table, stack.enter_context(contextlib.ExitStack()))
        session.record(args.record)
        try:
            session.run()
        except (KeyboardInterrupt, InputError) as error:  # what was recorded is worth having
            ended_by = error
        if not session.n_frames:
            raise ended_by or InputError(f"{args.source} opens but gives no image: check it")
        session.record(None)
    shares = [f"{name} {count / session.counts.total():.0%}" for name, count in session.counts.most_common()]
    print_status(f"{pluralise(session.n_frames, 'frame')} in {session.seconds:.0f} s: {', '.join(shares) or 'no face'}",
                 args.quiet)
    if ended_by:
        raise type(ended_by)(f"{str(ended_by) or 'run it again to go on'}; recording and rows so far are whole")


if __name__ == "__main__":
    run(main)
