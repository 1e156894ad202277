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


def test_the_file_is_fetched_and_put_into_place(server, tmp_path, monkeypatch, capsys):
    server.answer = np.random.default_rng(0).bytes(yunet.N_BYTES)
    monkeypatch.setattr(yunet, "SHA256", hashlib.sha256(server.answer).hexdigest())
    yunet.fetch(tmp_path / "models" / "yunet.onnx", server.url)
    assert (tmp_path / "models" / "yunet.onnx").read_bytes() == server.answer
    assert "getting YuNet: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("answer, length, words", [
    (b"another file", None, "gave another file than YuNet of 2023"),
    (b"x" * 5000, 10_000, "YuNet's file cannot be had|gave another file"),
    (b"x" * 10 * yunet.N_BYTES, None, "gave another file"),
    (b"", None, "cannot be had \\(HTTP Error 404"),
])
def test_another_file_or_a_cut_one_is_not_put_into_place(server, tmp_path, answer, length, words):
    server.answer, server.length = answer, length
    with pytest.raises(InputError, match=words) as refusal:
        yunet.fetch(tmp_path / "yunet.onnx", server.url)
    assert "from OpenCV's model zoo" in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_without_a_network_it_says_how_to_get_the_file_by_hand(tmp_path):
    with pytest.raises(InputError, match="cannot be had .* get face_detection_yunet_2023mar.onnx from OpenCV's"):
        yunet.fetch(tmp_path / "yunet.onnx", "http://127.0.0.1:9/yunet.onnx")


def test_another_file_is_no_detector(tmp_path):
    (tmp_path / "yunet.onnx").write_bytes(b"another")
    with pytest.raises(InputError, match="is not YuNet's file of 2023"):
        yunet.YuNet(tmp_path / "yunet.onnx")


def test_it_finds_a_face_with_its_score_and_eyes(yunet_path, portrait):
    boxes, scores, landmarks = yunet.YuNet(yunet_path)(portrait[0])
    (x, y, width, height), = boxes
    assert boxes.dtype.kind == "i" and scores.shape == (1,) and scores[0] > 0.8
    right_eye, left_eye = landmarks[0, :2]
    assert x < right_eye[0] < left_eye[0] < x + width and y < right_eye[1] < y + height / 2
    # Grace Hopper's eyes, read off the photograph
    np.testing.assert_allclose([right_eye, left_eye], [[224, 186], [306, 187]], atol=12)


@pytest.mark.parametrize("zoom", [0.2, 1, 8])
def test_boxes_are_in_pixels_of_the_image_whatever_its_size(yunet_path, portrait, zoom):
    detector = yunet.YuNet(yunet_path)
    [expected], _, [expected_landmarks] = detector(portrait[0])
    [box], _, [landmarks] = detector(cv2.resize(portrait[0], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA))
    np.testing.assert_allclose(box / zoom, expected, atol=0.15 * expected[2])
    np.testing.assert_allclose(landmarks / zoom, expected_landmarks, atol=0.1 * expected[2])


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (20, 20)])
def test_images_without_room_for_a_face_have_none(yunet_path, shape):
    boxes, scores, landmarks = yunet.YuNet(yunet_path)(np.zeros((*shape, 3), np.uint8))
    assert boxes.shape == (0, 4) and scores.shape == (0,) and landmarks.shape == (0, 5, 2)
