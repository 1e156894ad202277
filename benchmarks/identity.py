"""Count the faces that get their old number back in a video that cuts to and fro between clips.

Reads clips in which the same people are seen all the time, different ones in each. Two seconds of each in turn, three
times, make a video of cuts, in which the second and third time are as they were filmed, or mirrored, or zoomed in.
Prints a row for each: how many faces came back, how many of them with their old number and with a new one, and how
many faces, the first time too, had another's number in any frame.

$ python benchmarks/identity.py one.mp4 two.mp4 three.mp4
"""
import sys
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions.console import run, script_parser
from expressions.recognition import Recogniser, add_detector_arguments, choose_detector
from expressions.tracking import Tracker
from expressions.video import open_video, read_video

SECONDS, TIMES = 2, (0, 3, 6)  # of a part, and where the three parts of a clip begin
WIDTH = 960  # pixels; all clips become as wide
CHANGES = {"as filmed": lambda frame: frame, "mirrored": lambda frame: cv2.flip(frame, 1),
           "zoomed in by 1.3": lambda frame: zoom_in(frame, 1.3)}


def zoom_in(frame, factor):
    height, width = frame.shape[:2]
    return cv2.warpAffine(frame, cv2.getRotationMatrix2D((width / 2, height / 2), 0, factor), (width, height))


def count_returns(clips, change, recogniser):
    """Return how many faces came back, with their old number and with a new one, and how many ever had another's."""
    tracker, owners, people, counts = Tracker(recogniser), {}, set(), [0, 0, 0, 0]
    now = 0
    for part, start in enumerate(TIMES):
        for clip in clips:
            ids = []  # of the faces in each frame, from left to right
            with open_video(clip) as video:
                for seconds, frame in read_video(video, first=start, last=start + SECONDS):
                    frame = cv2.resize(frame, (WIDTH, round(WIDTH * frame.shape[0] / frame.shape[1])))
                    faces = tracker.process(now + seconds - start, change(frame) if part else frame)
                    is_mirrored = part and change is CHANGES["mirrored"]
                    ids.append([face.track_id for face in sorted(faces, key=lambda face: face.box[0],
                                                                 reverse=is_mirrored)])
            now += seconds - start + 1 / 25
            usual = sorted(map(len, ids))[len(ids) // 2]
            for place, numbers in enumerate(map(set, zip(*[some for some in ids if len(some) == usual]))):
                person = clip, place
                old = any(owners.get(number) == person for number in numbers)
                others = [number for number in numbers if owners.setdefault(number, person) != person]
                is_back = person in people
                for column, is_so in enumerate((is_back, is_back and old, is_back and not old, others)):
                    counts[column] += bool(is_so)
                people.add(person)
    return counts


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    recogniser = Recogniser(args.models, choose_detector(args.detector), args.min_score)
    print("| second and third time | came back | old number | new number | another's number |\n" + "| --- " * 5 + "|")
    for name, change in CHANGES.items():
        print(f"| {name} | {' | '.join(map(str, count_returns(args.clips, change, recogniser)))} |", flush=True)


if __name__ == "__main__":
    run(main)
