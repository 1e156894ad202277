"""How much memory recognise_video.py takes over hours of video.

Repeats a video, without encoding it again, until it is as long as asked, recognises it with --csv in a process
of its own and reads that process's memory every five seconds (on Linux).
Prints the memory after one minute, at the end and at its highest, and the numbers of threads and open files.

$ python benchmarks/memory.py party.mp4                 # two hours of video take half an hour or more
$ python benchmarks/memory.py party.mp4 --minutes 20
"""
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from preprocessing import InputError, run, script_parser  # noqa: E402
from recognise_video import open_video  # noqa: E402


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


def watch(process):
    """(seconds, MB, threads, open files) of a process every five seconds until it ends."""
    start, seen = time.monotonic(), []
    while process.poll() is None:
        try:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            memory, threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
            seen.append((time.monotonic() - start, memory, threads, files))
        except (KeyError, OSError):  # it has just ended
            break
        time.sleep(5)
    return seen


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("video", type=Path, help="a video file")
    parser.add_argument("--minutes", type=float, default=120, help="of video (default: %(default)s)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        frames = repeat(args.video, Path(folder) / "long.mp4", 60 * args.minutes)
        print(f"{args.minutes:g} minutes, {frames:,} frames", file=sys.stderr)
        command = [sys.executable, ROOT / "recognise_video.py", "long.mp4", "--csv", "long.csv", "--quiet"]
        process = subprocess.Popen(command, cwd=folder)
        seen = watch(process)
        if process.wait():
            raise InputError("recognise_video.py failed: what it says stands above")
    seconds, megabytes, threads, files = zip(*seen)
    minute = [size for second, size in zip(seconds, megabytes) if 60 <= second < 90]
    if not minute:
        raise InputError("it was over within a minute: give more --minutes")
    last = statistics.median(megabytes[-7:-1])
    print(f"after a minute {statistics.median(minute):.0f} MB, at the end {last:.0f}, at most {max(megabytes):.0f}; "
          f"{min(threads[1:])} to {max(threads)} threads, {min(files[1:])} to {max(files)} open files; "
          f"{seconds[-1] / 60:.0f} minutes")


if __name__ == "__main__":
    run(main)
