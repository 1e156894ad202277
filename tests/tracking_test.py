"""Faces through frames: who is who, where each is, and labels that do not flicker."""
from fractions import Fraction

import cv2
import numpy as np
import pytest
from conftest import write_video

import expressions
from expressions import tracking
from expressions.labels import EXPRESSIONS
from expressions.model_files import load_classifier
from expressions.recognition import Recogniser
from expressions.tracking import Track, Tracker, recognise_frames


def recogniser(classify, detector="haar"):
    """A Recogniser with another classifier: a function faces uint8 (n, 48, 48, 1) → probabilities (n, 7)."""
    loaded = Recogniser(detector=detector)
    loaded.classify = classify
    return loaded


def moving_portrait(portrait, n_frames, places, rate=30):
    """Yield (seconds, noisy frame uint8 (360, 640, 3)) with her face at each (left, top, is mirrored) of places(n)."""
    small = cv2.resize(portrait[0], (154, 180), interpolation=cv2.INTER_AREA)
    random = np.random.default_rng(0)
    for number in range(n_frames):
        frame = np.full((360, 640, 3), 100, np.uint8)
        for left, top, is_mirrored in places(number):
            frame[top:top + 180, left:left + 154] = small[:, ::-1] if is_mirrored else small
        yield Fraction(number, rate), np.clip(frame + random.normal(0, 6, frame.shape), 0, 255).astype(np.uint8)


def always_happy(faces):
    return np.repeat(np.eye(7, dtype=np.float32)[3:4], len(faces), axis=0)


def brightness(faces):
    return np.repeat(faces.mean(axis=(1, 2, 3))[:, None], 7, axis=1).astype(np.float32)


def boxes_by_id(results):
    return [{face.track_id: face.box for face in faces} for _, _, faces in results]


@pytest.fixture
def detector(request, monkeypatch):
    """The name of a detector; yunet for those who have its file."""
    if request.param == "yunet":
        monkeypatch.setattr(expressions.yunet, "PATH", request.getfixturevalue("yunet_path"))
    return request.param


both = pytest.mark.parametrize("detector", ["haar", "yunet"], indirect=True)


@both
def test_faces_keep_their_identity_from_their_first_frame_to_their_last(portrait, detector):
    def places(number):
        first = [] if 40 <= number < 62 else [(20 + number, 20, False)]  # away for a while
        second = [(460 - number // 2, 160, True)] if number >= 17 else []
        return first + second
    results = boxes_by_id(recognise_frames(moving_portrait(portrait, 90, places), recogniser(always_happy, detector)))
    assert len(results) == 90 and set().union(*results) == {1, 2}
    late = 2 if detector == "yunet" else 15  # frames until a new face is found
    for number, boxes in enumerate(results):
        wrong = {face for face, is_there in ((1, not 40 <= number < 62), (2, number >= 17)) if is_there} ^ set(boxes)
        held, found_again = 40 <= number < 49, 62 <= number < 62 + late
        assert not wrong - ({1} if held or found_again else set()) - ({2} if 17 <= number < 17 + late else set())
        for track_id, (x, y, width, height) in boxes.items():
            if track_id == 1 and held:
                continue
            left, top = (460 - number // 2, 160) if track_id == 2 else (20 + number, 20)
            middle = 154 * (0.523 if track_id == 1 else 0.477)  # hers is 268 of 512 pixels from the left
            assert abs(x + width / 2 - left - middle) < 14 and abs(y + height / 2 - top - 66) < 14


@both
def test_each_face_keeps_its_own_probabilities(portrait, detector):
    def half_dark():
        for seconds, frame in moving_portrait(portrait, 20, lambda _: [(60, 90, False), (400, 90, True)]):
            frame[:, 320:] //= 2
            yield seconds, frame
    for _, _, faces in recognise_frames(half_dark(), recogniser(brightness, detector)):
        bright, dark = sorted(faces, key=lambda face: face.box[0])
        assert {bright.track_id, dark.track_id} == {1, 2}
        assert bright.probability > 1.6 * dark.probability


@both
@pytest.mark.parametrize("left", [100, 386])  # at the same place, and at another
def test_after_a_cut_who_looks_the_same_has_the_old_number_and_who_does_not_a_new_one(portrait, detector, left):
    frames = list(moving_portrait(portrait, 72, lambda _: [(100, 100, False)]))
    others = list(moving_portrait(portrait, 72, lambda _: [(left, 100, True)]))
    light = np.linspace(0.1, 1, 640)[:, None]  # in a darker and bluer room
    frames[24:48] = [(seconds, np.uint8(light * frame[..., ::-1])) for seconds, frame in others[24:48]]
    results = list(map(list, boxes_by_id(recognise_frames(iter(frames), recogniser(always_happy, detector)))))
    for start, number in ((0, 1), (24, 2), (48, 1)):
        part = results[start:start + 24]  # in which the cascades search every half second, and may miss a noisy face
        assert part[16:] == [[number]] * 8 and all(ids in ([], [number]) for ids in part)


def test_another_scene_is_a_cut_and_a_flash_or_a_moving_camera_is_none(portrait):
    scene = cv2.resize(portrait[0], (640, 360))
    another, flash, moved = scene[:, ::-1], np.uint8(0.4 * scene), [np.roll(scene, x, axis=1) for x in (8, 30)]
    for frame, seconds, is_cut in ((another, 1.04, True), (0 * scene, 1.04, True), (another, 3, True),
                                   (flash, 1.04, False), (moved[0], 1.04, False), (moved[1], 1.4, False)):
        for first, second in ((scene, frame), (frame, scene)):
            tracker = Tracker(recogniser(always_happy))
            assert not tracker.is_cut(1, first) and tracker.is_cut(seconds, second) == is_cut


def test_after_a_cut_a_face_is_exactly_where_it_is_found():
    scenes = [np.repeat(np.repeat(np.random.default_rng(seed).integers(0, 256, (9, 16, 3), np.uint8), 40, axis=0), 40,
                        axis=1) for seed in (0, 1)]
    boxes = iter([(100, 100, 80, 80), (103, 100, 80, 80)])  # as near as if it were jitter
    tracker = Tracker(recogniser(always_happy, lambda image: [next(boxes)]))
    found = [[(face.track_id, face.box) for face in tracker.process(0.04 * n, scene)] for n, scene in enumerate(scenes)]
    assert found == [[(1, (100, 100, 80, 80))], [(2, (103, 100, 80, 80))]]


def test_of_two_who_are_gone_and_look_alike_neither_is_taken_for_another():
    tracker, looks = tracking.Tracker(recogniser(always_happy, "haar")), np.eye(4, dtype=np.float32)
    for number, look in ((7, looks[0]), (8, looks[1]), (9, 0.99 * looks[1] + 0.14 * looks[2])):
        tracker.gone[number] = [look]
    assert [tracker.who_is(look)[0] for look in (looks[3], 0.9 * looks[0], looks[1], looks[0])] == [1, 7, 2, 3]
    tracker.end_tracks([Track(np.zeros(4), track_id=number, looks=looks[3:]) for number in range(100, 200)])
    assert list(tracker.gone) == list(range(150, 200))


def test_appearance_knows_a_face_that_moves_and_tells_two_with_the_same_hair_and_clothes_apart(portrait):
    frame, box = cv2.resize(portrait[0], (640, 750)), np.array([220, 100, 220, 220])
    face = cv2.resize(cv2.cvtColor(frame[100:320, 220:440], cv2.COLOR_BGR2GRAY), (48, 48))
    first, darker = tracking.appearance(frame, box, face[..., None]), np.uint8(0.9 * np.roll(frame, (9, 40), (0, 1)))
    assert first @ first == pytest.approx(1, abs=1e-5)
    assert first @ tracking.appearance(darker, np.add(box, (44, 6, 0, 0)), np.uint8(0.9 * face)) > tracking.SAME_PERSON
    other = face[::-1]
    same = first @ tracking.appearance(frame, box, other)
    assert same == pytest.approx((2 + np.corrcoef(face.ravel(), other.ravel())[0, 1]) / 3, abs=1e-5)
    assert same < tracking.SAME_PERSON


@both
def test_neither_label_nor_box_of_a_still_face_flickers(portrait, detector):
    frames = moving_portrait(portrait, 150, lambda _: [(200, 90, False)])
    faces = [face for _, _, [face] in recognise_frames(frames, recogniser(load_classifier(), detector))]
    assert len(faces) == 150 and len({face.expression for face in faces}) == 1
    assert np.std([face.box for face in faces], axis=0).max() < 3


@pytest.mark.parametrize("rate", [5, 30])
def test_a_change_of_expression_shows_within_half_a_second(rate):
    track, random, labels = Track(np.zeros(4)), np.random.default_rng(0), []
    for number in range(4 * rate):
        strength = np.full(7, 0.4)
        strength[3 if number < 2 * rate else 5] = 2.0  # happy, from the third second on surprise
        probabilities = np.exp(strength + random.normal(0, 0.15, 7)).astype(np.float32)
        track.smooth(probabilities / probabilities.sum(), number / rate)
        labels.append(track.expression)
    assert labels[:2 * rate] == [3] * 2 * rate
    assert set(labels[2 * rate + (rate + 1) // 2:]) == {5}
    assert track.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_probabilities_follow_a_moving_average_and_the_label_a_clear_lead():
    track = Track(np.zeros(4))
    for label in (0, 1):
        track.smooth(np.eye(7, dtype=np.float32)[label], label * tracking.EMA_TIME_CONSTANT)
    np.testing.assert_allclose(track.probabilities[:2], [np.exp(-1), 1 - np.exp(-1)], rtol=1e-6)
    for shown, label in ((None, 0), (3, 3), (6, 0)):
        track = Track(np.zeros(4), expression=shown)
        track.smooth(np.array([0.5, 0, 0, 0.35, 0, 0, 0.15]), 0)
        assert track.expression == label


def test_a_label_that_wavers_about_the_least_probability_does_not_flicker_between_sure_and_unsure():
    track, told = Track(np.zeros(4)), []
    for number, probability in enumerate((0.51, 0.46, 0.44, 0.54, 0.56, 0.47)):
        track.smooth(np.array([probability, *[(1 - probability) / 6] * 6]), 10 * number, least=0.5)
        told.append(track.is_sure)
    assert told == [True, True, False, False, True, True]


def test_a_box_at_the_border_that_grows_stays_in_the_frame():
    for box, found in (((0, 10, 100, 100), (0, 5, 140, 140)), ((100, 60, 100, 100), (60, 20, 140, 140))):
        track = Track(np.array(box, float), last_seen=0)
        track.move_to(np.array(found), 0.1, (160, 200, 3))
        x, y, width, height = track.box
        assert x >= 0 and y >= 0 and x + width <= 200 and y + height <= 160
        assert 125 < width <= 140 and 125 < height <= 140


def boxes_found(n_frames, places):
    """{track id: box} of each of so many frames, 25 a second, in which a detector of one's own finds places(number)."""
    def detector(image):  # the grey level is the number
        return np.array(places(int(image[0, 0, 0]) - 40), int).reshape(-1, 4)
    frames = ((number / 25, np.full((360, 640, 3), 40 + number, np.uint8)) for number in range(n_frames))
    return boxes_by_id(recognise_frames(frames, recogniser(always_happy, detector)))


def test_a_detector_of_ones_own_gives_identities_by_overlap():
    def places(number):
        first, second = (20 + 8 * number, 50, 100, 100), (500 - 8 * number, 200, 100, 100)
        return [second, first] if number % 2 else [first, second]  # in any order
    for number, boxes in enumerate(boxes_found(50, places)):
        assert boxes.keys() == {1, 2}
        assert abs(boxes[1][0] - (20 + 8 * number)) <= 10 and abs(boxes[2][0] - (500 - 8 * number)) <= 10


def test_a_new_face_shows_within_two_frames_and_a_missed_one_is_held():
    def places(number):
        return [(100, 100, 80, 80)] if number >= 7 and number not in (15, 20, 21) and number < 30 else []
    results = boxes_found(45, places)
    shown = [number for number, boxes in enumerate(results) if boxes]
    assert shown[0] in (7, 8) and set(range(8, 30)) <= set(shown)
    assert shown[-1] <= 30 + 25 * tracking.HOLD_SECONDS and set().union(*results) == {1}


def test_two_boxes_near_one_face_are_two_faces():
    boxes = boxes_found(20, lambda number: [(100, 100, 80, 80), (130, 100, 80, 80)][:1 + (number >= 10)])[-1]
    assert set(boxes) == {1, 2} and boxes[1][0] < boxes[2][0]


def test_faces_are_found_where_the_times_begin_anew():
    tracker = Tracker(recogniser(always_happy, lambda image: [(100, 100, 80, 80)]))
    frame = np.zeros((360, 640, 3), np.uint8)
    found = [[face.track_id for face in tracker.process(seconds, frame)] for seconds in (100.0, 100.1, 0.0, 0.1, 0.5)]
    assert found == [[1], [1], [2], [2], [2]]


def test_faces_of_a_low_score_are_left_out():
    chosen = recogniser(always_happy, lambda image: ([(100, 100, 80, 80), (300, 100, 80, 80)], [0.9, 0.5]))
    chosen.min_score = 0.6
    [face] = Tracker(chosen).process(0.0, np.zeros((360, 640, 3), np.uint8))
    assert face.box == (100, 100, 80, 80) and face.score == 0.9


def test_boxes_of_ones_own_detector_do_not_shake():
    jitter = np.random.default_rng(0).integers(-2, 3, (75, 4))
    results = boxes_found(75, lambda number: [(200, 100, 120, 120) + jitter[number]])
    assert np.std([boxes[1] for boxes in results], axis=0).max() < 1 < np.std(jitter, axis=0).min()


def test_recognise_video_yields_the_faces_of_each_frame(portrait, tmp_path):
    frames = [frame for _, frame in moving_portrait(portrait, 10, lambda _: [(200, 90, False)])]
    path = write_video(tmp_path / "clip.mp4", frames)
    results = list(expressions.recognise_video(path))
    assert [seconds for seconds, _ in results] == pytest.approx([number / 25 for number in range(10)])
    for _, [face] in results:
        x, y, width, height = face.box
        assert 200 < x < x + width < 354 and 90 < y < y + height < 270 and face.track_id == 1
        assert tuple(face.probabilities) == EXPRESSIONS and face.probability == face.probabilities[face.expression]
