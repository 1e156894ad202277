"""Recognise the expression of every face in a recorded video.

Reads a video in any format FFmpeg reads, and models/.
Writes <name>_recognised.mp4 where you stand: every frame at its time, with a box and a label on
each face, and the sound; H.264, which players and browsers show. A face keeps its number.
With --no-video only rows or a plot are made; a long video is then recognised in parts, on all cores or a cluster.

$ python recognise_video.py party.mov
$ python recognise_video.py party.mov --output labelled.mp4 --csv faces.csv --plot faces.png
$ python recognise_video.py lecture.mp4 --no-video --csv faces.csv
$ python recognise_video.py s3://bucket/lecture.mp4 --no-video --csv faces.csv --scheduler tcp://host:8786
"""
import array
import bisect
import collections
import concurrent.futures
import contextlib
import datetime
import functools
import importlib.util
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import count as counting
from itertools import pairwise
from pathlib import Path

from preprocessing import EXPRESSIONS, MAX_PIXELS, InputError, first_line, printable, run, written_whole
from recognise_image import (
    COLOURS,
    add_workers,
    count,
    crop_faces,
    draw_faces,
    face_row,
    filesystem,
    find_faces,
    is_remote,
    kept_recogniser,
    load_recogniser,
    look_closer,
    overlap,
    place,
    recognition_parser,
    say,
    workers_of,
)
from tables import csv_rows

import cv2
import numpy as np

# A search of a whole frame costs fifty times a look at where a face was: it is made now and then, with these.
SEARCH_EVERY = 0.5  # seconds; what is new at a search is followed back to where it came
LONGEST_SIDE = 640  # pixels of the frame searched: a face is at least 1/30 of it
SCALE_STEP = 1.2
NEIGHBOURS = 2
FOLLOW_SIZE = 32  # pixels of the face that is looked at from frame to frame
LOOK_EVERY = 1 / 8  # seconds; between two looks a box moves evenly
SMOOTHING = 0.2  # seconds until two thirds of a change are shown
LEAD = 0.2  # of probability that another expression needs to be named, so that no label flickers
HOLD = 0.25  # seconds for which a face is shown where it was last seen, so that no box flickers
FORGET = 1  # seconds after which a face that comes back is a new one
CUT = 40  # grey levels of mean difference between frames of different scenes
PLOT_EVERY = 0.1  # seconds
PLOTTED = 8  # faces, those seen longest
PART = 60  # seconds of a long video that a process works on
WARM_UP, LINGER = 4, 1  # seconds before a part, until faces are found and smoothed, and after it, to look back from
HELD = 1 << 26  # bytes of frames that wait, before each of three threads
COLUMNS = ("frame", "time", "face", "x", "y", "width", "height", "expression", "probability", *EXPRESSIONS)
MP4_SOUND = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")  # copied into the MP4; other sound becomes AAC


@dataclass
class Face:
    """A face that is followed through a video."""
    number: int  # its identity, from 1
    box: np.ndarray  # float (4,), where it was last seen
    seen: float  # seconds, when that was
    probabilities: np.ndarray | None = None  # float32 (7,), smoothed
    expression: int = 0  # the one that is named
    recognised: float = -np.inf  # seconds, when last


def follow(faces, greys, times, numbers, searched=(-1,)):
    """Find the faces in successive grey frames uint8 (h, w) at these seconds.

    `faces` is the list of those followed so far, which this adds to; `numbers` counts out new
    identities. Each known face is looked for near its last place. The frames with the indices
    `searched` are searched whole, and a face that is new there is followed back through those before.
    Returns for each frame {identity: box float (4,)}.
    """
    places = [{} for _ in greys]

    def is_taken(box, index):
        return any(overlap(box, other) > 0.4 for other in places[index].values())

    for index, (grey, time) in enumerate(zip(greys, times)):
        for face in faces:
            box = track(grey, face.box)
            if box is not None and not is_taken(box, index):
                places[index][face.number] = face.box = box
                face.seen = time
        if index not in searched and index - len(greys) not in searched:
            continue
        for box in find_faces(grey, LONGEST_SIDE, SCALE_STEP, NEIGHBOURS).astype(float):
            if is_taken(box, index):
                continue
            lost = [face for face in faces if face.number not in places[index] and overlap(face.box, box) > 0.2]
            face = max(lost, key=lambda face: overlap(face.box, box), default=None)
            if face is None:
                face = Face(next(numbers), box, time)
                faces.append(face)
            places[index][face.number] = face.box = box
            face.seen = time
            for earlier in range(index - 1, -1, -1):
                box = None if face.number in places[earlier] else track(greys[earlier], box)
                if box is None or is_taken(box, earlier):
                    break
                places[earlier][face.number] = box
    return places


def track(grey, box):
    """The box float (4,) of a face that at the last look was in `box`, or None."""
    found, confidence = look_closer(grey, box, FOLLOW_SIZE, 1.1, 0.4)
    if confidence < 0 or overlap(box, found) < 0.4:
        return None
    move, grow = (found[:2] + found[2:] / 2) - (box[:2] + box[2:] / 2), found[2:] - box[2:]
    # The cascade places a still face a little elsewhere each time: only what is more than that moves the box.
    move = move * np.clip(6 * (np.abs(move).max() / box[2] - 0.04), 0, 1)
    grow = grow * np.clip(6 * (np.abs(grow).max() / box[2] - 0.08), 0, 1)
    start, end = box[:2] + move - grow / 2, box[:2] + box[2:] + move + grow / 2
    start, end = np.clip([start, end], 0, grey.shape[::-1])
    return np.concatenate([start, end - start])


def bridge(places):
    """Give a face that is missing between two frames of `places` the boxes on the way from the one to the other."""
    for number in set().union(*places):
        frames = [index for index, boxes in enumerate(places) if number in boxes]
        for before, after in pairwise(frames):
            for index in range(before + 1, after):
                share = (index - before) / (after - before)
                places[index][number] = (1 - share) * places[before][number] + share * places[after][number]


def smooth(face, probabilities, time):
    """Move a face's probabilities (7,) towards those just recognised and choose the expression to name."""
    if face.probabilities is None:
        face.probabilities, face.expression = probabilities, name(probabilities)
    else:
        share = 1 - np.exp((face.recognised - time) / SMOOTHING)
        face.probabilities = face.probabilities + np.float32(share) * (probabilities - face.probabilities)
        face.expression = name(face.probabilities, face.expression)
    face.recognised = time


def name(probabilities, expression=None):
    """The expression to name where another one was named before: the most probable one, if it clearly leads."""
    best = int(probabilities.argmax())
    return best if expression is None or probabilities[best] > probabilities[expression] + LEAD else expression


def recognise_next(faces, greys, times, numbers, recogniser, searched=(-1,)):
    """Follow the faces through grey frames as follow() does, looking at some of them, and recognise them.

    Returns for each frame the identities int (n,), boxes int (n, 4), smoothed probabilities
    float32 (n, 7) and the expressions to name int (n,), and leaves out of `faces` those long unseen.
    """
    looks = [0]
    for index in range(1, len(times)):
        if times[index] - times[looks[-1]] > LOOK_EVERY - 1e-3 or index == len(times) - 1:
            looks.append(index)
    before = {face.number: face.box for face in faces if times[0] - face.seen < HOLD}
    places = [{} for _ in greys]
    for index, boxes in zip(looks, follow(faces, [greys[index] for index in looks], [times[index] for index in looks],
                                          numbers, searched)):
        places[index] = boxes
    for one, other in pairwise(looks):  # a face that comes or goes between two looks
        for start, step in ((one, 1), (other, -1)):
            for number in places[start].keys() - places[one + other - start].keys():
                box = places[start][number]
                for index in range(start + step, one + other - start, step):
                    box = track(greys[index], box)
                    if box is None:
                        break
                    places[index][number] = box
    seen = [(index, number) for index, boxes in enumerate(places) for number in boxes]
    crops = [crop_faces(greys[index], [places[index][number]]) for index, number in seen]
    recognised = dict(zip(seen, recogniser(np.concatenate(crops)))) if crops else {}

    bridge([before, *places])
    for face in faces:
        if times[-1] - face.seen < HOLD:  # missed since, or gone: the next look tells
            for boxes in places[bisect.bisect(times, face.seen):]:
                boxes.setdefault(face.number, face.box)
    by_number = {face.number: face for face in faces}
    shown = []
    for index, (boxes, time) in enumerate(zip(places, times)):
        present = [by_number[number] for number in sorted(boxes)]
        for face in present:
            if (index, face.number) in recognised:
                smooth(face, recognised[index, face.number], time)
        shown.append((np.array([face.number for face in present], int),
                      np.array([np.round(boxes[face.number]) for face in present], int).reshape(-1, 4),
                      np.array([face.probabilities for face in present], np.float32).reshape(-1, len(EXPRESSIONS)),
                      np.array([face.expression for face in present], int)))
    faces[:] = [face for face in faces if times[-1] - face.seen < FORGET]
    return shown


def scenes(frames):
    """Gather (seconds, frame) into lists of (seconds, frame, grey) that end where the next search is due.

    Yields whether another scene begins, and the list.
    """
    gathered, before, is_new, held = [], None, True, 0
    for seconds, frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        tiny = cv2.resize(grey, (32, 18), interpolation=cv2.INTER_AREA).astype(np.int16)
        is_cut = before is not None and np.abs(tiny - before).mean() > CUT
        before = tiny
        is_due = gathered and seconds // SEARCH_EVERY > gathered[0][0] // SEARCH_EVERY  # the same frames in each part
        if gathered and (is_cut or is_due or held > HELD):
            yield is_new, gathered
            gathered, is_new, held = [], is_cut, 0
        gathered.append((seconds, frame, grey))
        held += frame.nbytes
    if gathered:
        yield is_new, gathered


def recognise_frames(frames, recogniser):
    """Recognise the faces in an iterable of (seconds, frame), uint8 BGR (h, w, 3).

    Yields seconds, frame and what recognise_next returns for it.
    """
    faces, numbers = [], counting(1)
    for is_new, gathered in scenes(frames):
        if is_new:
            faces.clear()
        times, pictures, greys = zip(*gathered)
        yield from zip(times, pictures, recognise_next(faces, greys, [float(time) for time in times], numbers,
                                                       recogniser, (0, -1) if is_new else (-1,)))


def parts_of(video, stream):
    """The (begin, end) in seconds of the parts of an open video that can be recognised apart; one if it is short.

    So is one whose frames or length FFmpeg does not know beforehand.
    """
    seconds = (video.duration or 0) / 1e6
    if seconds < 2 * PART:
        return [(0, math.inf)]
    first = next(video.decode(stream), None)
    video.seek(video.start_time or 0)
    if first is None or first.pts is None:
        return [(0, math.inf)]
    ends = [PART * number for number in range(1, int(seconds / PART))]
    return list(zip([0, *ends], [*ends, math.inf]))


def recognise_parts(parts, video, folder, models, keras, most):
    """For a process of its own: of each (begin, end) of a video a list of seconds and what recognise_next returns.

    It begins WARM_UP seconds before the part and ends LINGER seconds after it.
    """
    recogniser = kept_recogniser(models, keras)
    answers = []
    for begin, end in parts:
        with open_video(video if is_remote(video) else folder / video, most) as file:
            stream = file.streams.video[0]
            stream.thread_type = "AUTO"
            frames = itertools.takewhile(lambda item, end=end: item[0] < end + LINGER,
                                         read_video(file, stream, begin=begin - WARM_UP))
            answers.append([(seconds, seen) for seconds, _, seen in recognise_frames(frames, recogniser)])
    return answers


def join(parts):
    """Join the ((begin, end), frames) of parts that overlap: yields seconds, None and what recognise_next returns.

    A face that is in the same place of the same frames in two parts is the same one, and keeps its number and what it
    was named.
    """
    before, named, numbers = {}, {}, counting(1)
    for (begin, end), frames in parts:
        same = collections.Counter()
        for seconds, (identities, boxes, *_) in frames:
            for number, box in zip(identities, boxes):
                for other, its_box in before.get(seconds, ()):
                    same[number, other] += overlap(box, its_box) > 0.4
        names = {}
        for (number, other), times in same.most_common():
            if times and number not in names and other not in names.values():
                names[number] = other
        before = {}
        for seconds, (identities, boxes, probabilities, _) in frames:
            if begin <= seconds < end:
                for number, shares in zip(identities, probabilities):
                    if number not in names:
                        names[number] = next(numbers)
                    named[names[number]] = name(shares, named.get(names[number]))
                joined = np.array([names[number] for number in identities], int)
                order = joined.argsort()
                expressions = np.array([named[number] for number in joined[order]], int)
                yield seconds, None, (joined[order], boxes[order], probabilities[order], expressions)
            if seconds >= end - WARM_UP:
                before[seconds] = [(names[number], box) for number, box in zip(identities, boxes) if number in names]


def recognise_in_parts(args, parts, stack):
    """Yield each second, None and what recognise_next returns, from the processes that `args` ask for."""
    from workers import in_order

    pool, models = workers_of(args, stack)
    pool.batch = 1
    work = functools.partial(recognise_parts, video=args.video, folder=Path.cwd(), models=models, keras=args.keras,
                             most=args.max_pixels)

    def answers():
        for part, frames in in_order(pool, work, parts):
            if isinstance(frames, InputError):
                raise InputError(f"{args.video}, from second {part[0]} on, {frames}")
            yield part, frames

    return join(answers())


def ahead(items, length):
    """Yield the items of an iterator; the next `length` are made meanwhile, on a thread of their own."""
    end = object()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        waiting = collections.deque()
        try:
            while True:
                while len(waiting) < length:
                    waiting.append(thread.submit(next, items, end))
                item = waiting.popleft().result()
                if item is end:
                    return
                yield item
        finally:
            thread.shutdown(cancel_futures=True)


def draw_timeline(timeline):
    """A matplotlib figure of {identity: seconds and seven probabilities, again and again}: a row for each face."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    def clock(seconds, _):
        return str(datetime.timedelta(seconds=round(seconds, 1))).removeprefix("0:")[:9 if end < 20 else 7]

    numbers = sorted(sorted(timeline, key=lambda number: -len(timeline[number]))[:PLOTTED])
    end = max((timeline[number][-8] for number in numbers), default=1)
    figure = Figure(figsize=(14, 1.6 + 1.7 * max(1, len(numbers))), dpi=100, layout="constrained")
    colours = [(red / 255, green / 255, blue / 255) for blue, green, red in COLOURS]
    for number, axes in zip(numbers or [None], np.ravel(figure.subplots(max(1, len(numbers)), 1, sharex=True))):
        points = np.reshape(timeline.get(number, [0] * 8), (-1, 8))
        step = max(PLOT_EVERY, end / 700)  # half a pixel's width; where more fall on it, their mean
        starts = np.flatnonzero(np.diff(points[:, 0] // step, prepend=-1))
        points = np.add.reduceat(points, starts) / np.diff(starts, append=len(points))[:, None]
        gaps = np.flatnonzero(np.diff(points[:, 0]) > 5 * step) + 1  # where the face was not seen
        for part in np.split(points, gaps):
            areas = axes.stackplot(part[:, 0], part[:, 1:].T, colors=colours, alpha=0.85, linewidth=0)
        axes.set_ylabel(f"face {number}" if number else "no face", fontsize=13)
        axes.set(ylim=(0, 1), xlim=(0, end))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.xaxis.set_major_formatter(FuncFormatter(clock))
        axes.tick_params(labelsize=12)
    axes.set_xlabel("hours, minutes and seconds" if end >= 3600 else "minutes and seconds", fontsize=13)
    title = f"the {PLOTTED} of {len(timeline):,} faces seen longest" if len(timeline) > PLOTTED else ""
    figure.legend(areas, EXPRESSIONS, loc="outside upper center", ncols=len(EXPRESSIONS), fontsize=13, title=title)
    return figure


def refuse_playlist(path, head=None):
    """Raise InputError if a file is a playlist, for HLS or DASH: without an end FFmpeg waits for more, for ever."""
    if head is None:
        with open(path, "rb") as file:
            head = file.read(4096)
    if head.startswith(b"#EXTM3U") or b"<MPD" in head:
        raise InputError(f"{path} is a playlist, not a video: give a video that it names")


def open_video(path, most=MAX_PIXELS):
    """An av container of a video file, or address, with frames of at most `most` pixels, which the caller closes."""
    import av

    # PyAV 19 takes titles that are not UTF-8 as they are; the versions before stumble over them.
    titles = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
    if is_remote(path):
        with filesystem(path) as (files, name):
            source = files.open(name, "rb")
            refuse_playlist(path, source.read(4096))
            source.seek(0)
    else:
        if not Path(path).is_file():
            raise InputError(f"{path} is not a file: check the path")
        refuse_playlist(path)
        source = str(path)
        titles["options"] = {"protocol_whitelist": "file"}  # a playlist may name addresses: a file stays one
    try:
        video = av.open(source, **titles)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a video that FFmpeg reads ({first_line(error)}): check the file") from None
    picture = video.format.name in ("image2", "tty") or video.format.name.endswith("_pipe")
    if picture or video.metadata.get("major_brand") in ("avif", "heic", "mif1"):
        video.close()
        raise InputError(f"{path} is not a video but a {'text' if video.format.name == 'tty' else 'picture'}: "
                         "recognise_image.py takes pictures")
    if not video.streams.video:
        video.close()
        raise InputError(f"{path} has no picture, only sound or text: give a video")
    stream = video.streams.video[0]
    if stream.codec_context is None:
        video.close()
        raise InputError(f"{path} has pictures of a kind that FFmpeg does not decode: convert it to MP4")
    if stream.width * stream.height > most:
        video.close()
        raise InputError(f"{path} has frames of {stream.width} x {stream.height}, more than {most:,} pixels: "
                         "make it smaller, or give --max-pixels a larger number")
    stream.codec_context.options = {"max_pixels": str(most)}  # for frames that are larger than the file says
    return video


def upright(frame):
    """An av.VideoFrame as uint8 BGR (h, w, 3), turned as a telephone says it was held."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="bgr24"), round(frame.rotation / 90)))


@contextlib.contextmanager
def _refused_by_ffmpeg(path):
    """Tell what FFmpeg does not write, because the times or the sound it was given are damaged, from a full disk."""
    import av

    try:
        yield
    except (av.error.FFmpegError, OverflowError) as error:
        if isinstance(error, OSError):
            raise
        raise InputError(f"{path} cannot hold these times or this sound ({first_line(error)}): "
                         "mend or convert the video") from None


@contextlib.contextmanager
def video_writer(path, rate, time_base, sound=None):
    """Yield write(frame, seconds), which adds a frame, uint8 BGR (h, w, 3), to an MP4 file, and write_sound(packet).

    The seconds grow and are kept as multiples of `time_base`; `rate` is the number of frames a second
    to expect. The first frame sets the size, and one of another size is fitted to it.
    `sound` is the av.AudioStream whose packets write_sound will get, after the first frame.
    """
    import av

    with _refused_by_ffmpeg(path), written_whole(path) as [beside], av.open(
            str(beside), "w", format="mp4", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = 6  # BT.601, OpenCV's; unsaid, players guess by the size
        stream.codec_context.color_range = 1  # 16 to 235
        stream.codec_context.time_base = time_base
        copied = sound is not None and sound.codec_context.codec.canonical_name in MP4_SOUND
        if sound is not None:
            track = file.add_stream_from_template(sound) if copied else file.add_stream("aac", rate=sound.rate)
        size, last, samples_written = None, -1, None

        def write(frame, seconds):
            nonlocal size, last
            height, width = frame.shape[:2]
            if size is None:
                size = stream.width, stream.height = width + width % 2, height + height % 2  # yuv420p wants even ones
            if (width, height) != size:
                if abs(width - size[0]) + abs(height - size[1]) > 2:
                    frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
                else:
                    frame = cv2.copyMakeBorder(frame, 0, size[1] - height, 0, size[0] - width, cv2.BORDER_REPLICATE)
            planes = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)  # ten times as fast as FFmpeg's conversion
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            last = picture.pts = max(round(seconds / time_base), last + 1)
            picture.time_base = time_base
            file.mux(stream.encode(picture))

        def write_sound(packet):
            nonlocal samples_written
            if copied:
                packet.stream = track
                file.mux(packet)
            else:
                decoded = []
                with contextlib.suppress(av.error.InvalidDataError):  # a damaged packet: players pass over it, too
                    decoded = packet.decode()
                for samples in decoded:
                    if samples_written is None:
                        samples_written = round((samples.time or 0) * sound.rate)
                    samples.pts, samples.time_base = samples_written, Fraction(1, sound.rate)  # AVI's are too coarse
                    samples_written += samples.samples
                    try:
                        file.mux(track.encode(samples))
                    except ValueError as error:  # it changes from one channel to two, say
                        raise InputError(f"{path} cannot hold this sound ({first_line(error)}): "
                                         "mend or convert the video") from None

        yield write, write_sound
        if size is not None:
            file.mux(stream.encode(None))
            if sound is not None and not copied:
                file.mux(track.encode(None))


def go_to(video, stream, seconds):
    """Have the frames of an open video that are read next begin with a key frame at or before this time."""
    import av

    start = Fraction(video.start_time or 0, av.time_base)
    for back in (0, 10, 60, seconds):  # what stands in for an index in some formats is wrong by some seconds
        position = int((max(0, seconds - back) + start) * av.time_base)
        video.seek(position)
        frame = next(video.decode(stream), None)
        if frame is not None and frame.time is not None and frame.time - start <= seconds:
            break
    video.seek(position)


def read_video(video, stream, sound=None, packets=None, begin=0):
    """Yield (seconds from 0 on, a Fraction, and frame) of an open video; append the packets of its sound.

    The frames before the second `begin` are left out, and most of them not even read.
    """
    import av

    start = Fraction(video.start_time or 0, av.time_base)
    step = round(1 / (frame_rate(stream) * stream.time_base))  # for formats without times
    number, time = 0, -step
    try:
        if begin > 0:
            go_to(video, stream, begin)
        for packet in video.demux([stream] if sound is None else [stream, sound]):
            if packet.stream is stream:
                for frame in packet.decode():
                    time = time + step if frame.pts is None else frame.pts - round(start / stream.time_base)
                    number += 1
                    if time * stream.time_base >= begin:
                        yield time * stream.time_base, upright(frame)
            elif None not in (packet.pts, packet.dts):  # the last, empty one has none
                packet.pts -= round(start / sound.time_base)
                packet.dts -= round(start / sound.time_base)
                packets.append(packet)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        where = f"after frame {number}" if begin <= 0 else f"{float(time * stream.time_base):.0f} seconds in"
        raise InputError(f"{video.name} is damaged {where} ({first_line(error)}): mend or convert it") from None


def frame_rate(stream):
    """Frames a second of an av.VideoStream, a Fraction."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def main(argv=None):
    parser = recognition_parser(__doc__)
    parser.add_argument("video", type=place, help="a video file")
    parser.add_argument("--output", type=Path, help="the .mp4 to write (default: <name>_recognised.mp4)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write a row per face and frame; - is stdout")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw each face's expressions over time")
    parser.add_argument("--no-video", action="store_true", help="write no video, only what --csv and --plot ask for")
    add_workers(parser)
    args = parser.parse_args(argv)
    output = None if args.no_video else args.output or Path(f"{Path(args.video).stem}_recognised.mp4")
    check_outputs(args, output)

    from tqdm import tqdm
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(args.video, args.max_pixels))
        stream = video.streams.video[0]
        sound = next((track for track in video.streams.audio if track.codec_context is not None), None)
        stream.thread_type = "AUTO"
        rate = frame_rate(stream)
        add = stack.enter_context(csv_rows(args.csv, COLUMNS)) if args.csv else None
        packets = collections.deque()  # of sound, from the thread that reads to the one that writes
        parts = parts_of(video, stream) if args.no_video else [None]
        if output:
            write, write_sound = stack.enter_context(video_writer(output, rate, stream.time_base, sound))
        if len(parts) > 1 or (args.no_video and args.scheduler):
            recognised = recognise_in_parts(args, parts, stack)
        else:
            recogniser = load_recogniser(args.models, args.keras)
            waiting = int(np.clip(HELD // max(1, 3 * stream.width * stream.height), 2, 16))
            frames = ahead(read_video(video, stream, sound if output else None, packets), waiting)
            recognised = stack.enter_context(contextlib.closing(ahead(recognise_frames(frames, recogniser), waiting)))
        expected = stream.frames or round((video.duration or 0) / 1e6 * rate) or None
        number = faces = 0
        timeline = collections.defaultdict(functools.partial(array.array, "f"))  # small, for hours
        interrupted = False
        try:
            with tqdm(desc=printable(Path(args.video).name), total=expected, unit=" frames",
                      disable=args.quiet or None) as bar:
                for seconds, frame, (identities, boxes, probabilities, expressions) in recognised:
                    if output:
                        draw_faces(frame, boxes, probabilities, expressions, identities)
                        write(frame, seconds)
                    while packets and packets[0].pts * sound.time_base <= seconds:
                        write_sound(packets.popleft())
                    for identity, box, shares, expression in zip(identities, boxes, probabilities, expressions):
                        if add:
                            add([number, f"{float(seconds):.3f}", *face_row(identity, box, shares, expression)])
                        if args.plot:
                            points = timeline[int(identity)]
                            if not points or seconds - points[-8] >= PLOT_EVERY:
                                points.extend((float(seconds), *shares))
                    number += 1
                    faces += len(boxes)
                    bar.update()
            while number and packets:
                write_sound(packets.popleft())
        except KeyboardInterrupt:  # what was done so far is worth having
            interrupted = True
        if interrupted and not number:
            raise KeyboardInterrupt
        if not number:
            raise InputError(f"{args.video} holds no frame that decodes: mend or convert it")
        if args.plot:
            with written_whole(args.plot) as [beside]:
                draw_timeline(timeline).savefig(beside)
    outputs = [str(path) for path in (output, args.csv, args.plot) if path and str(path) != "-"]
    say(args, f"wrote {', '.join(outputs)}: " * bool(outputs) + f"{count(number, 'frame')}, {faces:,} times a face")
    if interrupted:
        raise KeyboardInterrupt(f"{output or args.csv or args.plot} ends after {count(number, 'frame')}; "
                                "run it again for all of them")


def check_outputs(args, output):
    """Raise InputError if what is asked for cannot be written, or would be written over something."""
    if output and output.suffix.lower() != ".mp4":
        raise InputError(f"{output} is not an .mp4: end the name in .mp4")
    outputs = [path for path in (output, args.csv, args.plot) if path]
    if not outputs:
        raise InputError("--no-video leaves nothing to write: give --csv or --plot")
    taken = [Path(args.video).resolve(), *(path.resolve() for path in outputs)]
    for path in outputs:
        if taken.count(path.resolve()) > 1:
            raise InputError(f"{path} would be written over: give --output, --csv or --plot another name")
    if args.plot and args.plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"{args.plot} is not a picture that can be plotted: end the name in .png, .svg or .pdf")
    if args.plot and not importlib.util.find_spec("matplotlib"):
        raise InputError("--plot needs matplotlib: pip install matplotlib")


if __name__ == "__main__":
    run(main)
