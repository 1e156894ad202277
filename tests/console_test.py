"""A script ends with one sentence and a status, whatever happens."""
import argparse
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT, run_script

from expressions.console import catch_library_messages, first_line, pluralise, positive_int, printable

PREAMBLE = "import sys; sys.path.insert(0, sys.argv[1])\nfrom expressions.console import InputError, run\n"


def run_main(body, *flags, **options):
    """Run a main function with this body as a script would; return the finished process."""
    code = f"{PREAMBLE}def main():\n    {body}\nrun(main)"
    return subprocess.run([sys.executable, "-c", code, ROOT, *flags], text=True, **{"capture_output": True, **options})


@pytest.mark.parametrize("body, status, sentence", [
    ("print('done')", 0, ""),
    ("raise InputError('faces.csv is missing')", 2, "-c: faces.csv is missing\n"),
    ("raise InputError('two files:', 'a', 'b')", 2, "-c: two files:\na\nb\n"),
    ("open('/nowhere/at all')", 2, "-c: /nowhere/at all: No such file or directory: check the path and the disk\n"),
    ("raise KeyboardInterrupt", 130, "-c: interrupted: files that were finished are whole, the others as they were "
                                     "before\n"),
    ("raise KeyboardInterrupt('3 of 4 are kept')", 130, "-c: interrupted: 3 of 4 are kept\n"),
    ("import no_such_package", 2, "-c: No module named 'no_such_package': pip install -r requirements.txt\n"),
    ("raise MemoryError", 2, "-c: the memory is full: close other programs, or give less at once\n"),
    ("1 / 0", 1, "-c: this is a fault of the program: ZeroDivisionError: division by zero; run it with --debug to see "
                 "where\n"),
    ("raise InputError('a\\x1b[2Jb')", 2, "-c: a\\x1b[2Jb\n"),
])
def test_each_end_has_its_status_and_sentence(body, status, sentence):
    process = run_main(body)
    assert (process.returncode, process.stderr) == (status, sentence)


def test_debug_shows_where_a_fault_is():
    assert "ZeroDivisionError" in (text := run_main("1 / 0", "--debug").stderr) and "Traceback" in text


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_usual_signal_ends_like_ctrl_c(signal_name):
    number = getattr(signal, signal_name)  # what started the tests may have had it ignored
    process = run_main(f"import os, signal; os.kill(os.getpid(), signal.{signal_name}); sys.stdin.read()",
                       stdin=subprocess.PIPE, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    assert process.returncode == 130 and "interrupted" in process.stderr


@pytest.mark.parametrize("redirection, status", [
    (">&-", 0), ("2>&-", 0), ("<&-", 0), (">&- 2>&-", 0), ("2>/dev/full", 2), ("| true", 0), (">/dev/full", 2)])
def test_closed_and_full_streams_are_no_fault(redirection, status):
    code = f"{PREAMBLE}def main():\n    print('row ' * 9999)\n    print('a sentence', file=sys.stderr)\nrun(main)"
    process = subprocess.run(["bash", "-c", f'set -o pipefail; "$0" -c "$1" "$2" {redirection}', sys.executable, code,
                              ROOT], capture_output=True, text=True)
    assert process.returncode == status
    assert "Error" not in process.stderr and "Traceback" not in process.stderr


def test_names_that_the_terminal_lacks_are_printed_all_the_same():
    process = run_main(r"print('caf\u00e9 \u4eba')", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert process.stdout == "caf\\xe9 \\u4eba\n"


def test_texts_are_made_for_people():
    assert printable("a\x1b[31m\n\u202eb\udcff") == "a\\x1b[31m\\n\\u202eb\\udcff"
    assert printable("é人\u200d👩") == "é人\u200d👩"
    assert [pluralise(number, "face") for number in (0, 1, 2000)] == ["0 faces", "1 face", "2,000 faces"]
    assert first_line(ValueError("\none\ntwo\n")) == "one" and first_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "²", "x", "9" * 21])
def test_only_whole_numbers_from_one_on_are_taken(text):
    assert positive_int("12") == 12
    with pytest.raises(argparse.ArgumentTypeError):
        positive_int(text)


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.py")))
def test_every_script_explains_itself_from_any_folder(script, tmp_path):
    process = run_script(script, "--help", cwd=tmp_path)
    assert process.returncode == 0 and f"$ python {script}" in process.stdout


def test_what_libraries_write_is_caught_in_one_thread_at_a_time_and_not_lost_for_others(capfd):
    with ThreadPoolExecutor(8) as threads:
        def catch(number):
            with catch_library_messages() as lines:
                os.write(2, f"number {number}\n".encode())
            return lines
        caught = list(threads.map(catch, range(40)))
    assert [lines[0] for lines in caught] == [f"number {number}" for number in range(40)]
    os.write(2, b"to the terminal")
    assert capfd.readouterr().err == "to the terminal"
