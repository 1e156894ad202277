"""Measure how many frames a second recognise_video.py recognises, from a video to a video, and what others reach.

Runs in turn, each time in a process of its own:
haar, yunet   recognise_video.py with --table and this --detector, all frames, loading the model included; yunet where
              its file is in models/;
codec         decodes the video and encodes it again as recognise_video.py does, nothing else, all frames;
the_original  what the original project does, with every frame: searches it in full size, recognises the first face with
              model.predict, draws it and writes MPEG-4 through OpenCV;
fer           the PyPI package of that name as it comes, drawn and written alike, where it is installed.
The last two are slow and get the first frames only; their models are loaded before the clock starts.
Prints frames per second, medians over the runs, and what share of the codec's that is. Then searches every whole frame
with recognise_video.py's settings and prints how many of the faces found so recognise_video.py has, too, and how many
it has besides.

Without a video it makes one: 1280 x 720, 30 frames a second, 20 seconds; one to four copies of the portrait that comes
with matplotlib, their faces 120 to 340 pixels wide, glide over a blurred ground.

$ python benchmarks/recognise_video.py
$ python benchmarks/recognise_video.py party.mov --frames 100
$ python benchmarks/recognise_video.py --fer-python ferenv/bin/python  # another environment has fer
"""
import collections
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from find_faces import METHODS as DETECTORS
from find_faces import pair_boxes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before benchmarks/, which has the same names
import recognise_video
from expressions.console import InputError, positive_int, print_status, run, script_parser
from expressions.images import read_image, sample_image_path
from expressions.labels import EXPRESSIONS
from expressions.model_files import import_keras, load_model
from expressions.video import frame_rate, open_video, read_video

WIDTH, HEIGHT, RATE, SECONDS = 1280, 720, 30, 20
FACES = (  # of the clip: width of the face, mirrored, brightness, centre x and y, and how far it glides from there
    (200, False, 1.0, 790, 360, 45, 200), (340, True, 0.8, 330, 360, 80, 110),
    (120, True, 1.2, 1100, 560, 85, 60), (150, False, 0.65, 1120, 190, 45, 75))
PRESENT = (2, 3, 1, 4)  # how many of these are there, changing every two seconds


# ---- the clip ----------------------------------------------------------------------------------

def make_heads():
    """Return for each of FACES an image float (n, n, 3) of the portrait's head, and its mask float (n, n, 1)."""
    x, y, side = 81, 30, 368  # of the head; its face is 254 pixels wide
    head = read_image(sample_image_path())[y:y + side, x:x + side]
    oval = cv2.ellipse(np.zeros((side, side), np.float32), (side // 2, side // 2), (150, 172), 0, 0, 360, 1, -1)
    oval = cv2.GaussianBlur(oval, (0, 0), 6)
    heads = []
    for width, mirrored, *_ in FACES:
        size = (round(side * width / 254),) * 2
        image, mask = (cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in (head, oval))
        heads.append((image[:, ::-1], mask[:, ::-1, None]) if mirrored else (image, mask[..., None]))
    return heads


def make_frames():
    """Yield the frames, uint8 BGR (HEIGHT, WIDTH, 3), of the clip in which the faces glide."""
    heads, random = make_heads(), np.random.default_rng(0)
    ground = sum(cv2.resize(random.normal(0, contrast, (9 * fine, 16 * fine, 1)), (WIDTH, HEIGHT),
                            interpolation=cv2.INTER_CUBIC) for fine, contrast in ((1, 18), (4, 9), (16, 4)))
    ground = (ground[..., None] + np.array((120, 125, 115))).clip(0, 255).astype(np.uint8)
    noise = random.normal(0, 4, (HEIGHT + 64, WIDTH + 64, 3)).astype(np.int16)
    for index in range(RATE * SECONDS):
        second, frame = index / RATE, ground.copy()
        present = PRESENT[int(second / 2) % len(PRESENT)]
        for face, (_, _, brightness, centre_x, centre_y, wide, high) in enumerate(FACES[:present]):
            image, mask = heads[face]
            left = round(centre_x + wide * np.sin(0.9 * second + face) - len(image) / 2)
            top = round(centre_y + high * np.sin(0.7 * second + 2 * face) - len(image) / 2)
            place = frame[top:top + len(image), left:left + len(image)]
            lit = brightness * (1 + 0.1 * np.sin(1.5 * second + face))
            place[:] = (place * (1 - mask) + image * lit * mask).clip(0, 255)
        down, right = random.integers(0, 64, 2)
        yield (frame + noise[down:down + HEIGHT, right:right + WIDTH]).clip(0, 255).astype(np.uint8)


def make_clip(path):
    """Write the clip, H.264."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in make_frames():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))


# ---- the contestants: each returns how many frames it did, and the seconds ---------------------

def haar(video, output, _, detector="haar"):
    """recognise_video.py with the cascades."""
    start = time.perf_counter()
    recognise_video.main([str(video), "--output", str(output), "--table", str(output.with_suffix(".csv")), "--quiet",
                          "--detector", detector])
    seconds = time.perf_counter() - start
    with open_video(output) as written:
        return written.streams.video[0].frames, seconds


def yunet(video, output, _):
    """recognise_video.py with YuNet."""
    return haar(video, output, _, "yunet")


def codec(video, output, _):
    """What no method that writes H.264 through FFmpeg can do without."""
    import av

    start, number = time.perf_counter(), 0
    with open_video(video) as read, av.open(str(output), "w") as written:
        source = read.streams.video[0]
        stream = written.add_stream("libx264", rate=frame_rate(source), options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = source.width, source.height, "yuv420p"
        stream.thread_type = "AUTO"
        for frame in read.decode(source):
            frame.pict_type = av.video.frame.PictureType.NONE  # which frames are whole the encoder decides anew
            written.mux(stream.encode(frame))
            number += 1
        written.mux(stream.encode(None))
    return number, time.perf_counter() - start


def the_original(video, output, frames):
    """One face per frame, found in full size, recognised with model.predict."""
    import_keras()
    model = load_model()
    model.predict(np.zeros((1, 48, 48, 1)), verbose=0)  # the first call builds TensorFlow's graph
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def recognise(frame):
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        for x, y, width, height in cascade.detectMultiScale(grey, 1.3, 5)[:1]:
            face = cv2.resize(grey[y:y + height, x:x + width], (48, 48))
            # The original divides by 255 here; the network that comes with this project does so itself.
            probabilities = model.predict(face.astype("float32").reshape(1, 48, 48, 1), verbose=0)[0]
            yield (x, y, width, height), EXPRESSIONS[probabilities.argmax()]

    return write_with_opencv(video, output, frames, recognise)


def fer(video, output, frames):
    """The package as its README has it: FER().detect_emotions(frame), all faces of a frame."""
    from fer.fer import FER

    detector = FER()

    def recognise(frame):
        for face in detector.detect_emotions(frame):
            yield face["box"], max(face["emotions"], key=face["emotions"].get)

    return write_with_opencv(video, output, frames, recognise)


def write_with_opencv(video, output, frames, recognise):
    """Read the first frames, draw what recognise(frame) yields into each, and write it."""
    start, number = time.perf_counter(), 0
    source = cv2.VideoCapture(str(video))
    size = int(source.get(cv2.CAP_PROP_FRAME_WIDTH)), int(source.get(cv2.CAP_PROP_FRAME_HEIGHT))
    target = cv2.VideoWriter(str(output), cv2.VideoWriter_fourcc(*"mp4v"), source.get(cv2.CAP_PROP_FPS), size)
    while number < frames:
        is_there, frame = source.read()
        if not is_there:
            break
        for (x, y, width, height), expression in recognise(frame):
            cv2.rectangle(frame, (x, y), (x + width, y + height), (255, 0, 0), 2)
            cv2.putText(frame, expression, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
        target.write(frame)
        number += 1
    target.release()
    source.release()
    return number, time.perf_counter() - start


METHODS = {method.__name__: method for method in (haar, yunet, codec, the_original, fer)}
if "yunet" not in DETECTORS:
    del METHODS["yunet"]


# ---- measuring ---------------------------------------------------------------------------------

def compare_with_full_search(video, table, search):
    """Return the number of faces that search(frame) finds in all frames, of those of them that are also in our table,
    and of those that are only in our table."""
    boxes = collections.defaultdict(list)
    with open(table, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            boxes[int(row["frame"])].append(tuple(int(row[name]) for name in ("x", "y", "width", "height")))
    searched = both = 0
    with open_video(video) as read:
        for index, (_, frame) in enumerate(read_video(read)):
            found = search(frame)
            searched += len(found)
            both += len(pair_boxes(boxes[index], found))
    return searched, both, sum(map(len, boxes.values())) - both


def time_method(method, python, video, frames, folder):
    """Return the frames per second of one run."""
    command = [python, __file__, video, "--method", method, "--frames", str(frames), "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{method} failed: {(done.stderr.strip() or 'it said nothing').splitlines()[-1]}")
    number, seconds = done.stdout.split()[-2:]
    return int(number) / float(seconds)


def measure(video, folder, args):
    """Return {method: frames per second of each run}, in turn."""
    pythons = dict.fromkeys(METHODS, sys.executable) | {"fer": args.fer_python}
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('fer') is None)"
    if subprocess.run([args.fer_python, "-c", look]).returncode:
        print_status(f"{args.fer_python} has no package fer, so it is left out: --fer-python says which has it")
        del pythons["fer"]
    rates = {method: [] for method in pythons}
    for number in range(args.runs):
        for method, python in pythons.items():
            rates[method].append(time_method(method, python, video, args.frames, folder))
            print_status(f"run {number + 1}: {method:12} {rates[method][-1]:7.1f} frames/s")
    return rates


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("video", nargs="?", type=Path, help="a video file (default: the clip described above)")
    parser.add_argument("--runs", type=positive_int, default=3, help="of each method (default: %(default)s)")
    parser.add_argument("--frames", type=positive_int, default=60, help="for the slow ones (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the videos stay (default: they are deleted)")
    parser.add_argument("--fer-python", default=sys.executable, metavar="PYTHON",
                        help="the Python that has the package fer (default: this one)")
    parser.add_argument("--method", choices=METHODS, help="run just this one, once, and print frames and seconds")
    args = parser.parse_args(argv)

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        video = args.video or folder / "clip.mp4"
        if args.video is None:
            print_status("making the clip")
            make_clip(video)
        if args.method:
            print(*METHODS[args.method](video, folder / f"{args.method}.mp4", args.frames))
            return
        open_video(video).close()  # a file that is no video is named at once
        rates = measure(video, folder, args)
        medians = {method: statistics.median(values) for method, values in rates.items()}
        print("method         frames/s   of the codec's")
        for method, median in medians.items():
            print(f"{method:14} {median:8.1f} {median / medians['codec']:14.0%}")
        for method in METHODS.keys() & {"haar", "yunet"}:
            searched, both, besides = compare_with_full_search(video, folder / f"{method}.csv",
                                                               DETECTORS[f"{method}_in_video"])
            print(f"{method}: {both:,} of {searched:,} faces that a search of every whole frame finds are in the "
                  f"table, too; {besides:,} besides")


if __name__ == "__main__":
    run(main)
