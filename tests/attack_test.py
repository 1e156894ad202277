"""Odd arguments and hostile files end each script at once with a sentence and status 2, whatever they name."""
from pathlib import Path

import numpy as np
import pytest
from conftest import write_video

import image_from_camera
import recognise_image
import recognise_video
import train_model
import webcam_live
from expressions.console import InputError

pytestmark = pytest.mark.exhaustive
LISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
    "itself.mp4": "ffconcat version 1.0\n" + "file itself.mp4\n" * 1000,
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n",
}
LIVE = {recognise_video: ["--no-video", "--table", "rows.csv"], webcam_live: ["--table", "rows.csv"],
        image_from_camera: ["--now"]}


@pytest.fixture
def folder(tmp_path, monkeypatch, portrait, no_display):
    """A current folder with a video, lists that name it, links to themselves and an image."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "secret.mp4", [np.full((64, 64, 3), grey, np.uint8) for grey in range(0, 200, 10)])
    for name, text in LISTS.items():
        (tmp_path / name).write_text(text)
    for name in ("loop.mp4", "loop.jpg", "loop.csv"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "image.jpg").symlink_to(portrait[1])
    return tmp_path


@pytest.mark.parametrize("script", LIVE, ids=lambda script: script.__name__)
@pytest.mark.parametrize("source", [*LISTS, "loop.mp4", "", "missing.mp4", "file://", "http://127.0.0.1:9/a.mp4"])
def test_what_is_no_video_is_refused_and_nothing_it_names_is_opened(folder, script, source):
    before = sorted(folder.iterdir())
    with pytest.raises(InputError) as error:
        script.main([source, *LIVE[script]])
    assert all(sentence and "\n" not in sentence for sentence in error.value.args)
    assert sorted(folder.iterdir()) == before and not Path("rows.csv").exists()


@pytest.mark.parametrize("number", ["²", "9" * 21, "99"])
@pytest.mark.parametrize("script", [webcam_live, image_from_camera], ids=lambda script: script.__name__)
def test_a_camera_that_is_none_is_refused(folder, script, number):
    with pytest.raises(InputError, match=f"{number}|camera"):
        script.main([number, *LIVE[script]])


@pytest.mark.parametrize("arguments", [
    ["loop.jpg"], ["file://"], [""], ["image.jpg", "--table", ""], ["image.jpg", "--table", "."],
    ["image.jpg", "--table", "/"], ["image.jpg", "--table", "loop.csv"], ["image.jpg", "--scheduler", "garbage"],
     ["image.jpg", "--jobs", "0"], ["image.jpg", "--report", "/"], ["image.jpg", "--models", "loop.jpg"]], ids=" ".join)
def test_odd_arguments_for_images_are_refused(folder, arguments):
    with pytest.raises((InputError, SystemExit, OSError)) as error:  # run() makes a sentence of an OSError, too
        recognise_image.main(arguments)
    assert getattr(error.value, "code", 2) == 2


@pytest.mark.parametrize("arguments", [["--data", "loop.mp4"], ["--data", ""], ["--data", "image.jpg"],
                                       ["--data", "image.jpg", "--last-layer"], ["--after", "loop.jpg"]], ids=" ".join)
def test_odd_folders_for_training_are_refused(folder, arguments):
    with pytest.raises((InputError, OSError)):
        train_model.main(arguments)
