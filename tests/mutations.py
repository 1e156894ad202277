"""Break the project on purpose, and see that a test notices each break.

Reads the scripts, models/ and tests/. Copies them to a temporary folder, breaks one line there, and runs there
the test that must fail; first it sees that all these tests pass where nothing is broken.
Prints a line per break; ends with status 1 if one survives. Writes nothing that stays.

$ python tests/mutations.py           # all of them, some minutes
$ python tests/mutations.py 3 17      # the breaks with these numbers
$ python tests/mutations.py --list    # the table in tests/README.md
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # before preprocessing.py adds its limit of pixels to it
LEFT_OUT = (".git", ".venv", "data", "__pycache__", ".*_cache", ".hypothesis")  # of the copies; FER2013 is large
sys.path.insert(0, str(ROOT))

from preprocessing import InputError, run, script_parser  # noqa: E402

ASSERTED = re.compile(r"^.+:\d+: (AssertionError|Failed)$", re.MULTILINE)  # where a test failed, in pytest's words

BREAKS = (  # what is broken, in which file, the text that stands there once, what takes its place, the test that fails
    # ---- preprocessing.py ----
    ("two expressions swap their names", "preprocessing.py",
     '"fear", "happy", "sad",', '"fear", "sad", "happy",',
     "tests/confmatrix_test.py::test_the_matrix_is_the_one_counted_by_hand"),
    ("two labels of the CSV are swapped", "preprocessing.py",
     "label_of[fields[emotion]])", "{3: 4, 4: 3}.get(label_of[fields[emotion]], label_of[fields[emotion]]))",
     "tests/preprocessing_test.py::test_every_form_of_the_csv_gives_the_same_faces"),
    ("the CSV's Usage is ignored", "preprocessing.py",
     "usages.append(usage_of[fields[usage].lower()])", "usages.append(TRAINING)",
     "tests/preprocessing_test.py::test_every_form_of_the_csv_gives_the_same_faces"),
    ("PublicTest and PrivateTest are swapped", "preprocessing.py",
     'USAGES = ("Training", "PublicTest", "PrivateTest")', 'USAGES = ("Training", "PrivateTest", "PublicTest")',
     "tests/preprocessing_test.py::test_every_form_of_the_csv_gives_the_same_faces"),
    ("a pixel's hundreds are dropped", "preprocessing.py",
     "    values += 100 * units[1:-3] * is_digit[2:-2]", "    values += 0 * units[1:-3] * is_digit[2:-2]",
     "tests/preprocessing_test.py::test_parse_pixels_reads_every_value_in_every_neighbourhood"),
    ("faces are read lying on their side", "preprocessing.py",
     "np.frombuffer(faces, np.uint8).reshape(-1, FACE_SIZE, FACE_SIZE, 1)",
     "np.frombuffer(faces, np.uint8).reshape(-1, FACE_SIZE, FACE_SIZE, 1).swapaxes(1, 2)",
     "tests/preprocessing_test.py::test_every_form_of_the_csv_gives_the_same_faces"),
    ("a folder of validation faces counts as a test folder", "preprocessing.py",
     '"validation": 1', '"validation": 2',
     "tests/preprocessing_test.py::test_folders_give_the_same_faces"),
    ("twins come to stand on both sides of a drawn split", "preprocessing.py",
     "    identity = identities(faces)\n    for part in (PRIVATE_TEST, PUBLIC_TEST):\n        if",
     "    identity = np.arange(len(faces))\n    for part in (PRIVATE_TEST, PUBLIC_TEST):\n        if",
     "tests/preprocessing_test.py::test_without_usage_the_split_is_stratified_and_keeps_twins_together"),
    ("a drawn split is not stratified", "preprocessing.py",
     "stratify=labels[rows][first]", "stratify=None",
     "tests/preprocessing_test.py::test_without_usage_the_split_is_stratified_and_keeps_twins_together"),
    ("the random split is drawn with another seed than the original's", "preprocessing.py",
     "np.arange(count), test_size=0.1, random_state=42", "np.arange(count), test_size=0.1, random_state=43",
     "tests/preprocessing_test.py::test_the_random_split_is_the_originals"),
    ("the rows of flabels.npy are those of the faces in reverse", "preprocessing.py",
     "np.eye(len(EXPRESSIONS), dtype=np.uint8)[labels]", "np.eye(len(EXPRESSIONS), dtype=np.uint8)[labels[::-1]]",
     "tests/preprocessing_test.py::test_the_script_writes_the_arrays_and_the_pictures"),
    ("any data counts as the genuine FER2013", "preprocessing.py",
     ").hexdigest() == GENUINE_SHA256", ").hexdigest() != GENUINE_SHA256",
     "tests/preprocessing_test.py::test_the_script_writes_the_arrays_and_the_pictures"),
    ("files are moved into place although making them failed", "preprocessing.py",
     "    finally:\n        if stamp:",
     "    finally:\n        beside[0].replace(paths[0])\n        if stamp:",
     "tests/preprocessing_test.py::test_files_that_belong_together_are_replaced_together"),
    ("an InputError ends with status 1", "preprocessing.py",
     "def _say(*sentences, status=2)", "def _say(*sentences, status=1)",
     "tests/preprocessing_test.py::test_a_missing_file_and_too_few_faces_are_refused"),
    ("Ctrl-C ends with status 0", "preprocessing.py",
     "else INTERRUPTED, status=130)", "else INTERRUPTED, status=0)",
     "tests/recognise_image_test.py::test_ctrl_c_keeps_the_rows_so_far"),
    ("files of different runs go unnoticed", "preprocessing.py",
     "for name, digest in read_stamp(stamp).items()", "for name, digest in {}.items()",
     "tests/train_model_test.py::test_missing_and_misshapen_arrays_are_refused"),
    ("what a killed process left ready is not moved into place", "preprocessing.py",
     "                ready.replace(stamp.with_name(name))\n", "                pass\n",
     "tests/hostile_test.py::test_what_a_killed_writer_left_ready_is_moved_into_place"),
    ("an array may hold any kind of values", "preprocessing.py",
     'if kind.kind not in kinds or (kind.kind == "u" and kind.itemsize > 1):',
     'if kind.kind == "u" and kind.itemsize > 1:',
     "tests/hostile_test.py::test_an_array_never_runs_code_nor_takes_what_its_header_claims"),
    ("an archive may name paths out of its folder", "preprocessing.py",
     'if not is_file or name.startswith(("/", "\\\\")) or ".." in re.split(r"[/\\\\]", name):', "if not is_file:",
     "tests/hostile_test.py::test_an_archive_with_a_way_out_is_refused_and_writes_nothing"),
    ("an archive may unpack to any size", "preprocessing.py",
     "LARGEST_CSV if packed else math.inf", "math.inf",
     "tests/hostile_test.py::test_a_bomb_in_an_archive_is_refused"),
    ("escape sequences reach the terminal", "preprocessing.py",
     'if letter.isprintable() or letter in "\\u200c\\u200d"', 'if letter != "\\0"',
     "tests/fuzz_test.py::test_what_is_printed_has_nothing_that_a_terminal_obeys"),

    ("FER+'s votes are taken in the file's order", "preprocessing.py",
     "votes = table[list(FERPLUS_COLUMNS)].to_numpy(float)", "votes = table.iloc[:, 2:].to_numpy(float)",
     "tests/preprocessing_test.py::test_votes_stand_in_the_order_of_the_expressions"),

    ("what Ctrl-C leaves half built complains", "preprocessing.py",
     "        sys.unraisablehook = lambda unraisable: None", "        _ = lambda unraisable: None",
     "tests/interrupt_test.py::test_what_ctrl_c_leaves_half_built_is_cleared_away_in_silence"),
    # ---- train_model.py and saved_model.py ----
    ("the network does not scale pixels by 1 / 127.5", "train_model.py",
     "layers.Rescaling(1 / 127.5, offset=-1)", "layers.Rescaling(1.0)",
     "tests/train_model_test.py::test_the_network_is_a_plain_stack_that_gives_probabilities"),
    ("training takes flat faces", "train_model.py",
     " & ~flat(faces)", "",
     "tests/train_model_test.py::test_flat_faces_and_twins_of_other_splits_are_left_out"),
    ("training takes twins of test faces", "train_model.py",
     " & ~np.isin(identity, identity[usage != TRAINING])", "",
     "tests/train_model_test.py::test_flat_faces_and_twins_of_other_splits_are_left_out"),
    ("training validates on PrivateTest", "train_model.py",
     "rows, validation = trainable_rows(faces, usage), usage == PUBLIC_TEST",
     "rows, validation = trainable_rows(faces, usage), usage == PRIVATE_TEST",
     "tests/train_model_test.py::test_training_never_sees_the_test_faces"),
    ("the test faces are those of PublicTest", "train_model.py",
     "test = usage == PRIVATE_TEST", "test = usage == PUBLIC_TEST",
     "tests/test_model_test.py::test_it_writes_what_the_network_says_of_the_test_faces"),
    ("augmentation skews a mirrored face", "train_model.py",
     "mirror * scale * np.sin(angle), scale * np.cos(angle)", "scale * np.sin(angle), scale * np.cos(angle)",
     "tests/train_model_test.py::test_augmentation_turns_and_mirrors_without_skewing"),
    ("augmentation mirrors no face", "train_model.py",
     "random.choice((-1, 1), count)", "random.choice((1, 1), count)",
     "tests/train_model_test.py::test_augmentation_moves_faces_only_as_far_as_it_says"),
    ("augmentation shifts a face sideways only", "train_model.py",
     "random.uniform(-1, 1, (count, 2)) * shift * size", "random.uniform(-1, 1, (count, 2)) * shift * size * (1, 0)",
     "tests/train_model_test.py::test_augmentation_moves_faces_only_as_far_as_it_says"),
    ("training gives faces the labels of others", "train_model.py",
     "labels[rows].astype(np.float32)", "labels[rows[::-1]].astype(np.float32)",
     "tests/train_model_test.py::test_an_epoch_gives_each_face_once_with_its_label"),
    ("an epoch takes every second batch", "train_model.py",
     "rows = order[index * batch_size:(index + 1) * batch_size]",
     "rows = order[index // 2 * 2 * batch_size:(index // 2 * 2 + 1) * batch_size]",
     "tests/train_model_test.py::test_an_epoch_gives_each_face_once_with_its_label"),
    ("the learning rate does not warm up", "train_model.py",
     "warmup_steps=warm_up", "warmup_steps=1",
     "tests/train_model_test.py::test_the_learning_rate_climbs_to_its_peak_and_falls_to_nothing"),
    ("the learning rate falls to nothing in the first epoch", "train_model.py",
     "compiled_network(steps * growing, batch_size", "compiled_network(steps, batch_size",
     "tests/train_model_test.py::test_a_resumed_run_ends_like_an_uninterrupted_one"),
    ("the learning rate does not climb again to refine", "train_model.py",
     "return TwoCycles()", "return first",
     "tests/train_model_test.py::test_the_learning_rate_climbs_again_to_refine"),
    ("refining changes faces as much as before", "train_model.py",
     'way["augmentation"] * REFINING["augmentation"])', 'way["augmentation"])',
     "tests/train_model_test.py::test_faces_grow_and_in_the_last_epochs_they_are_changed_less"),
    ("--after does more than refine", "train_model.py",
     'bool(settings.get("after"))', "False",
     "tests/train_model_test.py::test_a_quick_training_begins_with_smaller_faces_and_is_resumed_as_such"),
    ("labels are not smoothed", "train_model.py",
     "(1 - LABEL_SMOOTHING) * labels + LABEL_SMOOTHING / len(EXPRESSIONS)", "labels",
     "tests/train_model_test.py::test_labels_are_smoothed_or_softened_by_the_votes"),
    ("single votes of FER+ are learned", "train_model.py",
     "votes = np.where(votes > 1, votes, 0)", "votes = np.where(votes > 0, votes, 0)",
     "tests/train_model_test.py::test_labels_are_smoothed_or_softened_by_the_votes"),
    ("the votes' opinion is learned from test labels, too", "train_model.py",
     ".fit(logarithms[rows], labels[rows])", ".fit(logarithms, labels)",
     "tests/train_model_test.py::test_labels_are_smoothed_or_softened_by_the_votes"),
    ("the fused normalisation does not follow the mean", "train_model.py",
     "((self.moving_mean, mean), (self.moving_variance, variance))", "((self.moving_variance, variance),)",
     "tests/train_model_test.py::test_the_fused_normalisation_does_what_keras_does"),
    ("a second device stays idle", "train_model.py",
     "if len(devices) > 1:", "if len(devices) > 2:",
     "tests/train_model_test.py::test_several_devices_share_the_training"),
    ("light brightens faces only", "train_model.py",
     "light = 1 + random.uniform(-1, 1, (count, 1, 1))", "light = 1 + random.uniform(0, 1, (count, 1, 1))",
     "tests/train_model_test.py::test_augmentation_lights_whole_faces"),
    ("a quick training augments as a thorough one does", "train_model.py",
     "augment(faces[rows], size, random, strength).astype", "augment(faces[rows], size, random).astype",
     "tests/train_model_test.py::test_augmentation_may_be_gentler"),
    ("a quick training begins with faces as large as a thorough one's", "train_model.py",
     "course(epochs, way, bool", "course(epochs, THOROUGH, bool",
     "tests/train_model_test.py::test_a_quick_training_begins_with_smaller_faces_and_is_resumed_as_such"),
    ("a quick training makes the network of a thorough one", "train_model.py",
     'getattr(layers, way["pooling"])', 'getattr(layers, THOROUGH["pooling"])',
     "tests/train_model_test.py::test_a_quick_training_begins_with_smaller_faces_and_is_resumed_as_such"),
    ("teachers do not see mirror images", "train_model.py",
     "for seen in (faces, faces[:, :, ::-1])]", "for seen in (faces, faces)]",
     "tests/train_model_test.py::test_teachers_say_of_faces_and_their_mirror_images_what_is_learned_too"),
    ("filters are not mirrored", "train_model.py",
     "ops.flip(values, axis=1) if", "ops.flip(values, axis=0) if",
     "tests/train_model_test.py::test_a_face_and_its_mirror_image_are_one"),
    ("a step of training unties mirror images", "train_model.py",
     "values.constraint = MirrorMean()", "values.constraint = None",
     "tests/train_model_test.py::test_a_face_and_its_mirror_image_are_one"),
    ("the means that were measured are not tied", "train_model.py",
     "    tie_mirror_images(trained)", "    pass",
     "tests/train_model_test.py::test_a_face_and_its_mirror_image_are_one"),
    ("a network without mirror images is refined", "train_model.py",
     "if networks and not mirror_images_are_tied(networks[-1]):", "if networks and not networks:",
     "tests/train_model_test.py::test_what_was_trained_before_mirror_images_were_tied_is_no_beginning"),
    ("training begins anew in spite of --after", "train_model.py",
     "network.set_weights(begin)", "list(begin)",
     "tests/train_model_test.py::test_training_begins_with_the_weights_it_is_given"),
    ("training goes on from the first of several models", "train_model.py",
     "teachers[-1].get_weights()", "teachers[0].get_weights()",
     "tests/train_model_test.py::test_training_goes_on_from_the_last_model_it_is_given"),
    ("calibration makes the probabilities the surer, the less they should be", "train_model.py",
     "values / temperature for values in last", "values * temperature for values in last",
     "tests/train_model_test.py::test_calibration_finds_the_temperature_and_keeps_it_in_the_weights"),
    ("calibration is done on the training faces", "train_model.py",
     "calibrate(network, faces[validation], labels[validation])", "calibrate(network, faces[rows], labels[rows])",
     "tests/train_model_test.py::test_training_never_sees_the_test_faces"),
    ("resuming forgets the optimizer's momentum", "train_model.py",
     "        network.optimizer.build(network.trainable_variables)\n", "",
     "tests/train_model_test.py::test_a_resumed_run_ends_like_an_uninterrupted_one"),
    ("resuming draws other chances than an uninterrupted run", "train_model.py",
     "batch_size, [seed, epoch], strength", "batch_size, [seed, epoch, resume], strength",
     "tests/train_model_test.py::test_a_resumed_run_ends_like_an_uninterrupted_one"),
    ("the last epoch is trained on small faces", "train_model.py",
     "if (epoch + 1) / growing <= part", "if epoch / growing < part",
     "tests/train_model_test.py::test_faces_grow_and_in_the_last_epochs_they_are_changed_less"),
    ("the file for OpenCV loses the dense layer's bias", "saved_model.py",
     "layers.Conv2D(layer.units, 1, name", "layers.Conv2D(layer.units, 1, use_bias=False, name",
     "tests/train_model_test.py::test_load_is_the_inverse_of_save_in_keras_and_in_opencv"),
    ("trying the sample replaces the shipped model", "saved_model.py",
     'else data / "models"', "else MODELS",
     "tests/train_model_test.py::test_other_data_never_replaces_the_shipped_model"),

    ("a model may name layers of any module", "saved_model.py",
     'if layer["class_name"] not in LAYERS or layer["module"] != "keras.layers":', "if False:",
     "tests/hostile_test.py::test_a_model_that_would_run_code_is_refused"),
    ("weights need not be numbers", "saved_model.py",
     "not all(np.isfinite(values).all() for values in network.get_weights())", "False",
     "tests/hostile_test.py::test_weights_that_are_not_this_networks_own_numbers_are_refused"),
    ("a model may tell expressions apart in another order", "saved_model.py",
     "elif expressions != list(EXPRESSIONS):", "elif set(expressions) != set(EXPRESSIONS):",
     "tests/hostile_test.py::test_other_expressions_or_faces_are_refused"),
    ("labels need not be one-hot", "train_model.py",
     "if (labels.max(axis=1) != 1).any() or (labels.sum(axis=1) != 1).any():", "if (labels.max(axis=1) != 1).any():",
     "tests/hostile_test.py::test_labels_that_are_not_one_hot_are_refused"),

    # ---- test_model.py and confmatrix.py ----
    ("every range of probabilities counts as much in the calibration error", "test_model.py",
     "(table.accuracy - table.probability).abs() * table.faces",
     "(table.accuracy - table.probability).abs() * table.faces.mean()",
     "tests/test_model_test.py::test_the_calibration_error_is_that_counted_by_hand"),
    ("half of the votes are a majority", "test_model.py",
     "2 * votes.max(axis=1) > votes.sum(axis=1)", "2 * votes.max(axis=1) >= votes.sum(axis=1)",
     "tests/test_model_test.py::test_a_majority_is_more_than_half_of_the_votes_that_do_not_stand_alone"),
    ("faces of contempt are left out of the FER+ test", "test_model.py",
     "(seen >= 0) & (seen <= len(EXPRESSIONS))", "(seen >= 0) & (seen < len(EXPRESSIONS))",
     "tests/test_model_test.py::test_faces_with_votes_are_tested_the_ferplus_way_too"),
    ("predictions stand in another order than the faces", "test_model.py",
     "predict(load_model(models), faces)", "predict(load_model(models), faces[::-1])",
     "tests/test_model_test.py::test_it_writes_what_the_network_says_of_the_test_faces"),
    ("the batches of predictions are joined in another order", "test_model.py",
     "for batch in tqdm(batches,", "for batch in tqdm(batches[::-1],",
     "tests/test_model_test.py::test_predictions_stand_in_the_order_of_the_faces"),
    ("the least probable expression is predicted", "test_model.py",
     "predy = predp.argmax(axis=1)", "predy = predp.argmin(axis=1)",
     "tests/test_model_test.py::test_it_writes_what_the_network_says_of_the_test_faces"),
    ("the printed confusion matrix is transposed", "confmatrix.py",
     "confusion_matrix(truey, predy,", "confusion_matrix(predy, truey,",
     "tests/confmatrix_test.py::test_the_matrix_is_the_one_counted_by_hand"),
    ("the drawn confusion matrix is transposed", "confmatrix.py",
     "            truey, predy, labels=", "            predy, truey, labels=",
     "tests/confmatrix_test.py::test_the_drawn_matrix_is_the_one_counted_by_hand"),
    ("the shares are those of the predicted expression", "confmatrix.py",
     '(None, "true")', '(None, "pred")',
     "tests/confmatrix_test.py::test_the_drawn_matrix_is_the_one_counted_by_hand"),

    # ---- recognise_image.py ----
    ("recognition mirrors the crop", "recognise_image.py",
     "faces.append(cv2.resize(face,", "faces.append(cv2.resize(face[:, ::-1],",
     "tests/recognise_image_test.py::test_a_face_that_needs_no_resizing_is_cropped_pixel_for_pixel"),
    ("the crop takes x for y", "recognise_image.py",
     "face = grey[max(0, top):top + side, max(0, left):left + side]",
     "face = grey[max(0, left):left + side, max(0, top):top + side]",
     "tests/recognise_image_test.py::test_a_face_that_needs_no_resizing_is_cropped_pixel_for_pixel"),
    ("the crop is not lowered to where FER2013 frames a face", "recognise_image.py",
     "(height - side) / 2 + lower * height)", "(height - side) / 2)",
     "tests/recognise_image_test.py::test_a_crop_is_framed_as_asked_and_repeats_the_border"),
    ("rows give y for x", "recognise_image.py",
     "[int(number), *map(int, box), EXPRESSIONS", "[int(number), *map(int, box[[1, 0, 2, 3]]), EXPRESSIONS",
     "tests/recognise_image_test.py::test_the_portrait_is_recognised_with_no_argument"),
    ("recognition scales pixels once more", "recognise_image.py",
     "transpose(0, 3, 1, 2).astype(np.float32)", "transpose(0, 3, 1, 2).astype(np.float32) / 255",
     "tests/recognise_image_test.py::test_recognition_prepares_a_face_as_training_does"),
    ("recognition takes BGR for RGB", "recognise_image.py",
     "grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)", "grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)",
     "tests/recognise_image_test.py::test_recognition_prepares_a_face_as_training_does"),
    ("pictures are read as RGB", "recognise_image.py",
     "decode_picture(encoded, cv2.IMREAD_COLOR)", "decode_picture(encoded, cv2.IMREAD_COLOR_RGB)",
     "tests/recognise_image_test.py::test_pictures_stand_upright_as_their_exif_orientation_says"),
    ("EXIF's orientation is ignored", "recognise_image.py",
     "decode_picture(encoded, cv2.IMREAD_COLOR)", "decode_picture(encoded, cv2.IMREAD_COLOR_BGR"
     " | cv2.IMREAD_IGNORE_ORIENTATION)",
     "tests/recognise_image_test.py::test_pictures_stand_upright_as_their_exif_orientation_says"),
    ("a face gets the probabilities of another", "recognise_image.py",
     "return boxes, recogniser(crop_faces(grey, boxes))", "return boxes, recogniser(crop_faces(grey, boxes))[::-1]",
     "tests/recognise_image_test.py::test_each_face_gets_its_own_probabilities"),
    ("faces are not ordered from left to right", "recognise_image.py",
     "np.array(sorted(map(tuple, boxes)), int)", "np.array(sorted(map(tuple, boxes))[::-1], int)",
     "tests/recognise_image_test.py::test_every_face_is_found_from_left_to_right_wherever_it_is"),
    ("what is no face is shown as one", "recognise_image.py",
     "if certainty >= confidence and not any", "if not any",
     "tests/recognise_image_test.py::test_what_is_no_face_is_not_found"),
    ("the box of a tilted face is turned the wrong way", "recognise_image.py",
     "@ back[:, :2].T + back", "@ back[:, :2] + back",
     "tests/recognise_image_test.py::test_a_tilted_face_is_found_and_recognised_upright"),
    ("labels cover each other", "recognise_image.py",
     "return 0 <= top <= picture_height - height and all(", "return 0 <= top <= picture_height - height and any(",
     "tests/recognise_image_test.py::test_labels_stay_in_the_picture_and_off_each_other"),

    ("a model.tflite of another model is used", "recognise_image.py",
     "            layers, weights, tflite} & set(strangers(models / STAMP)):", "            layers} & set():",
     "tests/recognise_image_test.py::test_without_a_deployment_file_keras_takes_over_and_says_so"),
    ("--max-pixels does not count for pictures", "recognise_image.py",
     "os.execv(sys.executable, [sys.executable, __file__, *arguments])", "return",
     "tests/hostile_test.py::test_the_limit_of_pixels_is_the_one_given"),
    ("a cell may hold a formula", "tables.py",
     'text.startswith(tuple("=+-@＝＋－＠"))', "False",
     "tests/hostile_test.py::test_names_cannot_reach_the_terminal_or_a_spreadsheet"),

    # ---- recognise_video.py ----
    ("every second frame of a video is left out", "recognise_video.py",
     "                for frame in packet.decode():\n", "                for frame in packet.decode()[number % 2:]:\n",
     "tests/recognise_video_test.py::test_every_frame_is_there_at_its_time_with_its_face_and_its_sound"),
    ("the frames of a video are written at a constant pace", "recognise_video.py",
     "time = time + step if frame.pts is None else frame.pts - round(start / stream.time_base)", "time = time + step",
     "tests/recognise_video_test.py::test_every_frame_is_there_at_its_time_with_its_face_and_its_sound"),
    ("the sound of a video is dropped", "recognise_video.py",
     "                packets.append(packet)\n", "",
     "tests/recognise_video_test.py::test_every_frame_is_there_at_its_time_with_its_face_and_its_sound"),
    ("a telephone's rotation is ignored", "recognise_video.py",
     "round(frame.rotation / 90)", "0",
     "tests/recognise_video_test.py::test_a_video_held_upright_is_upright"),
    ("frames of a video are read as RGB", "recognise_video.py",
     'frame.to_ndarray(format="bgr24")', 'frame.to_ndarray(format="rgb24")',
     "tests/recognise_video_test.py::test_a_video_held_upright_is_upright"),
    ("a followed face gets the probabilities of another", "recognise_video.py",
     "dict(zip(seen, recogniser(np.concatenate(crops))))", "dict(zip(seen, recogniser(np.concatenate(crops))[::-1]))",
     "tests/recognise_video_test.py::test_each_face_keeps_its_own_probabilities"),
    ("a face that comes back is a new one", "recognise_video.py",
     "FORGET = 1 ", "FORGET = 0.3 ",
     "tests/recognise_video_test.py::test_faces_keep_their_identity_from_their_first_frame_to_their_last"),
    ("a new face is not followed back to where it came", "recognise_video.py",
     "for earlier in range(index - 1, -1, -1):", "for earlier in range(0):",
     "tests/recognise_video_test.py::test_faces_keep_their_identity_from_their_first_frame_to_their_last"),
    ("--max-pixels does not count for videos", "recognise_video.py",
     "if stream.width * stream.height > most:", "if stream.width * stream.height > MAX_PIXELS:",
     "tests/hostile_test.py::test_videos_obey_the_limit_of_pixels_too"),
    ("another scene keeps the faces of the one before", "recognise_video.py",
     "            faces.clear()\n", "            pass\n",
     "tests/recognise_video_test.py::test_a_new_scene_has_new_faces"),
    ("labels change as soon as another expression leads", "recognise_video.py",
     "LEAD = 0.2 ", "LEAD = 0.0 ",
     "tests/recognise_video_test.py::test_an_expression_that_hardly_leads_is_not_named"),
    ("a change of expression shows too late", "recognise_video.py",
     "SMOOTHING = 0.2 ", "SMOOTHING = 2.0 ",
     "tests/recognise_video_test.py::test_a_change_of_expression_shows_within_half_a_second"),
    ("the way between two looks is gone backwards", "recognise_video.py",
     "(1 - share) * places[before][number] + share * places[after][number]",
     "share * places[before][number] + (1 - share) * places[after][number]",
     "tests/recognise_video_test.py::test_a_face_that_was_missed_between_two_looks_is_where_it_must_have_been"),
    ("a video's colours are said to be those of BT.709", "recognise_video.py",
     "stream.codec_context.colorspace = 6 ", "stream.codec_context.colorspace = 1 ",
     "tests/recognise_video_test.py::test_colours_are_kept"),

    ("the faces of two parts of a video are never the same", "recognise_video.py",
     "overlap(box, its_box) > 0.4", "0",
     "tests/recognise_video_test.py::test_parts_are_joined_by_where_faces_are"),
    ("the parts of a video overlap in what they give", "recognise_video.py",
     "if begin <= seconds < end:", "if begin <= seconds:",
     "tests/recognise_video_test.py::test_parts_are_joined_by_where_faces_are"),
    ("a part of a video begins at the key frame before it", "recognise_video.py",
     "if time * stream.time_base >= begin:", "if True:",
     "tests/recognise_video_test.py::test_reading_may_begin_anywhere"),

    # ---- tables.py and workers.py ----
    ("--resume does again what was done", "recognise_image.py",
     "if journal and cell(path) in journal.done:", "if False:",
     "tests/workers_test.py::test_resuming_leaves_out_what_a_table_holds"),
    ("a journal of another model is taken up", "tables.py",
     'if file.readline() != json.dumps({"model": model}).encode() + b"\\n":', "if not file.readline():",
     "tests/workers_test.py::test_a_journal_of_another_model_is_refused"),
    ("answers come in another order", "workers.py",
     "batch, future = waiting.popleft()", "batch, future = waiting.pop()",
     "tests/workers_test.py::test_several_processes_give_the_rows_of_one_in_their_order_and_in_every_format"),
    ("all tasks are taken ahead", "workers.py",
     "while len(waiting) < width:", "while True:",
     "tests/workers_test.py::test_only_a_few_are_taken_ahead"),

    # ---- webcam_live.py and image_from_camera.py ----
    ("the live picture is not mirrored", "webcam_live.py",
     "if not args.no_mirror:", "if args.no_mirror:",
     "tests/webcam_live_test.py::test_the_live_picture_is_mirrored_unless_told_otherwise"),
    ("the live view works through all frames, however late it is", "webcam_live.py",
     "            slot.append(item)\n",
     "            while slot and not closed.wait(0.001):\n                pass\n            slot.append(item)\n",
     "tests/webcam_live_test.py::test_only_the_newest_frame_is_looked_at"),
    ("bars do not tell the probabilities", "webcam_live.py",
     "bar + round(share * (right - bar))", "bar + round(0.5 * (right - bar))",
     "tests/webcam_live_test.py::test_the_bars_are_as_long_as_the_probabilities"),
    ("a file plays as fast as it can be read", "webcam_live.py",
     "        if not live:\n            early", "        if live:\n            early",
     "tests/webcam_live_test.py::test_without_a_display_it_records_at_the_true_pace_until_the_source_ends"),
    ("the camera's picture is taken before it has settled", "image_from_camera.py",
     "SETTLING = 30 ", "SETTLING = 3 ",
     "tests/image_from_camera_test.py::test_it_takes_the_picture_after_the_camera_has_settled"),
    ("the camera's picture is kept mirrored", "image_from_camera.py",
     "write_picture(taken, picture)", "write_picture(taken, picture[:, ::-1])",
     "tests/image_from_camera_test.py::test_it_takes_the_picture_after_the_camera_has_settled"),
)


def broken_text(folder, file, old, new):
    """A file of the project in `folder`, with `new` in the place of `old`, which must stand there once."""
    text = (folder / file).read_text("utf-8")
    if text.count(old) != 1:
        raise InputError(f"{file} holds {old!r} {text.count(old)} times instead of once: mend the table of breaks")
    return text.replace(old, new)


def run_tests(folder, tests, *options):
    """Run tests of the project in `folder`; {test: outcomes, a set of PASSED, FAILED and ERROR}, and what pytest says.

    A test with parameters has an outcome for each. What is skipped has none.
    """
    process = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rpfE", "-p", "no:cacheprovider", *options,
                              *tests], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    outcomes = {test: set() for test in tests}
    for outcome, test in re.findall(r"^(PASSED|FAILED|ERROR) (tests/\w+\.py::\w+)", process.stdout, re.MULTILINE):
        outcomes[test].add(outcome)
    return outcomes, process.stdout + process.stderr


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("numbers", nargs="*", type=int, help="of the breaks to try (default: all)")
    parser.add_argument("--list", action="store_true", help="only print the table of breaks, in Markdown")
    args = parser.parse_args(argv)
    if args.list:
        print("| | what is broken | where | the test that fails |\n|---:|---|---|---|")
        for number, (words, file, _, _, test) in enumerate(BREAKS, start=1):
            print(f"| {number} | {words} | `{file}` | `{test.removeprefix('tests/')}` |")
        return
    numbers = args.numbers or range(1, len(BREAKS) + 1)
    for number in numbers:
        if not 1 <= number <= len(BREAKS):
            raise InputError(f"there is no break {number}: give numbers from 1 to {len(BREAKS)}")

    with tempfile.TemporaryDirectory() as temporary:
        whole, broken, survivors = Path(temporary) / "whole", Path(temporary) / "broken", 0
        shutil.copytree(ROOT, whole, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for _, *change, _ in BREAKS:
            broken_text(whole, *change)  # before minutes are spent: all of the table is right
        tests = sorted({BREAKS[number - 1][4] for number in numbers})
        outcomes, said = run_tests(whole, tests)
        bad = [test for test in tests if outcomes[test] != {"PASSED"}]
        if bad:
            print(said, file=sys.stderr)
            raise InputError(f"{', '.join(bad)} should pass where nothing is broken: mend that first")
        print(f"{len(tests)} tests pass where nothing is broken", flush=True)
        for number in numbers:
            words, file, old, new, test = BREAKS[number - 1]
            shutil.copytree(whole, broken)  # a new one, or Python might take what it compiled of the last one
            (broken / file).write_text(broken_text(whole, file, old, new), "utf-8")
            outcomes, said = run_tests(broken, [test], "-x")
            shutil.rmtree(broken)
            caught = "FAILED" in outcomes[test] and ASSERTED.search(said)  # by what came out, not by an exception
            survivors += not caught
            print(f"{number:2} {file}: {words}: {f'caught by {test}' if caught else 'SURVIVED'}", flush=True)
            if not caught and outcomes[test] != {"PASSED"}:
                print(said, file=sys.stderr)
    print(f"{len(numbers) - survivors} of {len(numbers)} breaks are caught")
    if survivors:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
