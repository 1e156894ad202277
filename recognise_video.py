"""Recognise the expression of every face in a recorded video.

Reads a video in any format FFmpeg reads, and models/.
Writes <name>_recognised.mp4 where you stand: every frame at its time, with a box and a label on
each face, and the sound; H.264, which players and browsers show.

$ python recognise_video.py party.mov
$ python recognise_video.py party.mov --output labelled.mp4 --csv faces.csv
"""
import contextlib
import csv
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from preprocessing import EXPRESSIONS, InputError, run, script_parser, written_whole
from recognise_image import draw_faces, load_recogniser, recognise
from train_model import MODELS

LONGEST_SIDE = 640  # pixels of a frame to search; four times faster than 1280, and a face need be 24 of them wide
SCALE_STEP = 1.2
COLUMNS = ("frame", "time", "face", "x", "y", "width", "height", "expression", "probability", *EXPRESSIONS)
MP4_SOUND = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")  # copied into the MP4; other sound becomes AAC


def recognise_frames(frames, recogniser):
    """Recognise and draw into each frame of an iterable of (time, frame), uint8 BGR (h, w, 3).

    Yields time, frame, boxes int (n, 4) and probabilities float32 (n, 7).
    """
    for time, frame in frames:
        boxes, probabilities = recognise(frame, recogniser, longest_side=LONGEST_SIDE, scale_step=SCALE_STEP)
        draw_faces(frame, boxes, probabilities)
        yield time, frame, boxes, probabilities


def open_video(path):
    """An av container of a video file, which the caller closes."""
    import av

    if not Path(path).is_file():
        raise InputError(f"{path} is not a file: check the path")
    # PyAV 19 takes titles that are not UTF-8 as they are; the versions before stumble over them.
    titles = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
    try:
        video = av.open(str(path), **titles)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path} is not a video that FFmpeg reads ({error.strerror}): check the file") from None
    picture = video.format.name in ("image2", "tty") or video.format.name.endswith("_pipe")
    if picture or video.metadata.get("major_brand") in ("avif", "heic", "mif1"):
        video.close()
        raise InputError(f"{path} is not a video but a {'text' if video.format.name == 'tty' else 'picture'}: "
                         "recognise_image.py takes pictures")
    if not video.streams.video:
        video.close()
        raise InputError(f"{path} has no picture, only sound or text: give a video")
    return video


def upright(frame):
    """An av.VideoFrame as uint8 BGR (h, w, 3), turned as a telephone says it was held."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="bgr24"), round(frame.rotation / 90)))


@contextlib.contextmanager
def video_writer(path, rate, time_base, sound=None):
    """Yield write(frame, time), which adds a frame, uint8 BGR (h, w, 3), to an MP4 file, and write_sound(packet).

    `time` counts in `time_base` seconds and grows; `rate` is the number of frames a second to
    expect. The first frame sets the size, and one of another size is fitted to it.
    `sound` is the av.AudioStream whose packets write_sound will get.
    """
    import av

    with written_whole(path) as [beside], av.open(str(beside), "w", format="mp4",
                                                  options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        copied = sound is not None and sound.codec_context.codec.canonical_name in MP4_SOUND
        if sound is not None:
            track = file.add_stream_from_template(sound) if copied else file.add_stream("aac", rate=sound.rate)
        size, last, samples_written, waiting = None, -1, None, []

        def write(frame, time):
            nonlocal size, last
            height, width = frame.shape[:2]
            if size is None:
                size = stream.width, stream.height = width + width % 2, height + height % 2  # yuv420p wants even ones
                for packet in waiting:
                    write_sound(packet)
            if (width, height) != size:
                if abs(width - size[0]) + abs(height - size[1]) > 2:
                    frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
                else:
                    frame = cv2.copyMakeBorder(frame, 0, size[1] - height, 0, size[0] - width, cv2.BORDER_REPLICATE)
            picture = av.VideoFrame.from_ndarray(frame, format="bgr24")
            last = picture.pts = max(time, last + 1)
            picture.time_base = time_base
            file.mux(stream.encode(picture))

        def write_sound(packet):
            nonlocal samples_written
            if size is None:  # the file begins with the size
                waiting.append(packet)
            elif copied:
                packet.stream = track
                file.mux(packet)
            else:
                for samples in packet.decode():
                    if samples_written is None:
                        samples_written = round((samples.time or 0) * sound.rate)
                    samples.pts, samples.time_base = samples_written, Fraction(1, sound.rate)  # AVI's are too coarse
                    samples_written += samples.samples
                    file.mux(track.encode(samples))

        yield write, write_sound
        if size is not None:
            file.mux(stream.encode(None))
            if sound is not None and not copied:
                file.mux(track.encode(None))


def face_rows(number, seconds, boxes, probabilities):
    """Yield the row of COLUMNS for each face of a frame, counted from 0."""
    for face, (box, shares) in enumerate(zip(boxes.tolist(), probabilities), start=1):
        yield [number, f"{seconds:.3f}", face, *box, EXPRESSIONS[shares.argmax()],
               *(f"{share:.4f}" for share in (shares.max(), *shares))]


def read_video(video, stream, sound, write_sound):
    """Yield (time in stream.time_base, frame) of an open video from time 0 on; pass its sound to write_sound."""
    import av

    start = Fraction(video.start_time or 0, av.time_base)
    step = round(1 / (frame_rate(stream) * stream.time_base))  # for formats without times
    number, time = 0, -step
    try:
        for packet in video.demux([stream] if sound is None else [stream, sound]):
            if packet.stream is stream:
                for frame in packet.decode():
                    time = time + step if frame.pts is None else frame.pts - round(start / stream.time_base)
                    yield time, upright(frame)
                    number += 1
            elif None not in (packet.pts, packet.dts):  # the last, empty one has none
                packet.pts -= round(start / sound.time_base)
                packet.dts -= round(start / sound.time_base)
                write_sound(packet)
    except av.error.InvalidDataError as error:
        raise InputError(f"{video.name} is damaged after frame {number} ({error.strerror}): mend or convert it"
                         ) from None


def frame_rate(stream):
    """Frames a second of an av.VideoStream, a Fraction."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("video", type=Path, help="a video file")
    parser.add_argument("--output", type=Path, help="the .mp4 to write (default: <name>_recognised.mp4)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write a row per face and frame")
    parser.add_argument("--models", type=Path, metavar="FOLDER", default=MODELS, help="where the model is")
    args = parser.parse_args(argv)
    output = args.output or Path(f"{args.video.stem}_recognised.mp4")
    if output.suffix.lower() != ".mp4":
        raise InputError(f"{output} is not an .mp4: end the name in .mp4")
    if args.video.resolve() in (output.resolve(), args.csv and args.csv.resolve()):
        raise InputError(f"{args.video} would be written over: give another --output or --csv")

    from tqdm import tqdm
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(args.video))
        recogniser = load_recogniser(args.models)
        stream, sound = video.streams.video[0], next(iter(video.streams.audio), None)
        stream.thread_type = "AUTO"
        rate = frame_rate(stream)
        rows = None
        if args.csv:
            [beside] = stack.enter_context(written_whole(args.csv))
            rows = csv.writer(stack.enter_context(open(beside, "w", newline="", encoding="utf-8")), lineterminator="\n")
            rows.writerow(COLUMNS)
        write, write_sound = stack.enter_context(video_writer(output, rate, stream.time_base, sound))
        frames = read_video(video, stream, sound, write_sound)
        expected = stream.frames or round((video.duration or 0) / 1e6 * rate) or None
        number = faces = 0
        interrupted = False
        try:
            with tqdm(desc=args.video.name, total=expected, unit=" frames", disable=None) as bar:
                for time, frame, boxes, probabilities in recognise_frames(frames, recogniser):
                    write(frame, time)
                    if rows:
                        rows.writerows(face_rows(number, float(time * stream.time_base), boxes, probabilities))
                    number += 1
                    faces += len(boxes)
                    bar.update()
        except KeyboardInterrupt:  # what was done so far is worth having
            interrupted = True
        if not number:
            raise InputError(f"{args.video} holds no frame that decodes: mend or convert it")
    print(f"wrote {output}: {number:,} frames, {faces:,} times a face", file=sys.stderr)
    if args.csv:
        print(f"wrote {args.csv}: {faces:,} rows", file=sys.stderr)
    if interrupted:
        raise KeyboardInterrupt


if __name__ == "__main__":
    run(main)
