"""Videos: frames at their times out of any file that FFmpeg reads, and into an MP4 that players and browsers show."""
import collections
import concurrent.futures
import contextlib
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
STREAM_FORMATS = "rtsp,rtp,rtp_mpegts"
HLS_FORMATS = "hls,aac,mp3,webvtt"  # where the user types the address of such a list
STREAM_PROTOCOLS = "crypto,http,https,httpproxy,rtmp,rtmps,rtp,rtsp,srt,tcp,tls,udp"
OPEN_TIMEOUT, READ_TIMEOUT = 15, 5  # seconds for which a live stream may be silent
MP4_AUDIO = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")  # copied into the MP4; other sound becomes AAC
BT601, LIMITED_RANGE = 6, 1  # FFmpeg's numbers: OpenCV's colours; where a file does not say, players guess by the size


def open_video(path):
    """Return an av container of a video file or an fsspec address, which the caller closes. Raises InputError."""
    if is_remote(path):
        with filesystem(path) as (files, name):
            return _open(path, files.open(name, "rb"))
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file: check the path")
    return _open(path, str(path))


def open_stream(address):
    """Return an av container of a live stream, rtsp:// or http:// for example, which the caller closes.

    Raises InputError, also where it is silent for OPEN_TIMEOUT.
    """
    formats = f"{FORMATS},{STREAM_FORMATS}"
    if address.partition("?")[0].lower().endswith(".m3u8"):
        formats += f",{HLS_FORMATS}"
    return _open(address, address, formats, STREAM_PROTOCOLS, timeout=(OPEN_TIMEOUT, READ_TIMEOUT))


def _open(path, source, formats=FORMATS, protocols="file", **options):
    if int(av.__version__.split(".")[0]) < 19:  # from then on titles that are not UTF-8 do no harm
        options["metadata_errors"] = "replace"
    try:
        video = av.open(source, options={"format_whitelist": formats, "protocol_whitelist": protocols}, **options)
    except av.error.ExitError:
        raise InputError(f"{path} sends nothing for {OPEN_TIMEOUT} seconds: check the address") from None
    except av.error.ArgumentError:  # not in the whitelists
        raise InputError(f"{path} is not a video, but perhaps an image, which recognise_image.py takes, or a list of "
                         "other files: give a video") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path} does not open as a video ({getattr(error, 'strerror', None) or first_line(error)}): "
                         "check it, and that it is whole") from None
    stream = next(iter(video.streams.video), None)
    if stream is None or stream.codec_context is None:
        video.close()
        raise InputError(f"{path} has no video that FFmpeg decodes, perhaps only sound: give a video, or convert it")
    if stream.width * stream.height > MAX_PIXELS:
        video.close()
        raise InputError(f"{path} has frames of {stream.width} x {stream.height}, more than {MAX_PIXELS:,} pixels: "
                         "make it smaller")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # for frames that are larger than the file says
    stream.thread_type = "AUTO"
    return video


def frame_rate(stream):
    """Return the frames a second of an av.VideoStream, a Fraction."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def read_video(video, stream, audio=None, packets=None):
    """Yield (seconds from 0 on, a Fraction, and frame uint8 BGR (h, w, 3), upright) of an open video.

    Where an `audio` stream is given, its packets are appended to `packets`. Raises InputError where the file is
    damaged, or a live stream falls silent.
    """
    start = Fraction(video.start_time or 0, av.time_base)
    step = round(1 / (frame_rate(stream) * stream.time_base))  # for formats without times
    number, time = 0, -step
    try:
        for packet in video.demux([stream] if audio is None else [stream, audio]):
            if packet.stream is stream:
                for frame in packet.decode():
                    time = time + step if frame.pts is None else frame.pts - round(start / stream.time_base)
                    number += 1
                    yield time * stream.time_base, _to_upright_bgr(frame)
            elif None not in (packet.pts, packet.dts):  # the last, empty one has none
                packet.pts -= round(start / audio.time_base)
                packet.dts -= round(start / audio.time_base)
                packets.append(packet)
    except (av.error.ExitError, OSError):  # of a time-out, or a connection that is lost
        raise InputError(f"{video.name} gives no more images after frame {number}: check the connection") from None
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise InputError(f"{video.name} is damaged after frame {number} ({first_line(error)}): mend or convert it"
                         ) from None


def _to_upright_bgr(frame):
    """Return an av.VideoFrame as uint8 BGR (h, w, 3), rotated as a telephone says it was held."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="bgr24"), round(frame.rotation / 90)))


def prefetch(items, length):
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


@contextlib.contextmanager
def video_writer(path, rate, time_base, audio=None):
    """Yield a VideoWriter of an MP4 file that appears when the block ends without an error.

    `rate` is the number of frames a second to expect; times are kept as multiples of `time_base`. `audio` is the
    av.AudioStream whose packets will be written, after the first frame. Raises InputError where FFmpeg cannot write
    the times or the sound.
    """
    try:
        with replace_when_whole(path) as [temporary], av.open(
                str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as file:
            writer = VideoWriter(file, rate, time_base, audio)
            yield writer
            writer.flush()
    except (av.error.FFmpegError, OverflowError) as error:
        if isinstance(error, OSError):  # a full disk, for example
            raise
        raise InputError(f"{path} cannot hold these times or this sound ({first_line(error)}): "
                         "mend or convert the video") from None


class VideoWriter:
    """Writes frames, and the packets of a sound track, into an open av container. video_writer makes one."""

    def __init__(self, file, rate, time_base, audio):
        self.file, self.time_base, self.audio = file, time_base, audio
        self.size, self.last_time, self.samples_written = None, -1, None
        self.stream = file.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.colorspace, self.stream.codec_context.color_range = BT601, LIMITED_RANGE
        self.stream.codec_context.time_base = time_base
        self.is_copied = audio is not None and audio.codec_context.codec.canonical_name in MP4_AUDIO
        if audio is not None:
            self.track = file.add_stream_from_template(audio) if self.is_copied else file.add_stream(
                "aac", rate=audio.rate)

    def write(self, frame, seconds):
        """Add a frame, uint8 BGR (h, w, 3). The first one sets the size, and one of another size is fitted to it."""
        height, width = frame.shape[:2]
        if self.size is None:
            self.size = width + width % 2, height + height % 2  # yuv420p needs even ones
            self.stream.width, self.stream.height = self.size
        right, below = self.size[0] - width, self.size[1] - height
        if {right, below} <= {0, 1}:
            frame = cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)
        else:
            frame = cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
        planes = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)  # ten times as fast as FFmpeg's conversion
        image = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        self.last_time = max(round(seconds / self.time_base), self.last_time + 1)
        image.pts, image.time_base = self.last_time, self.time_base
        self.file.mux(self.stream.encode(image))

    def write_audio(self, packet):
        """Add an av.Packet of sound: as it is where MP4 holds its kind, otherwise as AAC."""
        if self.is_copied:
            packet.stream = self.track
            self.file.mux(packet)
            return
        decoded = []
        with contextlib.suppress(av.error.InvalidDataError):  # a damaged packet: players pass over it, too
            decoded = packet.decode()
        for samples in decoded:
            if self.samples_written is None:
                self.samples_written = round((samples.time or 0) * self.audio.rate)
            samples.pts, samples.time_base = self.samples_written, Fraction(1, self.audio.rate)  # AVI's are too coarse
            self.samples_written += samples.samples
            try:
                self.file.mux(self.track.encode(samples))
            except ValueError as error:  # the number of channels changes, for example
                raise InputError(f"the sound does not become AAC ({first_line(error)}): mend or convert the video"
                                 ) from None

    def flush(self):
        """Write what the encoders still hold."""
        if self.size is not None:
            self.file.mux(self.stream.encode(None))
            if self.audio is not None and not self.is_copied:
                self.file.mux(self.track.encode(None))
