"""recognise_video.py: every frame at its time with its face and the sound; tables; plots; what is kept at a bad end."""
import contextlib
import io
import itertools
import json
import signal
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from conftest import write_video
from windows import RunningScript, frames_of, rows_of

import recognise_video
from expressions.console import InputError
from expressions.labels import EXPRESSIONS, UNSURE
from expressions.tables import VIDEO_COLUMNS
from expressions.video import read_video

MILLISECOND = Fraction(1, 1000)
TIMES = [50 * number + (15 if number % 3 == 0 and number else 0) for number in range(30)]  # ms, every third frame late


@pytest.fixture(scope="session")
def frames(portrait):
    """30 frames uint8 BGR (30, 300, 401, 3): black ones without a face first, then the portrait moving to the right."""
    small = cv2.resize(portrait[0], (256, 300), interpolation=cv2.INTER_AREA)
    moving = np.zeros((30, 300, 401, 3), np.uint8)
    for number in range(5, 30):
        moving[number, :, 4 * number:4 * number + 256] = small
    return moving


@pytest.fixture(scope="session")
def clip(frames, tmp_path_factory):
    """An MKV of these frames at TIMES, with a second and a half of a tone in PCM, which MP4 does not hold."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with av.open(str(path), "w") as file:
        video = file.add_stream("ffv1", rate=20)  # lossless, and of an odd width
        video.width, video.height, video.pix_fmt = 401, 300, "bgr0"
        video.codec_context.time_base = MILLISECOND
        sound = file.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number, (frame, milliseconds) in enumerate(zip(frames, TIMES)):
            packed = av.VideoFrame.from_ndarray(frame, format="bgr24")
            packed.pts, packed.time_base = milliseconds, MILLISECOND
            file.mux(video.encode(packed))
            tone = np.sin(2 * np.pi * 440 * (np.arange(800) + 800 * number) / 16000) * 20000
            samples = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], format="s16", layout="mono")
            samples.rate, samples.pts, samples.time_base = 16000, 800 * number, Fraction(1, 16000)
            file.mux(sound.encode(samples))
        file.mux(video.encode(None))
        file.mux(sound.encode(None))
    return path


@pytest.fixture(scope="session")
def recognised(clip, tmp_path_factory):
    """A folder in which the clip was recognised, with a table and a plot, and what that said."""
    folder = tmp_path_factory.mktemp("recognised")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as message:
        patch.chdir(folder)
        recognise_video.main([str(clip), "--csv", "faces.csv", "--plot", "faces.png"])
    return folder, message.getvalue()


def test_every_frame_is_there_at_its_time(recognised, frames):
    folder, message = recognised
    assert "wrote clip_recognised.mp4, faces.csv, faces.png: 30 frames, 25 face detections" in message
    times, written = zip(*frames_of(folder / "clip_recognised.mp4"))
    assert len(written) == 30 and written[0].shape == (300, 402, 3)
    for number in range(30):  # each frame is its own: the portrait has moved on
        difference = np.abs(written[number][:, :401].astype(int) - frames[number]).max(axis=2) > 40
        assert difference.mean() < 0.15, number
    assert [round(seconds * 1000) for seconds in times] == TIMES


def test_sound_becomes_aac_and_is_copied_bit_for_bit_where_mp4_holds_it(recognised, tmp_path):
    paths = recognised[0] / "clip_recognised.mp4", tmp_path / "again.mp4"
    recognise_video.main([str(paths[0]), "--output", str(paths[1]), "--quiet"])
    packets = []
    for path in paths:
        with av.open(str(path)) as file:
            packets.append([bytes(packet) for packet in file.demux(audio=0) if packet.size])
    assert packets[0] == packets[1] and len(frames_of(paths[1])) == 30
    with av.open(str(paths[0])) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        heard = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    assert abs(len(heard) - 24000) < 3000
    assert abs(int(np.abs(np.fft.rfft(heard[4000:20000])).argmax()) - 440) <= 1


def test_the_table_has_a_row_for_each_face_and_frame(recognised):
    rows = rows_of(recognised[0] / "faces.csv")
    assert list(rows[0]) == list(VIDEO_COLUMNS) == ["frame", "time", "face", "x", "y", "width", "height", "expression",
                                                    "probability", *EXPRESSIONS, "score", "guess", "second_guess",
                                                    "found", *(f"raw_{name}" for name in EXPRESSIONS)]
    assert [int(row["frame"]) for row in rows] == list(range(5, 30))  # each with her face, none in the black ones
    assert {row["face"] for row in rows} == {"1"}
    for row in rows:
        number = int(row["frame"])
        assert float(row["time"]) * 1000 == pytest.approx(TIMES[number], abs=1)
        assert float(row["x"]) + float(row["width"]) / 2 == pytest.approx(4 * number + 134, abs=15)
        probabilities = [float(row[name]) for name in EXPRESSIONS]
        assert sum(probabilities) == pytest.approx(1, abs=1e-3)
        assert float(row["probability"]) > max(probabilities) - 0.2 and row["guess"] == EXPRESSIONS[
            np.argmax(probabilities)]
        assert row["expression"] == UNSURE or float(row["probability"]) == float(row[row["expression"]]) > 0.45


def test_rows_tell_what_was_found_and_what_one_frame_alone_says(recognised):
    rows = rows_of(recognised[0] / "faces.csv")
    classified = [row for row in rows if row["raw_happy"]]
    assert 4 <= len(classified) <= 13 and all(row["found"] == "1" for row in classified)  # each eighth of a second
    assert [row["raw_happy"] for row in classified[:1]] == [row["happy"] for row in rows[:1]]
    assert {row["found"] for row in rows} == {"0", "1"}  # the cascades look eight times a second
    for row in classified:
        assert sum(float(row[f"raw_{name}"]) for name in EXPRESSIONS) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("arguments", "start", "kept"), [
    (["--start", "0:00.7"], 700, TIMES[14:]), (["--end", "0.5"], 0, [time for time in TIMES if time <= 500]),
    (["--start", "0.4", "--end", "1", "--every", "0.25"], 400, [400, 650, 915])])
def test_a_part_of_a_video_keeps_its_times_and_its_sound(clip, tmp_path, monkeypatch, arguments, start, kept):
    monkeypatch.chdir(tmp_path)
    recognise_video.main([str(clip), "--output", "part.mp4", "--report", "part.json", *arguments, "--quiet"])
    times = [round(1000 * seconds) for seconds, _ in frames_of("part.mp4")]
    assert times == [time - start for time in kept]
    assert json.loads((tmp_path / "part.json").read_text())["sections"][0]["frames"] == len(kept)
    with av.open("part.mp4") as file:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    assert len(heard) / 16000 == pytest.approx(min(1.5, kept[-1] / 1000 + 0.05) - start / 1000, abs=0.25)


def test_rows_alone_go_to_standard_output_or_into_json(recognised, clip, tmp_path, monkeypatch, capsys):
    assert cv2.imread(str(recognised[0] / "faces.png")).shape[1] == 1400  # the plot of the first run
    monkeypatch.chdir(tmp_path)
    recognise_video.main([str(clip), "--no-video", "--table", "-", "--quiet"])
    output = capsys.readouterr()
    assert output.out == (recognised[0] / "faces.csv").read_text() and output.err == ""
    recognise_video.main([f"file://{clip}", "--no-video", "--table", "faces.json", "--quiet"])  # an address, too
    table = json.loads((tmp_path / "faces.json").read_text())
    assert [str(row["x"]) for row in table] == [row["x"] for row in rows_of(recognised[0] / "faces.csv")]
    assert [path.name for path in tmp_path.iterdir()] == ["faces.json"]


def test_what_cannot_be_is_refused_and_nothing_written_over(clip, portrait, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video = tmp_path / "a.mp4"
    video.write_bytes(clip.read_bytes())
    for arguments, words in (([video, "--output", video], "written over"), ([video, "--plot", "x.jpg"], "x.jpg"),
                             ([video, "--output", "x.avi"], "not an .mp4"), ([video, "--no-video"], "nothing to write"),
                             ([portrait[1]], "recognise_image.py"), (["none.mp4"], "none.mp4 does not open")):
        with pytest.raises(InputError, match=words):
            recognise_video.main([*map(str, arguments), "--quiet"])
    assert video.read_bytes() == clip.read_bytes() and [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_of_a_damaged_video_what_was_done_is_kept_and_the_damage_told(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def damaged(*arguments):
        yield from itertools.islice(read_video(*arguments), 10)
        raise InputError("clip.mkv is damaged")
    monkeypatch.setattr(recognise_video, "read_video", damaged)
    with pytest.raises(InputError, match=r"is damaged; out.mp4, faces.csv ends there"):
        recognise_video.main([str(clip), "--output", "out.mp4", "--table", "faces.csv", "--quiet"])
    assert len(frames_of("out.mp4")) == 10 and len(rows_of("faces.csv")) == 5


def test_ctrl_c_leaves_a_playable_video_and_a_table_of_what_was_done(portrait, tmp_path):
    long = write_video(tmp_path / "long.mp4", [cv2.resize(portrait[0], (256, 300))] * 1000)
    script = RunningScript(tmp_path, "recognise_video.py", long, "--table", "faces.csv")
    script.wait_for_rows(20)
    script.process.send_signal(signal.SIGINT)
    assert "run it again" in script.finish(status=130)
    written, table = len(frames_of(tmp_path / "long_recognised.mp4")), tmp_path / "faces.csv"
    assert 0 < written < 1000 and abs(len(rows_of(table)) - written) <= 1
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def talks(frames, tmp_path, monkeypatch):
    """A current folder with four short videos in two folders, two of one name, and a damaged one."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.mp4", "b.mov", "day 2/a.mp4", "day 2/c.mkv")):
        (tmp_path / "talks" / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "talks" / name, [frame[:, :400] for frame in frames[4 + number:12]])
    for name in ("d.mp4", "notes.txt", "a_recognised.mp4"):
        (tmp_path / "talks" / name).write_text("no video")
    return tmp_path


def test_a_folder_of_videos_gives_one_table_and_goes_on_after_a_stop(talks, capsys, monkeypatch):
    arguments = ["talks", "--table", "all.csv", "--report", "all.json", "--jobs", "2"]
    with pytest.raises(InputError) as error:
        recognise_video.main(arguments)
    assert error.value.args[0].startswith("1 of 5 videos") and "talks/d.mp4 does not open" in error.value.args[1]
    assert "4 videos, 25 face detections" in capsys.readouterr().err  # 7 + 7 + 6 + 5; in the first frame there is none
    rows = rows_of(talks / "all.csv")
    expected = []
    for name in ("a.mp4", "b.mov", "d.mp4", "day 2/a.mp4", "day 2/c.mkv"):
        if name == "d.mp4":
            expected.append((f"talks/{name}", "", True))
            continue
        recognise_video.main([f"talks/{name}", "--no-video", "--table", "one.csv"])
        expected += [(f"talks/{name}", json.dumps({**row, "file": ""}, sort_keys=True), False)
                     for row in rows_of(talks / "one.csv")]
    found = [(row["file"], "" if row["error"] else json.dumps(
        {name: cell for name, cell in {**row, "file": ""}.items() if name != "error"}, sort_keys=True),
        bool(row["error"])) for row in rows]
    assert found == expected
    assert [section["video"] for section in json.loads((talks / "all.json").read_text())["sections"]] == [
        "a.mp4", "b.mov", "a.mp4", "c.mkv"]
    assert sorted(str(path.relative_to(talks)) for path in talks.glob("output_talks/**/*.mp4")) == [
        f"output_talks/{name}_recognised.mp4" for name in ("a", "b", "day 2/a", "day 2/c")]

    whole = (talks / "all.csv").read_text()
    lines = whole.splitlines(keepends=True)
    (talks / "all.csv").write_text("".join(lines[:-3]))  # torn within the last video
    done = (talks / "output_talks/a_recognised.mp4").stat().st_mtime_ns
    recognise_video.main([*arguments, "--resume"])
    assert (talks / "all.csv").read_text() == whole
    assert (talks / "output_talks/a_recognised.mp4").stat().st_mtime_ns == done  # not done again
    monkeypatch.setattr(recognise_video, "recognise_many", lambda args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt, match="run it again with --resume for the others"):
        recognise_video.main(arguments)
    assert "2 videos, 11 face detections; 3 were done before, and are not in the report" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, words", [
    (["talks", "--plot", "p.png"], "--plot draws one video"), (["talks/a.mp4", "--resume"], "table of several"),
    (["talks", "--resume"], "goes on with a table"), (["talks/a.mp4", "talks/day 2/a.mp4"], "would be written over"),
    (["talks", "--start", "2", "--end", "0:01"], "--end 1 is not after --start 2"),
    (["talks/a.mp4", "--start", "9"], "no frame that decodes after 9 seconds"),
    (["none*.mp4"], "matches no video"), (["http://127.0.0.1:9/a.mp4?key=1"], "does not open as a video"),
    (["talks/a_r*.mp4", "--no-video"], "holds only what an earlier run wrote"),
    (["talks", "--no-video"], "leaves nothing to write")])
def test_what_several_videos_cannot_be_asked_is_said(talks, arguments, words):
    with pytest.raises(InputError, match=words):
        recognise_video.main(arguments)


def test_a_folder_is_many_videos_though_it_holds_one_and_endings_tell_namesakes_apart(talks):
    (talks / "one").mkdir()
    for name in ("a.mp4", "a.mov"):
        write_video(talks / "one" / name, [np.zeros((64, 64, 3), np.uint8)] * 3)
    recognise_video.main(["one", "--output", "out", "--table", "all.csv", "--quiet"])
    assert [row["file"] for row in rows_of("all.csv")] == ["one/a.mov", "one/a.mp4"]
    assert sorted(path.name for path in (talks / "out/output_one").iterdir()) == [
        "a.mov_recognised.mp4", "a.mp4_recognised.mp4"]
    (talks / "one/a.mov").unlink()
    recognise_video.main(["one", "--no-video", "--table", "all.csv", "--quiet"])
    assert [row["file"] for row in rows_of("all.csv")] == ["one/a.mp4"]


@pytest.mark.exhaustive
def test_a_cluster_gives_the_same_rows_videos_and_report(talks, dask):
    address, start = dask
    for kind in ("scheduler", "worker"):
        start(kind)
    (talks / "talks/d.mp4").unlink()
    arguments = ["talks", "--table", "all.csv", "--report", "all.json", "--quiet", "--detector", "haar"]
    recognise_video.main([*arguments, "--output", "here"])
    alone = (talks / "all.csv").read_text(), (talks / "all.json").read_text()
    script = RunningScript(talks, "recognise_video.py", *arguments, "--output", "there", "--scheduler", address)
    script.finish()
    assert ((talks / "all.csv").read_text(), (talks / "all.json").read_text()) == alone
    for path in (talks / "here").rglob("*.mp4"):
        assert len(frames_of(talks / "there" / path.relative_to(talks / "here"))) == len(frames_of(path)) > 3
