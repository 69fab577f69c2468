import pytest
from typer.testing import CliRunner

from dpcurate.datasets_cli import app
from dpcurate.errors import InputError
from dpcurate.store import open_dataset


@pytest.fixture
def root(tiny_dataset, tmp_path):
    tiny_dataset(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_has_one_line_for_each_version(root, tiny_dataset):
    second = tiny_dataset(root, seed=1)
    lines = run("list", "--root", root).stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"tiny@{second.name}  ")
    assert "60 patterns" in lines[1]
    assert lines[1].endswith("cubic, trigonal")


def test_list_names_an_unusable_dataset_with_its_problem(root):
    manifest = next(root.glob("tiny/*/manifest.json"))
    manifest.write_text("{")
    assert "unusable: " in run("list", "--root", root).stdout


def test_an_empty_root_is_said_to_hold_nothing(tmp_path):
    assert run("list", "--root", tmp_path).stdout == f"no datasets in {tmp_path}\n"


def test_show_prints_card_and_arrays_of_the_newest(root):
    shown = run("show", "--root", root).stdout
    assert shown.startswith("# tiny@")
    assert "patterns           uint16   60x32x32" in shown


def test_verify_says_that_all_is_as_written_or_what_is_not(root):
    done = run("verify", "tiny", "--root", root)
    assert done.exit_code == 0
    assert done.stdout.strip().endswith("bytes: all as written")
    shard = next(root.glob("tiny/*/scale/c/0"))
    shard.write_bytes(b"0" * shard.stat().st_size)
    failed = run("verify", "tiny", "--root", root)
    assert f"{shard}: damaged, its content is not what was written (patterns 0 to 59)." in failed.stdout
    assert isinstance(failed.exception, InputError)
    assert "not as written (files: 1)" in str(failed.exception)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "An empty name"),
        ("../tiny", "no dataset ../tiny; there: tiny@"),
        ("tiny@../x", "no dataset tiny@../x; there: tiny@"),
        ("x" * 300, "no dataset xxx"),
        ("ti\0ny", "no dataset ti"),
        (".tiny-0123.partial", "unfinished; it is being written"),
    ],
)
def test_what_is_no_dataset_is_refused_in_a_sentence(root, asked, said):
    (root / ".tiny-0123.partial").mkdir()
    for command in ("show", "verify"):
        failed = run(command, asked, "--root", root)
        assert isinstance(failed.exception, InputError)
        assert said in str(failed.exception)
    assert "unfinished, 0.0 MB" in run("list", "--root", root).stdout


def test_a_root_above_the_working_folder_is_written_and_read(tiny_dataset, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = tiny_dataset("../there")
    assert (folder / "manifest.json").is_file()
    assert len(open_dataset(folder).read("split")) == 60
    assert run("verify", "--root", "../there").exit_code == 0


def test_list_names_what_an_interrupted_call_left_with_its_size(root):
    left = root / ".other-0123456789ab.partial" / "patterns" / "c" / "0" / "0"
    left.mkdir(parents=True)
    (left / "0").write_bytes(bytes(2_500_000))
    lines = run("list", "--root", root).stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{root}/.other-0123456789ab.partial  unfinished, 2.5 MB")
