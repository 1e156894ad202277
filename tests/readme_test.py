"""What the README shows works as it stands there."""
import re
import shlex

from conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_runs(monkeypatch, capsys):
    [snippet] = [block for block in blocks("python") if "import expressions" in block]
    monkeypatch.chdir(ROOT)
    exec(snippet, {})
    assert " neutral 0." in capsys.readouterr().out


def test_every_flag_of_the_readme_exists(capsys):
    import importlib

    lines = [line.partition("#")[0] for block in blocks("sh") for line in block.splitlines()]
    commands = [shlex.split(command) for line in lines for command in line.split(" && ")]
    scripts = [words[1:] for words in commands if words[:1] == ["python"] and (ROOT / words[1]).parent == ROOT]
    assert len(scripts) > 8
    for script, *arguments in scripts:
        try:
            importlib.import_module(script.removesuffix(".py")).main(["--help"])
        except SystemExit:
            text = capsys.readouterr().out
        for flag in (argument for argument in arguments if argument.startswith("--")):
            assert re.search(rf"{flag}\b", text), (script, flag)


def test_every_file_that_the_papers_link_to_is_there():
    for paper in (path for pattern in ("*.md", "*/*.md") for path in ROOT.glob(pattern)):
        if any(part.startswith(".") for part in paper.relative_to(ROOT).parts):
            continue
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", paper.read_text("utf-8")):
            if "://" not in link and not link.startswith("mailto:"):
                assert (paper.parent / link).exists(), (paper.name, link)
