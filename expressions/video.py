"""Videos: frames at their times out of any file that FFmpeg reads, and into an MP4 that players and browsers show."""
import collections
import contextlib
import math
import queue
import signal
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from expressions import MAX_PIXELS
from expressions.artifacts import replace_when_whole
from expressions.console import InputError, first_line
from expressions.images import filesystem, is_remote

# The containers that are videos. Lists that name other files and addresses (concat, HLS, DASH, SDP) are not among them.
FORMATS = ("amv,apng,asf,av1,avi,dirac,dv,flic,flv,gif,gxf,h261,h263,h264,hevc,ivf,live_flv,m4v,matroska,mjpeg,mov,"
           "mpeg,mpegts,mpegvideo,mpjpeg,mxf,nsv,nut,obu,ogg,rm,swf,vc1,vvc,wtv,yuv4mpegpipe")
VIDEO_SUFFIXES = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mpeg", ".mpg", ".mts", ".mp4", ".ogv", ".ts",
                  ".webm", ".wmv")  # of files in folders
STREAM_FORMATS = "rtsp,rtp,rtp_mpegts,hls,aac,mp3,webvtt"  # also where the user types a stream's address
STREAM_PROTOCOLS = "crypto,http,https,httpproxy,rtmp,rtmps,rtp,rtsp,srt,tcp,tls,udp"
OPEN_TIMEOUT, READ_TIMEOUT = 15, 5  # seconds for which a stream may be silent
MP4_AUDIO = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")  # copied into the MP4; other sound becomes AAC
TICK = Fraction(1, 120_000)  # seconds, the unit of times in an MP4: frames of 23.976, 25, 29.97 or 60 a second fit it
BT601, LIMITED_RANGE = 6, 1  # FFmpeg's numbers: OpenCV's colours; where a file does not say, players guess by the size


def open_video(path, is_stream=False):
    """Return an av container, which the caller closes, of a video file or an address of FFmpeg or fsspec.

    With `is_stream` it is a live one, at rtsp:// for example. Raises InputError, also where an address is silent.
    """
    source, formats, protocols, options = path, FORMATS, "file", {}
    if is_stream or str(path).startswith(("http://", "https://")):
        formats, protocols = f"{FORMATS},{STREAM_FORMATS}" if is_stream else FORMATS, STREAM_PROTOCOLS
        options["timeout"] = OPEN_TIMEOUT, READ_TIMEOUT
    else:
        with filesystem(path) as (files, name):
            source = files.open(name, "rb") if is_remote(path) else name
    if int(av.__version__.split(".")[0]) < 19:  # from then on titles that are not UTF-8 do no harm
        options["metadata_errors"] = "replace"
    try:
        video = av.open(source, options={"format_whitelist": formats, "protocol_whitelist": protocols}, **options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path} does not open as a video ({_reason(error)}): check that it is whole, no list of "
                         "other files, and no image, which is for recognise_image.py") from None
    stream = next(iter(video.streams.video), None)
    if stream is None or stream.codec_context is None or stream.width * stream.height > MAX_PIXELS:
        raise InputError(f"{path} has no video that FFmpeg decodes, or one of more than {MAX_PIXELS:,} pixels a frame: "
                         "give another, or convert it")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # for frames that are larger than the file says
    stream.thread_type = "AUTO"
    return video


def _reason(error):
    timed_out = isinstance(error, av.error.ExitError)
    return "nothing comes" if timed_out else getattr(error, "strerror", None) or first_line(error)


def frame_rate(stream):
    """Return the frames a second of an av.VideoStream, a Fraction."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def read_video(video, audio=None, packets=None, first=0, last=math.inf, interval=0):
    """Yield (seconds from 0 on, and frame uint8 BGR (h, w, 3), upright) of an open video.

    Frames before `first` and after `last` seconds are left out, and those that come less than `interval` seconds after
    another. The packets of the stream `audio` are appended to `packets`, their times from `first` on. Raises InputError
    where the file is damaged, or a stream falls silent.
    """
    stream, number, start = video.streams.video[0], 0, Fraction(video.start_time or 0, av.time_base)
    due, converter = first - 1e-3, av.video.reformatter.VideoReformatter()  # one for all: a new one takes 2 ms a frame
    try:
        if first and video.duration:
            video.seek(round((start + Fraction(first)) * av.time_base))
        for packet in video.demux([stream, *filter(None, [audio])]):
            begin = round(start / packet.stream.time_base)
            if packet.stream is stream:
                for frame in packet.decode():
                    ticks = number / frame_rate(stream) / stream.time_base if frame.pts is None else frame.pts - begin
                    number, seconds = number + 1, float(ticks * stream.time_base)
                    if seconds > last:
                        return
                    if seconds < due:
                        continue
                    due += interval and interval * ((seconds - due) // interval + 1)
                    image = np.rot90(converter.reformat(frame, format="bgr24").to_ndarray(), round(frame.rotation / 90))
                    yield seconds, np.ascontiguousarray(image)
            elif None not in (packet.pts, packet.dts):  # the last, empty one has none
                begin += round(first / packet.time_base)
                packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
                if not first or packet.pts >= 0:
                    packets.append(packet)
    except (av.error.FFmpegError, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{video.name} is damaged or breaks off after frame {number} ({_reason(error)}): check the "
                         "connection, or mend or convert it") from None


def prefetch(items, length):
    """Yield the items of an iterator; the next `length` are made meanwhile, on a thread of their own.

    Over plain queues: an executor's wait takes a lock, which Ctrl-C can leave taken, and both threads hang.
    """
    room, made, closed, end = queue.SimpleQueue(), queue.SimpleQueue(), [], object()

    def make():
        item = None
        try:
            while item is not end and room.get() and not closed:
                item = next(items, end)
                made.put((item, None))
        except Exception as error:
            made.put((end, error))

    for _ in range(length):
        room.put(True)
    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (answer := made.get())[0] is not end:
            room.put(True)
            yield answer[0]
        if answer[1]:
            raise answer[1]
    finally:
        closed.append(True)
        room.put(True)
        thread.join()
        getattr(items, "close", list)()  # it may have threads, too: they end before their file is closed


@contextlib.contextmanager
def ctrl_c_waits():
    """Let Ctrl-C, and each other signal that raises KeyboardInterrupt, wait until the block is done."""
    interrupt, held, came = signal.default_int_handler, [], []
    if threading.current_thread() is threading.main_thread():  # Python lets signals strike no other
        held = [number for number in signal.valid_signals() if signal.getsignal(number) == interrupt]
    try:
        for number in held:
            signal.signal(number, lambda *_: came.append(True))
        yield
    finally:
        for number in held:
            signal.signal(number, interrupt)
        if came:
            raise KeyboardInterrupt


@contextlib.contextmanager
def video_writer(path, rate=30, audio=None):
    """Yield a VideoWriter of an MP4 file that appears when the block ends without an error; it needs a frame.

    `rate` is about how many frames a second will come; each keeps its own time. `audio` is the av.AudioStream of the
    writer's `packets`. Raises InputError where the path does not end in .mp4, or FFmpeg cannot write the sound.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise InputError(f"{path} is not an .mp4: end the name in .mp4")
    try:
        with replace_when_whole(path) as [temporary], av.open(
                str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as file:
            writer = VideoWriter(file, rate, audio)
            yield writer
            writer.finish()
    except (av.error.FFmpegError, OverflowError) as error:
        raise InputError(f"{path} cannot hold these times or this sound ({first_line(error)}): convert the video"
                         ) from None


class VideoWriter:
    """Writes frames, and between them the sound, into an open av container. video_writer makes one.

    `packets` is a deque to which read_video appends av.Packets of sound, on another thread if need be.
    """

    def __init__(self, file, rate, audio):
        self.file, self.audio, self.packets = file, audio, collections.deque()
        self.size, self.last_time, self.next_sample = None, -1, None
        self.stream = file.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        context = self.stream.codec_context
        context.pix_fmt, context.time_base, context.thread_type = "yuv420p", TICK, "AUTO"  # PyAV's slices are slower
        context.colorspace, context.color_range = BT601, LIMITED_RANGE
        self.encoders = [self.stream]
        self.is_copied = audio is not None and audio.codec_context.codec.canonical_name in MP4_AUDIO
        if self.is_copied:
            self.track = file.add_stream_from_template(audio)
        elif audio is not None:
            self.track = file.add_stream("aac", rate=audio.rate)
            self.encoders.append(self.track)

    def write(self, frame, seconds):
        """Add a frame, uint8 BGR (h, w, 3). The first one sets the size, and one of another size is fitted to it."""
        height, width = frame.shape[:2]
        frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)  # yuv420p's are even
        if self.size is None:
            self.size = self.stream.width, self.stream.height = frame.shape[1::-1]
        if frame.shape[1::-1] != self.size:
            frame = cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
        planes = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)  # ten times as fast as FFmpeg's conversion
        image = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        self.last_time = max(round(seconds / TICK), self.last_time + 1)
        image.pts, image.time_base = self.last_time, TICK
        with ctrl_c_waits():  # or it would lose what the encoder gives
            self.file.mux(self.stream.encode(image))
            self.write_audio(seconds)

    def finish(self):
        """Add the rest of the sound, and what the encoders still hold."""
        self.write_audio(math.inf)
        for stream in self.encoders:
            self.file.mux(stream.encode(None))

    def write_audio(self, until):
        """Add the packets up to a time in seconds: as they are where MP4 holds their kind, otherwise as AAC."""
        while self.packets and self.packets[0].pts * self.audio.time_base <= until:
            packet = self.packets.popleft()
            if self.is_copied:
                packet.stream = self.track
                self.file.mux(packet)
                continue
            with contextlib.suppress(av.error.InvalidDataError, ValueError):  # damaged, or suddenly of other channels
                for samples in packet.decode():
                    if self.next_sample is None:
                        self.next_sample = round((samples.time or 0) * self.audio.rate)
                    samples.pts, samples.time_base = self.next_sample, Fraction(1, self.audio.rate)  # AVI's are coarse
                    self.next_sample += samples.samples
                    self.file.mux(self.track.encode(samples))
