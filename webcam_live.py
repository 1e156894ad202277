"""Recognise expressions live, from a camera.

Reads camera 0, or the camera number, video file or address given, and models/.
Shows a mirrored window with a box and a label on each face, the probabilities of the largest one and the frames per
second. Keys: q or Esc quits, s keeps a snapshot, r starts and stops a recording, space pauses, h lists them.
With --record what the camera sees is recorded from the start, with --table a row per face and processed frame is
written; neither is mirrored.

$ python webcam_live.py
$ python webcam_live.py 1 --record me.mp4
$ python webcam_live.py rtsp://camera.example/stream --table faces.csv --seconds 60
"""
import collections
import concurrent.futures
import contextlib
import dataclasses
import threading
import time
from pathlib import Path

import cv2

from expressions import camera
from expressions.artifacts import refuse_overwriting
from expressions.console import InputError, print_status, run, script_parser
from expressions.drawing import draw_faces, draw_overlay, draw_probability_bars
from expressions.images import is_uniform, write_image
from expressions.recognition import add_detector_arguments, face_row, recogniser_of
from expressions.tables import VIDEO_COLUMNS, open_table, table_path
from expressions.tracking import Tracker

TITLE = "expressions - h lists the keys"
KEYS = ("q  quit", "s  snapshot", "r  record, and stop", "space  pause", "h  these keys")
UNIFORM = "one flat colour: is the lens covered?"


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video file or address (default: 0)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record an .mp4 from the start")
    parser.add_argument("--table", "--csv", type=table_path, metavar="FILE", help="write a row per face and processed "
                        "frame; the file ends in .csv, .json, .jsonl or .parquet; - is CSV to standard output")
    parser.add_argument("--seconds", type=camera.seconds_argument, metavar="N", help="end after so many seconds")
    parser.add_argument("--no-mirror", action="store_true", help="show the image as the camera sees it")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    if args.record and args.record.suffix.lower() != ".mp4":
        raise InputError(f"{args.record} is not an .mp4: end the name in .mp4")
    refuse_overwriting([path for path in (args.record, args.table) if path], [args.source])
    return args


class LiveSession:
    """A live run: it takes frames, has them processed on a thread of its own, shows them and obeys the keys."""

    def __init__(self, args, process, recording, table, has_window):
        self.args, self.process, self.recording, self.table = args, process, recording, table
        self.has_window = has_window
        self.executor = concurrent.futures.ThreadPoolExecutor(1)
        self.playing = threading.Event()  # cleared while paused
        self.playing.set()
        self.n_frames, self.frame = 0, None
        self.pending, self.faces = None, []  # (frame number, seconds, future), and what the last one returned
        self.frame_times = collections.deque([time.monotonic()], maxlen=30)
        self.shows_keys = False

    def run(self, items):
        """Take what camera.latest yields until the user quits, --seconds are over or the source ends.

        Returns whether a camera, which has no end, gives no more images.
        """
        for item in items:
            if item and self.playing.is_set():
                if self.args.seconds is not None and item[0] >= self.args.seconds:
                    return False
                self.add_frame(*item)
            elif self.is_silent():
                return True
            if self.has_window and self.frame is not None and self.show() == "q":
                return False
        return camera.is_number(self.args.source)

    def is_silent(self):
        """Whether a live source has given no frame for too long."""
        return (camera.is_live(self.args.source) and self.playing.is_set()
                and time.monotonic() - self.frame_times[-1] > camera.TIMEOUT)

    def add_frame(self, seconds, frame):
        """Take a new frame: process it, unless an earlier one still is, and record it."""
        if self.pending and self.pending[-1].done():
            self.take_result()
        if not self.pending:
            self.pending = self.n_frames, seconds, self.executor.submit(self.process, seconds, frame)
        self.frame = frame
        if self.recording.path:
            self.recording.write(self.annotate(frame), seconds)
        self.n_frames += 1
        self.frame_times.append(time.monotonic())

    def take_result(self):
        """Wait for the frame that is being processed, if there is one, and add its rows to the table."""
        if not self.pending:
            return
        number, seconds, future = self.pending
        self.pending = None
        self.faces = future.result()
        if self.table:
            for face in self.faces:
                self.table.add([number, f"{seconds:.3f}", *face_row(face.track_id, face)])

    def annotate(self, frame, is_mirrored=False):
        """Return a copy of the frame, mirrored if asked, with the faces that were found last."""
        image, faces = frame.copy(), self.faces
        if is_mirrored:
            image = cv2.flip(frame, 1)
            faces = [dataclasses.replace(face, box=(frame.shape[1] - face.box[0] - face.box[2], *face.box[1:]))
                     for face in faces]
        draw_faces(image, faces)
        if faces:
            draw_probability_bars(image, max(faces, key=lambda face: face.box[2]))
        return image

    def show(self):
        """Show the last frame in the window; returns the key that was pressed."""
        image = self.annotate(self.frame, not self.args.no_mirror)
        rate = (len(self.frame_times) - 1) / max(self.frame_times[-1] - self.frame_times[0], 1e-3)
        draw_overlay(image, [f"{rate:.0f} frames a second", *["recording"] * bool(self.recording.path),
                             *["paused"] * (not self.playing.is_set()), *[UNIFORM] * is_uniform(self.frame),
                             *(KEYS if self.shows_keys else ())])
        camera.show(TITLE, image)
        key = camera.pressed_key(TITLE)
        self.handle_key(key)
        return key

    def handle_key(self, key):
        """Do what a key other than q asks for."""
        if key == "h":
            self.shows_keys = not self.shows_keys
        elif key == " ":
            self.frame_times.append(time.monotonic())
            if self.playing.is_set():
                self.playing.clear()
            else:
                self.playing.set()
        elif key == "s":
            path = camera.dated_path("snapshot", ".jpg")
            write_image(path, self.annotate(self.frame))
            print_status(f"wrote {path}", self.args.quiet)
        elif key == "r" and self.recording.path:
            self.recording.stop()
        elif key == "r":
            self.recording.start(camera.dated_path("recording", ".mp4"))


def main(argv=None):
    args = parse_arguments(argv)
    has_window = camera.can_show()
    if not (has_window or args.record or args.table):
        raise InputError("there is no display to open a window on: give --record FILE.mp4 or --table FILE "
                         "and look at the file later")
    process = Tracker(recogniser_of(args)).process
    source = camera.open_camera(args.source)
    is_silent, error = False, None
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(open_table(args.table, VIDEO_COLUMNS)) if args.table else None
        recording = stack.enter_context(camera.Recording(source.rate, args.quiet))
        if args.record:
            recording.start(args.record)
        session = LiveSession(args, process, recording, table, has_window)
        stack.enter_context(session.executor)
        frames = camera.read_camera(source.frames, camera.is_live(args.source), session.playing)
        items = stack.enter_context(contextlib.closing(camera.latest(frames)))
        stack.callback(session.playing.set)
        if has_window:
            stack.callback(cv2.destroyAllWindows)
        try:
            is_silent = session.run(items)
        except (KeyboardInterrupt, InputError) as reason:  # what was recorded is worth having
            error = reason
        session.take_result()
        recording.stop()
        if not session.n_frames:
            raise error or InputError(f"{args.source} opens but gives no image: close other programs that use it, "
                                      "or check the file")
    if args.table and str(args.table) != "-":
        print_status(f"wrote {args.table}", args.quiet)
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt("what was recorded and the rows so far are whole; run it again to go on")
    if error or is_silent:
        raise error or InputError(f"{args.source} gives no more images: plug it in again; what was recorded is whole")


if __name__ == "__main__":
    run(main)
