"""How much memory the scripts take over hours.

Runs a script in a process of its own and reads the memory of that and of those it starts every five seconds (Linux):
recognise_video.py --csv on the video given, repeated without encoding it again until it is as long as asked;
with --live webcam_live.py, in a window where there is a display, with --record and --csv, on a camera that sends the
video's frames as JPEGs over HTTP again and again; with --pictures recognise_image.py on a folder of so many pictures,
the video's frames, of which each hundredth is cut short.
Prints the memory after one minute, at the end and at its highest, and the numbers of threads and open files.

$ python benchmarks/memory.py party.mp4                   # two hours of video take half an hour or more
$ python benchmarks/memory.py party.mp4 --live --minutes 60
$ python benchmarks/memory.py party.mp4 --pictures 10000
"""
import contextlib
import csv
import http.server
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from preprocessing import InputError, run, script_parser  # noqa: E402
from recognise_image import count  # noqa: E402
from recognise_video import frame_rate, open_video, read_video  # noqa: E402

import cv2  # noqa: E402


def repeat(source, target, seconds):
    """Write the pictures of a video again and again, until `seconds` are full; the number of frames."""
    with open_video(source) as video:
        stream = video.streams.video[0]
        packets = [(bytes(packet), packet.pts, packet.dts, packet.duration, packet.is_keyframe)
                   for packet in video.demux(stream) if packet.dts is not None]
        length = sum(duration for _, _, _, duration, _ in packets)
        if not length:
            raise InputError(f"{source} does not say how long its frames last: convert it to .mp4")
        import av
        with av.open(str(target), "w") as file:
            copy = file.add_stream_from_template(stream)
            rounds = -int(-seconds / (length * stream.time_base) // 1)
            for number in range(rounds):
                for data, pts, dts, duration, is_keyframe in packets:
                    packet = av.Packet(data)
                    packet.stream, packet.time_base, packet.is_keyframe = copy, stream.time_base, is_keyframe
                    packet.pts, packet.dts, packet.duration = pts + number * length, dts + number * length, duration
                    file.mux(packet)
    return rounds * len(packets)


def family(process):
    """The ids of a process and of all that it has started, and they."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(one for child in children for one in family(int(child)))]


def watch(process):
    """(seconds, MB, threads, open files) of a process and those it has started every five seconds until it ends."""
    start, seen = time.monotonic(), []
    while process.poll() is None:
        try:
            memory = threads = files = 0
            for one in family(process.pid):
                status = dict(line.split(":", 1) for line in Path(f"/proc/{one}/status").read_text().splitlines())
                files += len(list(Path(f"/proc/{one}/fd").iterdir()))
                memory += int(status["VmRSS"].split()[0]) / 1024
                threads += int(status["Threads"])
            seen.append((time.monotonic() - start, memory, threads, files))
        except (KeyError, OSError):  # one has just ended
            pass
        time.sleep(5)
    return seen


def jpegs(source):
    """The frames of a video as JPEG files, and how many a second there are."""
    with open_video(source) as video:
        stream = video.streams.video[0]
        return [cv2.imencode(".jpg", frame)[1].tobytes() for _, frame in read_video(video, stream)], frame_rate(stream)


@contextlib.contextmanager
def camera(source, seconds):
    """The address of a camera that sends a video's frames for so long, again and again, at their pace."""
    frames, rate = jpegs(source)

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            start = time.monotonic()
            for number, frame in enumerate(itertools.cycle(frames)):
                late = time.monotonic() - start - number / rate
                if time.monotonic() - start > seconds:
                    return
                time.sleep(max(0, -late))
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(frame)
                                 + frame + b"\r\n")

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/stream.mjpeg"
        server.shutdown()


def write_pictures(source, folder, number):
    """Fill a folder with pictures; the number of those that are cut short."""
    folder.mkdir()
    frames, _ = jpegs(source)
    for picture, frame in zip(range(number), itertools.cycle(frames)):
        (folder / f"{picture:06}.jpg").write_bytes(frame[:500] if picture % 100 == 99 else frame)
    return number // 100


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("video", type=Path, help="a video file")
    parser.add_argument("--minutes", type=float, default=120, help="of video (default: %(default)s)")
    parser.add_argument("--live", action="store_true", help="webcam_live.py instead")
    parser.add_argument("--pictures", type=int, metavar="NUMBER", help="recognise_image.py on so many instead")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cut = 0
        if args.pictures:
            cut = write_pictures(args.video, folder / "pictures", args.pictures)
            command = ["recognise_image.py", "pictures", "--csv", "rows.csv"]
        elif args.live:
            address = stack.enter_context(camera(args.video, 60 * args.minutes))
            command = ["webcam_live.py", address, "--csv", "rows.csv", "--record", "live.mp4"]
        else:
            frames = repeat(args.video, folder / "long.mp4", 60 * args.minutes)
            print(f"{args.minutes:g} minutes, {frames:,} frames", file=sys.stderr)
            command = ["recognise_video.py", "long.mp4", "--csv", "rows.csv", "--quiet"]
        with open(folder / "log.txt", "w+") as log:
            process = subprocess.Popen([sys.executable, ROOT / command[0], *command[1:]], cwd=folder,
                                       stdout=subprocess.DEVNULL, stderr=log)
            seen = watch(process)
            status = process.wait()
            log.seek(0)
            said = [line for line in log.read().splitlines() if "%|" not in line]
        if status != (2 if cut else 0):
            raise InputError(f"{command[0]} ended with status {status}: {' '.join(said)}")
        with open(folder / "rows.csv", newline="") as file:
            rows = sum(1 for _ in csv.reader(file)) - 1
        print(f"{command[0]}: {count(rows, 'row')}; it said: {next(line for line in said if line.startswith('wrote'))}")
        if args.pictures:
            written = len(list((folder / "output_pictures").iterdir()))
            named = sum("is not a picture" in line for line in said)
            print(f"{written:,} pictures were written and {named:,} named as no pictures; {cut:,} were cut short")
    seconds, megabytes, threads, files = zip(*seen)
    minute = [size for second, size in zip(seconds, megabytes) if 60 <= second < 90]
    if not minute:
        raise InputError("it was over within a minute: give more")
    last = statistics.median(megabytes[-7:-1])
    print(f"after a minute {statistics.median(minute):.0f} MB, at the end {last:.0f}, at most {max(megabytes):.0f}; "
          f"{min(threads[1:-1])} to {max(threads)} threads, {min(files[1:-1])} to {max(files)} open files; "
          f"{seconds[-1] / 60:.0f} minutes")


if __name__ == "__main__":
    run(main)
