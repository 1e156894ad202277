"""Measure how much memory the scripts take over hours.

Runs a script in a process of its own and reads the memory of that and of those it starts every five seconds (Linux):
recognise_video.py --table on the video given, repeated without encoding it again until it is as long as asked;
with --live webcam_live.py, in a window where there is a display, with --record and --table, on a camera that sends the
video's frames as JPEGs over HTTP again and again; with --images recognise_image.py on a folder of so many images, the
video's frames, of which each hundredth is cut short.
Prints the memory after one minute, at the end and at its highest, and the numbers of threads and open files.

$ python benchmarks/memory.py party.mp4                   # two hours of video take half an hour or more
$ python benchmarks/memory.py party.mp4 --live --minutes 60
$ python benchmarks/memory.py party.mp4 --images 10000
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

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions.artifacts import ROOT
from expressions.console import InputError, pluralise, positive_int, print_status, run, script_parser
from expressions.video import frame_rate, open_video, read_video

PAUSE = 5  # seconds between two readings


# ---- what the scripts get ----------------------------------------------------------------------

def repeat_video(source, target, seconds):
    """Write the frames of a video again and again, until `seconds` are full. Returns the number of frames."""
    import av

    with open_video(source) as video:
        stream = video.streams.video[0]
        packets = [(bytes(packet), packet.pts, packet.dts, packet.duration, packet.is_keyframe)
                   for packet in video.demux(stream) if packet.dts is not None]
        length = sum(duration for _, _, _, duration, _ in packets)
        if not length:
            raise InputError(f"{source} does not say how long its frames last: convert it to .mp4")
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


def read_jpegs(source):
    """Return the frames of a video as JPEG files, and how many a second there are."""
    with open_video(source) as video:
        stream = video.streams.video[0]
        return [cv2.imencode(".jpg", frame)[1].tobytes() for _, frame in read_video(video)], frame_rate(stream)


@contextlib.contextmanager
def camera(source, seconds):
    """Yield the address of a camera that sends a video's frames for so long, again and again, at their pace."""
    frames, rate = read_jpegs(source)

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


def write_images(source, folder, number):
    """Fill a folder with images. Returns the number of those that are cut short."""
    folder.mkdir()
    frames, _ = read_jpegs(source)
    for index, frame in zip(range(number), itertools.cycle(frames)):
        (folder / f"{index:06}.jpg").write_bytes(frame[:500] if index % 100 == 99 else frame)
    return number // 100


# ---- measuring ---------------------------------------------------------------------------------

def process_tree(pid):
    """Return the ids of a process, of all that it has started, and of all that they have started."""
    threads = Path(f"/proc/{pid}/task").iterdir()  # each has its own
    children = [child for thread in threads for child in (thread / "children").read_text().split()]
    return [pid, *(one for child in children for one in process_tree(int(child)))]


def watch(process):
    """Return (seconds, MB, threads, open files) of a process and those it has started, read until it ends."""
    start, readings = time.monotonic(), []
    while process.poll() is None:
        with contextlib.suppress(KeyError, OSError):  # one has just ended
            memory = threads = files = 0
            for pid in process_tree(process.pid):
                status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
                memory += int(status["VmRSS"].split()[0]) / 1024
                threads += int(status["Threads"])
            readings.append((time.monotonic() - start, memory, threads, files))
        time.sleep(PAUSE)
    return readings


def run_script(folder, command, expected_statuses):
    """Run a script in a folder and watch it. Returns the readings, and the lines it wrote to standard error."""
    with open(folder / "log.txt", "w+") as log:
        process = subprocess.Popen([sys.executable, ROOT / command[0], *command[1:]], cwd=folder,
                                   stdout=subprocess.DEVNULL, stderr=log)
        readings = watch(process)
        log.seek(0)
        lines = [line for line in log.read().splitlines() if "%|" not in line]  # without progress bars
    if process.returncode not in expected_statuses:
        raise InputError(f"{command[0]} ended with status {process.returncode}: {' '.join(lines)}")
    return readings, lines


def print_readings(readings):
    seconds, megabytes, threads, files = zip(*readings)
    minute = [size for second, size in zip(seconds, megabytes) if 60 <= second < 90]
    if not minute:
        raise InputError("it was over within a minute: give more")
    last = statistics.median(megabytes[-7:-1])
    print(f"after a minute {statistics.median(minute):.0f} MB, at the end {last:.0f}, at most {max(megabytes):.0f}; "
          f"{min(threads[1:-1])} to {max(threads)} threads, {min(files[1:-1])} to {max(files)} open files; "
          f"{seconds[-1] / 60:.0f} minutes")


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("video", type=Path, help="a video file")
    parser.add_argument("--minutes", type=float, default=120, help="of video (default: %(default)s)")
    parser.add_argument("--live", action="store_true", help="webcam_live.py instead")
    parser.add_argument("--images", type=positive_int, metavar="NUMBER", help="recognise_image.py on so many instead")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        n_cut, expected_statuses = 0, (0,)
        if args.images:
            n_cut = write_images(args.video, folder / "images", args.images)
            command = ["recognise_image.py", "images", "--table", "rows.csv"]
            expected_statuses = (2 if n_cut else 0,)
        elif args.live:
            address = stack.enter_context(camera(args.video, 60 * args.minutes))
            command = ["webcam_live.py", address, "--table", "rows.csv", "--record", "live.mp4"]
            expected_statuses = (0, 2)  # 2 where it says that the camera is gone
        else:
            frames = repeat_video(args.video, folder / "long.mp4", 60 * args.minutes)
            print_status(f"{args.minutes:g} minutes, {pluralise(frames, 'frame')}")
            command = ["recognise_video.py", "long.mp4", "--table", "rows.csv"]
        readings, lines = run_script(folder, command, expected_statuses)
        with open(folder / "rows.csv", newline="") as file:
            rows = sum(1 for _ in csv.reader(file)) - 1
        wrote = [line for line in lines if line.startswith("wrote")]
        print(f"{command[0]}: {pluralise(rows, 'row')}; it said: {'; '.join(wrote)}")
        if args.images:
            written = len(list((folder / "output_images").iterdir()))
            named = sum(".jpg is damaged" in line for line in lines)
            print(f"{written:,} images were written and {named:,} named as no images; {n_cut:,} were cut short")
    print_readings(readings)


if __name__ == "__main__":
    run(main)
