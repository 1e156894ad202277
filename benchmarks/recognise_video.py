"""How many frames a second recognise_video.py recognises, from a video to a video, and what others reach.

Runs in turn, each time in a process of its own:
ours          recognise_video.py with --csv, all frames, loading the model included;
codec         decodes the video and encodes it again as recognise_video.py does, nothing else, all frames;
the_original  what the original project does, with every frame: searches it in full size, recognises
              the first face with model.predict, draws it and writes MPEG-4 through OpenCV;
fer           the PyPI package of that name as it comes, drawn and written alike, where it is installed.
The last two are slow and get the first frames only; their models are loaded before the clock starts.
Prints frames per second, medians over the runs, and how many times faster ours is. Then searches every
whole frame with recognise_video.py's settings and prints how many of the faces found so ours has, too, at
an intersection over union of at least 0.4, and how many it has besides.

Without a video it makes one: 1280 x 720, 30 frames a second, 20 seconds; one to four copies of the
portrait that comes with matplotlib, their faces 120 to 340 pixels wide, glide over a blurred ground.

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

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import recognise_video  # noqa: E402
from preprocessing import EXPRESSIONS, InputError, run, script_parser  # noqa: E402
from recognise_image import find_faces, portrait, read_picture  # noqa: E402
from train_model import load_model  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from find_faces import pair_boxes  # noqa: E402

WIDTH, HEIGHT, RATE, SECONDS = 1280, 720, 30, 20
FACES = (  # of the clip: width of the face, mirrored, brightness, centre x and y, and how far it glides from there
    (200, False, 1.0, 790, 360, 45, 200), (340, True, 0.8, 330, 360, 80, 110),
    (120, True, 1.2, 1100, 560, 85, 60), (150, False, 0.65, 1120, 190, 45, 75))
PRESENT = (2, 3, 1, 4)  # how many of these are there, changing every two seconds


def make_clip(path):
    """Write the clip in which the faces glide, H.264."""
    import av

    picture = read_picture(portrait())
    x, y, side = 81, 30, 368  # the head; its face is 254 pixels wide
    head = picture[y:y + side, x:x + side]
    oval = cv2.ellipse(np.zeros((side, side), np.float32), (side // 2, side // 2), (150, 172), 0, 0, 360, 1, -1)
    oval = cv2.GaussianBlur(oval, (0, 0), 6)[..., None]
    chance = np.random.default_rng(0)
    ground = sum(cv2.resize(chance.normal(0, contrast, (9 * fine, 16 * fine, 1)), (WIDTH, HEIGHT),
                            interpolation=cv2.INTER_CUBIC) for fine, contrast in ((1, 18), (4, 9), (16, 4)))
    ground = (ground[..., None] + np.array((120, 125, 115))).clip(0, 255).astype(np.uint8)
    noise = chance.normal(0, 4, (HEIGHT + 64, WIDTH + 64, 3)).astype(np.int16)
    heads = []
    for width, mirrored, *_ in FACES:
        size = (round(side * width / 254),) * 2
        scaled = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (head, oval)]
        heads.append([image[:, ::-1] if mirrored else image for image in scaled])
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(RATE * SECONDS):
            second = number / RATE
            frame = ground.copy()
            present = PRESENT[int(second / 2) % len(PRESENT)]
            for face, (_, _, brightness, centre_x, centre_y, wide, high) in enumerate(FACES[:present]):
                image, mask = heads[face][0], heads[face][1][..., None]
                left = round(centre_x + wide * np.sin(0.9 * second + face) - len(image) / 2)
                top = round(centre_y + high * np.sin(0.7 * second + 2 * face) - len(image) / 2)
                place = frame[top:top + len(image), left:left + len(image)]
                lit = brightness * (1 + 0.1 * np.sin(1.5 * second + face))
                place[:] = (place * (1 - mask) + image * lit * mask).clip(0, 255)
            down, right = chance.integers(0, 64, 2)
            frame = (frame + noise[down:down + HEIGHT, right:right + WIDTH]).clip(0, 255).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))


def ours(video, output, _):
    """recognise_video.py as it is."""
    start = time.perf_counter()
    recognise_video.main([str(video), "--output", str(output), "--csv", str(output.with_suffix(".csv")), "--quiet"])
    seconds = time.perf_counter() - start
    with recognise_video.open_video(output) as written:
        return written.streams.video[0].frames, seconds


def codec(video, output, _):
    """What no way that writes H.264 through FFmpeg can do without."""
    import av

    start, number = time.perf_counter(), 0
    with recognise_video.open_video(video) as read, av.open(str(output), "w") as written:
        source = read.streams.video[0]
        source.thread_type = "AUTO"
        stream = written.add_stream("libx264", rate=recognise_video.frame_rate(source),
                                    options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = source.width, source.height, "yuv420p"
        for frame in read.decode(source):
            frame.pict_type = av.video.frame.PictureType.NONE  # which frames are whole the encoder decides anew
            written.mux(stream.encode(frame))
            number += 1
        written.mux(stream.encode(None))
    return number, time.perf_counter() - start


def the_original(video, output, frames):
    """One face per frame, found in full size, recognised with model.predict."""
    network = load_model()
    network.predict(np.zeros((1, 48, 48, 1)), verbose=0)  # the first call builds TensorFlow's graph
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def recognise(frame):
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        for x, y, width, height in cascade.detectMultiScale(grey, 1.3, 5)[:1]:
            face = cv2.resize(grey[y:y + height, x:x + width], (48, 48))
            # The original divides by 255 here; the network that comes with this project does so itself.
            shares = network.predict(face.astype("float32").reshape(1, 48, 48, 1), verbose=0)[0]
            yield (x, y, width, height), EXPRESSIONS[shares.argmax()]

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
    """Read the first frames, draw what recognise(frame) yields into each, write it: their number and the seconds."""
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


WAYS = {way.__name__: way for way in (ours, codec, the_original, fer)}


def compare(video, table):
    """Faces that a search of every whole frame finds, those of them in the CSV of ours, and those in it besides."""
    boxes = collections.defaultdict(list)
    with open(table, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            boxes[int(row["frame"])].append(tuple(int(row[name]) for name in ("x", "y", "width", "height")))
    searched = both = 0
    with recognise_video.open_video(video) as read:
        stream = read.streams.video[0]
        stream.thread_type = "AUTO"
        for number, (_, frame) in enumerate(recognise_video.read_video(read, stream)):
            found = find_faces(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), recognise_video.LONGEST_SIDE,
                               recognise_video.SCALE_STEP, recognise_video.NEIGHBOURS)
            searched += len(found)
            both += len(pair_boxes(boxes[number], found))
    return searched, both, sum(map(len, boxes.values())) - both


def time_way(way, python, video, frames, folder):
    """Frames per second of one run."""
    command = [python, __file__, video, "--way", way, "--frames", str(frames), "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{way} failed: {(done.stderr.strip() or 'it said nothing').splitlines()[-1]}")
    number, seconds = done.stdout.split()[-2:]
    return int(number) / float(seconds)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("video", nargs="?", type=Path, help="a video file (default: the clip described above)")
    parser.add_argument("--runs", type=int, default=3, help="of each way (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=60, help="for the slow ways (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the videos stay (default: they are deleted)")
    parser.add_argument("--fer-python", default=sys.executable, metavar="PYTHON",
                        help="the Python that has the package fer (default: this one)")
    parser.add_argument("--way", choices=WAYS, help="run just this one way, once, and print frames and seconds")
    args = parser.parse_args(argv)

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        video = args.video or folder / "clip.mp4"
        if args.video is None:
            print("making the clip", file=sys.stderr)
            make_clip(video)
        if args.way:
            print(*WAYS[args.way](video, folder / f"{args.way}.mp4", args.frames))
            return
        recognise_video.open_video(video).close()

        ways = dict.fromkeys(WAYS, sys.executable) | {"fer": args.fer_python}
        look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('fer') is None)"
        if subprocess.run([args.fer_python, "-c", look]).returncode:
            print(f"{args.fer_python} has no package fer, so it is left out: --fer-python says which has it",
                  file=sys.stderr)
            del ways["fer"]
        rates = {way: [] for way in ways}
        for number in range(args.runs):
            for way, python in ways.items():
                rates[way].append(time_way(way, python, video, args.frames, folder))
                print(f"run {number + 1}: {way:12} {rates[way][-1]:7.1f} frames/s", file=sys.stderr)
        searched, both, besides = compare(video, folder / "ours.csv")

    medians = {way: statistics.median(rates[way]) for way in ways}
    print("way            frames/s   ours is faster")
    for way in ways:
        print(f"{way:14} {medians[way]:8.1f} {medians['ours'] / medians[way]:14.1f} x")
    print(f"{both:,} of {searched:,} faces that a search of every whole frame finds are found by ours, too; "
          f"{besides:,} besides")


if __name__ == "__main__":
    run(main)
