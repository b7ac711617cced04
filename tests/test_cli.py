"""The command: what it runs, what it prints where, and with which status it ends (design 3.6; rules N3, N7, R4-R6, R8, R10)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cpgraph as cp
from cpgraph.cleaning import clean
from cpgraph.cli import main
from cpgraph.journal import Journal

ORDERS = """
    import cpgraph as cp

    @cp.model
    class Order:
        id: int
        amount: str
        total: float | None = None

    @cp.step(sets="total")
    def parse(amount: str) -> float:
        return float(amount{fix})

    @cp.step
    def report(store: cp.Store, unit: str = "EUR", digits: int = 2) -> str:
        return f"{sum(store.values(Order, 'total')):.{digits}f} {unit}"

    def data():
        return [Order(id=n, amount={7: "12,50", 9: "9,50"}.get(n, str(n))) for n in range(20)]

    graph = cp.Graph(cp.pipeline(cp.pipeline(parse, each=Order), report), name="orders", data=data)

    if __name__ == "__main__":
        graph.run()
"""
FIX = '.replace(",", ".")'

Command = Callable[..., Result]


def write(path: Path, text: str = ORDERS, fix: str = "") -> Path:
    path.write_text(textwrap.dedent(text).replace("{fix}", fix), encoding="utf-8")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "orders.py").parent


@pytest.fixture
def command() -> Command:
    """Call the command in this process; afterwards nothing that it imported is left."""
    runner = CliRunner()

    def call(*arguments: object) -> Result:
        modules, path = set(sys.modules), list(sys.path)
        try:
            return runner.invoke(main, [str(argument) for argument in arguments])
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - modules:
                if not name.startswith(("cpgraph", "rich", "click")) and str(Path.cwd()) in str(
                    getattr(sys.modules[name], "__file__", "")
                ):
                    del sys.modules[name]

    return call


def shell(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, encoding="utf-8", timeout=120, check=False, **options
    )


def last_line(text: str) -> str:
    return re.sub(r" in [\d.]+ s$", "", text.splitlines()[-1])


# Running


def test_the_story_from_the_shell(here: Path, command: Command) -> None:
    """Two of twenty fail; the step is mended; resume runs those two; run then means the code as it is now."""
    failed = command("run", "orders.py")
    assert failed.exit_code == 1
    assert last_line(failed.stderr) == "cpgraph: failed: 18 computed, 2 failed, 1 blocked"
    assert "  2 × ValueError, the first: could not convert string to float: '12,50'" in failed.stderr
    assert "      at orders.py:12 in parse[7], parse[9]" in failed.stderr
    assert "  cpgraph resume orders.py" in failed.stderr
    write(here / "orders.py", fix=FIX)
    resumed = command("resume", "orders.py")
    assert resumed.exit_code == 0
    assert resumed.stderr.splitlines()[0] == (
        f"cpgraph: resume orders: from run 1 (failed), 18 nodes done; results are kept in .cpgraph{os.sep}"
    )
    assert last_line(resumed.stderr) == "cpgraph: ok: 3 computed, 18 cached"
    run = command("run", "orders.py")
    assert "; 18 results of run 2 are of other code and are computed now (about" in run.stderr.splitlines()[0]
    assert "): resume would keep them" in run.stderr.splitlines()[0]
    assert last_line(run.stderr) == "cpgraph: ok: 18 computed, 3 cached"
    again = command("run", "orders.py")
    assert last_line(again.stderr) == "cpgraph: ok: 0 computed, 21 cached: nothing had changed (--redo STEP computes it anew)"
    assert again.stdout == ""


def test_k1_script_and_command_share_results(here: Path) -> None:
    write(here / "orders.py", fix=FIX)
    assert last_line(shell("orders.py", cwd=here).stderr) == "cpgraph: ok: 21 computed"
    for arguments in (["orders.py"], ["orders.py:graph"], ["orders:graph"], ["orders.py", "--executor", "processes"]):
        done = shell("-m", "cpgraph", "run", *arguments, cwd=here)
        assert done.returncode == 0, done.stderr
        assert "ok: 0 computed, 21 cached" in last_line(done.stderr), done.stderr
    assert "0 computed, 21 cached" in last_line(shell("orders.py", cwd=here).stderr)


def test_n7_parameters_are_converted_and_said_again(here: Path, command: Command) -> None:
    done = command("run", "orders.py", "--dir", "my results", "--set", "digits=1", "--set", "unit=US Dollar")
    assert done.exit_code == 1
    assert "  cpgraph resume orders.py --dir 'my results' --set digits=1 --set 'unit=US Dollar'  " in done.stderr
    assert "  cpgraph why 'parse[9]' --dir 'my results'" in done.stderr
    write(here / "orders.py", fix=FIX)
    command("resume", "orders.py", "--dir", "my results")
    assert cp.runs("my results")[-1].value("report") == "196.0 US Dollar"


@pytest.mark.parametrize(
    ("text", "value"),
    [("limit=7", 7), ("flag=false", False), ("rate=2", 2.0), ("word=7", "7"), ("word=a=b", "a=b"), ("word=", "")],
)
def test_n7_where_nothing_is_annotated_the_default_says_what_a_value_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, text: str, value: object
) -> None:
    monkeypatch.chdir(tmp_path)
    name = text.partition("=")[0]
    write(
        tmp_path / "given.py",
        f"""
        import cpgraph as cp
        def show({name}):
            return {name}
        graph = cp.Graph(show, params={{"{name}": {{"limit": 5, "flag": True, "rate": 0.5, "word": "x"}}["{name}"]}})
        """,
    )
    assert command("run", "given.py", "--set", text).exit_code == 0
    assert cp.runs()[-1].value("show") == value


def test_redo_data_and_jobs(here: Path, command: Command) -> None:
    (here / "few.yml").write_text('Order: [{id: 1, amount: "3"}, {id: 2, amount: "4"}]')
    assert last_line(command("run", "orders.py", "--data", "few.yml", "-j", 1).stderr) == "cpgraph: ok: 3 computed"
    redone = command("run", "orders.py", "--data", "few.yml", "--redo", "parse[2]", "--executor", "inline")
    assert last_line(redone.stderr) == "cpgraph: ok: 1 computed, 2 cached"


def test_r3_resume_from_a_version(here: Path, command: Command) -> None:
    write(here / "orders.py", fix=FIX)
    command("run", "orders.py", "--executor", "inline")
    done = command("resume", "orders.py", "v5")
    assert done.exit_code == 0
    assert "from version v5 of run 1, 5 nodes done" in done.stderr
    assert last_line(done.stderr).startswith("cpgraph: ok:")
    planned = command("plan", "orders.py", "v5").stdout
    assert "from version v5 of run 1, 5 nodes done" in planned and "20 as they are" in planned
    assert "there is no file 'v5x'" in command("plan", "orders.py", "v5x").stderr
    assert last_line(command("resume", "orders.py", "5").stderr).startswith("cpgraph: ok:")


def test_r3_resume_from_a_saved_version(here: Path, command: Command) -> None:
    write(here / "orders.py", fix=FIX)
    command("run", "orders.py", "--executor", "inline")
    save = "import cpgraph; cpgraph.runs()[-1].history[5].save('good.yml')"
    assert shell("-c", save, cwd=here).returncode == 0
    planned = command("plan", "orders.py", "good.yml", "--dir", "elsewhere").stdout
    assert "good.yml (version v5 of run 1), 5 nodes done" in planned and "5 as they are" in planned
    assert not (here / "elsewhere").exists()
    done = command("resume", "orders.py", "good.yml", "--dir", "elsewhere")
    assert done.exit_code == 0, done.stderr
    assert last_line(done.stderr) == "cpgraph: ok: 16 computed, 5 cached"


def test_json_is_all_there_is_on_stdout(tmp_path: Path) -> None:
    write(
        tmp_path / "loud.py",
        """
        import subprocess, sys
        import cpgraph as cp
        print("while it is imported")
        def shout(word: str = "hello") -> str:
            print("a step prints")
            subprocess.run([sys.executable, "-c", "print('a command prints')"], check=True)
            raise ValueError(word)
        graph = cp.Graph(shout)
        """,
    )
    done = shell("-m", "cpgraph", "run", "loud.py", "--json", cwd=tmp_path)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert facts["status"] == "failed"
    assert facts["ok"] is False
    assert facts["steps"] == {"shout": {"failed": 1}}
    assert facts["counts"] == {"computed": 0, "cached": 0, "failed": 1, "blocked": 0, "closed": 0}
    assert [(failure["node"], failure["type"], failure["text"]) for failure in facts["failures"]] == [
        ("shout", "ValueError", "hello")
    ]
    for text in ("while it is imported", "a step prints", "a command prints", "cpgraph: failed:"):
        assert text in done.stderr


def test_without_json_what_a_step_prints_goes_to_stdout(tmp_path: Path) -> None:
    write(tmp_path / "loud.py", "import cpgraph as cp\ndef shout() -> None:\n    print('a step prints')\ngraph = cp.Graph(shout)")
    done = shell("-m", "cpgraph", "run", "loud.py", cwd=tmp_path)
    assert done.stdout == "a step prints\n"
    assert done.stderr.splitlines()[0].startswith("cpgraph: run shout: ")


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGINT to be sent to a process of its own")
def test_promise_14_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    write(
        tmp_path / "slow.py",
        """
        import sys
        import cpgraph as cp
        @cp.model
        class Page:
            id: int
        def read(record: Page) -> int:
            print("started", flush=True)
            sys.stdin.readline()
            return record.id
        graph = cp.Graph(cp.pipeline(read, each=Page), name="pages", data=lambda: [Page(id=n) for n in range(500)])
        """,
    )
    arguments = [sys.executable, "-m", "cpgraph", "run", "slow.py", "-j", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, cwd=tmp_path, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "  cpgraph resume slow.py  " in err
    assert err.splitlines()[-1].startswith("cpgraph: interrupted: ")
    done = shell("-m", "cpgraph", "resume", "slow.py", cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert (
        sum(int(found.replace(",", "")) for found in re.findall(r"([\d,]+) (?:computed|cached)", last_line(done.stderr))) == 500
    )


# Targets


def test_a_module_of_a_package_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "words.py").write_text("WORD = 'word'")
    write(
        tmp_path / "shop" / "orders.py",
        "import cpgraph as cp\nfrom .words import WORD\ndef say() -> str:\n    return WORD\ngraph = cp.Graph(say)",
    )
    assert command("run", "shop.orders:graph").exit_code == 0
    assert last_line(command("run", "shop.orders").stderr).startswith("cpgraph: ok: 0 computed, 1 cached")


def test_a_script_elsewhere_finds_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "beside_it.py").write_text("WORD = 'word'")
    write(
        tmp_path / "there" / "my-script.py",
        "import cpgraph as cp\nfrom beside_it import WORD\ndef say() -> str:\n    return WORD\ngraph = cp.Graph(say)",
    )
    monkeypatch.chdir(tmp_path)
    done = command("run", Path("there", "my-script.py"))
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / ".cpgraph").is_dir()


def test_an_edit_within_the_second_counts(here: Path, command: Command) -> None:
    path = here / "orders.py"
    command("run", "orders.py")
    before = path.stat()
    path.write_text(path.read_text().replace("float(amount)", "float(len(amount))"))
    path.write_text(path.read_text().replace("float(len(amount))", "float('1.0')"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert last_line(command("run", "orders.py").stderr) == "cpgraph: ok: 21 computed"
    assert not (here / "__pycache__").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none", "x = 1", ["there is no Graph in none.py", "Mend: make one at module level: graph = cp.Graph(…)."]),
        (
            "two",
            "import cpgraph as cp\ndef f(): ...\ndef g(): ...\na = cp.Graph(f)\nb = c = cp.Graph(g)",
            ["there are 2 Graphs in two.py", "    graphs  a, b", "Mend: name one, such as two.py:a."],
        ),
        ("broken", "def f():\n    1 / 0\nf()", ["broken.py cannot be imported: ZeroDivisionError: division by zero"]),
        ("syntax", "def f(:\n", ["syntax.py cannot be imported: SyntaxError: invalid syntax (syntax.py, line 1)"]),
        (
            "needs",
            "import not_there_at_all",
            ["needs.py cannot be imported: ModuleNotFoundError: No module named 'not_there_at_all'"],
        ),
        (
            "ends",
            "import sys\nsys.exit(3)",
            [
                "ends.py ends the program while it is imported",
                "    raised  SystemExit: 3",
                'Mend: put what runs under `if __name__ == "__main__":`.',
            ],
        ),
        (
            "runs",
            "import cpgraph as cp\ndef f(): ...\ncp.Graph(f).run()",
            ["runs.py runs its graph while the command imports it", 'Mend: put what runs under `if __name__ == "__main__":`.'],
        ),
        (
            "wrong",
            "import cpgraph as cp\ndef f(prase): ...\ndef parse(): ...\ngraph = cp.Graph(parse, f)",
            ["step 'f' asks for 'prase': no earlier step or parameter is called that. Did you mean 'parse'?"],
        ),
        ("json", "x = 1", ["json.py has the name of a module that is loaded already", "Mend: rename the file."]),
    ],
)
def test_what_is_wrong_with_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, name: str, text: str, said: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.py").write_text(text)
    done = command("run", f"{name}.py")
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    start = lines.index(f"cpgraph: {said[0]}")
    assert all(line in lines[start:] for line in said[1:])
    assert ("Traceback" in done.stderr) is (name in ("broken", "needs"))
    assert "importlib" not in done.stderr
    assert not (tmp_path / ".cpgraph").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "Missing argument 'TARGET'"),
        (["run", "gone.py"], "gone.py does not exist"),
        (["run", "."], ". is a directory"),
        (["run", "gone.module:graph"], "there is no file and no module called 'gone.module'"),
        (["run", "orders.py:grahp"], "in orders.py, there is no 'grahp'. Did you mean 'graph'?"),
        (["run", "orders.py:data"], "in orders.py, 'data' is not a Graph, but of type function."),
        (["run", "orders.py", "--data", "gone.yml"], "gone.yml: there is no such file"),
        (["run", "orders.py", "--set", "unit"], "'unit' is not of the form name=value."),
        (
            ["run", "orders.py", "--set", "unti=x"],
            "parameter 'unti' is given, and nothing in 'orders' asks for it. Did you mean 'unit'?",
        ),
        (["run", "orders.py", "--set", "digits=many"], "parameter 'digits' does not fit"),
        (
            ["run", "orders.py", "--redo", "prase"],
            "redo= names 'prase', and that is no step or node of 'orders'. Did you mean 'parse'?",
        ),
        (["run", "orders.py", "-j", "0"], "0 is not in the range x>=1"),
        (["run", "orders.py", "--executor", "magic"], "'magic' is not one of"),
        (["run", "orders.py", "--dir", "orders.py"], "the directory for results is not a directory"),
        (["resume", "orders.py"], "there is no run of 'orders' in"),
        (["resume", "orders.py", "gone.yml"], "there is no file 'gone.yml', and it is not a version"),
        (["resume", "orders.py", "v99"], "there is no version 'v99' in .cpgraph"),
        (["render", "orders.py", "--run", "last"], "'orders' has not run in .cpgraph yet"),
        (["prune"], "No such command 'prune'"),
    ],
)
def test_bad_use_ends_with_status_2(here: Path, command: Command, arguments: list[str], said: str) -> None:
    done = command(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_resume_of_nothing_leaves_nothing(here: Path, command: Command) -> None:
    assert command("resume", "orders.py").exit_code == 2
    assert command("plan", "orders.py", "--resume").exit_code == 2
    assert not (here / ".cpgraph").exists()


def test_what_data_raise_is_shown_in_full(here: Path, command: Command) -> None:
    path = here / "orders.py"
    path.write_text(path.read_text().replace("return [Order(", "None.x\n    return [Order("))
    done = command("run", "orders.py")
    assert done.exit_code == 2
    assert "AttributeError: 'NoneType' object has no attribute 'x'" in done.stderr


# Plans and pictures


def test_plan_says_what_would_run_and_runs_nothing(here: Path, command: Command) -> None:
    assert "20 to compute" in command("plan", "orders.py").stdout
    assert not (here / ".cpgraph").exists()
    command("run", "orders.py")
    write(here / "orders.py", fix=FIX)
    plan = json.loads(command("plan", "orders.py", "--json").stdout)
    assert plan["steps"]["parse"]["computed"] == 20
    resume = json.loads(command("plan", "orders.py", "--resume", "--json").stdout)
    assert (resume["steps"]["parse"]["computed"], resume["steps"]["parse"]["cached"]) == (2, 18)
    assert len(cp.runs()) == 1


def test_render_gives_svg_on_stdout_or_a_file(here: Path, command: Command) -> None:
    assert "<svg" in command("render", "orders.py").stdout
    command("run", "orders.py")
    done = command("render", "orders.py", "-o", "run.svg", "--run", "last")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "<svg" in (here / "run.svg").read_text()


# Reading: without user code


@pytest.fixture
def left(here: Path, command: Command) -> Path:
    """What two runs have left; the script is gone."""
    command("run", "orders.py", "--executor", "inline")
    write(here / "orders.py", fix=FIX)
    command("resume", "orders.py", "--executor", "inline")
    (here / "orders.py").unlink()
    return here


def snapshot(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in [directory, *directory.rglob("*")]}


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--json"],
        ["history"],
        ["history", "v3"],
        ["history", "3", "5"],
        ["why", "parse[7]"],
        ["why", "parse"],
    ],
)
def test_r6_readers_write_nothing(left: Path, command: Command, arguments: list[str]) -> None:
    before = snapshot(left / ".cpgraph")
    done = command(*arguments)
    assert done.exit_code == 0, done.stderr
    assert done.stdout
    assert snapshot(left / ".cpgraph") == before


@pytest.mark.parametrize("arguments", [["status"], ["history"], ["history", "v3"], ["why", "parse"], ["gc"]])
def test_r6_where_nothing_has_run_they_say_so_and_create_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*arguments, "--dir", "nowhere")
    assert (done.exit_code, done.stdout) == (0, "nothing has run in nowhere yet\n")
    assert list(tmp_path.iterdir()) == []


def test_status_lists_runs(left: Path, command: Command) -> None:
    lines = command("status").stdout.splitlines()
    assert re.match(r"\.cpgraph: 2 runs, [\d.]+ kB$", lines[0])
    assert lines[1].split() == ["run", "graph", "began", "took", "status", "computed", "cached", "failed", "blocked"]
    assert [line.split()[:3] for line in lines[2:4]] == [["1", "orders", "run"], ["2", "orders", "resume"]]
    assert lines[2].split()[-4:] == ["failed", "18", "2", "1"]
    assert lines[3].split()[-3:] == ["ok", "3", "18"]
    assert lines[4] == "nothing is damaged"
    facts = json.loads(command("status", "--json").stdout)
    assert [run["status"] for run in facts["runs"]] == ["failed", "ok"]
    assert facts["damaged"] == 0


def test_s3_status_counts_damage(left: Path, command: Command) -> None:
    with Journal(left / ".cpgraph") as journal:
        journal._db.connection.execute("UPDATE results SET head = x'00' WHERE id = (SELECT min(id) FROM results)")
    facts = json.loads(command("status", "--json").stdout)
    assert facts["damaged"] == 1
    assert "does not agree with its checksum" in facts["damage"][0]
    assert "damaged: 1 stored things" in command("status").stdout
    assert "not looked through for damage" in command("status", "--no-check").stdout


def test_s3_status_goes_on_where_the_file_cannot_be_read(left: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(journal: Journal) -> int:
        raise cp.StorageError("cannot read", journal.path, {"reason": "database disk image is malformed"})

    monkeypatch.setattr(Journal, "check", check)
    done = command("status")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].endswith("journal.sqlite: database disk image is malformed")


def test_status_tells_runs_that_go_on_from_those_that_were_killed(left: Path, command: Command) -> None:
    with Journal(left / ".cpgraph") as journal:
        meta = journal.runs()[-1].meta
        assert meta is not None
        journal.begin("orders", meta)
        assert re.search(r"running \(process \d+\)", command("status").stdout)
        assert "run 3 goes on: not all was removed" in command("gc").stdout
    assert command("status").stdout.splitlines()[4].split()[-1] == "killed"


def test_history(left: Path, command: Command) -> None:
    lines = command("history", "--run", 1).stdout.splitlines()
    assert lines[0].startswith("run 1 of orders, ")
    assert lines[1] == "v0  the data: 20 records of Order"
    assert re.match(r"v1  [\d-]+ [\d:]+  parse\[0\]$", lines[2])
    assert lines[3] == "    update Order 0 (total: None → 0.0)"
    assert command("history", "v3").stdout.splitlines()[1:] == ["    update Order 2 (total: None → 2.0)"]
    assert command("history", "v1", "v3").stdout.splitlines() == [
        "from v1 to v3:",
        "    update Order 1 (total: None → 1.0)",
        "    update Order 2 (total: None → 2.0)",
    ]
    assert command("history", "v1", "v1").stdout.splitlines() == ["from v1 to v1:", "    no changes"]
    newest = command("history").stdout
    assert newest.startswith("run 2 of orders")
    assert "    and 11 changes more: cpgraph history v19" in newest or "changes more: cpgraph history v" in newest


@pytest.mark.parametrize(
    "arguments", [["history", "v999"], ["history", "first"], ["history", "--run", "9"], ["why", "parse[1]", "--run", "9"]]
)
def test_versions_and_runs_that_are_not_there(left: Path, command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert done.exit_code == 2
    assert re.match(r"cpgraph: there is no (version '(v999|first)'|run 9) in .cpgraph\n", done.stderr)


def test_why(left: Path, command: Command) -> None:
    assert command("why", "parse[7]").stdout == "parse[7] ran: in run 1 it did not succeed.\n"
    failed = command("why", "parse[7]", "--run", 1).stdout.splitlines()
    assert failed[0].startswith("parse[7] failed in run 1: ValueError: could not convert string to float: '12,50' (")
    assert failed[1] == "    Traceback (most recent call last):"
    assert failed[-1] == "    ValueError: could not convert string to float: '12,50'"
    assert command("why", "report", "--run", 1).stdout == (
        "report was blocked behind 2 failures of parse, such as parse[7]: "
        "ValueError: could not convert string to float: '12,50'.\n"
    )
    assert command("why", "parse", "--run", 1).stdout.splitlines() == [
        "parse has 20 nodes in run 1; name one of them:",
        "    18 computed, such as parse[0]",
        "    2 failed, such as parse[7]",
    ]


def test_why_takes_what_is_printed_of_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """And says of what is blocked behind them which error that was."""
    monkeypatch.chdir(tmp_path)

    def work(name: str) -> str:
        return name

    def opens(name: str) -> bool:
        return bool(1 / (len(name) - 1))

    def beside() -> int:
        return 1

    def broken() -> bool:
        raise KeyError("x")

    names = cp.pipeline(cp.pipeline(work, open=opens, name="inner"), each={"name": ["a", "bb", "c,"]})
    run = cp.Graph(names, cp.pipeline(beside, open=broken)).run()
    assert [failure.node for failure in run.failures] == ["open of inner[a]", "open of beside"]
    shown = command("why", "open of inner[a]").stdout.splitlines()
    assert shown[0].startswith("open of inner[a] failed in run 1: ZeroDivisionError: division by zero (")
    assert shown[-1] == "    ZeroDivisionError: division by zero"
    assert command("why", "open of beside").stdout.startswith("open of beside failed in run 1: KeyError: 'x' (")
    assert (
        command("why", "work[a]").stdout == "work[a] was blocked behind open of inner[a]: ZeroDivisionError: division by zero.\n"
    )
    assert command("why", "beside").stdout == "beside was blocked behind open of beside: KeyError: 'x'.\n"
    assert command("why", "open of inner[bb]").exit_code == 2
    run = cp.Graph(cp.pipeline(cp.pipeline(work, open=opens, name="inner"), each={"name": ["a", "b", "3"]}), name="two").run()
    assert (
        command("why", "open of inner").stdout
        == "open of inner failed 3 times in run 2; name one of them, such as open of inner[a]\n"
    )
    assert command("why", "open of inner[3]").stdout.startswith('open of inner["3"] failed')


def test_why_shows_the_text_of_a_library_error_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.chdir(tmp_path)

    def other() -> object:
        return [1, cp.update(n=1)]

    cp.Graph(other, name="one").run()
    first, *rest = command("why", "other").stdout.splitlines()
    assert first.startswith("other failed in run 1: ") and first.endswith(" (in no line of your code).")
    assert not any("Mend" in line for line in [first, *rest[:-1]]) and rest[-1].startswith("    Mend: ")


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("prase[7]", "no run in .cpgraph has a step 'prase'. Did you mean 'parse'?"),
        ("parse[77]", "there is no node parse[77] in run 2. Did you mean 'parse[7]'?"),
        ("parse[7", "'parse[7' is not a node"),
    ],
)
def test_why_of_what_is_not_there(left: Path, command: Command, node: str, said: str) -> None:
    done = command("why", node)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"cpgraph: {said}\n")


def test_n3_ids_match_as_text_where_only_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.chdir(tmp_path)

    def show(word: object) -> object:
        return word

    words = ["3", 3, "a,b", "5", "x y", ""]
    cp.Graph(cp.pipeline(show, each={"word": words})).run()
    for text, node in [
        ("show[3]", "show[3]"),
        ('show["3"]', 'show["3"]'),
        ("show[5]", 'show["5"]'),
        ("show[a,b]", 'show["a,b"]'),
        ("show[x y]", "show[x y]"),
        ('show[""]', 'show[""]'),
        ("show[]", 'show[""]'),
    ]:
        assert command("why", text).stdout.startswith(f"{node} ran"), text
    cp.Graph(cp.pipeline(cp.pipeline(show, each={"word": ["c", "b,c"]}), each={"other": ["a", "a,b"]}), name="nested").run()
    done = command("why", "show[a,b,c]")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[:2] == [
        "cpgraph: show[a,b,c] may be any of several nodes",
        '    nodes  show["a,b",c], show[a,"b,c"]',
    ]


# Cleaning up


def test_gc_keeps_what_resume_needs(here: Path, command: Command) -> None:
    command("run", "orders.py")
    for digits in range(1, 5):
        command("run", "orders.py", "--set", f"digits={digits}")
    assert command("gc").stdout.startswith("removed 0 runs, 0 results: 0 bytes freed; kept 5 runs")
    done = command("gc", "--keep", 1)
    assert re.match(r"removed 4 runs, 8 results: [\d,.]+ \w+ freed; kept 1 run$", done.stdout.rstrip())
    assert [run.number for run in cp.runs()] == [5]
    write(here / "orders.py", fix=FIX)
    resumed = command("resume", "orders.py")
    assert last_line(resumed.stderr) == "cpgraph: ok: 3 computed, 18 cached"
    assert cp.runs()[-1].why("parse", 1).startswith("parse[1] was kept as it was: its result is of code ")


def test_gc_keeps_the_runs_of_thirty_days(here: Path, command: Command) -> None:
    for digits in range(1, 4):
        command("run", "orders.py", "--set", f"digits={digits}")
    started = cp.runs()[0].started
    assert clean(".cpgraph", now=started + 29 * 86_400).removed == ()  # type: ignore[union-attr]
    cleaned = clean(".cpgraph", now=started + 31 * 86_400)
    assert cleaned is not None
    assert cleaned.kept == (3,)
    assert cleaned.removed == (1, 2)
    assert json.loads(command("status", "--json").stdout)["damaged"] == 0


def test_gc_keeps_the_last_run_of_each_graph_and_what_an_interrupted_resume_goes_back_to(here: Path, command: Command) -> None:
    command("run", "orders.py")
    cp.Graph(lambda_free, name="other").run(dir=".cpgraph")
    with Journal(".cpgraph") as journal:  # a resume that was killed at once
        from cpgraph.pickles import dumps, loads_plain

        meta = journal.runs("orders")[-1].meta
        assert meta is not None
        journal.begin("orders", dumps({**loads_plain(meta), "kind": "resume", "resumed": 1}))
    cleaned = clean(".cpgraph", keep=0)
    assert cleaned is not None
    assert cleaned.kept == (1, 2, 3)
    write(here / "orders.py", fix=FIX)
    assert last_line(command("resume", "orders.py").stderr) == "cpgraph: ok: 3 computed, 18 cached"


def lambda_free() -> int:
    return 1


def test_gc_leaves_no_damage_where_a_run_is_known_by_its_results_alone(here: Path, command: Command) -> None:
    write(here / "orders.py", fix=FIX)
    command("run", "orders.py")
    command("run", "orders.py", "--set", "digits=3")
    assert "removed 1 run," in command("gc", "--keep", 1).stdout
    assert json.loads(command("status", "--json").stdout)["damaged"] == 0
    assert last_line(command("run", "orders.py", "--set", "digits=3").stderr).startswith("cpgraph: ok: 0 computed, 21 cached")
    assert "removed 1 run, " in command("gc", "--keep", 1).stdout
    assert "removed 0 runs, " in command("gc", "--keep", 1).stdout


# Help


def test_help_names_every_command(command: Command) -> None:
    text = command("--help").stdout
    for name in ("run", "resume", "plan", "render", "history", "why", "status", "gc"):
        assert re.search(rf"^  {name}  +[A-Z]", text, re.MULTILINE), name
        about = command(name, "--help")
        assert about.exit_code == 0
    assert "..." not in text.partition("Commands:")[2]
    assert command("--version").stdout.startswith("cpgraph, version ")


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']; import cpgraph.cli\ntry: cpgraph.cli.main()\nfinally: print(sorted(sys.modules))"
    )
    loaded = shell("-c", code).stdout
    for name in ("'rich'", "'cattrs'", "'yaml'", "'networkx'", "'multiprocessing'", "'cloudpickle'", "'graphviz'", "'asyncio'"):
        assert name not in loaded, name
