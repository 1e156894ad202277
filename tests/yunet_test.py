"""YuNet's file is fetched whole or not at all, and finds faces that the cascades miss."""
import hashlib
import http.server
import threading

import cv2
import numpy as np
import pytest

from expressions import yunet
from expressions.console import InputError


@pytest.fixture
def server():
    """A server on this machine: set its `answer` to bytes, and `length` to what it claims to send."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.server.answer else 404)
            self.send_header("Content-Length", self.server.length or len(self.server.answer))
            self.end_headers()
            self.wfile.write(self.server.answer)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.answer, running.length = b"", None
        running.url = f"http://127.0.0.1:{running.server_port}/yunet.onnx"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_the_file_is_fetched_and_put_into_place(server, monkeypatch, capsys):
    server.answer = np.random.default_rng(0).bytes(232_589)
    monkeypatch.setattr(yunet, "SHA256", hashlib.sha256(server.answer).hexdigest())
    yunet.fetch(server.url)
    assert yunet.PATH.read_bytes() == server.answer and "getting YuNet" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "length", "words"), [
    (b"another file", None, "another file came"), (b"x" * 5000, 10_000, ""), (b"", None, "HTTP Error 404"),
    (b"x" * 2_000_000, None, "another file came"), (None, None, "refused")])
def test_another_file_or_a_cut_one_or_none_is_refused_with_how_to_get_it_by_hand(server, answer, length, words):
    server.answer, server.length = answer, length
    url = "http://127.0.0.1:9/yunet.onnx" if answer is None else server.url
    by_hand = "get face_detection_yunet_2023mar.onnx from OpenCV's model zoo"
    with pytest.raises(InputError, match=f"cannot be had .*{words}.*{by_hand}"):
        yunet.fetch(url)
    assert not list(yunet.PATH.parent.iterdir())
    yunet.PATH.write_bytes(b"another")
    with pytest.raises(InputError, match=f"is not YuNet's file of 2023: {by_hand}"):
        yunet.YuNet()


def test_a_large_image_is_searched_as_its_area_average_is(yunet_path, portrait):
    search, image = yunet.YuNet(yunet_path.read_bytes()), cv2.resize(portrait[0], (1024, 1200))
    (box, score, _), (small_box, small_score, _) = search(image, 300), search(
        cv2.resize(image, (256, 300), interpolation=cv2.INTER_AREA))
    np.testing.assert_allclose(box, 4 * small_box, atol=4)
    np.testing.assert_allclose(score, small_score, atol=0.002)


@pytest.mark.parametrize("zoom", [0.2, 1, 8])
def test_a_face_is_found_with_its_score_and_eyes_whatever_its_size(yunet_path, portrait, zoom):
    image = cv2.resize(portrait[0], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    boxes, scores, landmarks = yunet.YuNet(yunet_path.read_bytes())(image)
    assert boxes.dtype.kind == "i" and boxes.shape == (1, 4) and scores.shape == (1,) and scores[0] > 0.8
    x, y, width, height = boxes[0] / zoom
    assert abs(x + width / 2 - 268) < 20 and abs(y + height / 2 - 215) < 40 and 150 < width < 270
    # Grace Hopper's eyes, read off the photograph
    np.testing.assert_allclose(landmarks[0, :2] / zoom, [[224, 186], [306, 187]], atol=12 if zoom == 1 else 20)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (20, 20)])
def test_images_without_room_for_a_face_have_none(yunet_path, shape):
    boxes, scores, landmarks = yunet.YuNet(yunet_path.read_bytes())(np.zeros((*shape, 3), np.uint8))
    assert boxes.shape == (0, 4) and scores.shape == (0,) and landmarks.shape == (0, 5, 2)
